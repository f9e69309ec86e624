package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// maySurge are the rights to let a Deployment have one pod more for a while,
// through whatever says how many it has.
var maySurge = []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{"autoscaling"}, Resources: []string{"horizontalpodautoscalers"}, Verbs: []string{"get", "list", "patch"}},
	{APIGroups: []string{"keda.sh"}, Resources: []string{"scaledobjects"}, Verbs: []string{"get", "patch"}},
}

// A surge is one pod more for a while.
type surge struct {
	Scaler  heal.Target       `json:"scaler"` // whose number was raised
	Version string            `json:"version"`
	Has     bool              `json:"has"` // the number stood there before
	From    int64             `json:"from"`
	To      int64             `json:"to"`
	Was     map[string]string `json:"was,omitempty"` // our marks of earlier decisions, to be put back

	Deployment heal.Target `json:"deployment"`
	Replicas   int64       `json:"replicas"` // that it had before

	Failed string `json:"failed,omitempty"` // why the bad pod was not removed: the reason of the result
	Seen   string `json:"seen,omitempty"`   // and what showed it
}

// ourMarks are on whatever we change, and those of before come back when a
// change was only for a while.
var ourMarks = []string{heal.AnnotationOwnedBy, heal.AnnotationDecisionID, heal.AnnotationPrevious}

// surgePrefix begins what selfheal.dev/previous says during a surge.
const surgePrefix = "surged from "

// planSurge finds out how the pod's Deployment can have one pod more. If it
// cannot, or must not, it says why.
func planSurge(ctx context.Context, j *Job) (*surge, string, error) {
	owners := j.Facts.Owners
	if len(owners) == 0 || owners[len(owners)-1].Kind != "Deployment" || len(owners) < 2 {
		return nil, "only a Deployment can have one pod more for a while", nil
	}
	top := owners[len(owners)-1].Target()
	text, on, permitted := guard.Permit(j.Facts, guard.PermitReplicas)
	if !permitted {
		return nil, fmt.Sprintf("not permitted (no %s on %s)", guard.PermitReplicas, top), nil
	}
	most := replicas(text)
	if most < 1 {
		return nil, fmt.Sprintf("not permitted (%s: %q on %s is not a number of replicas)", guard.PermitReplicas, text, on), nil
	}
	d, err := j.Reader.Deployment(ctx, top.Namespace, top.Name)
	if err != nil {
		return nil, "", err
	}
	if d == nil || string(d.UID) != top.UID {
		return nil, "its Deployment is gone", nil
	}
	now := int64(guard.Wanted(d))
	who, seen := guard.ManagedBy(d.ObjectMeta)
	switch {
	case who != "":
		return nil, fmt.Sprintf("%s is managed by %s (%s), which would take the pod away again", top, who, seen), nil
	case d.Spec.Paused:
		return nil, fmt.Sprintf("%s is paused: whoever did that is at work on it", top), nil
	case guard.RollingOut(d), d.Status.UpdatedReplicas != d.Status.Replicas:
		return nil, fmt.Sprintf("%s is being rolled out", top), nil
	}
	scaling, ambiguous, err := j.Reader.Autoscaling(ctx, top)
	if err != nil {
		return nil, "", answer(err, top)
	}
	if ambiguous != "" {
		return nil, ambiguous, nil
	}
	by := scaling.By
	s := &surge{Scaler: by.Target, Version: by.Meta.ResourceVersion, Has: by.Has, From: by.Count, To: now + 1, Deployment: top, Replicas: now, Was: map[string]string{}}
	for _, key := range ourMarks {
		if value, ok := by.Meta.Annotations[key]; ok {
			s.Was[key] = value
		}
	}
	if from, ok := surgedFrom(by); ok {
		if !isMarked(by.Meta, j.Decision.ID) {
			return nil, "", &Wait{5 * time.Second, guard.Refuse("surge", guard.Veto("RecoveryUnderWay", "%s has one pod more already, for decision %s",
				top, heal.Clean(by.Meta.Annotations[heal.AnnotationDecisionID], 32)))}
		}
		// Made by an attempt that the ledger has lost.
		return &surge{Scaler: by.Target, Has: true, From: from, To: by.Count, Deployment: top, Replicas: by.Count - 1}, "", nil
	}
	if why := guard.LeaveAlone(j.Facts, guard.Object{Kind: by.Target.Kind, ObjectMeta: by.Meta}); why != "" {
		return nil, why, nil
	}
	switch {
	case s.To > most:
		return nil, fmt.Sprintf("%s has %d replicas, and %s on %s permits %d", top, now, guard.PermitReplicas, on, most), nil
	case scaling.Most > 0 && s.To > scaling.Most:
		return nil, fmt.Sprintf("%s is at the maximum of its autoscaler, %d", top, scaling.Most), nil
	}
	return s, "", nil
}

// surgedFrom reads from our mark what the number was before a surge.
func surgedFrom(s live.Scaler) (int64, bool) {
	var from int64
	_, err := fmt.Sscanf(s.Meta.Annotations[heal.AnnotationPrevious], surgePrefix+"%d", &from)
	return from, err == nil && s.Meta.Annotations[heal.AnnotationOwnedBy] == heal.FieldManager
}

// begin asks for the pod.
func (s *surge) begin(ctx context.Context, j *Job) error {
	left, err := leftover(j, leftSurge, s)
	if err != nil {
		return err
	}
	if err := j.Leftovers.Add(ctx, left); err != nil {
		return fmt.Errorf("write down that %s gets one pod more: %w", s.Deployment, err)
	}
	return j.Desk.Do(ctx, Request{
		Step: "surge", Target: s.Scaler,
		Send: func(ctx context.Context, dryRun []string) error {
			now, err := j.Reader.Scaler(ctx, s.Scaler)
			switch {
			case err != nil:
				return err
			case now == nil:
				return ErrMoved
			case isMarked(now.Meta, j.Decision.ID):
				return nil // by an attempt that the ledger has lost
			}
			p := patchOf(s.Scaler, s.Version)
			p.add("/spec", now.Field, s.To)
			const annotations = "/metadata/annotations"
			if now.Meta.Annotations == nil {
				p.add("/metadata", "annotations", map[string]string{})
			}
			p.add(annotations, heal.AnnotationOwnedBy, heal.FieldManager)
			p.add(annotations, heal.AnnotationDecisionID, j.Decision.ID)
			p.add(annotations, heal.AnnotationPrevious, surgePrefix+strconv.FormatInt(s.From, 10))
			return scalerAnswer(patchScaler(ctx, j.Kube, s.Scaler, p, dryRun), s.Scaler)
		},
		Seen: func(ctx context.Context) (bool, error) {
			now, err := j.Reader.Scaler(ctx, s.Scaler)
			return err == nil && now != nil && isMarked(now.Meta, j.Decision.ID), err
		},
	})
}

// await waits for the pod to be Ready. It returns why it will not be, as a
// reason of the result and what shows it.
func (s *surge) await(ctx context.Context, j *Job, before verify.Before) (failed, seen string, err error) {
	const spare = 10 * time.Second // in which the bad pod must be removed
	seen = fmt.Sprintf("%s has made no pod more", s.Deployment)
	for {
		pods, err := j.Reader.PodsOfTarget(ctx, before.Controller, before.Selector)
		if err != nil {
			return "", "", err
		}
		for i := range pods {
			p := &pods[i]
			if !before.Replaces(p) {
				continue
			}
			stuck, why := guard.StuckPod(p)
			switch {
			case stuck:
				return "NotFixed", fmt.Sprintf("%s fails too: %s", p.Name, why), nil
			case guard.IsReady(p):
				return "", p.Name + " is Ready", nil
			}
			_, why = guard.SickPod(p)
			seen = fmt.Sprintf("%s is not Ready in time: %s", p.Name, why)
			if w := verify.Waiting(p); w != "" {
				seen += ", " + w
			}
		}
		if !time.Now().Add(spare).Before(j.Desk.LastWrite()) {
			return "SurgeNotReady", seen, nil
		}
		// A pod that crashes again and again looks well in between: that may pass.
		var wait *Wait
		if err := j.Desk.Recheck(ctx, time.Second); err != nil && !errors.As(err, &wait) {
			return "", "", err
		}
		if !pause.For(ctx, 500*time.Millisecond) {
			return "", "", context.Cause(ctx)
		}
	}
}

// end takes the pod back.
func (s *surge) end(ctx context.Context, j *Job) error {
	left, err := leftover(j, leftSurge, s)
	if err != nil {
		return err
	}
	err = j.Desk.Do(ctx, Request{
		Step: "scale_back", Target: s.Scaler, Heal: true,
		Send: func(ctx context.Context, _ []string) error {
			return takeSurgeBack(ctx, j.Kube, j.Reader, left)
		},
		Seen: func(ctx context.Context) (bool, error) {
			now, err := j.Reader.Scaler(ctx, s.Scaler)
			return err == nil && (now == nil || !isMarked(now.Meta, j.Decision.ID)), err
		},
	})
	if err != nil {
		return err
	}
	return j.Leftovers.Remove(ctx, left)
}

// takeSurgeBack gives the scaler its number and its marks of before. A number
// that somebody else has changed since stays, and so does everything if our
// mark is gone.
func takeSurgeBack(ctx context.Context, kube kubernetes.Interface, reader live.Reader, l Leftover) error {
	var s surge
	if err := json.Unmarshal(l.What, &s); err != nil {
		return fmt.Errorf("read what the surge of decision %s changed: %w", heal.Clean(l.Decision, 32), err)
	}
	for range 10 {
		now, err := reader.Scaler(ctx, s.Scaler)
		if err != nil {
			return err
		}
		if now == nil || !isMarked(now.Meta, l.Decision) {
			return nil
		}
		p := patchOf(s.Scaler, now.Meta.ResourceVersion)
		raised := now.Count == s.To
		switch {
		case raised && s.Has:
			p.add("/spec", now.Field, s.From)
		case raised:
			p.remove("/spec", now.Field)
		}
		// The mark goes last: it says that there is something to take back.
		last := s.Scaler.Kind == "Deployment" || !raised
		if last {
			if err := s.takePodBack(ctx, kube, reader); errors.Is(err, ErrMoved) {
				continue
			} else if err != nil {
				return err
			}
			for _, key := range ourMarks {
				_, has := now.Meta.Annotations[key]
				if value, had := s.Was[key]; had {
					p.add("/metadata/annotations", key, value)
				} else if has {
					p.remove("/metadata/annotations", key)
				}
			}
		}
		err = scalerAnswer(patchScaler(ctx, kube, s.Scaler, p, nil), s.Scaler)
		if err != nil && !errors.Is(err, ErrMoved) || err == nil && last {
			return err
		}
	}
	return fmt.Errorf("%s changed 10 times while its surge was taken back", s.Scaler)
}

// takePodBack does what a blind autoscaler does not: it never takes a pod away.
// One that sees finds out by itself how many are needed.
func (s *surge) takePodBack(ctx context.Context, kube kubernetes.Interface, reader live.Reader) error {
	if s.Scaler.Kind == "Deployment" {
		return nil
	}
	scaling, _, err := reader.Autoscaling(ctx, s.Deployment)
	if err != nil || !scaling.Blind {
		return err
	}
	d, err := reader.Scaler(ctx, s.Deployment)
	if err != nil || d == nil || d.Count != s.Replicas+1 {
		return err
	}
	p := patchOf(s.Deployment, d.Meta.ResourceVersion)
	p.add("/spec", d.Field, s.Replicas)
	return scalerAnswer(patchScaler(ctx, kube, s.Deployment, p, nil), s.Deployment)
}

func patchScaler(ctx context.Context, kube kubernetes.Interface, t heal.Target, p patch, dryRun []string) error {
	path, err := live.ScalerPath(t)
	if err != nil {
		return err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the patch of %s: %w", t, err)
	}
	r := kube.AppsV1().RESTClient().Patch(types.JSONPatchType).AbsPath(path).SetHeader("Accept", "application/json").
		Param("fieldManager", heal.FieldManager).Body(body)
	for _, d := range dryRun {
		r = r.Param("dryRun", d)
	}
	return r.Do(ctx).Error()
}

// scalerAnswer is ErrMoved for an object that is not as it was judged: of a
// failed test the API server says what it says of an invalid object.
func scalerAnswer(err error, t heal.Target) error {
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) || apierrors.IsNotFound(err) {
		return fmt.Errorf("change %s: %w (%s)", t, ErrMoved, heal.Clean(err.Error(), heal.MaxText))
	}
	return answer(err, t)
}

// replicas is the number that text says, or 0, which permits nothing.
func replicas(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return n
}
