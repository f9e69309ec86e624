package command

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"

	"github.com/selfheal/selfheal/pkg/sign"
)

func TestKeysMakesWhatAnInstallationNeedsAndNothingTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := execute(t, "keys", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	first := contents(t, dir)
	var names []string
	for name := range first {
		names = append(names, name)
	}
	if len(names) != 17 {
		t.Errorf("made %q", names)
	}
	for _, client := range []string{"watcher", "analyzer", "actuator", "notifier", "keeper"} {
		pair, err := nkeys.FromSeed([]byte(first["nats/"+client+".seed"]))
		if err != nil {
			t.Fatal(err)
		}
		if public, err := pair.PublicKey(); err != nil || public != first["nats/"+client+".pub"] {
			t.Errorf("%s: the halves do not belong together: %v", client, err)
		}
	}
	for name := range first {
		if strings.HasPrefix(name, "nats/") && (strings.Contains(name, "admin.seed") || strings.Contains(name, "operator.seed")) {
			t.Errorf("%s would come into the cluster", name)
		}
	}
	signer, err := sign.NewSigner(filepath.Join(dir, "signing", "decisions.key"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := sign.NewVerifier(filepath.Join(dir, "signing"))
	if err != nil {
		t.Fatal(err)
	}
	if ids := trust.IDs(time.Now()); len(ids) != 1 || ids[0] != signer.ID(time.Now()) {
		t.Errorf("signs as %s, trusts %q", signer.ID(time.Now()), ids)
	}

	out, err := execute(t, "keys", "--dir", dir)
	if err != nil || out != dir+" has every key already\n" {
		t.Errorf("again: %q, %v", out, err)
	}
	if diff := cmp.Diff(first, contents(t, dir)); diff != "" {
		t.Errorf("again (-first +again)\n%s", diff)
	}
}

func TestKeysLeavesHalfAPairToAPerson(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := execute(t, "keys", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "signing", "decisions.key")); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	if _, err := execute(t, "keys", "--dir", dir); err == nil || !strings.Contains(err.Error(), "only one is there") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}

// contents is every file of a folder, none of which others may read.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o400 {
			t.Errorf("%s has mode %#o", path, info.Mode().Perm())
		}
		data, err := os.ReadFile(path)
		name, relErr := filepath.Rel(dir, path)
		all[name] = string(data)
		if err != nil {
			return err
		}
		return relErr
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
