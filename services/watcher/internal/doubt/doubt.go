// Package doubt judges whether a watcher may trust its own eyes. Whoever acts
// on what it sees asks for that first: a watcher that is cut off, that read an
// empty list, or whose clock jumped, sees failures that are none.
//
// It is pure: what was seen, and the time, come as Facts; nothing here has a
// client or a clock. Elapsed time is always Facts.Up, which no setting of a
// clock changes.
//
// A doubt is one file and one line in doubts below. Each is either about the
// eyes of this watcher, and then counts only while no other watcher sees
// clearly, or about the cluster as everybody would see it, and then counts
// whoever has it (heal.JudgeSight).
package doubt

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Facts are what a watcher knows about its own sight at one moment.
type Facts struct {
	Now time.Time     // by the wall clock
	Up  time.Duration // since the process began, by the monotonic clock

	// Before is how long before the process began the cluster was last seen
	// by a watcher whose word is stored; negative if there is none.
	Before time.Duration
	Settle time.Duration // how long to look without acting after a start without such a word

	Kinds  []Kind
	Nodes  []Node
	Leases Leases // as last read

	Skew      time.Duration // our clock minus the API server's
	SkewKnown bool
}

// A Kind is how well one kind of object is seen.
type Kind struct {
	Resource string
	Optional bool          // it need not be seen at all
	Synced   bool          // this process has seen all of it
	Unseen   time.Duration // for how long it has not been seen
	Err      string        // why, if that is known
	Count    int           // objects; negative if that is not known
	Resyncs  int           // how often all of it was read
}

// A Node is what a node says about itself, as far as we see.
type Node struct {
	UID     string
	Ready   bool
	Unknown bool // its kubelet is silent
	Young   bool // too young to have become ready
}

// Leases are the heartbeats of nodes.
type Leases struct {
	Up    time.Duration // when they were read, as Facts.Up; 0 for never
	All   int
	Stale int
}

// A Wish is what is to be looked at before the next judgement, since it would
// settle a doubt. It costs requests, so it is wished for only then.
type Wish struct {
	Leases bool
	Again  []string // resources of which everything is to be read again
}

// doubts is every reason not to trust what is seen. Those that say more stand
// first.
var doubts = []doubt{
	{name: "settling", find: settling},
	{name: "watch", find: watchAge},
	{name: "inventory", cluster: true, find: inventoryCliff},
	{name: "nodes", cluster: true, calm: clusterCalm, find: nodesTogether},
	{name: "leases", cluster: true, calm: clusterCalm, find: leasesTogether},
	{name: "clock", calm: time.Minute, find: clockJump},
	{name: "stall", calm: 30 * time.Second, find: stall},
	{name: "api_clock", find: apiClock},
}

// clusterCalm is how long most of the cluster must look well again: what
// comes back comes back in steps.
const clusterCalm = 2 * time.Minute

// A doubt returns the clause that says why not to trust, or nothing.
type doubt struct {
	name    string
	cluster bool
	calm    time.Duration // for how long it must not be found before it is over
	find    func(*Mind, Facts) string
}

// A Mind remembers between judgements what one look does not show. It is not
// safe for concurrent use.
type Mind struct {
	id        string
	stored    map[string]int // inventory that a watcher before us believed in
	state     heal.Observer
	open      map[string]held
	synced    time.Duration // Up when everything was first seen; negative before
	last      Facts
	looked    bool // last is there
	offset    time.Duration
	offsetAt  time.Duration
	seenReady map[string]bool
	kinds     map[string]*inventory
}

// held is a doubt that is not over.
type held struct {
	heal.Doubt
	found time.Duration // Up when it was last found
}

// NewMind returns the mind of the observer id. Inventory is what a watcher
// before it believed to be there; it may be nil.
func NewMind(id string, stored map[string]int) *Mind {
	return &Mind{
		id: id, stored: stored, open: map[string]held{}, synced: -1,
		seenReady: map[string]bool{}, kinds: map[string]*inventory{},
	}
}

// Judge says how the observer is now, whether that is news, and what it would
// like to know next.
func (m *Mind) Judge(f Facts) (o heal.Observer, news bool, wish Wish) {
	m.see(f)
	o = heal.Observer{ID: m.id, State: heal.ObserverClear, Doubts: []heal.Doubt{}, SeenAt: f.Now, Inventory: m.believed(f)}
	for _, d := range doubts {
		h, was := m.open[d.name]
		if detail := d.find(m, f); detail != "" {
			if !was {
				h.Doubt = heal.Doubt{Name: d.name, Cluster: d.cluster, Since: f.Now}
			}
			h.Detail, h.found = heal.Clean(detail, heal.MaxText), f.Up
			m.open[d.name] = h
		} else if was && f.Up-h.found >= d.calm {
			delete(m.open, d.name)
		}
		h, is := m.open[d.name]
		if is {
			o.Doubts = append(o.Doubts, h.Doubt)
		}
		news = news || is != was
	}
	switch {
	case len(o.Doubts) == 0:
	case len(o.Doubts) == 1 && o.Doubts[0].Name == "settling":
		o.State = heal.ObserverSettling
	default:
		o.State = heal.ObserverBlind
	}
	o.Since = m.state.Since
	if o.State != m.state.State {
		o.Since, news = f.Now, true
	}
	m.state, m.last, m.looked = o, f, true
	return o, news, Wish{Leases: m.wantLeases(f), Again: m.wantAgain(f)}
}

// see takes in what later judgements are to remember.
func (m *Mind) see(f Facts) {
	alive := make(map[string]bool, len(f.Nodes))
	for _, n := range f.Nodes {
		if n.Ready {
			m.seenReady[n.UID] = true
		}
		alive[n.UID] = true
	}
	for uid := range m.seenReady {
		if !alive[uid] {
			delete(m.seenReady, uid)
		}
	}
	all := len(f.Kinds) > 0
	for _, k := range f.Kinds {
		all = all && (k.Synced || k.Optional)
	}
	if all && m.synced < 0 {
		m.synced = f.Up
	}
	m.count(f)
}

// rounded is for people.
func rounded(d time.Duration) time.Duration { return d.Round(time.Second) }

// share is "3 of 4 nodes", for people.
func share(n, of int, what string) string { return fmt.Sprintf("%d of %d %s", n, of, what) }
