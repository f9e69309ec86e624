package action

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A Leftover is a change of ours that is only meant for as long as a decision
// is carried out. It is written down before it is made, so that it is taken
// back also when nobody is left who works on the decision.
type Leftover struct {
	Kind     string          `json:"kind"` // one of the keys of takeBack
	Decision string          `json:"decision"`
	What     json.RawMessage `json:"what"` // as much as is needed to take it back
}

// Leftovers is the list of them, which outlives the job.
type Leftovers interface {
	Add(ctx context.Context, l Leftover) error
	Remove(ctx context.Context, l Leftover) error
}

// Key tells leftovers apart.
func (l Leftover) Key() string { return l.Kind + " " + l.Decision }

// leftover describes one of the job's.
func leftover(j *Job, kind string, what any) (Leftover, error) {
	data, err := json.Marshal(what)
	if err != nil {
		return Leftover{}, fmt.Errorf("write down what the %s changes: %w", kind, err)
	}
	return Leftover{Kind: kind, Decision: j.Decision.ID, What: data}, nil
}

// The kinds.
const (
	leftSurge = "surge"
	leftTaint = "taint"
)

// TakeBack undoes what is left over, if it still stands as we made it. Doing
// so twice is doing it once.
func TakeBack(ctx context.Context, kube kubernetes.Interface, reader live.Reader, l Leftover) error {
	undo := map[string]func(context.Context, kubernetes.Interface, live.Reader, Leftover) error{
		leftSurge: takeSurgeBack,
		leftTaint: takeTaintBack,

		leftFailover:     takeFailoverBack,
		leftOutOfService: takeOutOfServiceBack,
		leftBare:         takeBareBack,
	}[l.Kind]
	if undo == nil {
		return fmt.Errorf("decision %s has left over a %q, which is not known here: another version of the actuator has to take it back", heal.Clean(l.Decision, 32), heal.Clean(l.Kind, 32))
	}
	return undo(ctx, kube, reader, l)
}
