package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// expandClaim asks for a larger volume, as far as the claim permits and its
// class allows. A volume that grows never shrinks again, so this is done in
// small steps, and not twice within six hours.
var expandClaim = Action{
	Needs: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"persistentvolumeclaims"}, Verbs: []string{"get", "patch"}},
		{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"storageclasses"}, Verbs: []string{"get"}},
	},
	Do:     expand,
	Sights: expanded,
}

// annotationExpanded, on a claim, is when we let its volume grow: it outlives
// the ledger.
const annotationExpanded = heal.Domain + "/expanded"

// expandRest is between two expansions of a volume: most providers allow no
// more (https://docs.aws.amazon.com/ebs/latest/userguide/modify-volume-requirements.html).
const expandRest = 6 * time.Hour

// An expansion is what expand must remember.
type expansion struct {
	Version string `json:"version"`
	From    string `json:"from"`
	To      string `json:"to"`
}

func expand(ctx context.Context, j *Job) error {
	target := j.Decision.Target
	var e expansion
	planned := j.Desk.Recall(&e)
	for range 5 {
		if !planned {
			c := j.Facts.Claim
			if c == nil {
				return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", target))
			}
			var class *storagev1.StorageClass
			if name := c.Spec.StorageClassName; name != nil && *name != "" {
				var err error
				if class, err = j.Reader.StorageClass(ctx, *name); err != nil {
					return answer(err, target)
				}
			}
			var v guard.Verdict
			if e, v = judgeExpansion(j.Facts, class); !v.Allowed() {
				return Refused(guard.Refuse("expand", v))
			}
			j.Desk.Remember(e)
			j.Desk.Note(heal.Step{Name: "choose_size", Status: heal.StepOK, Detail: v.Detail})
		}
		planned = false
		err := j.Desk.Do(ctx, expandRequest(j, e))
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := j.Desk.Recheck(ctx, 0); err != nil {
			return err
		}
	}
	return ErrMoved
}

// judgeExpansion chooses the next size, or says why there is none.
func judgeExpansion(f guard.Facts, class *storagev1.StorageClass) (expansion, guard.Verdict) {
	c, target := f.Claim, f.Decision.Target
	capacity := c.Status.Capacity[corev1.ResourceStorage]
	asked := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if isMarked(c.ObjectMeta, f.Decision.ID) { // made by an attempt that the ledger has lost
		return expansion{From: c.Annotations[heal.AnnotationPrevious], To: asked.String()}, guard.Allow("it asks for %s already", asked.String())
	}
	text, permitted := c.Annotations[guard.PermitVolume]
	switch {
	case !permitted:
		return expansion{}, guard.Veto("NotPermitted", "%s has %s, and nothing permits to expand it: %s on it says up to which size", target, capacity.String(), guard.PermitVolume)
	case class == nil:
		return expansion{}, guard.Veto("NotExpandable", "%s has no storage class that is there, so nobody would expand its volume", target)
	case class.AllowVolumeExpansion == nil || !*class.AllowVolumeExpansion:
		return expansion{}, guard.Veto("NotExpandable", "%s is of StorageClass %s, which does not allow volumes to be expanded (allowVolumeExpansion)", target, class.Name)
	case asked.Cmp(capacity) > 0:
		return expansion{}, guard.Veto("ExpansionUnderWay", "%s asks for %s already and has %s%s", target, asked.String(), capacity.String(), claimSays(c))
	}
	most, err := resource.ParseQuantity(text)
	if err != nil {
		return expansion{}, guard.Veto("NotPermitted", "%s: %q on %s is not a quantity such as 20Gi, and permits nothing", guard.PermitVolume, heal.Clean(text, 32), target)
	}
	if at, ok := c.Annotations[annotationExpanded]; ok {
		when, err := time.Parse(time.RFC3339, at)
		if ago := f.Now.Sub(when); err != nil || ago < expandRest {
			return expansion{}, guard.Veto("ExpandedBefore", "%s was expanded (%s: %s), and once in %s is enough: a person must look what fills it",
				target, annotationExpanded, heal.Clean(at, 40), expandRest)
		}
	}
	next, more := moreStorage(capacity, most)
	if !more {
		return expansion{}, guard.Veto("AtMaximum", "%s has %s, and %s permits no more than %s: make room in it, or permit more", target, capacity.String(), guard.PermitVolume, most.String())
	}
	if who, seen := guard.ManagedBy(c.ObjectMeta); who != "" {
		return expansion{}, guard.Veto("ManagedByGitOps", "%s is managed by %s (%s): raise spec.resources.requests.storage from %s to %s there", target, who, seen, asked.String(), next.String())
	}
	return expansion{Version: c.ResourceVersion, From: asked.String(), To: next.String()}, guard.Allow("%s grows from %s to %s, %s are permitted", target, capacity.String(), next.String(), most.String())
}

// moreStorage is a quarter as much again, in whole GiB, but never more than most.
func moreStorage(have, most resource.Quantity) (resource.Quantity, bool) {
	const gibi = 1 << 30
	if have.Cmp(most) >= 0 {
		return have, false
	}
	bytes := have.Value() + have.Value()/4
	next := *resource.NewQuantity((bytes+gibi-1)/gibi*gibi, resource.BinarySI)
	if next.Cmp(most) > 0 {
		next = most
	}
	return next, true
}

func expandRequest(j *Job, e expansion) Request {
	target := j.Decision.Target
	return Request{
		Step: "expand", Target: target,
		Send: func(ctx context.Context, dryRun []string) error {
			c, err := j.Reader.Claim(ctx, target)
			switch {
			case err != nil:
				return err
			case c == nil || string(c.UID) != target.UID:
				return guard.Refuse("identity", guard.Moot("TargetGone", "%s is gone", target))
			case isMarked(c.ObjectMeta, j.Decision.ID):
				return nil // by an attempt that the ledger has lost
			case c.ResourceVersion != e.Version:
				return ErrMoved
			}
			p := patchOf(target, e.Version)
			p.add("/spec/resources/requests", "storage", e.To)
			p.mark(guard.Templated{Object: guard.Object{Kind: target.Kind, ObjectMeta: c.ObjectMeta}}, j.Decision.ID)
			p.add("/metadata/annotations", heal.AnnotationPrevious, e.From)
			p.add("/metadata/annotations", annotationExpanded, time.Now().UTC().Format(time.RFC3339))
			body, err := json.Marshal(p)
			if err != nil {
				return fmt.Errorf("encode the patch of %s: %w", target, err)
			}
			_, err = j.Kube.CoreV1().PersistentVolumeClaims(target.Namespace).Patch(ctx, target.Name, types.JSONPatchType, body,
				metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
			if apierrors.IsConflict(err) {
				return ErrMoved
			}
			return answer(err, target)
		},
		Seen: func(ctx context.Context) (bool, error) {
			c, err := j.Reader.Claim(ctx, target)
			return err == nil && c != nil && string(c.UID) == target.UID && isMarked(c.ObjectMeta, j.Decision.ID), err
		},
	}
}

// claimSays is what the claim says of an expansion; empty if nothing.
func claimSays(c *corev1.PersistentVolumeClaim) string {
	var says []string
	for _, cond := range c.Status.Conditions {
		if cond.Status == corev1.ConditionTrue {
			says = append(says, heal.Clean(strings.TrimSpace(string(cond.Type)+" "+cond.Message), 160))
		}
	}
	if s, ok := c.Status.AllocatedResourceStatuses[corev1.ResourceStorage]; ok {
		says = append(says, heal.Clean(string(s), 64))
	}
	if len(says) == 0 {
		return ""
	}
	return " (" + strings.Join(says, ", ") + ")"
}

// expanded looks whether the volume has the size that was asked for.
func expanded(j *Job) Sights {
	target := j.Decision.Target
	var e expansion
	j.Desk.Recall(&e)
	return Sights{Look: func(ctx context.Context) (verify.Sight, error) {
		c, err := j.Reader.Claim(ctx, target)
		if err != nil {
			return verify.Sight{}, err
		}
		return verify.Expansion{Target: target, Claim: c, Size: e.To}.Judge(), nil
	}}
}
