package command

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/selfheal/selfheal/dev/cluster/internal/cluster"
)

func TestMisuseExitsWithTwo(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want int
	}{
		{"help", []string{"--help"}, 0},
		{"help of a command", []string{"node", "stop", "--help"}, 0},
		{"unknown command", []string{"bogus"}, 2},
		{"unknown command of node", []string{"node", "bogus"}, 2},
		{"unknown flag", []string{"up", "--bogus"}, 2},
		{"surplus argument", []string{"down", "x"}, 2},
		{"missing argument", []string{"node", "stop"}, 2},
		{"bad value", []string{"up", "--nodes", "-1"}, 2},
		{"name with a slash", []string{"status", "--name", "a/b"}, 2},
		{"unknown output", []string{"status", "-o", "yaml"}, 2},
		{"unknown component", []string{"signal", "kubelet", "KILL"}, 2},
		{"fleet without nodes", []string{"load", "--nodes", "0"}, 2},
		{"load into no cluster", []string{"load", "--name", "none"}, 1},
		{"break pods of no cluster", []string{"break", "--name", "none"}, 1},
		{"no such cluster", []string{"node", "stop", "node-1", "--name", "none"}, 1},
		{"status of no cluster", []string{"status", "--name", "none"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if got := Main(test.args); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}

func TestKubectlTakesTheClusterFirst(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		at   place
		rest []string
	}{
		{"none", []string{"get", "pods", "--name", "x"}, place{name: "default"}, []string{"get", "pods", "--name", "x"}},
		{"apart", []string{"--name", "b", "get", "pods"}, place{name: "b"}, []string{"get", "pods"}},
		{"joined", []string{"--name=b", "--dir=/d", "version"}, place{name: "b", dir: "/d"}, []string{"version"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			at, rest, err := leadingPlace(test.args)
			if err != nil || at != test.at {
				t.Errorf("got %v, %v; want %v", at, err, test.at)
			}
			if diff := cmp.Diff(test.rest, rest); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFlagsGivenChangeOnlyTheirPartOfAConfig(t *testing.T) {
	dir := t.TempDir()
	given := cluster.Default()
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings(f, &given)
	if err := f.Parse([]string{"--nodes=7", "--arg=etcd=--a=1,2", "--arg=etcd=--b"}); err != nil {
		t.Fatal(err)
	}
	_, got, err := resolve(&place{name: "x", dir: dir}, f)
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Default()
	want.Name, want.Nodes, want.Args = "x", 7, []string{"etcd=--a=1,2", "etcd=--b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}
