package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recipe is the shell of a target, as make would run it.
func recipe(t *testing.T, target string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-n", target)
	cmd.Dir = at(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make -n %s: %v", target, err)
	}
	return string(out)
}

func TestTheShellOfTheTargetsHasNoFaultThatShellcheckFinds(t *testing.T) {
	for _, target := range []string{"up", "down"} {
		cmd := exec.CommandContext(t.Context(), at(t, ".cache", "bin", "shellcheck"), "--shell=bash", "-")
		cmd.Stdin = strings.NewReader("set -eu -o pipefail\n" + recipe(t, target))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("shellcheck (make .cache/bin/shellcheck) of make %s: %v\n%s", target, err, out)
		}
	}
}

// A stage is a copy of what the targets need, with programs that only write
// down how they were called instead of Docker and kind.
type stage struct{ dir string }

func newStage(t *testing.T, tools map[string]string) stage {
	t.Helper()
	s := stage{t.TempDir()}
	for _, path := range []string{"Makefile", "deploy/compose/where.txt", "deploy/compose/kind.yaml"} {
		s.write(t, path, file(t, path), 0o644)
	}
	for name, script := range tools {
		s.write(t, "tools/"+name, "#!/bin/sh\necho \"$(basename \"$0\") $*\" >> calls\n"+script, 0o755)
	}
	return s
}

func (s stage) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	path = filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// make runs a target, and returns what it said and the calls that it made.
func (s stage) make(t *testing.T, target string) (said string, calls []string, err error) {
	t.Helper()
	_ = os.Remove(filepath.Join(s.dir, "calls")) // of the target before
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", target)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(s.dir, "tools")+":/usr/bin:/bin")
	out, err := cmd.CombinedOutput()
	data, _ := os.ReadFile(filepath.Join(s.dir, "calls"))
	return string(out), strings.Split(strings.TrimSpace(string(data)), "\n"), err
}

// kind plays kind: it remembers whether there is a cluster.
const kind = `
case "$1 $2" in
  "get clusters") if [ -e cluster ]; then cat cluster; else echo "No kind clusters found." >&2; fi ;;
  "create cluster") echo selfheal > cluster ;;
  "delete cluster") rm -f cluster ;;
  "get kubeconfig") echo "apiVersion: v1" ;;
esac
`

func TestUpMakesOneClusterHoweverOftenItIsCalledAndDownLeavesNothing(t *testing.T) {
	s := newStage(t, map[string]string{"docker": "", "kind": kind})
	first := []string{
		"docker compose version",
		"kind get clusters",
		"kind create cluster --config deploy/compose/kind.yaml --wait 2m",
		"kind get kubeconfig --name selfheal --internal",
		"docker compose up --build --detach --wait",
	}
	again := append(append([]string{}, first[:2]...), first[3:]...)
	for i, want := range [][]string{first, again} {
		said, calls, err := s.make(t, "up")
		if err != nil {
			t.Fatalf("make up: %v\n%s", err, said)
		}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Errorf("make up, time %d (-want +got):\n%s", i+1, diff)
		}
		if !strings.HasSuffix(said, file(t, "deploy", "compose", "where.txt")) {
			t.Errorf("it does not end with where to look:\n%s", said)
		}
	}
	kubeconfig := filepath.Join(s.dir, ".cache", "kind.kubeconfig")
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the services' user cannot read the kubeconfig: %v %v", info, err)
	}
	said, calls, err := s.make(t, "down")
	if err != nil {
		t.Fatalf("make down: %v\n%s", err, said)
	}
	if diff := cmp.Diff([]string{"docker compose down --volumes --remove-orphans", "kind delete cluster --name selfheal"}, calls); diff != "" {
		t.Errorf("make down (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(kubeconfig); !os.IsNotExist(err) {
		t.Errorf("the kubeconfig is left behind: %v", err)
	}
}

func TestUpSaysWhatIsMissingBeforeItBeginsAnything(t *testing.T) {
	for _, test := range []struct {
		name  string
		tools map[string]string
		says  string
		calls []string
	}{
		{"no kind", map[string]string{"docker": ""}, "make up: kind is not on the PATH", []string{""}},
		{"no compose", map[string]string{"docker": "exit 1", "kind": kind}, "make up: docker has no compose", []string{"docker compose version"}},
		{"a cluster that cannot be made", map[string]string{"docker": "", "kind": "exit 1"}, "make", []string{"docker compose version", "kind get clusters", "kind create cluster --config deploy/compose/kind.yaml --wait 2m"}},
	} {
		said, calls, err := newStage(t, test.tools).make(t, "up")
		if err == nil || !strings.Contains(said, test.says) {
			t.Errorf("%s: %v: said %q, want %q", test.name, err, said, test.says)
		}
		if diff := cmp.Diff(test.calls, calls); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}
