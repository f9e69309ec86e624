package heal

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An ObserverState is how far a watcher trusts its own eyes.
type ObserverState string

// The states of an observer.
const (
	ObserverClear    ObserverState = "clear"    // it sees
	ObserverSettling ObserverState = "settling" // it has only just begun to look
	ObserverBlind    ObserverState = "blind"    // it doubts what it sees
)

// ObserverStates is every state of an observer.
var ObserverStates = []ObserverState{ObserverClear, ObserverSettling, ObserverBlind}

// A Doubt is one reason not to trust what a watcher sees.
type Doubt struct {
	Name    string    `json:"name"`              // stable, snake_case
	Cluster bool      `json:"cluster,omitempty"` // about what every watcher would see; else about the eyes of this one
	Detail  string    `json:"detail"`            // a clause with the numbers
	Since   time.Time `json:"since"`
}

// An Observer is what a watcher says about its own sight: whenever that
// changes, and every ObserverBeat. It is stored, not sent: only the latest counts.
type Observer struct {
	ID        string         `json:"id"` // of the process: another one after a restart
	State     ObserverState  `json:"state"`
	Doubts    []Doubt        `json:"doubts"`              // why it is not clear
	Since     time.Time      `json:"since"`               // when State became so
	SeenAt    time.Time      `json:"seen_at"`             // when it looked at itself
	Inventory map[string]int `json:"inventory,omitempty"` // objects by resource, as it last believed them to be
}

// ObserverBeat is how often an observer says how it is although nothing
// changed, and ObserverFresh how long its word counts.
const (
	ObserverBeat  = 30 * time.Second
	ObserverFresh = 3 * ObserverBeat
)

var observerForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate reports why the state cannot count.
func (o Observer) Validate() error {
	errs := []error{known("state", o.State, ObserverStates)}
	if !observerForm.MatchString(o.ID) {
		errs = append(errs, fmt.Errorf("id: %q is not an observer's id; want 1 to 64 letters, digits, _ and -", Clean(o.ID, 64)))
	}
	if clear := len(o.Doubts) == 0; clear != (o.State == ObserverClear) {
		errs = append(errs, fmt.Errorf("doubts: %d of them in state %q; only one that is clear has none", len(o.Doubts), Clean(string(o.State), 64)))
	}
	for i, d := range o.Doubts {
		errs = append(errs, nonEmpty(fmt.Sprintf("doubts[%d].name", i), d.Name), nonEmpty(fmt.Sprintf("doubts[%d].detail", i), d.Detail))
	}
	if o.Since.IsZero() {
		errs = append(errs, errors.New("since: is empty"))
	}
	if o.SeenAt.IsZero() {
		errs = append(errs, errors.New("seen_at: is empty"))
	}
	return errors.Join(errs...)
}

// A Heard is what an observer said, and when that reached its reader, by the
// reader's own clock: whoever reads need not have the observer's.
type Heard struct {
	Observer
	At time.Time
}

// A Sight is what the states of all watchers come to: whether what they see
// may be acted upon. The zero value is blind.
type Sight struct {
	Clear  bool
	Reason string // if it is not: ReasonBlind or ReasonSettling
	Detail string // a clause with the numbers
}

// Why a Sight is not clear.
const (
	ReasonBlind    = "Blind"
	ReasonSettling = "Settling"
)

// JudgeSight combines what the observers said. Only what was heard within
// ObserverFresh counts. Among those
//
//   - a doubt about the cluster counts whoever has it: the others look at the
//     same cluster, and may only be slower to see;
//   - a doubt of a watcher about its own eyes counts as long as no other sees
//     clearly: one that is cut off must not stop what another sees well.
//
// If nobody was heard the sight is blind, except that a reader that has
// listened since less than ObserverFresh, and never heard of anybody, waits:
// a watcher says how it sees before it says what.
func JudgeSight(heard []Heard, since, now time.Time) Sight {
	var clear, doubtful []Heard
	var last time.Time
	for _, h := range heard {
		if h.At.After(last) {
			last = h.At
		}
		switch {
		case now.Sub(h.At) > ObserverFresh:
		case h.State == ObserverClear:
			clear = append(clear, h)
		default:
			doubtful = append(doubtful, h)
		}
	}
	slices.SortFunc(doubtful, func(a, b Heard) int { return strings.Compare(a.ID, b.ID) })
	for _, h := range doubtful {
		for _, d := range h.Doubts {
			if d.Cluster {
				return Sight{Reason: ReasonBlind, Detail: d.Detail}
			}
		}
	}
	switch {
	case len(clear) > 0:
		return Sight{Clear: true, Detail: fmt.Sprintf("%d of %d watchers see clearly", len(clear), len(clear)+len(doubtful))}
	case len(doubtful) > 0:
		return unclear(doubtful)
	case !last.IsZero():
		return Sight{Reason: ReasonBlind, Detail: fmt.Sprintf("no watcher has said for %s how well it sees", rounded(now.Sub(last)))}
	case since.IsZero():
		return Sight{Reason: ReasonBlind, Detail: "how well the watchers see cannot be read"}
	case now.Sub(since) > ObserverFresh:
		return Sight{Reason: ReasonBlind, Detail: fmt.Sprintf("no watcher has said in %s how well it sees", rounded(now.Sub(since)))}
	}
	return Sight{Clear: true, Detail: fmt.Sprintf("no watcher has said anything yet, in %s", rounded(now.Sub(since)))}
}

// unclear is the sight of watchers of which none sees clearly. One that only
// has to settle says more about when it will be over.
func unclear(doubtful []Heard) Sight {
	best := doubtful[0]
	for _, h := range doubtful {
		if h.State == ObserverSettling {
			best = h
			break
		}
	}
	s := Sight{Reason: ReasonBlind}
	if best.State == ObserverSettling {
		s.Reason = ReasonSettling
	}
	var why []string
	for _, d := range best.Doubts {
		why = append(why, d.Detail)
	}
	s.Detail = fmt.Sprintf("none of %d watchers sees clearly: %s", len(doubtful), strings.Join(why, "; "))
	return s
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Second) }
