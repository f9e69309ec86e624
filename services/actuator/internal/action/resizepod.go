package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// resizePod gives the container of a pod that runs out of memory a higher
// limit, as far as its owner permits: in the template, so that it lasts, and in
// place, so that the pod need not wait for its turn.
var resizePod = Action{
	Needs: slices.Concat(mayChangeTemplate, mayChangeStatefulSet, mayChangeDaemonSet, live.MayReadUsage, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods/resize"}, Verbs: []string{"patch"}},
	}),
	Do:     resize,
	Sights: resized,
	Settle: settleResize,
}

// A resizing is what resize must remember. What it has of templateChange is
// where others look for it.
type resizing struct {
	templateChange
	Owner     heal.Target `json:"owner"`
	Selector  string      `json:"selector"` // of the owner's pods
	Container string      `json:"container"`
	Index     int         `json:"index"` // of the container, in the template
	Limit     string      `json:"limit"`
	Was       string      `json:"was"`
	Request   bool        `json:"request"` // the request is as high as the limit, and stays so
}

func (r resizing) String() string {
	return fmt.Sprintf("container %s may use %s of memory instead of %s", r.Container, r.Limit, r.Was)
}

// on is the job as one about another object than the decision's target.
func (j *Job) on(target heal.Target, facts guard.Facts) *Job {
	other := *j
	other.Decision.Target, other.Facts = target, facts
	return &other
}

func resize(ctx context.Context, j *Job) error {
	var r resizing
	planned := j.Desk.Recall(&r)
	for range 5 {
		if !planned {
			var err error
			if r, err = planResize(ctx, j); err != nil {
				return err
			}
			j.Desk.Remember(r)
			j.Desk.Note(heal.Step{Name: "choose_size", Status: heal.StepOK, Detail: r.String()})
		}
		planned = false
		err := j.Desk.Do(ctx, resizeRequest(j, r))
		if err == nil {
			return resizeInPlace(ctx, j, r)
		}
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := j.Desk.Recheck(ctx, 0); err != nil {
			return err
		}
	}
	return ErrMoved
}

// planResize finds out which container needs more, and how much it may have.
func planResize(ctx context.Context, j *Job) (resizing, error) {
	pod := j.Facts.Pod
	if pod == nil {
		return resizing{}, guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", j.Decision.Target))
	}
	owner, v := resizable(j.Facts)
	if !v.Allowed() {
		return resizing{}, guard.Refuse("resize", v)
	}
	facts, err := j.Reader.Facts(ctx, j.Decision, owner)
	if err != nil {
		return resizing{}, err
	}
	w, there := facts.Templated()
	if !there || string(w.UID) != owner.UID {
		return resizing{}, guard.Refuse("owned", guard.Moot("OwnerGone", "%s, which owns %s, is gone", owner, j.Decision.Target))
	}
	r, v := judgeResize(j.Facts, w, owner)
	if !v.Allowed() {
		return resizing{}, guard.Refuse("resize", v)
	}
	on := j.on(owner, facts)
	if r.Selector, err = ownerSelector(facts); err != nil {
		return resizing{}, err
	}
	if isMarked(w.ObjectMeta, j.Decision.ID) { // made by an attempt that the ledger has lost
		r.Made, r.Digest = true, digest(w.Template)
		return r, nil
	}
	// A new limit is a roll-out, as a restart is.
	var rollout guard.Verdict
	if d := facts.Deployment; d != nil {
		sets, err := j.Reader.ReplicaSetsOf(ctx, d)
		if err != nil {
			return resizing{}, answer(err, owner)
		}
		rollout = judgeRestart(owner, d, sets)
		if d.Spec.Paused {
			rollout = guard.Veto("Paused", "%s is paused (spec.paused: true): whoever did that is at work on it", owner)
		}
	} else {
		s, err := gatherSet(ctx, on)
		if err != nil {
			return resizing{}, err
		}
		rollout = judgeSetRestart(owner, s)
	}
	if !rollout.Allowed() {
		return resizing{}, Refused(guard.Refuse("resize", rollout))
	}
	after := w.Template.DeepCopy()
	setMemory(&after.Spec.Containers[r.Index], r)
	r.Version, r.Digest = w.ResourceVersion, digest(*after)
	return r, nil
}

// resizable is the workload whose template the pod is made from.
func resizable(f guard.Facts) (heal.Target, guard.Verdict) {
	if len(f.Owners) == 0 {
		return heal.Target{}, guard.Veto("OwnerGone", "the owner of %s is gone", f.Target)
	}
	top := f.Owners[len(f.Owners)-1]
	if !slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, top.Kind) {
		return heal.Target{}, guard.Veto("UnknownOwner", "%s belongs to %s, and only the template of a Deployment, StatefulSet or DaemonSet is changed", f.Target, top)
	}
	return top.Target(), guard.Allow("%s has its template", top)
}

// judgeResize chooses the container and its new limit, or says why there is none.
func judgeResize(f guard.Facts, w guard.Templated, owner heal.Target) (resizing, guard.Verdict) {
	name := f.Decision.Failure.Metadata["container"]
	if name == "" {
		name = guard.OutOfMemory(f.Pod, f.Now)
	}
	i := slices.IndexFunc(w.Template.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
	j := slices.IndexFunc(f.Pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 || j < 0 {
		return resizing{}, guard.Veto("ContainerUnknown", "%s has no container %q that it shares with the template of %s", f.Target, heal.Clean(name, 64), owner)
	}
	declared, running := w.Template.Spec.Containers[i].Resources, f.Pod.Spec.Containers[j].Resources
	limit, has := declared.Limits[corev1.ResourceMemory]
	if !has {
		return resizing{}, guard.Veto("NoMemoryLimit", "container %s of %s has no memory limit, so it is the node that ran out", name, owner)
	}
	text, on, permitted := guard.Permit(f, guard.PermitMemory)
	if !permitted {
		return resizing{}, guard.Veto("NotPermitted", "container %s of %s needs more than %s of memory, and nothing permits to raise that: %s on %s says up to which limit",
			name, owner, limit.String(), guard.PermitMemory, owner)
	}
	most, err := resource.ParseQuantity(text)
	if err != nil {
		return resizing{}, guard.Veto("NotPermitted", "%s: %q on %s is not a quantity such as 512Mi, and permits nothing", guard.PermitMemory, text, on)
	}
	r := resizing{Owner: owner, Container: name, Index: i, Was: limit.String()}
	if isMarked(w.ObjectMeta, f.Decision.ID) {
		r.Limit, r.Was = limit.String(), strings.TrimPrefix(w.Annotations[heal.AnnotationPrevious], memoryPrefix(name))
		return r, guard.Allow("it was raised already")
	}
	now, ok := running.Limits[corev1.ResourceMemory]
	if ok && now.Cmp(limit) < 0 {
		return resizing{}, guard.Moot("AlreadyResized", "container %s of %s may use %s by its template, and %s still has %s", name, owner, limit.String(), f.Target, now.String())
	}
	next, more := moreMemory(limit, most)
	if !more {
		return resizing{}, guard.Veto("AtMaximum", "container %s of %s may use %s of memory, and %s on %s permits no more than %s: it needs a higher one, or its leak mended",
			name, owner, limit.String(), guard.PermitMemory, on, most.String())
	}
	r.Limit = next.String()
	request, asks := declared.Requests[corev1.ResourceMemory]
	r.Request = asks && request.Cmp(limit) == 0
	if who, seen := guard.ManagedBy(w.ObjectMeta); who != "" {
		return resizing{}, guard.Veto("ManagedByGitOps", "%s is managed by %s (%s), which would put its template back: raise the memory limit of container %s from %s to %s there; until it syncs, this helps: %s",
			owner, who, seen, name, limit.String(), next.String(), r.command(r.Limit))
	}
	if o := metav1.GetControllerOf(&w.ObjectMeta); o != nil {
		return resizing{}, guard.Veto("ManagedByController", "%s is controlled by %s %s (%s), which would put its template back: raise the memory limit of container %s from %s to %s there",
			owner, o.Kind, o.Name, o.APIVersion, name, limit.String(), next.String())
	}
	return r, guard.Allow("%s", r)
}

// moreMemory is half as much again, in whole MiB, but never more than most.
// (25 to 50 % is what is usual; less would only be killed again.)
func moreMemory(limit, most resource.Quantity) (resource.Quantity, bool) {
	const mebi = 1 << 20
	if limit.Cmp(most) >= 0 {
		return limit, false
	}
	bytes := limit.Value() + limit.Value()/2
	next := *resource.NewQuantity((bytes+mebi-1)/mebi*mebi, resource.BinarySI)
	if next.Cmp(most) > 0 {
		next = most
	}
	return next, true
}

func setMemory(c *corev1.Container, r resizing) {
	limit := resource.MustParse(r.Limit) // it was made from a quantity
	c.Resources.Limits[corev1.ResourceMemory] = limit
	if r.Request {
		c.Resources.Requests[corev1.ResourceMemory] = limit
	}
}

// patchMemory changes the container at the path, which must be the one meant.
func patchMemory(p *patch, containers string, index int, r resizing) {
	at := containers + "/" + strconv.Itoa(index)
	*p = append(*p, operation{"test", at + "/name", r.Container})
	p.add(at+"/resources/limits", "memory", r.Limit)
	if r.Request {
		p.add(at+"/resources/requests", "memory", r.Limit)
	}
}

func memoryPrefix(container string) string { return container + " limits.memory=" }

// resizeRequest changes the template.
func resizeRequest(j *Job, r resizing) Request {
	on := j.on(r.Owner, guard.Facts{})
	return Request{
		Step: "resize", Target: r.Owner,
		Send: func(ctx context.Context, dryRun []string) error {
			if r.Made {
				return nil
			}
			w, err := j.Reader.Templated(ctx, r.Owner)
			if err != nil {
				return err
			}
			if w == nil || w.ResourceVersion != r.Version {
				return ErrMoved
			}
			p := patchOf(r.Owner, r.Version)
			patchMemory(&p, "/spec/template/spec/containers", r.Index, r)
			p.mark(*w, j.Decision.ID)
			p.add("/metadata/annotations", heal.AnnotationPrevious, memoryPrefix(r.Container)+r.Was)
			return sendPatch(ctx, on, r.templateChange, p, dryRun)
		},
		Seen: marked(on),
	}
}

// resizeInPlace gives the running pod the new limit too. That only makes it
// quicker, so a refusal is no more than a note.
func resizeInPlace(ctx context.Context, j *Job, r resizing) error {
	target := j.Decision.Target
	err := j.Desk.Do(ctx, Request{
		Step: "resize_in_place", Target: target,
		Send: func(ctx context.Context, dryRun []string) error {
			pod, err := j.Reader.Pod(ctx, target)
			if err != nil {
				return err
			}
			if pod == nil {
				return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", target))
			}
			i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == r.Container })
			if i < 0 || !bounded(pod.Spec.Containers[i]) {
				return guard.Refuse("resize", guard.Veto("ContainerUnknown", "container %s of %s has no memory limit", r.Container, target))
			}
			inPod := r
			limits, requests := pod.Spec.Containers[i].Resources.Limits[corev1.ResourceMemory], pod.Spec.Containers[i].Resources.Requests[corev1.ResourceMemory]
			inPod.Request = limits.Cmp(requests) == 0 // or its class of service would change, which is refused
			p := patch{{"test", "/metadata/uid", target.UID}}
			patchMemory(&p, "/spec/containers", i, inPod)
			body, err := json.Marshal(p)
			if err != nil {
				return fmt.Errorf("encode the patch of %s: %w", target, err)
			}
			_, err = j.Kube.CoreV1().Pods(target.Namespace).Patch(ctx, target.Name, types.JSONPatchType, body,
				metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun}, "resize")
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // also of an API server that does not know it
				return guard.Refuse("api_server", guard.Veto("Invalid", "the API server does not resize %s in place", target))
			}
			return answer(err, target)
		},
		Seen: func(ctx context.Context) (bool, error) {
			pod, err := j.Reader.Pod(ctx, target)
			if err != nil || pod == nil {
				return pod == nil, err
			}
			return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
				limit := c.Resources.Limits[corev1.ResourceMemory]
				return c.Name == r.Container && limit.String() == r.Limit
			}), nil
		},
	})
	var wait *Wait
	var refusal *guard.Refusal
	if !errors.As(err, &wait) && errors.As(err, &refusal) && refusal.Guard != guard.Brake {
		j.Desk.Note(leftAlone("resize_in_place", refusal))
		return nil
	}
	return err
}

func bounded(c corev1.Container) bool {
	_, has := c.Resources.Limits[corev1.ResourceMemory]
	return has
}

// resized looks whether all pods of the workload run with the new limit.
func resized(j *Job) Sights {
	var r resizing
	j.Desk.Recall(&r)
	on := j.on(r.Owner, guard.Facts{})
	done := func(templateChange) string { return r.String() }
	var sights Sights
	if r.Owner.Kind == "Deployment" {
		sights = rolledOut(on, done)
	} else {
		sights = setRolledOut(on, done)
	}
	sights.Follow = func(ctx context.Context, changed chan<- struct{}) {
		j.Reader.FollowPods(ctx, r.Owner.Namespace, r.Selector, changed)
	}
	return sights
}

// settleResize tells how to take the limit back, if it stands.
func settleResize(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
	var r resizing
	if !j.Desk.Recall(&r) {
		return nil, nil
	}
	w, err := j.Reader.Templated(ctx, r.Owner)
	if err != nil || w == nil || string(w.UID) != r.Owner.UID || !isMarked(w.ObjectMeta, j.Decision.ID) || digest(w.Template) != r.Digest {
		return nil, err
	}
	return &heal.Undo{Summary: fmt.Sprintf("%s: %s", r.Owner, r), Command: r.command(r.Was)}, nil
}

// command is how a person sets the limit.
func (r resizing) command(limit string) string {
	return fmt.Sprintf("kubectl set resources %s/%s -n %s -c %s --limits=memory=%s", strings.ToLower(r.Owner.Kind), r.Owner.Name, r.Owner.Namespace, r.Container, limit)
}

// ownerSelector is of the workload's pods.
func ownerSelector(f guard.Facts) (string, error) {
	if d := f.Deployment; d != nil {
		s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err != nil {
			return "", fmt.Errorf("selector of %s: %w", f.Target, err)
		}
		return s.String(), nil
	}
	return setSelector(f), nil
}
