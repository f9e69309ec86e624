package command

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/selfheal/selfheal/dev/cluster/internal/cluster"
	"github.com/selfheal/selfheal/dev/cluster/internal/fleet"
)

func newLoad() *cobra.Command {
	var at place
	var size fleet.Size
	c := &cobra.Command{
		Use:   "load --pods N --nodes N",
		Short: "Fill a static cluster with running pods and all that belongs to them, straight into etcd",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			etcd, err := at.etcd(size)
			if err != nil {
				return err
			}
			defer etcd.Close()
			began := time.Now()
			n, err := fleet.Load(cmd.Context(), etcd, size)
			if err != nil {
				return err
			}
			fmt.Printf("%d objects loaded in %.1fs\n", n, time.Since(began).Seconds())
			return nil
		},
	}
	at.flags(c.Flags())
	sizeFlags(c.Flags(), &size)
	return c
}

func newBreak() *cobra.Command {
	var at place
	var size fleet.Size
	var count int
	c := &cobra.Command{
		Use:   "break --pods N --nodes N --count N",
		Short: "Make pods of a loaded cluster fail, as fast as etcd takes it; --pods and --nodes as they were loaded",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			etcd, err := at.etcd(size)
			if err != nil {
				return err
			}
			defer etcd.Close()
			storm, err := fleet.Break(cmd.Context(), etcd, size, count)
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(storm)
		},
	}
	at.flags(c.Flags())
	sizeFlags(c.Flags(), &size)
	c.Flags().IntVar(&count, "count", 1, "how many pods")
	return c
}

func sizeFlags(f *pflag.FlagSet, s *fleet.Size) {
	f.IntVar(&s.Pods, "pods", 1000, "number of pods")
	f.IntVar(&s.Nodes, "nodes", 50, "number of nodes over which they are spread")
}

// etcd connects to the etcd of a static cluster: in any other one, controllers would delete what nobody has created.
func (p *place) etcd(size fleet.Size) (*clientv3.Client, error) {
	if err := size.Validate(); err != nil {
		return nil, usageError{err}
	}
	dir, err := p.existing()
	if err != nil {
		return nil, err
	}
	s, err := cluster.Load(dir)
	if err != nil {
		return nil, err
	}
	if !s.Config.Static || !cluster.Up(dir) {
		return nil, fmt.Errorf("the cluster in %s is not an up and static one; start it with 'devcluster up --static'", dir)
	}
	return fleet.Connect(s.EtcdPort)
}
