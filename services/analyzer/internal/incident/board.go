package incident

import (
	"cmp"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// A Board is a summary of what fails around a place: on a node, in a
// namespace, or of a registry. It is written a moment after what it is about,
// and only ever evidence: nothing depends on it being complete.
type Board struct {
	Entries []Entry `json:"entries"` // least recently heard of first
}

// An Entry is one fingerprint that fails around the place.
type Entry struct {
	Key       string           `json:"key"` // of its State
	Type      heal.FailureType `json:"type"`
	Reason    string           `json:"reason"`
	Object    string           `json:"object"` // the owner, or what itself fails: shop/Deployment/checkout
	Incident  string           `json:"incident"`
	Detail    string           `json:"detail,omitempty"`    // how an image cannot be pulled
	Nodes     []string         `json:"nodes,omitempty"`     // where it fails, the first few
	First     int64            `json:"first"`               // when its first failure was first seen, in ms
	Heard     int64            `json:"heard"`               // in ms
	Episodes  []string         `json:"episodes"`            // that are going on, the first few
	Many      bool             `json:"many,omitempty"`      // there are more than that
	Ended     int64            `json:"ended,omitempty"`     // when the last one ended, in ms; 0 while any goes on
	Selectors []string         `json:"selectors,omitempty"` // of a service: the values that it selects pods by
	Workloads []string         `json:"workloads,omitempty"` // of a service: what is behind it, as "Deployment/db"
}

const (
	maxEntries    = 256
	entryEpisodes = 8
	entryNodes    = 4
	boardMemory   = time.Hour        // an entry that is not heard of for so long says nothing
	entryRenewed  = 90 * time.Second // one that is noted again sooner is not written again
)

// The keys of boards.
func nodeBoard(name string) string      { return heal.ID("b", "node", name) }
func namespaceBoard(name string) string { return heal.ID("b", "namespace", name) }

// The keys of the boards about images that cannot be pulled, and about all nodes.
var (
	RegistryBoard = heal.ID("b", "registry")
	NodesBoard    = heal.ID("b", "nodes")
)

// BoardsOf are the keys of the boards that a failure is noted on.
func BoardsOf(f heal.Failure) []string {
	var keys []string
	if f.Type == heal.PodFailure && f.Node != "" {
		keys = append(keys, nodeBoard(f.Node))
	}
	if namespace := f.Affected().Namespace; namespace != "" {
		keys = append(keys, namespaceBoard(namespace))
	}
	if f.Metadata["pull_error"] != "" {
		keys = append(keys, RegistryBoard)
	}
	if f.Type == heal.NodeFailure && f.Target.Kind == "Node" {
		keys = append(keys, NodesBoard)
	}
	return keys
}

// Note returns the board with f on it, of that incident; or off it, if f is
// resolved. It reports false if that makes no difference worth a write.
func (b Board) Note(f heal.Failure, incident string, now time.Time) (Board, bool) {
	key, id := Key(f), episodeID(f)
	e := Entry{Key: key, Type: f.Type, Reason: heal.Clean(f.Reason, 64), Object: f.Affected().String(), First: f.FirstSeen.UnixMilli()}
	i := slices.IndexFunc(b.Entries, func(e Entry) bool { return e.Key == key })
	if i >= 0 {
		e = b.Entries[i]
	}
	known := slices.Contains(e.Episodes, id)
	switch {
	case f.Resolved() && i < 0, f.Resolved() && !known && !e.Many:
		return b, false
	case f.Resolved():
		e.Episodes = slices.DeleteFunc(slices.Clone(e.Episodes), func(old string) bool { return old == id })
		if len(e.Episodes) == 0 && !e.Many {
			e.Ended = now.UnixMilli()
		}
	case known && e.Ended == 0 && now.Sub(time.UnixMilli(e.Heard)) < entryRenewed,
		e.Many && !known && e.Ended == 0 && now.Sub(time.UnixMilli(e.Heard)) < entryRenewed:
		return b, false
	default:
		if e.Ended != 0 || len(e.Episodes) == 0 {
			e.First, e.Ended, e.Many, e.Nodes = f.FirstSeen.UnixMilli(), 0, false, nil
		}
		e.First = min(e.First, f.FirstSeen.UnixMilli())
		switch {
		case known:
		case len(e.Episodes) < entryEpisodes:
			e.Episodes = append(slices.Clone(e.Episodes), id)
		default:
			e.Many = true
		}
		if f.Node != "" && !slices.Contains(e.Nodes, f.Node) && len(e.Nodes) < entryNodes {
			e.Nodes = append(slices.Clone(e.Nodes), f.Node)
		}
		e.Incident, e.Heard = cmp.Or(incident, e.Incident), now.UnixMilli()
		e.Detail = heal.Clean(f.Metadata["pull_error"], 64)
		e.Selectors, e.Workloads = selectors(f), nil
		if f.Type == heal.ServiceFailure {
			for _, w := range Workloads(f) {
				e.Workloads = append(e.Workloads, w.Kind+"/"+w.Name)
			}
		}
	}
	entries := make([]Entry, 0, len(b.Entries)+1)
	for j, old := range b.Entries {
		if j != i && now.Sub(time.UnixMilli(max(old.Heard, old.Ended))) < boardMemory {
			entries = append(entries, old)
		}
	}
	return Board{Entries: last(append(entries, e), maxEntries)}, true
}

// selectors are the values that a failing service selects its pods by. The
// names of workloads are nearly always among them.
func selectors(f heal.Failure) []string {
	if f.Type != heal.ServiceFailure {
		return nil
	}
	var values []string
	for _, e := range f.Evidence {
		if e.Path == "spec.selector" {
			values = append(values, selected(e.Value)...)
		}
	}
	return values
}

// Going are the entries that are going on.
func (b Board) Going(now time.Time) []Entry {
	var going []Entry
	for _, e := range b.Entries {
		if e.Ended == 0 && now.Sub(time.UnixMilli(e.Heard)) < boardMemory {
			going = append(going, e)
		}
	}
	return going
}

// Nodes counts the nodes on the board that fail in a way that leads, or did
// within the time given.
func (b Board) Nodes(now time.Time, within time.Duration) int {
	seen := map[string]bool{}
	for _, e := range b.Entries {
		going := e.Ended == 0 && now.Sub(time.UnixMilli(e.Heard)) < boardMemory
		if policy.RoleOf(e.Type, e.Reason) == policy.Leads && (going || e.Ended != 0 && now.Sub(time.UnixMilli(e.Ended)) < within) {
			seen[e.Object] = true
		}
	}
	return len(seen)
}

// Idle reports whether nothing on the board matters any more.
func (b Board) Idle(now time.Time) bool {
	return !slices.ContainsFunc(b.Entries, func(e Entry) bool {
		return now.Sub(time.UnixMilli(max(e.Heard, e.Ended))) < boardMemory
	})
}
