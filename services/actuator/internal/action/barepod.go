package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// A pod without a controller is made anew from its own spec, where a mark on it
// permits that. From before it is deleted until it is there again, a PodTemplate
// beside it keeps the spec: with whatever secrets stand in it, it does not leave
// the API server. The ledger keeps a digest of it, so that nobody who may write
// PodTemplates but no pods can have us make another.

// MayMakePods are the rights to do so. They are not among what an action needs:
// who may create pods may run anything in their namespace, as any of its service
// accounts, so they are given by a person, for the namespaces that should have it.
var MayMakePods = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create"}},
	{APIGroups: []string{""}, Resources: []string{"podtemplates"}, Verbs: []string{"get", "create", "delete"}},
}

// A bare is what recreateBare must remember.
type bare struct {
	Pod      heal.Target `json:"pod"`
	Template string      `json:"template"` // the name of the PodTemplate
	Digest   string      `json:"digest"`   // of what that keeps
	Deleting bool        `json:"deleting,omitempty"`
	Made     bool        `json:"made,omitempty"`
}

// leftBare is the PodTemplate, as a leftover.
const leftBare = "bare_pod"

// isBare reports whether the job is about a pod without a controller.
func isBare(j *Job) bool {
	var b bare
	return j.Desk.Recall(&b) && b.Template != "" || j.Facts.Pod != nil && guard.Bare(j.Facts.Pod)
}

func recreateBare(ctx context.Context, j *Job) error {
	var b bare
	if !j.Desk.Recall(&b) || b.Template == "" {
		b = bare{Pod: j.Decision.Target, Template: "selfheal-" + j.Decision.ID, Digest: digest(bareSpec(j.Facts.Pod, j.Decision.ID))}
		j.Desk.Remember(b)
	}
	if err := keepSpec(ctx, j, b); err != nil {
		return err
	}
	b.Deleting = true
	if err := rememberBare(ctx, j, b); err != nil {
		return err
	}
	err := deleteBare(ctx, j, b)
	var refusal *guard.Refusal
	if errors.As(err, &refusal) && refusal.Outcome == heal.Skipped {
		b.Deleting = false // it went without us, and whoever did that wanted it to
		return errors.Join(err, rememberBare(ctx, j, b))
	}
	if err != nil || j.DryRun {
		return err
	}
	if gone, err := untilGone(ctx, j); err != nil || !gone {
		return err
	}
	if err := makeAgain(ctx, j, b); err != nil {
		return err
	}
	b.Made = true
	j.Desk.Remember(b)
	return nil
}

// rememberBare writes down how far it is also where it outlives the job: once
// the pod may be gone because of us, somebody has to make it again.
func rememberBare(ctx context.Context, j *Job, b bare) error {
	j.Desk.Remember(b)
	left, err := leftover(j, leftBare, b)
	if err != nil {
		return err
	}
	if err := j.Leftovers.Add(ctx, left); err != nil {
		return fmt.Errorf("write down that %s is made anew: %w", b.Pod, err)
	}
	return nil
}

// keepSpec makes the PodTemplate. Its dry run also finds out whether the pod
// could be made again: once it is deleted, it is too late for that.
func keepSpec(ctx context.Context, j *Job, b bare) error {
	if err := rememberBare(ctx, j, b); err != nil {
		return err
	}
	return j.Desk.Do(ctx, Request{
		Step: "keep_spec", Target: b.templateTarget(),
		Send: func(ctx context.Context, dryRun []string) error {
			if j.Facts.Pod == nil {
				return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", b.Pod))
			}
			t := bareSpec(j.Facts.Pod, j.Decision.ID)
			opts := metav1.CreateOptions{FieldManager: heal.FieldManager, DryRun: dryRun}
			if len(dryRun) > 0 {
				// All is asked that is asked of any pod, and only then whether there is one.
				_, err := j.Kube.CoreV1().Pods(b.Pod.Namespace).Create(ctx, newPod(b.Pod.Name, t), opts)
				if err == nil {
					return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", b.Pod))
				}
				if !apierrors.IsAlreadyExists(err) {
					return answer(err, b.Pod)
				}
			}
			marks := map[string]string{heal.AnnotationOwnedBy: heal.FieldManager, heal.AnnotationDecisionID: j.Decision.ID}
			_, err := j.Kube.CoreV1().PodTemplates(b.Pod.Namespace).Create(ctx, &corev1.PodTemplate{
				ObjectMeta: metav1.ObjectMeta{Name: b.Template, Annotations: marks}, Template: t,
			}, opts)
			return answer(err, b.Pod)
		},
		Seen: func(ctx context.Context) (bool, error) {
			t, err := b.template(ctx, j.Kube)
			return t != nil, err
		},
	})
}

func (b bare) templateTarget() heal.Target {
	return heal.Target{APIVersion: "v1", Kind: "PodTemplate", Namespace: b.Pod.Namespace, Name: b.Template, UID: b.Pod.UID}
}

// template reads the PodTemplate; nil if it is gone.
func (b bare) template(ctx context.Context, kube kubernetes.Interface) (*corev1.PodTemplate, error) {
	t, err := kube.CoreV1().PodTemplates(b.Pod.Namespace).Get(ctx, b.Template, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", b.templateTarget(), err)
	}
	return t, nil
}

// now reads whatever pod has the name; nil if none has.
func (b bare) now(ctx context.Context, kube kubernetes.Interface) (*corev1.Pod, error) {
	p, err := kube.CoreV1().Pods(b.Pod.Namespace).Get(ctx, b.Pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", b.Pod, err)
	}
	return p, nil
}

// deleteBare deletes the pod, unless it is not as it is kept any more: what a
// person has changed meanwhile must not be lost.
func deleteBare(ctx context.Context, j *Job, b bare) error {
	return deletePod(ctx, j, func(context.Context) error {
		if p := j.Facts.Pod; p != nil && digest(bareSpec(p, j.Decision.ID)) != b.Digest {
			return guard.Refuse("recreate", guard.Veto("ChangedSince", "somebody has changed %s while it was to be made anew", b.Pod))
		}
		return nil
	})
}

// untilGone waits until the pod is gone, and reports whether its name is free.
func untilGone(ctx context.Context, j *Job) (bool, error) {
	b := bare{Pod: j.Decision.Target}
	for {
		p, err := b.now(ctx, j.Kube)
		if p == nil || err != nil {
			return err == nil, err
		}
		if string(p.UID) != b.Pod.UID {
			return isMarked(p.ObjectMeta, j.Decision.ID), nil // made by an attempt that died, or by a person
		}
		if !time.Now().Before(j.Desk.LastWrite()) {
			return false, nil
		}
		if !pause.For(ctx, 250*time.Millisecond) {
			return false, context.Cause(ctx)
		}
	}
}

// makeAgain makes the pod that was deleted. It waits for no budget, and is never
// too late: it takes our deletion back.
func makeAgain(ctx context.Context, j *Job, b bare) error {
	return j.Desk.Do(ctx, Request{
		Step: "create", Target: b.Pod, Heal: true,
		Send: func(ctx context.Context, _ []string) error { return b.makePod(ctx, j.Kube, j.Decision.ID) },
		Seen: func(ctx context.Context) (bool, error) {
			p, err := b.now(ctx, j.Kube)
			return p != nil && string(p.UID) != b.Pod.UID, err
		},
	})
}

// makePod makes the pod from the PodTemplate, if that is as we left it.
func (b bare) makePod(ctx context.Context, kube kubernetes.Interface, decision string) error {
	t, err := b.template(ctx, kube)
	if err != nil {
		return err
	}
	if t == nil || !isMarked(t.ObjectMeta, decision) || digest(t.Template) != b.Digest {
		return guard.Refuse("recreate", guard.Veto("SpecChanged", "%s was deleted, and is not made anew: somebody has changed or deleted %s, which kept its spec", b.Pod, b.templateTarget()))
	}
	_, err = kube.CoreV1().Pods(b.Pod.Namespace).Create(ctx, newPod(b.Pod.Name, t.Template), metav1.CreateOptions{FieldManager: heal.FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil // an attempt that died has made it, or a person has
	}
	return answer(err, b.Pod)
}

// settleBare deletes the PodTemplate, unless the pod still has to be made from
// it: whoever looks after leftovers then does both. It passes err on.
func settleBare(ctx context.Context, j *Job, err error) (*heal.Undo, error) {
	var b bare
	if err != nil || !j.Desk.Recall(&b) || b.Template == "" {
		return nil, err
	}
	p, err := b.now(ctx, j.Kube)
	if err != nil {
		return nil, err
	}
	if b.awaited(p) {
		return &heal.Undo{
			Summary: fmt.Sprintf("%s is made anew as soon as that is possible; until then %s keeps its spec", b.Pod, b.templateTarget()),
			Command: fmt.Sprintf("kubectl get podtemplate %s -n %s -o yaml", b.Template, b.Pod.Namespace),
		}, nil
	}
	err = j.Desk.Do(ctx, Request{
		Step: "drop_spec", Target: b.templateTarget(), Heal: true,
		Send: func(ctx context.Context, _ []string) error { return b.dropTemplate(ctx, j.Kube, j.Decision.ID) },
		Seen: func(ctx context.Context) (bool, error) {
			t, err := b.template(ctx, j.Kube)
			return t == nil, err
		},
	})
	if err != nil {
		return nil, err
	}
	return nil, j.Leftovers.Remove(ctx, Leftover{Kind: leftBare, Decision: j.Decision.ID})
}

// awaited reports whether the pod, which has the name now, has yet to be made.
func (b bare) awaited(p *corev1.Pod) bool {
	if p != nil {
		return string(p.UID) == b.Pod.UID && p.DeletionTimestamp != nil && b.Deleting
	}
	return b.Deleting && !b.Made
}

func (b bare) dropTemplate(ctx context.Context, kube kubernetes.Interface, decision string) error {
	t, err := b.template(ctx, kube)
	if t == nil || err != nil || !isMarked(t.ObjectMeta, decision) {
		return err
	}
	err = kube.CoreV1().PodTemplates(t.Namespace).Delete(ctx, t.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(t.UID))})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return answer(err, b.templateTarget())
}

// takeBareBack finishes what was begun: there is the pod again, and no trace of
// the way to it.
func takeBareBack(ctx context.Context, kube kubernetes.Interface, _ live.Reader, l Leftover) error {
	var b bare
	if err := json.Unmarshal(l.What, &b); err != nil {
		return fmt.Errorf("read what pod decision %s makes anew: %w", heal.Clean(l.Decision, 32), err)
	}
	t, err := b.template(ctx, kube)
	if t == nil || err != nil {
		return err // somebody has decided that it is not to be made
	}
	p, err := b.now(ctx, kube)
	if err != nil {
		return err
	}
	if b.awaited(p) {
		if p != nil {
			return ErrNotYet
		}
		if err := b.makePod(ctx, kube, l.Decision); err != nil {
			return err
		}
	}
	return b.dropTemplate(ctx, kube, l.Decision)
}

// bareReplacement looks at the pod that has the name.
func bareReplacement(j *Job) Sights {
	b := bare{Pod: j.Decision.Target}
	return Sights{Look: func(ctx context.Context) (verify.Sight, error) {
		p, err := b.now(ctx, j.Kube)
		if err != nil {
			return verify.Sight{}, err
		}
		return verify.Bare{Before: b.Pod, Pod: p, Now: time.Now()}.Judge(), nil
	}}
}
