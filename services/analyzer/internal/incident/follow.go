package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// A Root is the failure that another one follows from.
type Root struct {
	Incident Incident
	Type     heal.FailureType
	Reason   string
	Object   string // shop/Deployment/checkout
	Why      string // a clause
}

// Around is what is known of what a failure may follow from, besides its own
// group.
type Around struct {
	Node      Group            // of the node that it is on
	Backing   map[string]Group // of a service: of the workloads behind it, by name as in Target.String
	OnNode    Board            // what fails on its node
	Namespace Board            // what fails in its namespace
	Registry  Board            // which images cannot be pulled
	Nodes     Board            // of a node: which nodes fail
}

// Keys are where an Around is kept: those of groups and boards. An empty one is
// not needed.
type Keys struct {
	Node      string
	Backing   map[string]string // by name as in Target.String
	OnNode    string
	Namespace string
	Registry  string
	Nodes     string
}

// Surroundings are the keys of what f may follow from.
func Surroundings(f heal.Failure) Keys {
	var k Keys
	switch f.Type {
	case heal.PodFailure:
		if f.Node != "" {
			k.Node, k.OnNode = ObjectKey("", "Node", f.Node), nodeBoard(f.Node)
		}
		k.Namespace = namespaceBoard(f.Affected().Namespace)
		if f.Metadata["pull_error"] != "" {
			k.Registry = RegistryBoard
		}
	case heal.NodeFailure:
		k.Nodes = NodesBoard
	}
	k.Backing = map[string]string{}
	for _, t := range Workloads(f) {
		k.Backing[t.String()] = ObjectKey(t.Namespace, t.Kind, t.Name)
	}
	return k
}

// wideFrom is from how many of its pods on a trouble is the owner's.
const wideFrom = 3

// FindRoot finds what f follows from, if that is still going on: then f is not
// acted upon, but attached to it. Once the root has ended, f is judged by
// itself again.
func (g Group) FindRoot(f heal.Failure, around Around, now time.Time) (Root, bool) {
	switch f.Type {
	case heal.PodFailure:
		if root, ok := around.Node.failing(now, leadsAsNode); ok {
			root.Why = "its node " + heal.Clean(f.Node, 64) + " fails"
			return root, true
		}
		if root, ok := g.failing(now, func(s State) bool {
			return s.Type == heal.DeploymentFailure && policy.RoleOf(s.Type, s.Reason) == policy.Leads
		}); ok {
			root.Why = "its workload fails as a whole"
			return root, true
		}
		return g.wideRoot(f, now)
	case heal.DeploymentFailure:
		if policy.RoleOf(f.Type, f.Reason) != policy.Follows {
			return Root{}, false
		}
		root, ok := g.failing(now, func(s State) bool { return s.Type == heal.PodFailure })
		root.Why = "its pods fail, and are acted upon"
		return root, ok
	case heal.ServiceFailure:
		if policy.RoleOf(f.Type, f.Reason) != policy.Follows || f.Metadata["standby"] != "" {
			return Root{}, false // with a standby, its traffic can be moved meanwhile
		}
		for _, name := range sortedNames(around.Backing) {
			root, ok := around.Backing[name].failing(now, func(s State) bool {
				return s.Type == heal.PodFailure || s.Type == heal.DeploymentFailure
			})
			if ok {
				root.Why = "what is behind it fails"
				return root, true
			}
		}
	}
	return Root{}, false
}

func leadsAsNode(s State) bool {
	return s.Type == heal.NodeFailure && policy.RoleOf(s.Type, s.Reason) == policy.Leads
}

// Leading reports whether the group is a node's, and it fails so that what is
// on it suffers.
func (g Group) Leading(now time.Time) bool {
	_, ok := g.failing(now, leadsAsNode)
	return ok
}

// wideRoot is for the owner of which several pods fail with one reason, under
// several fingerprints: the one that is acted upon leads, or else the one that
// began first.
func (g Group) wideRoot(f heal.Failure, now time.Time) (Root, bool) {
	if g.Wide(f.Reason, now) < wideFrom {
		return Root{}, false
	}
	own, best := Key(f), ""
	rank := func(key string) (bool, time.Time) {
		s := g.States[key]
		return !s.UnderWay(now), s.since()
	}
	for _, key := range g.keys() {
		s := g.States[key]
		if s.Type != heal.PodFailure || s.Reason != f.Reason || s.Open(now) == 0 && !s.UnderWay(now) {
			continue
		}
		if best == "" {
			best = key
			continue
		}
		idle, since := rank(key)
		bestIdle, bestSince := rank(best)
		if !idle && bestIdle || idle == bestIdle && since.Before(bestSince) {
			best = key
		}
	}
	if best == "" || best == own {
		return Root{}, false
	}
	root := g.States[best].root()
	root.Why = fmt.Sprintf("%d pods of its owner fail with %s", g.Wide(f.Reason, now), heal.Clean(f.Reason, 64))
	return root, true
}

// failing finds the state that is going on and fits; of several the one that
// is acted upon, or else the first by key.
func (g Group) failing(now time.Time, fits func(State) bool) (Root, bool) {
	var found State
	ok := false
	for _, key := range g.keys() {
		if s := g.States[key]; fits(s) && s.Open(now) > 0 && (!ok || s.UnderWay(now) && !found.UnderWay(now)) {
			found, ok = s, true
		}
	}
	if !ok {
		return Root{}, false
	}
	return found.root(), true
}

func (s State) root() Root {
	return Root{Incident: s.Incident, Type: s.Type, Reason: s.Reason, Object: s.Object}
}

// since is when the oldest episode that is remembered was first decided.
func (s State) since() time.Time { return s.Began }

// Join is the state as a part of an incident that others opened.
func (s State) Join(i Incident, now time.Time) State {
	if s.Incident.ID == i.ID && !s.Incident.Closed {
		return s
	}
	s.Incident = Incident{ID: i.ID, Opened: i.Opened, LastActive: now}
	s.Uncured = time.Time{}
	return s
}

// Workloads are the workloads that may be behind the failing service f, as
// namespace, kind and name: as the watcher says, or else those that its
// selector's values name.
func Workloads(f heal.Failure) []heal.Target {
	if f.Type != heal.ServiceFailure {
		return nil
	}
	var all []heal.Target
	add := func(kind, name string) {
		t := heal.Target{Kind: kind, Namespace: f.Target.Namespace, Name: name}
		if len(all) < maxWorkloads && !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	for text := range strings.SplitSeq(f.Metadata["workloads"], ",") {
		if kind, name, ok := strings.Cut(strings.TrimSpace(text), "/"); ok {
			add(kind, name)
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, value := range selectors(f) {
		for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
			add(kind, value)
		}
	}
	return all
}

const maxWorkloads = 9

// selected are the values of a selector as kubectl prints one: "app=web,tier=front".
func selected(text string) []string {
	var values []string
	for pair := range strings.SplitSeq(text, ",") {
		if _, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && value != "" && len(values) < maxWorkloads/3 {
			values = append(values, heal.Clean(value, 63))
		}
	}
	return values
}

func sortedNames(groups map[string]Group) []string {
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
