package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/dev/cluster/internal/cluster"
	"github.com/selfheal/selfheal/dev/cluster/internal/component"
	"github.com/selfheal/selfheal/dev/cluster/internal/sim"
)

const downWithin = 20 * time.Second

func newDown() *cobra.Command {
	var at place
	var keep bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop a cluster and delete its folder",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := at.path()
			if err != nil {
				return err
			}
			if err := stop(cmd.Context(), dir); err != nil {
				return err
			}
			// Only a folder that we have made: --dir may point anywhere.
			if _, err := cluster.Load(dir); keep || errors.Is(err, os.ErrNotExist) {
				fmt.Printf("cluster %q is down\n", at.name)
				return nil
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			fmt.Printf("cluster %q is down and deleted\n", at.name)
			return nil
		},
	}
	at.flags(c.Flags())
	c.Flags().BoolVar(&keep, "keep", false, "keep the folder, so that the next up goes on with the same data")
	return c
}

// stop asks the supervisor to stop everything, and waits until it has.
func stop(ctx context.Context, dir string) error {
	if !cluster.Up(dir) {
		return nil
	}
	s, err := cluster.Load(dir)
	if err != nil {
		return err
	}
	if err := syscall.Kill(s.Supervisor, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop supervisor %d: %w", s.Supervisor, err)
	}
	ctx, cancel := context.WithTimeout(ctx, downWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for cluster.Up(dir) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("supervisor %d has not stopped within %s", s.Supervisor, downWithin)
		case <-tick.C:
		}
	}
	return nil
}

// report is what `status` says.
type report struct {
	Name       string           `json:"name"`
	Dir        string           `json:"dir"`
	Kubeconfig string           `json:"kubeconfig"`
	AuditLog   string           `json:"auditLog"`
	Up         bool             `json:"up"`
	Server     string           `json:"server,omitempty"`
	Version    string           `json:"version,omitempty"`
	Components []componentState `json:"components,omitempty"`
	Nodes      []nodeState      `json:"nodes,omitempty"`
	Error      string           `json:"error,omitempty"`
}

type componentState struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Up       bool   `json:"up"`
	Restarts int    `json:"restarts"`
}

type nodeState struct {
	Name    string `json:"name"`
	Zone    string `json:"zone"`
	Ready   bool   `json:"ready"`
	Stopped bool   `json:"stopped"`
	Version string `json:"version"`
}

func newStatus() *cobra.Command {
	var at place
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show components, nodes and paths; exit code 0 when up, 1 when down",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := at.path()
			if err != nil {
				return err
			}
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("-o %q: want json", output)}
			}
			r := look(cmd.Context(), at.name, dir)
			if output == "json" {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				err = r.print()
			}
			if err == nil && !r.Up {
				return errDown
			}
			return err
		},
	}
	at.flags(c.Flags())
	c.Flags().StringVarP(&output, "output", "o", "", "json, else a table")
	return c
}

func look(ctx context.Context, name, dir string) report {
	r := report{Name: name, Dir: dir, Kubeconfig: cluster.Kubeconfig(dir), AuditLog: cluster.AuditLog(dir)}
	s, err := cluster.Load(dir)
	if err != nil {
		r.Error = "there is no such cluster"
		return r
	}
	running := cluster.Up(dir)
	all := running
	for _, n := range s.Config.Parts() {
		p, started := s.Components[n]
		c := componentState{Name: n, PID: p.PID, Restarts: p.Restarts, Up: running && started && cluster.Alive(s, p)}
		all = all && c.Up
		r.Components = append(r.Components, c)
	}
	if !running {
		return r
	}
	r.Server = fmt.Sprintf("https://127.0.0.1:%d", s.APIPort)
	if err := r.ask(ctx); err != nil {
		r.Error = err.Error()
		return r
	}
	r.Up = all
	return r
}

// ask adds what only the API server knows.
func (r *report) ask(ctx context.Context) error {
	k, err := client(r.Dir)
	if err != nil {
		return err
	}
	v, err := k.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	r.Version = v.GitVersion
	nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		r.Nodes = append(r.Nodes, nodeState{
			Name: n.Name, Zone: n.Labels["topology.kubernetes.io/zone"], Ready: sim.Ready(&n), Stopped: sim.Stopped(&n),
			Version: n.Status.NodeInfo.KubeletVersion,
		})
	}
	return nil
}

func (r report) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "cluster\t%s\t%s\n", r.Name, map[bool]string{true: "up", false: "down"}[r.Up])
	fmt.Fprintf(w, "kubeconfig\t%s\n", r.Kubeconfig)
	if r.Version != "" {
		fmt.Fprintf(w, "server\t%s\t%s\n", r.Server, r.Version)
	}
	for _, c := range r.Components {
		fmt.Fprintf(w, "component\t%s\t%s\tpid %d\t%d restarts\n", c.Name, map[bool]string{true: "up", false: "down"}[c.Up], c.PID, c.Restarts)
	}
	for _, n := range r.Nodes {
		state := "Ready"
		if !n.Ready {
			state = "NotReady"
		}
		if n.Stopped {
			state += ", heartbeat stopped"
		}
		fmt.Fprintf(w, "node\t%s\t%s\t%s\t%s\n", n.Name, state, n.Zone, n.Version)
	}
	if r.Error != "" {
		fmt.Fprintf(w, "error\t%s\n", r.Error)
	}
	return w.Flush()
}

var signals = map[string]syscall.Signal{
	"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "TERM": syscall.SIGTERM,
}

func newSignal() *cobra.Command {
	var at place
	c := &cobra.Command{
		Use:   "signal COMPONENT KILL|STOP|CONT|TERM",
		Short: "Send a signal to a component; one that ends is started again",
		Long:  "Send a signal to a component; one that ends is started again.\n\nComponents: " + strings.Join(component.Names(), ", "),
		Args:  exactly("COMPONENT", "SIGNAL"),
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains(component.Names(), args[0]) {
				return usageError{fmt.Errorf("unknown component %q, want one of %s", args[0], strings.Join(component.Names(), ", "))}
			}
			sig, ok := signals[strings.TrimPrefix(strings.ToUpper(args[1]), "SIG")]
			if !ok {
				return usageError{fmt.Errorf("unknown signal %q, want KILL, STOP, CONT or TERM", args[1])}
			}
			dir, err := at.existing()
			if err != nil {
				return err
			}
			s, err := cluster.Load(dir)
			if err != nil {
				return err
			}
			p := s.Components[args[0]]
			if !cluster.Up(dir) || !cluster.Alive(s, p) {
				return fmt.Errorf("%s is not running", args[0])
			}
			return syscall.Kill(p.PID, sig)
		},
	}
	at.flags(c.Flags())
	return c
}
