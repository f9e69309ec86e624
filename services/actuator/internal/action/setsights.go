package action

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// setRolledOut looks whether the set is whole with the template that we gave it.
func setRolledOut(j *Job, done func(templateChange) string) Sights {
	target := j.Decision.Target
	var change templateChange
	j.Desk.Recall(&change)
	sights := Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			s := verify.Set{Target: target, Done: done(change)}
			label, selector := "", (*metav1.LabelSelector)(nil)
			switch target.Kind {
			case "StatefulSet":
				o, err := j.Reader.StatefulSet(ctx, target.Namespace, target.Name)
				if err != nil {
					return verify.Sight{}, err
				}
				if o != nil {
					w := guard.TemplatedOf(o)
					s.Object, label, selector = &w, o.Status.UpdateRevision, o.Spec.Selector
					s.Wanted, s.Updated, s.Ready, s.Available = guard.WantedOf(o), o.Status.UpdatedReplicas, o.Status.ReadyReplicas, o.Status.AvailableReplicas
				}
			default:
				o, err := j.Reader.DaemonSet(ctx, target.Namespace, target.Name)
				if err != nil {
					return verify.Sight{}, err
				}
				if o != nil {
					w := guard.TemplatedOf(o)
					s.Object, selector = &w, o.Spec.Selector
					s.Wanted, s.Updated, s.Ready, s.Available = o.Status.DesiredNumberScheduled, o.Status.UpdatedNumberScheduled, o.Status.NumberReady, o.Status.NumberAvailable
				}
			}
			s.InPlace = s.Object != nil && digest(s.Object.Template) == change.Digest
			if s.Updated < s.Wanted || s.Ready < s.Wanted {
				s.Stuck = stuckPod(ctx, j, label)
			}
			if selector != nil {
				text, err := metav1.LabelSelectorAsSelector(selector)
				if err != nil {
					return verify.Sight{}, fmt.Errorf("selector of %s: %w", target, err)
				}
				pods, err := j.Reader.PodsOfTarget(ctx, target, text.String())
				if err != nil {
					return verify.Sight{}, err
				}
				s.Restarts = verify.RestartsOf(pods)
			}
			return s.Judge(), nil
		},
	}
	if selector := setSelector(j.Facts); selector != "" {
		sights.Follow = func(ctx context.Context, changed chan<- struct{}) {
			j.Reader.FollowPods(ctx, target.Namespace, selector, changed)
		}
	}
	return sights
}

// stuckPod names a pod of the target that cannot run; of a label if one is given.
func stuckPod(ctx context.Context, j *Job, label string) string {
	selector := setSelector(j.Facts)
	if selector == "" {
		return ""
	}
	pods, err := j.Reader.PodsOfTarget(ctx, j.Decision.Target, selector)
	if err != nil {
		return "" // it only says more
	}
	for i := range pods {
		if label != "" && pods[i].Labels[appsv1.ControllerRevisionHashLabelKey] != label {
			continue
		}
		if stuck, seen := guard.StuckPod(&pods[i]); stuck {
			return pods[i].Name + ": " + seen
		}
	}
	return ""
}

// setSelector is of the set's pods; empty if that is not known.
func setSelector(f guard.Facts) string {
	var selector *metav1.LabelSelector
	switch {
	case f.StatefulSet != nil:
		selector = f.StatefulSet.Spec.Selector
	case f.DaemonSet != nil:
		selector = f.DaemonSet.Spec.Selector
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if selector == nil || err != nil {
		return ""
	}
	return s.String()
}
