package live

import (
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func (r Reader) statefulSet(ctx context.Context, target heal.Target, f *guard.Facts) error {
	s, err := r.StatefulSet(ctx, target.Namespace, target.Name)
	if s == nil || err != nil {
		return err
	}
	f.StatefulSet = s
	return r.workloadFacts(ctx, "StatefulSet", s.ObjectMeta, f)
}

func (r Reader) daemonSet(ctx context.Context, target heal.Target, f *guard.Facts) error {
	d, err := r.DaemonSet(ctx, target.Namespace, target.Name)
	if d == nil || err != nil {
		return err
	}
	f.DaemonSet = d
	return r.workloadFacts(ctx, "DaemonSet", d.ObjectMeta, f)
}

// workloadFacts are those that all workloads have in common.
func (r Reader) workloadFacts(ctx context.Context, kind string, meta metav1.ObjectMeta, f *guard.Facts) error {
	f.Live = &guard.Object{Kind: kind, ObjectMeta: meta}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		f.Namespace, err = r.namespace(ctx, meta.Namespace)
		return err
	})
	if failing := f.Decision.Failure.Target; failing.Kind == "Pod" {
		g.Go(func() (err error) {
			f.Failing, err = r.Pod(ctx, failing)
			return err
		})
	}
	g.Go(func() (err error) {
		f.Owners, f.Gap, err = r.chain(ctx, meta.Namespace, metav1.GetControllerOf(&meta), nil)
		return err
	})
	return g.Wait()
}

// StatefulSet reads one StatefulSet; nil if there is none of that name.
func (r Reader) StatefulSet(ctx context.Context, namespace, name string) (*appsv1.StatefulSet, error) {
	s, err := r.Kube.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read StatefulSet %s/%s: %w", namespace, name, err)
	}
	return s, nil
}

// DaemonSet reads one DaemonSet; nil if there is none of that name.
func (r Reader) DaemonSet(ctx context.Context, namespace, name string) (*appsv1.DaemonSet, error) {
	d, err := r.Kube.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read DaemonSet %s/%s: %w", namespace, name, err)
	}
	return d, nil
}

// Templated reads a Deployment, StatefulSet or DaemonSet; nil if there is none
// of that name.
func (r Reader) Templated(ctx context.Context, t heal.Target) (*guard.Templated, error) {
	switch t.Kind {
	case "StatefulSet":
		return templated(r.StatefulSet(ctx, t.Namespace, t.Name))
	case "DaemonSet":
		return templated(r.DaemonSet(ctx, t.Namespace, t.Name))
	}
	return templated(r.Deployment(ctx, t.Namespace, t.Name))
}

func templated[W *appsv1.Deployment | *appsv1.StatefulSet | *appsv1.DaemonSet](w W, err error) (*guard.Templated, error) {
	if w == nil || err != nil {
		return nil, err
	}
	t := guard.TemplatedOf(w)
	return &t, nil
}

// RevisionsOf reads the ControllerRevisions that o controls.
func (r Reader) RevisionsOf(ctx context.Context, o guard.Templated, selector *metav1.LabelSelector) ([]appsv1.ControllerRevision, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("selector of %s: %w", o, err)
	}
	list, err := r.Kube.AppsV1().ControllerRevisions(o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: s.String()})
	if err != nil {
		return nil, fmt.Errorf("list ControllerRevisions of %s: %w", o, err)
	}
	var revisions []appsv1.ControllerRevision
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], &o.ObjectMeta) {
			revisions = append(revisions, list.Items[i])
		}
	}
	return revisions, nil
}

// TemplateOfRevision is the template that a ControllerRevision of a StatefulSet
// or DaemonSet keeps: a patch that replaces the template as a whole.
func TemplateOfRevision(rev *appsv1.ControllerRevision) (Template, error) {
	var data struct {
		Spec struct {
			Template json.RawMessage `json:"template"`
		} `json:"spec"`
	}
	var t Template
	if err := json.Unmarshal(rev.Data.Raw, &data); err != nil {
		return Template{}, fmt.Errorf("decode ControllerRevision %s/%s: %w", rev.Namespace, rev.Name, err)
	}
	if err := json.Unmarshal(data.Spec.Template, &t.JSON); err != nil {
		return Template{}, fmt.Errorf("decode the template of ControllerRevision %s/%s: %w", rev.Namespace, rev.Name, err)
	}
	delete(t.JSON, "$patch")
	if err := json.Unmarshal(data.Spec.Template, &t.Typed); err != nil {
		return Template{}, fmt.Errorf("decode the template of ControllerRevision %s/%s: %w", rev.Namespace, rev.Name, err)
	}
	return t, nil
}

// Revision reads one ControllerRevision; nil if the one with uid is gone.
func (r Reader) Revision(ctx context.Context, namespace, name, uid string) (*appsv1.ControllerRevision, error) {
	rev, err := r.Kube.AppsV1().ControllerRevisions(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(rev.UID) != uid {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ControllerRevision %s/%s: %w", namespace, name, err)
	}
	return rev, nil
}
