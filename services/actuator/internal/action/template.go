package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// mayChangeTemplate are the rights to change a Deployment's template.
var mayChangeTemplate = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: []string{"get", "list"}},
}

// A patch is a JSON patch (RFC 6902): all of it is done, or nothing.
type patch []operation

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patchOf begins a patch that fails unless the target is as it was judged.
func patchOf(target heal.Target, version string) patch {
	return patch{{"test", "/metadata/uid", target.UID}, {"test", "/metadata/resourceVersion", version}}
}

func (p *patch) replace(path string, value any) { *p = append(*p, operation{"replace", path, value}) }

// add sets a value in a map that is there; "add" replaces what the key had.
func (p *patch) add(path, key string, value any) {
	*p = append(*p, operation{"add", path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key), value})
}

// remove takes a key from a map that has it.
func (p *patch) remove(path, key string) {
	*p = append(*p, operation{Op: "remove", Path: path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)})
}

// mark says on the workload that it was us, and which decision it was for.
func (p *patch) mark(w guard.Templated, decision string) {
	const annotations = "/metadata/annotations"
	if w.Annotations == nil {
		p.add("/metadata", "annotations", map[string]string{})
	}
	p.add(annotations, heal.AnnotationOwnedBy, heal.FieldManager)
	p.add(annotations, heal.AnnotationDecisionID, decision)
}

// changeTemplate makes a change of the workload's template that plan has found
// out from the job's facts. When the workload has moved meanwhile, it is
// planned anew.
func changeTemplate(ctx context.Context, j *Job, plan func() (templateChange, error), request func(templateChange) Request) error {
	var change templateChange
	planned := j.Desk.Recall(&change)
	for range 5 {
		if !planned {
			if _, there := j.Facts.Templated(); !there {
				return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", j.Decision.Target))
			}
			var err error
			if change, err = plan(); err != nil {
				return err
			}
			j.Desk.Remember(change)
		}
		planned = false
		err := j.Desk.Do(ctx, request(change))
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := j.Desk.Recheck(ctx, 0); err != nil {
			return err
		}
	}
	return ErrMoved
}

// sendPatch sends the patch of the workload. In a dry run it refuses a
// template that somebody on the way, such as an admission webhook, has altered.
func sendPatch(ctx context.Context, j *Job, change templateChange, p patch, dryRun []string) error {
	target := j.Decision.Target
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the patch of %s: %w", target, err)
	}
	w, err := patchWorkload(ctx, j, target, body, metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
	if err != nil {
		return patchAnswer(ctx, err, j, change.Version)
	}
	if len(dryRun) > 0 && digest(w.Template) != change.Digest {
		return guard.Refuse("api_server", guard.Veto("AlteredByAdmission", "the API server, or an admission webhook, would make another template of the one meant for %s", target))
	}
	return nil
}

// patchWorkload returns the workload as the API server then has it.
func patchWorkload(ctx context.Context, j *Job, target heal.Target, body []byte, opts metav1.PatchOptions) (guard.Templated, error) {
	apps := j.Kube.AppsV1()
	switch target.Kind {
	case "StatefulSet":
		return templated(apps.StatefulSets(target.Namespace).Patch(ctx, target.Name, types.JSONPatchType, body, opts))
	case "DaemonSet":
		return templated(apps.DaemonSets(target.Namespace).Patch(ctx, target.Name, types.JSONPatchType, body, opts))
	}
	return templated(apps.Deployments(target.Namespace).Patch(ctx, target.Name, types.JSONPatchType, body, opts))
}

func templated[W *appsv1.Deployment | *appsv1.StatefulSet | *appsv1.DaemonSet](w W, err error) (guard.Templated, error) {
	if err != nil {
		return guard.Templated{}, err
	}
	return guard.TemplatedOf(w), nil
}

// patchAnswer tells a workload that is not as it was judged from a change
// that the API server does not take: of a failed test it says what it says of
// an invalid object.
func patchAnswer(ctx context.Context, err error, j *Job, version string) error {
	target := j.Decision.Target
	if !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return answer(err, target)
	}
	d, readErr := j.Reader.Templated(ctx, target)
	switch {
	case readErr != nil:
		return readErr
	case d == nil:
		return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", target))
	case string(d.UID) != target.UID:
		return guard.Refuse("identity", guard.Moot("TargetReplaced", "%s is another object by now", target))
	case d.ResourceVersion != version, apierrors.IsConflict(err):
		return ErrMoved
	}
	return answer(err, target)
}

// marked reports whether the workload is the target and carries our mark for
// the decision. The mark is set by the request that changes the template, so
// it tells that the change was made, also when somebody undid it since.
func marked(j *Job) func(context.Context) (bool, error) {
	target := j.Decision.Target
	return func(ctx context.Context) (bool, error) {
		w, err := j.Reader.Templated(ctx, target)
		return err == nil && w != nil && string(w.UID) == target.UID && isMarked(w.ObjectMeta, j.Decision.ID), err
	}
}

func isMarked(o metav1.ObjectMeta, decision string) bool {
	return o.Annotations[heal.AnnotationDecisionID] == decision && o.Annotations[heal.AnnotationOwnedBy] == heal.FieldManager
}

// rolledOut looks whether the Deployment is whole with the template that we
// gave it.
func rolledOut(j *Job, done func(templateChange) string) Sights {
	target := j.Decision.Target
	var change templateChange
	j.Desk.Recall(&change)
	sights := Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			d, err := j.Reader.Deployment(ctx, target.Namespace, target.Name)
			if err != nil {
				return verify.Sight{}, err
			}
			var pods []corev1.Pod
			if d != nil {
				if pods, err = podsOfDeployment(ctx, j, d); err != nil {
					return verify.Sight{}, err
				}
			}
			return verify.Rollout{
				Target: target, Deployment: d, Done: done(change), Restarts: verify.RestartsOf(pods),
				InPlace: d != nil && digest(d.Spec.Template) == change.Digest,
			}.Judge(), nil
		},
	}
	if d := j.Facts.Deployment; d != nil {
		if selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
			sights.Follow = func(ctx context.Context, changed chan<- struct{}) {
				// Its status follows its pods', and watching those is allowed.
				j.Reader.FollowPods(ctx, target.Namespace, selector.String(), changed)
			}
		}
	}
	return sights
}
