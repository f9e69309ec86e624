package action

import (
	"context"
	"strconv"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// judgeSetRollback chooses what to roll the set back to, or says why it must
// not be.
func judgeSetRollback(now time.Time, decision heal.Decision, s podSet) (templateChange, *kept, guard.Verdict) {
	target := decision.Target
	from := s.current()
	if from == nil {
		v := guard.Veto("StatusBehind", "%s: no ControllerRevision has its template yet", target)
		v.Again = 2 * time.Second
		return templateChange{}, nil, v
	}
	to, why := s.lastHealthy(from)
	number := int64(0)
	if to != nil {
		number = to.Number
	}
	if v := judgeManaged(target, s.ObjectMeta, number); !v.Allowed() {
		return templateChange{}, nil, v
	}
	if s.Idle != "" {
		return templateChange{}, nil, guard.Veto("NotRolledOut", "%s is not rolled out by its controller, as %s: whoever chose that is at work on it", target, s.Idle)
	}
	pod, seen := s.stuck(now, from.Label)
	if pod == "" {
		v := guard.Veto("RolloutUnderWay", "%s: no pod of %s is stuck, %d of %d pods are Ready", target, from, s.Ready, s.Wanted)
		v.Again = 10 * time.Second
		return templateChange{}, nil, v
	}
	if v := judgeSince(decision, s.ObjectMeta, from.Made); !v.Allowed() {
		return templateChange{}, nil, v
	}
	if to == nil {
		return templateChange{}, nil, guard.Veto("NoHealthyRevision", "%s has no revision that is known to have worked: %s", target, why)
	}
	if v := judgePower(target, from.Template.Typed.Spec, to.Template.Typed.Spec); !v.Allowed() {
		return templateChange{}, nil, v
	}
	if v := judgeRest(now, target, s.ObjectMeta, from.revision); !v.Allowed() {
		return templateChange{}, nil, v
	}
	change := templateChange{Version: s.ResourceVersion, From: from.revision, To: to.revision, Digest: to.Hash}
	return change, to, guard.Allow("%s has %d Ready pods, and of %s the pod %s is stuck: %s", to, s.ready(to.Label), from, pod, seen)
}

// rollBackSet makes the request that rolls the target back.
func rollBackSet(ctx context.Context, j *Job) error {
	return changeTemplate(ctx, j,
		func() (templateChange, error) { return planSetRollback(ctx, j) },
		func(c templateChange) Request {
			return rollbackRequest(j, c, func(ctx context.Context) (live.Template, bool, error) {
				r, err := j.Reader.Revision(ctx, j.Decision.Target.Namespace, c.To.Set, c.To.UID)
				if r == nil || err != nil {
					return live.Template{}, false, err
				}
				t, err := live.TemplateOfRevision(r)
				return t, true, err
			})
		})
}

func planSetRollback(ctx context.Context, j *Job) (templateChange, error) {
	s, err := gatherSet(ctx, j)
	if err != nil {
		return templateChange{}, err
	}
	if isMarked(s.ObjectMeta, j.Decision.ID) { // made by an attempt that the ledger has lost
		change := templateChange{Made: true, Digest: digest(s.Template)}
		if r := s.current(); r != nil {
			change.To = r.revision
		}
		change.From.Number, _ = strconv.ParseInt(s.Annotations[heal.AnnotationPrevious], 10, 64) // only for the undo
		return change, nil
	}
	change, to, v := judgeSetRollback(time.Now(), j.Decision, s)
	if !v.Allowed() {
		return templateChange{}, Refused(guard.Refuse("rollback", v))
	}
	there, err := haveReferences(ctx, j, change.To, to.Template.Typed.Spec)
	if err != nil {
		return templateChange{}, err
	}
	j.Desk.Note(heal.Step{Name: "choose_revision", Status: heal.StepOK, Detail: v.Detail + "; " + there})
	return change, nil
}
