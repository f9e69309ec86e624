package action

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// annotationRestartedBy, on a template, makes its pods be replaced one after
// another. It holds the decision instead of a time, so that setting it twice
// is setting it once. What Git declares seldom has it, so Git does not take it
// away either.
const annotationRestartedBy = heal.Domain + "/restarted-by"

// restartDeployment replaces all pods of a Deployment, in the way that its own
// strategy says.
var restartDeployment = Action{
	Needs: mayChangeTemplate,
	Do: func(ctx context.Context, j *Job) error {
		return changeTemplate(ctx, j,
			func() (templateChange, error) { return planRestart(ctx, j, j.Facts.Deployment) },
			func(c templateChange) Request { return restartRequest(j, c) })
	},
	Sights: func(j *Job) Sights {
		return rolledOut(j, func(templateChange) string { return "its pods were replaced" })
	},
}

func planRestart(ctx context.Context, j *Job, d *appsv1.Deployment) (templateChange, error) {
	if d.Spec.Template.Annotations[annotationRestartedBy] == j.Decision.ID {
		return templateChange{Made: true, Digest: digest(d.Spec.Template)}, nil // by an attempt that the ledger has lost
	}
	sets, err := j.Reader.ReplicaSetsOf(ctx, d)
	if err != nil {
		return templateChange{}, answer(err, j.Decision.Target)
	}
	if v := judgeRestart(j.Decision.Target, d, sets); !v.Allowed() {
		return templateChange{}, Refused(guard.Refuse("restart", v))
	}
	after := d.Spec.Template.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	after.Annotations[annotationRestartedBy] = j.Decision.ID
	return templateChange{Version: d.ResourceVersion, From: revisionOf(current(d, sets)), Digest: digest(*after)}, nil
}

// judgeRestart refuses to restart what is being rolled out: a restart is a
// roll-out itself, of the same template, and would only hide the other's end.
func judgeRestart(target heal.Target, d *appsv1.Deployment, sets []appsv1.ReplicaSet) guard.Verdict {
	from := current(d, sets)
	if from == nil {
		v := guard.Veto("StatusBehind", "%s: no ReplicaSet has its template yet", target)
		v.Again = 2 * time.Second
		return v
	}
	for i := range sets {
		if rs := &sets[i]; rs.UID != from.UID && rs.Status.Replicas > 0 {
			return guard.Veto("SeveralRevisions", "%s has %d replicas of %s beside %d of %s: restarting would not end that roll-out",
				target, rs.Status.Replicas, revisionOf(rs), from.Status.Replicas, revisionOf(from))
		}
	}
	if guard.RollingOut(d) {
		v := guard.Veto("RolloutUnderWay", "%s is still being rolled out within its deadline, %d of %d replicas are available, %d updated",
			target, d.Status.AvailableReplicas, guard.Wanted(d), d.Status.UpdatedReplicas)
		v.Again = 10 * time.Second
		return v
	}
	return judgeFloor(target, d)
}

// judgeFloor refuses a restart that would take more of the available pods away
// than can be spared: the strategy may allow that, and nobody asked for it.
func judgeFloor(target heal.Target, d *appsv1.Deployment) guard.Verdict {
	wanted, available := int(guard.Wanted(d)), int(d.Status.AvailableReplicas)
	keeps := 0 // of strategy Recreate
	if rolling := d.Spec.Strategy.RollingUpdate; d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType && rolling != nil {
		away, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(rolling.MaxUnavailable, intstr.FromInt32(1)), wanted, false)
		if err == nil {
			keeps = wanted - away
		}
	}
	if least := min(available, max(1, wanted-1)); keeps < least {
		return guard.Veto(guard.Floor, "%d of %d wanted pods of %s are available, its strategy keeps no more than %d of them, and %d must stay",
			available, wanted, target, keeps, least)
	}
	return guard.Allow("%d of %d wanted pods are available, and its strategy keeps %d", available, wanted, keeps)
}

// restartRequest restarts a workload of any kind.
func restartRequest(j *Job, c templateChange) Request {
	target := j.Decision.Target
	return Request{
		Step: "restart", Target: target,
		Send: func(ctx context.Context, dryRun []string) error {
			if c.Made {
				return nil
			}
			w, there := j.Facts.Templated()
			if !there || w.ResourceVersion != c.Version {
				return ErrMoved
			}
			p := patchOf(target, c.Version)
			if w.Template.Annotations == nil {
				p.add("/spec/template/metadata", "annotations", map[string]string{})
			}
			p.add("/spec/template/metadata/annotations", annotationRestartedBy, j.Decision.ID)
			p.mark(w, j.Decision.ID)
			return sendPatch(ctx, j, c, p, dryRun)
		},
		Seen: marked(j),
	}
}
