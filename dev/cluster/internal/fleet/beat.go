package fleet

import (
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

const (
	renewEvery  = 10 * time.Second // a kubelet's Lease
	statusEvery = 5 * time.Minute  // a kubelet's status in which only the times are new
	tick        = 100 * time.Millisecond
)

// NewCommand is Beat as a process of its own.
func NewCommand() *cobra.Command {
	var port int
	c := &cobra.Command{
		Use:   "node-heartbeat",
		Short: "Write the heartbeats of all nodes into etcd",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			etcd, err := Connect(port)
			if err != nil {
				return err
			}
			defer etcd.Close()
			return Beat(ctx, etcd)
		},
	}
	c.Flags().IntVar(&port, "etcd-port", 0, "port of the cluster's etcd")
	return c
}

// Beat writes what the kubelets of all nodes write when nothing happens, until ctx ends: each node's Lease every
// 10 s, and its status every 5 min, evenly spread. The first round of Leases is written at once.
func Beat(ctx context.Context, etcd *clientv3.Client) error {
	nodes, err := nodeNames(ctx, etcd)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := renew(ctx, etcd, n); err != nil {
			return err
		}
	}
	clock := time.NewTicker(tick)
	defer clock.Stop()
	again := time.NewTicker(renewEvery) // nodes come and go
	defer again.Stop()
	leases, statuses := round{every: renewEvery}, round{every: statusEvery}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if now, err := nodeNames(ctx, etcd); err != nil {
				klog.ErrorS(err, "nodes that have come or gone since are not known")
			} else {
				nodes = now
			}
			continue
		case <-clock.C:
		}
		for range leases.due(len(nodes)) {
			if err := renew(ctx, etcd, nodes[leases.next(len(nodes))]); err != nil {
				klog.ErrorS(err, "a node's lease was not renewed")
			}
		}
		for range statuses.due(len(nodes)) {
			if err := show(ctx, etcd, nodes[statuses.next(len(nodes))]); err != nil {
				klog.ErrorS(err, "a node's status was not written")
			}
		}
	}
}

// A round visits so many things once in every, one after the other.
type round struct {
	every time.Duration
	owed  float64
	at    int
}

// due is how many of n are to be visited in this tick.
func (r *round) due(n int) int {
	r.owed += float64(n) * float64(tick) / float64(r.every)
	due := int(r.owed)
	r.owed -= float64(due)
	return due
}

// next is the index of the next one, of n.
func (r *round) next(n int) int {
	i := r.at % n
	r.at = i + 1
	return i
}

func nodeNames(ctx context.Context, etcd *clientv3.Client) ([]string, error) {
	r, err := etcd.Get(ctx, nodePrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	var names []string
	for _, kv := range r.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), nodePrefix))
	}
	return names, nil
}

// renew writes a Lease without looking: nobody but its kubelet ever does.
func renew(ctx context.Context, etcd *clientv3.Client, node string) error {
	l := newLease(node, metav1.Now())
	value, err := encode(l.object)
	if err != nil {
		return err
	}
	_, err = etcd.Put(ctx, l.key, string(value))
	return err
}

// show writes a node's heartbeat times, unless somebody else writes to it at the same moment: then it is seen anyway.
func show(ctx context.Context, etcd *clientv3.Client, name string) error {
	key := nodePrefix + name
	r, err := etcd.Get(ctx, key)
	if err != nil || len(r.Kvs) == 0 {
		return err
	}
	node := &corev1.Node{}
	if _, _, err := storage.Decode(r.Kvs[0].Value, nil, node); err != nil {
		return fmt.Errorf("decode %s: %w", key, err)
	}
	for i := range node.Status.Conditions {
		node.Status.Conditions[i].LastHeartbeatTime = metav1.Now()
	}
	value, err := encode(node)
	if err != nil {
		return err
	}
	_, err = etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", r.Kvs[0].ModRevision)).
		Then(clientv3.OpPut(key, string(value))).Commit()
	return err
}
