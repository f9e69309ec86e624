package actuate

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A cordoned is a node that we have cordoned, or are about to.
type cordoned struct {
	UID      string    `json:"uid"`
	Decision string    `json:"decision"`
	At       time.Time `json:"at"`
}

// cordonList is all of them, by node name.
type cordonList map[string]cordoned

// Cordons remembers the nodes that we cordoned for as long as they are, and
// uncordons those that got well after their decision had ended: a node that
// was given up at night may come back in the morning.
type Cordons struct {
	store  Store[cordonList]
	ledger ledger
	kube   kubernetes.Interface
	reader live.Reader
	brake  *Brake
	every  time.Duration
	window time.Duration // how long a node must be Ready before it is uncordoned
	log    *slog.Logger
}

// Add implements action.Cordons.
func (c *Cordons) Add(ctx context.Context, node heal.Target, decision string) error {
	return change(ctx, c.store, cordonKey, func(have cordonList) (cordonList, error) {
		next := cordonList{}
		maps.Copy(next, have)
		next[node.Name] = cordoned{UID: node.UID, Decision: decision, At: time.Now().UTC()}
		return next, nil
	})
}

// Remove implements action.Cordons.
func (c *Cordons) Remove(ctx context.Context, node string) error {
	return change(ctx, c.store, cordonKey, func(have cordonList) (cordonList, error) {
		next := maps.Clone(have)
		delete(next, node)
		return next, nil
	})
}

// noCordons is the list of a dry run.
type noCordons struct{}

func (noCordons) Add(context.Context, heal.Target, string) error { return nil }
func (noCordons) Remove(context.Context, string) error           { return nil }

// Keep looks after the list until ctx is done. While it is empty nothing is
// asked of the API server.
func (c *Cordons) Keep(ctx context.Context) error {
	adopted := false
	ready := map[string]time.Time{} // since when, as far as we saw, by UID
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		if !adopted {
			err := c.adopt(ctx)
			if adopted = err == nil; !adopted && ctx.Err() == nil {
				c.log.Warn("cannot look for cordons of ours, trying again", "err", err)
			}
		}
		if err := c.lookAfter(ctx, ready); err != nil && ctx.Err() == nil && !isBraked(err) {
			c.log.Warn("cannot look after our cordons, trying again", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// adopt puts cordons of ours on the list that are not on it: the list may have
// been lost, the nodes were not.
func (c *Cordons) adopt(ctx context.Context) error {
	nodes, err := c.reader.Nodes(ctx)
	if err != nil {
		return err
	}
	found := cordonList{}
	for i := range nodes {
		n := &nodes[i]
		if s := guard.StateOf(n); s.Ours {
			found[n.Name] = cordoned{UID: s.UID, Decision: s.Decision, At: time.Now().UTC()}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return change(ctx, c.store, cordonKey, func(have cordonList) (cordonList, error) {
		next := cordonList{}
		maps.Copy(next, found)
		maps.Copy(next, have)
		return next, nil
	})
}

func (c *Cordons) lookAfter(ctx context.Context, ready map[string]time.Time) error {
	list, _, err := c.store.Get(ctx, cordonKey)
	if isNotFound(err) || err == nil && len(list) == 0 {
		clear(ready)
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if err := c.lookAt(ctx, name, list[name], ready); err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
	}
	return nil
}

// lookAt takes our cordon from one node if nobody needs it any more.
func (c *Cordons) lookAt(ctx context.Context, name string, entry cordoned, ready map[string]time.Time) error {
	if alive, err := c.ledger.alive(ctx, entry.Decision); alive || err != nil {
		return err // whoever is at work on it does so himself
	}
	node, err := c.reader.Node(ctx, name)
	if err != nil {
		return err
	}
	if node == nil || string(node.UID) != entry.UID {
		delete(ready, entry.UID)
		return c.Remove(ctx, name)
	}
	taken := !node.Spec.Unschedulable // by a person, who knows better
	if well, _ := guard.NodeWell(node, time.Now()); !taken && !well {
		delete(ready, entry.UID)
		return nil
	}
	since, ok := ready[entry.UID]
	if !ok {
		since = time.Now()
		ready[entry.UID] = since
	}
	if !taken && time.Since(since) < c.window {
		return nil
	}
	if _, err := c.brake.Check(ctx); err != nil {
		return err
	}
	if err := action.Release(ctx, c.kube, node, entry.UID, nil); err != nil {
		return err
	}
	delete(ready, entry.UID)
	c.log.Info("node uncordoned", "target", "Node/"+name, "decision_id", entry.Decision, "taken_by_other", taken)
	return c.Remove(ctx, name)
}
