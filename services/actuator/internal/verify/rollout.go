package verify

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A Rollout is what must be known to tell whether a Deployment whose template
// we changed is whole again.
type Rollout struct {
	Target     heal.Target
	Deployment *appsv1.Deployment // what has its name now; nil for nothing
	InPlace    bool               // it still has the template that we gave it
	Done       string             // what we did to it: "it runs revision 1 again"
	Restarts   Restarts           // of its pods
}

// Judge says how the roll-out is doing.
func (r Rollout) Judge() Sight {
	d := r.Deployment
	switch {
	case d == nil, string(d.UID) != r.Target.UID, d.DeletionTimestamp != nil:
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: r.Target.String() + " is gone"}
	case !r.InPlace:
		message := fmt.Sprintf("%s: somebody changed the template again%s: hands off, it has an owner", r.Target, LastWriter(d.ObjectMeta))
		return Sight{State: Bad, Reason: "Overridden", Message: message,
			Checks: []heal.Check{{Name: "template_in_place", Observed: message}}}
	case guard.Wanted(d) == 0:
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: r.Target.String() + " was scaled to zero"}
	}
	wanted, s := guard.Wanted(d), d.Status
	seen := fmt.Sprintf("%d of %d replicas are updated, %d available, %d unavailable", s.UpdatedReplicas, wanted, s.AvailableReplicas, s.UnavailableReplicas)
	inPlace := heal.Check{Name: "template_in_place", Passed: true, Observed: r.Done}
	whole := heal.Check{Name: "rolled_out", Observed: seen}
	pending := func(message string) Sight {
		return Sight{State: Pending, Message: message, Checks: []heal.Check{inPlace, whole}}
	}
	switch {
	case d.Spec.Paused:
		whole.Observed = "somebody paused it"
		return pending(fmt.Sprintf("%s: %s, but somebody paused it before it was rolled out", r.Target, r.Done))
	case s.ObservedGeneration < d.Generation:
		whole.Observed = fmt.Sprintf("the controller has seen generation %d of %d", s.ObservedGeneration, d.Generation)
		return pending(fmt.Sprintf("%s: %s", r.Target, whole.Observed))
	case s.UpdatedReplicas != wanted, s.AvailableReplicas != wanted, s.Replicas != wanted, s.UnavailableReplicas != 0:
		sight := pending(fmt.Sprintf("%s: %s, but %s", r.Target, r.Done, seen))
		if guard.Stalled(d) {
			sight.Late = &Conclusion{Outcome: heal.Failed, Reason: "NotFixed", Message: sight.Message}
		}
		return sight
	}
	whole.Passed = true
	return r.Restarts.add(Sight{State: Good, Reason: "Verified", Message: fmt.Sprintf("%s: %s, and %s", r.Target, r.Done, seen), Checks: []heal.Check{inPlace, whole}})
}

// LastWriter names who changed the template last, if that was not us.
func LastWriter(o metav1.ObjectMeta) string {
	for _, w := range guard.TemplateWriters(o) {
		if w.Name != heal.FieldManager {
			return fmt.Sprintf(" (field manager %s)", w.Name)
		}
	}
	return ""
}

// Restarts are how often the containers of a workload's pods were restarted: a
// pod that counts as available may still end now and then.
type Restarts struct {
	Pods  string // which pods they are of, as one word
	Count int
}

// RestartsOf counts those of pods that are not on their way out.
func RestartsOf(pods []corev1.Pod) Restarts {
	var r Restarts
	var uids []string
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		uids = append(uids, string(p.UID))
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			r.Count += int(c.RestartCount)
		}
	}
	slices.Sort(uids)
	r.Pods = heal.ID("p", uids...)
	return r
}

// add makes a good sight begin again when a pod was restarted or replaced.
func (r Restarts) add(s Sight) Sight {
	s.Subject = fmt.Sprintf("%s/%d", r.Pods, r.Count)
	s.Checks = append(s.Checks, heal.Check{Name: "no_restarts", Passed: true, Observed: fmt.Sprintf("%d restarts when it was whole, none since", r.Count)})
	return s
}
