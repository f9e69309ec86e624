// Package command is devcluster's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/dev/cluster/internal/cluster"
	"github.com/selfheal/selfheal/dev/cluster/internal/component"
	"github.com/selfheal/selfheal/dev/cluster/internal/sim"
)

// usageError is the caller's mistake: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errDown makes `status` exit with 1 after it has printed everything.
var errDown = errors.New("the cluster is down")

// Main runs devcluster with args and returns its exit code: 0 done, 1 failed, 2 misused.
func Main(args []string) int {
	// Libraries of Kubernetes register flags of their components here, and cobra would show and take them as ours.
	pflag.CommandLine = pflag.NewFlagSet("devcluster", pflag.ContinueOnError)
	root := newRoot()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(context.Background())
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDown):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "devcluster: %v\nRun '%s --help' for usage.\n", err, c.CommandPath())
		return 2
	}
	fmt.Fprintf(os.Stderr, "devcluster: %v\n", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "devcluster",
		Short: "A real Kubernetes control plane with simulated nodes: no containers, no root",
		Long: `devcluster runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler of Kubernetes 1.36,
and a simulator in place of kubelets. What a pod does is decided by its image: "shop/api:good" runs,
"shop/api:broken" crash-loops, "shop/api:missing" cannot be pulled, and so on (see dev/cluster/README.md).`,
		Version:       "for Kubernetes " + sim.KubeletVersion,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newUp(), newRun(), newSupervise(), newDown(), newStatus(), newNode(), newLoad(), newBreak(), newSignal(), newKubectl())
	return root
}

// exactly makes a wrong number of arguments a usage error that names them.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return usageError{fmt.Errorf("unexpected argument %q", args[0])}
		}
		return usageError{fmt.Errorf("want %s, got %d arguments", strings.Join(names, " "), len(args))}
	}
}

// place is which cluster a command is about.
type place struct{ name, dir string }

func (p *place) flags(f *pflag.FlagSet) {
	f.StringVar(&p.name, "name", "default", "name of the cluster")
	f.StringVar(&p.dir, "dir", "", "folder of the cluster (default .dev/clusters/NAME)")
}

func (p *place) path() (string, error) {
	if p.name == "" || strings.ContainsAny(p.name, `/\`) || strings.HasPrefix(p.name, ".") {
		return "", usageError{fmt.Errorf("--name %q: want a plain name", p.name)}
	}
	dir := p.dir
	if dir == "" {
		dir = cluster.DefaultDir(p.name)
	}
	return filepath.Abs(dir)
}

// existing is path, of a cluster that is there, up or not.
func (p *place) existing() (string, error) {
	dir, err := p.path()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(cluster.Kubeconfig(dir)); err != nil {
		return "", fmt.Errorf("no cluster in %s; start one with 'devcluster up'", dir)
	}
	return dir, nil
}

func client(dir string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig(dir))
	if err != nil {
		return nil, err
	}
	config.UserAgent = "devcluster"
	return kubernetes.NewForConfig(config)
}

func newKubectl() *cobra.Command {
	var at place
	c := &cobra.Command{
		Use:   "kubectl [--name NAME | --dir DIR] ARGS…",
		Short: "Run kubectl on a cluster",
		// main runs it; this is its entry in the help.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	at.flags(c.Flags())
	return c
}

// Kubectl runs kubectl on the cluster that leading --name or --dir flags name. All else is kubectl's.
func Kubectl(args []string, stderr io.Writer) int {
	at, rest, err := leadingPlace(args)
	if err == nil {
		var dir string
		if dir, err = at.existing(); err == nil || asksForHelp(rest) {
			return component.Kubectl(cluster.Kubeconfig(dir), rest)
		}
	}
	fmt.Fprintf(stderr, "devcluster: %v\n", err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// asksForHelp reports a kubectl command that works without a cluster.
func asksForHelp(args []string) bool {
	return len(args) == 0 || args[0] == "help" || slices.Contains(args, "--help") || slices.Contains(args, "-h")
}

func leadingPlace(args []string) (place, []string, error) {
	at := place{name: "default"}
	for len(args) > 0 {
		flag, value, joined := strings.Cut(args[0], "=")
		var target *string
		switch flag {
		case "--name":
			target = &at.name
		case "--dir":
			target = &at.dir
		default:
			return at, args, nil
		}
		if !joined {
			if len(args) < 2 {
				return at, nil, usageError{fmt.Errorf("%s needs a value", flag)}
			}
			value, args = args[1], args[1:]
		}
		*target, args = value, args[1:]
	}
	return at, args, nil
}
