package incident

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Group is all that is remembered about one object and what it owns: a State
// for each type and fingerprint, kept together, so that one write decides for
// all of them. Like a State it is a value.
//
// What of it fails at the same time is one incident.
type Group struct {
	States map[string]State `json:"states"` // by Key
	Tries  []Try            `json:"tries,omitempty"`
	Waits  Wait             `json:"waits,omitzero"`
}

// maxStates is how many fingerprints of one object are told apart. Of more,
// those that were quiet for longest are forgotten.
const maxStates = 16

// A Wait says what the object waits for, as far as that was found out.
type Wait struct {
	For   string    `json:"for"` // shop/Service/db
	Since time.Time `json:"since"`
}

// GroupKey is where the group that f belongs to is kept. It follows from the
// fingerprint alone, so that what is similar is never parted.
func GroupKey(f heal.Failure) string {
	part := strings.SplitN(f.Fingerprint, "/", 5)
	if len(part) == 5 && part[0] == string(f.Type) && part[2] != "" && part[3] != "" {
		return ObjectKey(part[1], part[2], part[3])
	}
	return heal.ID("g", string(f.Type), f.Fingerprint)
}

// ObjectKey is where the group of an object is kept.
func ObjectKey(namespace, kind, name string) string { return heal.ID("g", namespace, kind, name) }

// State is what is remembered about f's fingerprint. If it has no incident of
// its own just now, it has the one of whatever else of the group is failing.
func (g Group) State(f heal.Failure, now time.Time, window time.Duration) State {
	key := Key(f)
	s := g.States[key]
	if s.joins(now, window) {
		return s
	}
	for _, k := range g.keys() {
		if other := g.States[k]; k != key && !other.Incident.Closed && other.Incident.ID != "" && (other.Open(now) > 0 || other.UnderWay(now)) {
			return s.Join(other.Incident, now)
		}
	}
	return s
}

// With is the group with s as what is remembered about f's fingerprint.
func (g Group) With(f heal.Failure, s State) Group {
	g.States = maps.Clone(g.States)
	if g.States == nil {
		g.States = map[string]State{}
	}
	g.States[Key(f)] = s
	if len(g.States) > maxStates {
		oldest := slices.MinFunc(g.keys(), func(a, b string) int {
			return g.States[a].Incident.LastActive.Compare(g.States[b].Incident.LastActive)
		})
		delete(g.States, oldest)
	}
	g.thin()
	return g.bound()
}

// bound keeps the group as small as one full State: the states share the room.
func (g Group) bound() Group {
	episodes, untold, faded, times := 0, 0, 0, 0
	for _, s := range g.States {
		episodes, untold, faded, times = episodes+len(s.Episodes), untold+len(s.Untold), faded+len(s.Faded), times+len(s.History.times)
	}
	if episodes <= maxEpisodes && untold <= maxUntold && faded <= maxFaded && times <= maxHistory {
		return g
	}
	n := len(g.States)
	for key, s := range g.States {
		s.Episodes = last(s.Episodes, maxEpisodes/n)
		for len(s.Untold) > max(1, maxUntold/n) {
			s = s.fade()
		}
		s.Faded = last(s.Faded, maxFaded/n)
		s.History = s.History.newest(maxHistory / n)
		g.States[key] = s
	}
	return g
}

func last[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }

// keys are those of the states, in an order that is always the same.
func (g Group) keys() []string { return slices.Sorted(maps.Keys(g.States)) }

// Others are the states besides that of f's fingerprint, in a fixed order.
func (g Group) Others(f heal.Failure) []State {
	own := Key(f)
	var others []State
	for _, key := range g.keys() {
		if key != own {
			others = append(others, g.States[key])
		}
	}
	return others
}

// Tell returns the group without the records of decisions that were told.
func (g Group) Tell(decisions []string) Group {
	if len(decisions) == 0 {
		return g
	}
	g.States = maps.Clone(g.States)
	for key, s := range g.States {
		g.States[key] = s.Tell(decisions)
	}
	return g
}

// Forgettable reports whether nothing is lost if the group is.
func (g Group) Forgettable(now time.Time, window time.Duration) bool {
	for _, s := range g.States {
		if !s.Forgettable(now, window) {
			return false
		}
	}
	for _, t := range g.Tries {
		if t.weight(now) >= leastWeight {
			return false
		}
	}
	return true
}

// Wide is how many episodes of pods with the same reason are going on in the group.
func (g Group) Wide(reason string, now time.Time) int {
	n := 0
	for _, s := range g.States {
		if s.Type == heal.PodFailure && s.Reason == reason {
			n += s.Open(now)
		}
	}
	return n
}

// Failing counts the pods' episodes that are going on, by where they are:
// revision and node as Mark has them.
func (g Group) Failing(now time.Time) (byRevision, byNode map[string]int) {
	byRevision, byNode = map[string]int{}, map[string]int{}
	for _, s := range g.States {
		if s.Type != heal.PodFailure {
			continue
		}
		for _, e := range s.Episodes {
			if e.open(now) {
				byRevision[e.Rev]++
				byNode[e.Where]++
			}
		}
	}
	return byRevision, byNode
}

// Mark is a short name for a revision or a node, which an episode can hold.
// Empty is empty.
func Mark(name string) string {
	if name == "" {
		return ""
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// Revision is which template the failing pod was made of, or nothing.
func Revision(f heal.Failure) string {
	return cmp.Or(f.Metadata["pod_template_hash"], f.Metadata["controller_revision_hash"])
}

// Of are the group's states that belong to an incident, or with no incident
// all of them: those that are going on first, and then those heard of last.
func (g Group) Of(incident string, now time.Time) []State {
	var all []State
	for _, key := range g.keys() {
		if s := g.States[key]; incident == "" || s.Incident.ID == incident {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b State) int {
		if x, y := a.Open(now) > 0, b.Open(now) > 0; x != y {
			if x {
				return -1
			}
			return 1
		}
		return b.Incident.LastActive.Compare(a.Incident.LastActive)
	})
	return all
}
