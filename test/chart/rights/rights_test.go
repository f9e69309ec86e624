package rights_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/selfheal/selfheal/test/chart/rights"
)

const chart = "../../../deploy/helm/self-healing"

func TestTheChartsFilesAreWhatTheServicesAskFor(t *testing.T) {
	files, err := rights.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(chart, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not up to date; run make generate", name)
		}
	}
}

func TestNoClientMayMakeChangeOrDeleteAStreamAndTheKeeperNotDelete(t *testing.T) {
	_, clients, found := bytes.Cut(rights.NATS(), []byte("exports: ["))
	if !found {
		t.Fatal("there are no exports")
	}
	for never, where := range map[string][]byte{
		"STREAM.CREATE": clients, "STREAM.UPDATE": clients, "STREAM.PURGE": clients,
		"STREAM.PURGE.SELFHEAL_AUDIT": rights.NATS(), "STREAM.PURGE.KV": rights.NATS(),
		"STREAM.DELETE": rights.NATS(), "STREAM.MSG": rights.NATS(), "SNAPSHOT": rights.NATS(),
		"RESTORE": rights.NATS(), "STEPDOWN": rights.NATS(), "PAUSE": rights.NATS(),
	} {
		if bytes.Contains(where, []byte(never)) {
			t.Errorf("somebody may %s", never)
		}
	}
}

func TestEachBucketHasOneWriter(t *testing.T) {
	var kept []string
	for _, c := range rights.Clients() {
		for _, b := range c.Keeps {
			if slices.Contains(kept, b.Name) {
				t.Errorf("%s is written by %s and another", b.Name, c.Name)
			}
			if b.Owner != c.Name {
				t.Errorf("%s belongs to %s, but %s writes it", b.Name, b.Owner, c.Name)
			}
			kept = append(kept, b.Name)
		}
	}
}
