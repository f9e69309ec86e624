package action

import (
	"context"
	"errors"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// scaleAndReplacePod lets the Deployment of a pod have one pod more, waits for
// that to be Ready, removes the bad one and scales back: so no moment has fewer
// Ready pods than the one before. Where one pod more is not permitted, or not
// possible, it says why and recreates the pod.
var scaleAndReplacePod = Action{
	Needs:  slices.Concat(recreatePod.Needs, maySurge),
	Do:     scaleAndReplace,
	Sights: surged,
	Settle: settleSurge,
}

// A replacing is what scaleAndReplace must remember. What it has of
// verify.Before is where others look for it.
type replacing struct {
	verify.Before
	Surge *surge `json:"surge,omitempty"`
	Plain bool   `json:"plain,omitempty"` // without one pod more
}

func scaleAndReplace(ctx context.Context, j *Job) error {
	for range 5 {
		err := replaceBySurge(ctx, j)
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := j.Desk.Recheck(ctx, 0); err != nil {
			return err
		}
	}
	return ErrMoved
}

func replaceBySurge(ctx context.Context, j *Job) error {
	if isBare(j) {
		return recreateBare(ctx, j)
	}
	if err := remember(ctx, j); err != nil {
		return err
	}
	var m replacing
	j.Desk.Recall(&m)
	if m.Surge == nil && !m.Plain {
		s, why, err := planSurge(ctx, j)
		if err != nil {
			return err
		}
		if s == nil {
			j.Desk.Note(heal.Step{Name: string(heal.ScaleAndReplace), Status: heal.StepSkipped, Detail: why + ": recreated instead"})
		}
		m.Surge, m.Plain = s, s == nil
		j.Desk.Remember(m)
	}
	if m.Plain {
		return recreate(ctx, j)
	}
	if m.Surge.Failed != "" {
		return nil
	}
	if err := m.Surge.begin(ctx, j); err != nil {
		if errors.Is(err, ErrMoved) {
			m.Surge = nil // to be planned anew
			j.Desk.Remember(m)
		}
		return err
	}
	if j.DryRun {
		return recreate(ctx, j)
	}
	failed, seen, err := m.Surge.await(ctx, j, m.Before)
	if err != nil {
		return err
	}
	if failed != "" {
		m.Surge.Failed, m.Surge.Seen = failed, seen
		j.Desk.Remember(m)
		j.Desk.Note(heal.Step{Name: "wait_ready", Status: heal.StepFailed, Detail: seen})
		return nil
	}
	j.Desk.Note(heal.Step{Name: "wait_ready", Status: heal.StepOK, Detail: seen})
	if err := recreate(ctx, j); err != nil {
		return err
	}
	return m.Surge.end(ctx, j)
}

// settleSurge scales back, if that was not done.
func settleSurge(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
	var m replacing
	j.Desk.Recall(&m)
	if m.Surge == nil {
		return settleBare(ctx, j, nil)
	}
	return nil, m.Surge.end(ctx, j)
}

// surged looks whether the pod was replaced; it was not, if the one more did
// not get Ready.
func surged(j *Job) Sights {
	sights := replacement(j)
	var m replacing
	j.Desk.Recall(&m)
	if m.Surge == nil || m.Surge.Failed == "" {
		return sights
	}
	message := m.Pod.Name + " was kept: of the pod more that should replace it, " + m.Surge.Seen
	return Sights{Look: func(context.Context) (verify.Sight, error) {
		return verify.Sight{State: verify.Bad, Reason: m.Surge.Failed, Message: message,
			Checks: []heal.Check{{Name: "replacement_ready", Observed: message}}}, nil
	}}
}
