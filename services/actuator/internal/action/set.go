package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
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

// judgeSetRestart refuses to restart what is being rolled out, or what would
// lose more pods by it than can be spared.
func judgeSetRestart(target heal.Target, s podSet) guard.Verdict {
	from := s.current()
	if from == nil {
		v := guard.Veto("StatusBehind", "%s: no ControllerRevision has its template yet", target)
		v.Again = 2 * time.Second
		return v
	}
	if s.Idle != "" {
		return guard.Veto("NotRolledOut", "restarting %s would replace no pod, as %s", target, s.Idle)
	}
	for i := range s.Pods {
		if p := &s.Pods[i]; p.DeletionTimestamp == nil && p.Labels[appsv1.ControllerRevisionHashLabelKey] != from.Label {
			return guard.Veto("SeveralRevisions", "%s has pods of another revision than %s, such as %s: restarting would not end that roll-out", target, from, p.Name)
		}
	}
	if least := min(s.Ready, max(1, s.Wanted-1)); s.Keeps < least {
		return guard.Veto(guard.Floor, "%d of %d wanted pods of %s are Ready, its strategy keeps no more than %d of them, and %d must stay",
			s.Ready, s.Wanted, target, s.Keeps, least)
	}
	return guard.Allow("%d of %d wanted pods are Ready, and its strategy keeps %d", s.Ready, s.Wanted, s.Keeps)
}

// restartSet makes the request that restarts the target.
func restartSet(ctx context.Context, j *Job) error {
	return changeTemplate(ctx, j,
		func() (templateChange, error) { return planSetRestart(ctx, j) },
		func(c templateChange) Request { return restartRequest(j, c) })
}

func planSetRestart(ctx context.Context, j *Job) (templateChange, error) {
	s, err := gatherSet(ctx, j)
	if err != nil {
		return templateChange{}, err
	}
	if s.Template.Annotations[annotationRestartedBy] == j.Decision.ID {
		return templateChange{Made: true, Digest: digest(s.Template)}, nil // by an attempt that the ledger has lost
	}
	if v := judgeSetRestart(j.Decision.Target, s); !v.Allowed() {
		return templateChange{}, Refused(guard.Refuse("restart", v))
	}
	after := s.Template.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	after.Annotations[annotationRestartedBy] = j.Decision.ID
	return templateChange{Version: s.ResourceVersion, From: s.current().revision, Digest: digest(*after)}, nil
}

// unstick deletes the pods that keep the controller of a StatefulSet from
// giving its pods the template that it has now: it waits for a pod that is not
// Ready, even for one that would be replaced
// (https://github.com/kubernetes/kubernetes/issues/67250). It must know the
// template before, or it makes the pod anew as it was.
func unstick(ctx context.Context, j *Job) error {
	o := j.Facts.StatefulSet
	if o == nil || o.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
		return nil
	}
	if err := untilObserved(ctx, j); err != nil || j.DryRun {
		return err
	}
	for range 5 {
		pod, err := blocking(ctx, j)
		if pod == nil || err != nil {
			return err
		}
		target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}
		facts, err := j.Reader.Facts(ctx, j.Decision, target)
		if err != nil {
			return err
		}
		facts.Mode, facts.Approved = j.Facts.Mode, j.Facts.Approved
		if _, refusal := guard.Judge(facts, guard.Unstuck); refusal != nil {
			j.Desk.Note(leftAlone("unstick", refusal))
			return nil
		}
		if facts.Pod == nil || guard.IsReady(facts.Pod) {
			continue
		}
		if err := deleteAt(ctx, j, target, facts.Pod.ResourceVersion); err != nil && !errors.Is(err, ErrMoved) {
			return unlessMoot(err)
		}
	}
	return nil
}

// leftAlone is the step that something was refused which is not all of the job.
func leftAlone(step string, refusal *guard.Refusal) heal.Step {
	return heal.Step{Name: step, Status: heal.StepSkipped, Detail: refusal.Detail}
}

// unlessMoot is err, unless that says that the workload got well by itself.
func unlessMoot(err error) error {
	var refusal *guard.Refusal
	if errors.As(err, &refusal) && refusal.Outcome == heal.Skipped {
		err = nil
	}
	return err
}

// blocking is a pod that is not Ready and does not have the template that the
// StatefulSet has now; nil if there is none.
func blocking(ctx context.Context, j *Job) (*corev1.Pod, error) {
	o, err := j.Reader.StatefulSet(ctx, j.Decision.Target.Namespace, j.Decision.Target.Name)
	if o == nil || err != nil || string(o.UID) != j.Decision.Target.UID {
		return nil, err
	}
	selector, err := metav1.LabelSelectorAsSelector(o.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of %s: %w", j.Decision.Target, err)
	}
	pods, err := j.Reader.PodsOfTarget(ctx, j.Decision.Target, selector.String())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(b.Name, a.Name) })
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp == nil && !guard.IsReady(p) && p.Labels[appsv1.ControllerRevisionHashLabelKey] != o.Status.UpdateRevision {
			return p, nil
		}
	}
	return nil, nil
}

// untilObserved waits until the controller knows the template that it has now.
func untilObserved(ctx context.Context, j *Job) error {
	for range 40 {
		w, err := j.Reader.Templated(ctx, j.Decision.Target)
		if err != nil || w == nil || w.Observed >= w.Generation {
			return err
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	return &Wait{5 * time.Second, guard.Refuse("rollout", guard.Veto("StatusBehind", "the controller of %s does not take note of its new template", j.Decision.Target))}
}

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
