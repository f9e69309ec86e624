package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An ending is how a scenario should end, and how it did.
type ending string

// The endings.
const (
	healed     ending = "healed"
	handedOver ending = "handed over" // to a person, because the system must not go on by itself
	neither    ending = "neither"
)

// A scenario breaks something, and waits until that has come to an end.
type scenario struct {
	id     string // by which one asks for it
	name   string
	story  string // what is going to be seen, for somebody who sees it for the first time
	wants  ending
	within time.Duration
	about  func(heal.Failure) bool // whether a failure is of this scenario
	play   func(ctx context.Context, s *stage, w *watch) error
}

// scenarios are played one after the other. To add one, write it in a file of
// its own and list it here.
var scenarios = []scenario{
	crashingPod,
	dyingNode,
	stalledRollout,
	badImage,
}

// ofWorkload is about the failures of a workload's pods and of itself.
func ofWorkload(name string) func(heal.Failure) bool {
	return func(f heal.Failure) bool {
		a := f.Affected()
		return a.Namespace == namespace && a.Kind == "Deployment" && a.Name == name
	}
}

// over reports whether everything that failed is well again.
func over(o observation) bool { return len(o.Open) == 0 && !o.Seen.IsZero() }

// A Scenario is what one can ask for.
type Scenario struct{ ID, Name, Story string }

// Scenarios is everything that can be played.
func Scenarios() []Scenario {
	var all []Scenario
	for _, s := range scenarios {
		all = append(all, Scenario{s.id, s.name, s.story})
	}
	return all
}

// chosen are the scenarios of that id, or all of them if it is empty.
func chosen(id string) ([]scenario, error) {
	if id == "" {
		return scenarios, nil
	}
	var known []string
	for _, s := range scenarios {
		if s.id == id {
			return []scenario{s}, nil
		}
		known = append(known, s.id)
	}
	return nil, fmt.Errorf("scenario %q is not known; want one of %s", heal.Clean(id, 64), strings.Join(known, ", "))
}
