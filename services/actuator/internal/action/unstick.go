package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

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
		if err := deleteAt(ctx, j, target, facts.Pod.ResourceVersion, nil); err != nil && !errors.Is(err, ErrMoved) {
			return unlessMoot(err)
		}
	}
	return nil
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
		if !pause.For(ctx, 250*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return &Wait{5 * time.Second, guard.Refuse("rollout", guard.Veto("StatusBehind", "the controller of %s does not take note of its new template", j.Decision.Target))}
}
