package action

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// failoverService lets the standby that the service itself declares answer its
// requests. What it selected before is kept on it (selfheal.dev/previous), and
// put back once the pods of that have been Ready for a while.
var failoverService = Action{
	Needs: maySwitch,
	Do: func(ctx context.Context, j *Job) error {
		return failover(ctx, j, nil)
	},
	Sights: switched,
	Settle: settleFailover,
	Undo:   undoFailover,
}

// maySwitch are the rights to switch services over. Of a service only the
// selector and our marks are ever changed.
var maySwitch = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"patch"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"watch"}},
}

// A switchOver is what a failover must remember.
type switchOver struct {
	Service heal.Target       `json:"service"`
	Version string            `json:"version"` // resourceVersion of the service that was judged
	From    map[string]string `json:"from"`
	To      map[string]string `json:"to"`
	Back    time.Duration     `json:"back"` // how long the pods of From must have been Ready for them to be selected again

	Scaled *scaled `json:"scaled,omitempty"` // the standby's workload, if it was scaled up for this
}

// A scaled is a Deployment whose replicas we have changed.
type scaled struct {
	heal.Target
	From int32 `json:"from"`
	To   int32 `json:"to"`
}

const leftFailover = "failover"

// planFailover finds out what to switch to, or refuses.
func planFailover(j *Job) (switchOver, error) {
	s, target := j.Facts.Service, j.Decision.Target
	if s == nil {
		return switchOver{}, guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", target))
	}
	text, ok := s.Annotations[heal.AnnotationStandby]
	to, err := labels.ConvertSelectorToLabelsMap(text)
	veto := func(reason, format string, args ...any) error {
		return guard.Refuse("standby", guard.Veto(reason, format, args...))
	}
	who, seen := guard.ManagedBy(s.ObjectMeta)
	switch {
	case !ok:
		return switchOver{}, veto("NoStandby", "%s declares no standby: its annotation %s would be the labels of the pods that may take over", target, heal.AnnotationStandby)
	case err != nil || len(to) == 0:
		return switchOver{}, veto("NoStandby", "%s declares the standby %q, which is not a list of labels such as app=web,track=standby", target, heal.Clean(text, 128))
	case maps.Equal(to, s.Spec.Selector):
		return switchOver{}, veto("StandbyInUse", "%s selects its standby already (%s), and that is not ready either", target, to)
	case len(s.Spec.Selector) == 0:
		return switchOver{}, veto("NoSelector", "%s has no selector: who its endpoints are is not for it to say", target)
	case who != "":
		return switchOver{}, veto("ManagedByGitOps", "%s is managed by %s (%s), which would put its selector back: change it there to %s", target, who, seen, to)
	}
	return switchOver{Service: target, Version: s.ResourceVersion, From: s.Spec.Selector, To: to, Back: j.FailBack}, nil
}

// failover switches the job's service over, once prepare, if there is any, has
// made its standby ready.
func failover(ctx context.Context, j *Job, prepare func(context.Context, *switchOver) error) error {
	var s switchOver
	planned := j.Desk.Recall(&s)
	if !planned && j.Facts.Service != nil && isMarked(j.Facts.Service.ObjectMeta, j.Decision.ID) {
		return nil // by an attempt that the ledger has lost
	}
	for range 5 {
		if !planned {
			next, err := planFailover(j)
			if err != nil {
				return err
			}
			next.Scaled, s = s.Scaled, next
			j.Desk.Remember(s)
		}
		planned = false
		if prepare != nil {
			if err := prepare(ctx, &s); err != nil {
				return err
			}
		}
		if err := standbyReady(ctx, j, s); err != nil {
			return err
		}
		left, err := leftover(j, leftFailover, s)
		if err != nil {
			return err
		}
		if err := j.Leftovers.Add(ctx, left); err != nil {
			return fmt.Errorf("write down the failover of %s: %w", s.Service, err)
		}
		err = j.Desk.Do(ctx, switchRequest(j, s))
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := j.Desk.Recheck(ctx, 0); err != nil {
			return err
		}
	}
	return ErrMoved
}

// standbyReady refuses a standby that nobody would answer from.
func standbyReady(ctx context.Context, j *Job, s switchOver) error {
	var done bool
	if service := j.Facts.Service; service != nil {
		done = isMarked(service.ObjectMeta, j.Decision.ID)
	}
	ready, _, err := j.Reader.ReadyPods(ctx, s.Service.Namespace, s.To, time.Now())
	if err != nil || ready > 0 || done {
		return err
	}
	return guard.Refuse("standby", guard.Veto("StandbyNotReady", "the standby of %s (%s) has no Ready pod: switching would not help", s.Service, labels.Set(s.To)))
}

func switchRequest(j *Job, s switchOver) Request {
	return Request{
		Step: "switch", Target: s.Service,
		Send: func(ctx context.Context, dryRun []string) error {
			now := j.Facts.Service
			if now == nil || now.ResourceVersion != s.Version {
				return ErrMoved
			}
			previous, err := json.Marshal(s.From)
			if err != nil {
				return err
			}
			p := patchOf(s.Service, s.Version)
			p = append(p, operation{"test", "/spec/selector", s.From})
			p.replace("/spec/selector", s.To)
			p.mark(guard.Templated{Object: guard.Object{ObjectMeta: now.ObjectMeta}}, j.Decision.ID)
			p.add("/metadata/annotations", heal.AnnotationPrevious, string(previous))
			return sendServicePatch(ctx, j.Kube, j.Reader, s.Service, p, dryRun)
		},
		Seen: func(ctx context.Context) (bool, error) {
			now, err := j.Reader.Service(ctx, s.Service.Namespace, s.Service.Name)
			return err == nil && now != nil && string(now.UID) == s.Service.UID && isMarked(now.ObjectMeta, j.Decision.ID), err
		},
	}
}

// sendServicePatch tells a service that is not as it was judged from a change
// that the API server does not take.
func sendServicePatch(ctx context.Context, kube kubernetes.Interface, r live.Reader, target heal.Target, p patch, dryRun []string) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = kube.CoreV1().Services(target.Namespace).Patch(ctx, target.Name, types.JSONPatchType, body,
		metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
	if !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return answer(err, target)
	}
	now, readErr := r.Service(ctx, target.Namespace, target.Name)
	switch {
	case readErr != nil:
		return readErr
	case now == nil || string(now.UID) != target.UID:
		return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", target))
	case p[1].Path == "/metadata/resourceVersion" && p[1].Value == now.ResourceVersion:
		return answer(err, target)
	}
	return ErrMoved
}

// switched looks whether the standby answers.
func switched(j *Job) Sights {
	target := j.Decision.Target
	return Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			var s switchOver
			j.Desk.Recall(&s)
			now, err := j.Reader.Service(ctx, target.Namespace, target.Name)
			if err != nil {
				return verify.Sight{}, err
			}
			look := verify.Switch{Target: target, Gone: now == nil || string(now.UID) != target.UID, To: labels.Set(s.To).String()}
			if !look.Gone {
				look.InPlace, look.By = maps.Equal(now.Spec.Selector, s.To), lastWriter(now.ObjectMeta)
			}
			if look.Endpoints, err = j.Reader.Endpoints(ctx, target.Namespace, target.Name); err != nil {
				return verify.Sight{}, err
			}
			return look.Judge(), nil
		},
		Follow: func(ctx context.Context, changed chan<- struct{}) {
			j.Reader.FollowEndpoints(ctx, target.Namespace, target.Name, changed)
		},
	}
}

// lastWriter is the field manager that wrote the object last, beside us.
func lastWriter(o metav1.ObjectMeta) string {
	name, at := "", time.Time{}
	for _, e := range o.ManagedFields {
		if e.Manager != heal.FieldManager && e.Subresource == "" && e.Time != nil && !e.Time.Time.Before(at) {
			name, at = e.Manager, e.Time.Time
		}
	}
	return cmp.Or(heal.Clean(name, 64), "somebody unknown")
}

// settleFailover leaves a switch that is in place to who puts it back when the
// primary is well. One that was not made leaves nothing.
func settleFailover(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
	var s switchOver
	if !j.Desk.Recall(&s) {
		return nil, nil
	}
	target := j.Decision.Target
	now, err := j.Reader.Service(ctx, target.Namespace, target.Name)
	if err != nil {
		return nil, err
	}
	if now == nil || string(now.UID) != target.UID || !isMarked(now.ObjectMeta, j.Decision.ID) || !maps.Equal(now.Spec.Selector, s.To) {
		if err := scaleBack(ctx, j.Kube, s.Scaled); err != nil {
			return nil, err
		}
		return nil, j.Leftovers.Remove(ctx, Leftover{Kind: leftFailover, Decision: j.Decision.ID})
	}
	return &heal.Undo{
		Summary: fmt.Sprintf("%s goes back to %s by itself once the pods of that have been Ready for %s", target, labels.Set(s.From), s.Back),
		Command: "selfheal undo " + j.Decision.ID,
	}, nil
}

// ErrNotYet says that a leftover still has to stand for a while.
var ErrNotYet = errors.New("it is not time yet")

// takeFailoverBack puts the service back to what it selected before, when that
// has been well for a while.
func takeFailoverBack(ctx context.Context, kube kubernetes.Interface, r live.Reader, l Leftover) error {
	var s switchOver
	if err := json.Unmarshal(l.What, &s); err != nil {
		return fmt.Errorf("decode the failover of decision %s: %w", l.Decision, err)
	}
	_, stable, err := r.ReadyPods(ctx, s.Service.Namespace, s.From, time.Now().Add(-s.Back))
	if err != nil {
		return err
	}
	now, err := r.Service(ctx, s.Service.Namespace, s.Service.Name)
	if err != nil {
		return err
	}
	if ours(now, s, l.Decision) {
		if stable == 0 {
			return ErrNotYet
		}
		if err := failBack(ctx, kube, r, s, now, nil); err != nil {
			return err
		}
	}
	return scaleBack(ctx, kube, s.Scaled)
}

// ours reports whether the switch still stands as we made it.
func ours(now *corev1.Service, s switchOver, decision string) bool {
	return now != nil && string(now.UID) == s.Service.UID && isMarked(now.ObjectMeta, decision) && maps.Equal(now.Spec.Selector, s.To)
}

// failBack gives the service its first selector again, and takes our marks.
func failBack(ctx context.Context, kube kubernetes.Interface, r live.Reader, s switchOver, now *corev1.Service, dryRun []string) error {
	p := patchOf(s.Service, now.ResourceVersion)
	p = append(p, operation{"test", "/spec/selector", s.To})
	p.replace("/spec/selector", s.From)
	p.unmark(now.ObjectMeta)
	return sendServicePatch(ctx, kube, r, s.Service, p, dryRun)
}

// scaleBack gives the standby's workload its replicas again, unless somebody
// has changed them since.
func scaleBack(ctx context.Context, kube kubernetes.Interface, s *scaled) error {
	if s == nil {
		return nil
	}
	for range 5 {
		d, err := kube.AppsV1().Deployments(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && (string(d.UID) != s.UID || guard.Wanted(d) != s.To) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", s.Target, err)
		}
		err = scaleTo(ctx, kube, *s, d, s.From, nil)
		if !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return ErrMoved
}

// scaleTo changes the replicas of the Deployment as it was read.
func scaleTo(ctx context.Context, kube kubernetes.Interface, s scaled, d *appsv1.Deployment, replicas int32, dryRun []string) error {
	p := patchOf(s.Target, d.ResourceVersion)
	p.replace("/spec/replicas", replicas)
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = kube.AppsV1().Deployments(s.Namespace).Patch(ctx, s.Name, types.JSONPatchType, body,
		metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) || apierrors.IsNotFound(err) {
		return ErrMoved
	}
	return answer(err, s.Target)
}

// permitted is how many replicas the Deployment's annotation permits; 0 for none.
func permitted(d *appsv1.Deployment) int32 {
	n, err := strconv.ParseInt(d.Annotations[guard.PermitReplicas], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}
