package action

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// What StatefulSets and DaemonSets have in common: their templates are kept in
// ControllerRevisions, and their pods say which of them they have.

// mayReadRevisions are the rights to read these.
var mayReadRevisions = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"controllerrevisions"}, Verbs: []string{"get", "list"}},
	{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}},
}

// A podSet is a StatefulSet or DaemonSet, and all that belongs to it.
type podSet struct {
	guard.Templated
	Revisions []kept
	Pods      []corev1.Pod

	Wanted, Ready int
	Keeps         int    // how many Ready pods its strategy keeps while it replaces them
	Idle          string // why it would not replace its pods by itself; empty if it would
	Complete      string // the last revision that all pods had, if that is known, by the label that pods of it have
}

// A kept revision, and the label that pods of it have.
type kept struct {
	revision
	Label    string
	Template live.Template
	Made     time.Time
}

// gatherSet reads what belongs to the target of the job.
func gatherSet(ctx context.Context, j *Job) (podSet, error) {
	w, there := j.Facts.Templated()
	if !there {
		return podSet{}, guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", j.Decision.Target))
	}
	s := podSet{Templated: w}
	var selector *metav1.LabelSelector
	label := func(r *appsv1.ControllerRevision) string { return r.Labels[appsv1.ControllerRevisionHashLabelKey] }
	if o := j.Facts.StatefulSet; o != nil {
		selector = o.Spec.Selector
		label = func(r *appsv1.ControllerRevision) string { return r.Name }
		s.Wanted, s.Ready = int(guard.WantedOf(o)), int(o.Status.ReadyReplicas)
		s.Keeps = s.Wanted - 1
		s.Idle = idleStatefulSet(o)
		if o.Spec.PodManagementPolicy != appsv1.ParallelPodManagement && o.Status.UpdatedReplicas > 0 {
			// Its controller has replaced no pod before all were Ready.
			s.Complete = o.Status.CurrentRevision
		}
	} else if o := j.Facts.DaemonSet; o != nil {
		selector = o.Spec.Selector
		s.Wanted, s.Ready = int(o.Status.DesiredNumberScheduled), int(o.Status.NumberReady)
		s.Keeps, s.Idle = daemonSetKeeps(o, s.Wanted)
	}
	revisions, err := j.Reader.RevisionsOf(ctx, w, selector)
	if err != nil {
		return podSet{}, answer(err, j.Decision.Target)
	}
	for i := range revisions {
		r := &revisions[i]
		t, err := live.TemplateOfRevision(r)
		if err != nil {
			return podSet{}, err
		}
		s.Revisions = append(s.Revisions, kept{
			revision: revision{Number: r.Revision, Hash: digest(t.Typed), Set: r.Name, UID: string(r.UID), Kind: "ControllerRevision"},
			Label:    label(r), Template: t, Made: r.CreationTimestamp.Time,
		})
	}
	slices.SortFunc(s.Revisions, func(a, b kept) int { return int(b.Number - a.Number) })
	text, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return podSet{}, fmt.Errorf("selector of %s: %w", j.Decision.Target, err)
	}
	s.Pods, err = j.Reader.PodsOfTarget(ctx, j.Decision.Target, text.String())
	return s, err
}

func idleStatefulSet(o *appsv1.StatefulSet) string {
	switch r := o.Spec.UpdateStrategy.RollingUpdate; {
	case o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return "its update strategy is OnDelete"
	case r != nil && r.Partition != nil && *r.Partition > 0:
		return fmt.Sprintf("its update strategy has the partition %d", *r.Partition)
	}
	return ""
}

// daemonSetKeeps is how many of the pods its strategy keeps, and why it keeps
// all of them if it does.
func daemonSetKeeps(o *appsv1.DaemonSet, wanted int) (keeps int, idle string) {
	if o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		return wanted, "its update strategy is OnDelete"
	}
	away := intstr.FromInt32(1)
	if r := o.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		away = *r.MaxUnavailable
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&away, wanted, true)
	if err != nil {
		n = wanted
	}
	return wanted - n, ""
}

// current is the revision that has the set's template; nil if there is none yet.
func (s podSet) current() *kept {
	want := digest(s.Template)
	for i := range s.Revisions {
		if s.Revisions[i].Hash == want {
			return &s.Revisions[i]
		}
	}
	return nil
}

// ready is how many pods of a revision are Ready.
func (s podSet) ready(label string) int {
	n := 0
	for i := range s.Pods {
		if p := &s.Pods[i]; p.Labels[appsv1.ControllerRevisionHashLabelKey] == label && p.DeletionTimestamp == nil && guard.IsReady(p) {
			n++
		}
	}
	return n
}

// lastHealthy is the newest revision before from that has another template and
// pods that are Ready now, or that all pods had. The one before proves nothing
// by itself.
func (s podSet) lastHealthy(from *kept) (best *kept, why string) {
	older, same, ill := 0, 0, 0
	for i := range s.Revisions { // the newest first
		r := &s.Revisions[i]
		if r.Number >= from.Number {
			continue
		}
		older++
		switch {
		case r.Hash == from.Hash:
			same++
		case s.ready(r.Label) == 0 && r.Label != s.Complete:
			ill++
		case best == nil:
			best = r
		}
	}
	return best, fmt.Sprintf("%d older revisions are kept, of which %d have no Ready pod and %d the same template", older, ill, same)
}

// patience is how long a pod may take to get Ready before it counts as stuck.
const patience = 5 * time.Minute

// stuck is a pod with the label that does not get Ready, and what shows it.
func (s podSet) stuck(now time.Time, label string) (pod, why string) {
	for i := range s.Pods {
		p := &s.Pods[i]
		if p.Labels[appsv1.ControllerRevisionHashLabelKey] != label || p.DeletionTimestamp != nil || guard.IsReady(p) {
			continue
		}
		if stuck, seen := guard.StuckPod(p); stuck {
			return p.Name, seen
		}
		if age := now.Sub(p.CreationTimestamp.Time); age > patience {
			return p.Name, fmt.Sprintf("it is not Ready %s after it was made", age.Round(time.Second))
		}
	}
	return "", ""
}
