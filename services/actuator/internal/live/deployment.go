package live

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func (r Reader) deployment(ctx context.Context, target heal.Target, f *guard.Facts) error {
	d, err := r.Deployment(ctx, target.Namespace, target.Name)
	if d == nil || err != nil {
		return err
	}
	f.Deployment = d
	return r.workloadFacts(ctx, "Deployment", d.ObjectMeta, f)
}

// Deployment reads one Deployment; nil if there is none of that name.
func (r Reader) Deployment(ctx context.Context, namespace, name string) (*appsv1.Deployment, error) {
	d, err := r.Kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Deployment %s/%s: %w", namespace, name, err)
	}
	return d, nil
}

// ReplicaSetsOf reads the ReplicaSets that d controls.
func (r Reader) ReplicaSetsOf(ctx context.Context, d *appsv1.Deployment) ([]appsv1.ReplicaSet, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	list, err := r.Kube.AppsV1().ReplicaSets(d.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("list ReplicaSets of Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	var sets []appsv1.ReplicaSet
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], d) {
			sets = append(sets, list.Items[i])
		}
	}
	return sets, nil
}

// A Template is a pod template as the API server has it: fields that are newer
// than this client are in JSON, and not in Typed.
type Template struct {
	JSON  map[string]json.RawMessage
	Typed corev1.PodTemplateSpec
}

// TemplateOf reads the pod template of the ReplicaSet with uid; false if that
// is gone.
func (r Reader) TemplateOf(ctx context.Context, namespace, name, uid string) (Template, bool, error) {
	raw, err := r.Kube.AppsV1().RESTClient().Get().Namespace(namespace).Resource("replicasets").Name(name).
		SetHeader("Accept", "application/json").Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return Template{}, false, nil
	}
	if err != nil {
		return Template{}, false, fmt.Errorf("read ReplicaSet %s/%s: %w", namespace, name, err)
	}
	var set struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     struct {
			Template json.RawMessage `json:"template"`
		} `json:"spec"`
	}
	var t Template
	if err := json.Unmarshal(raw, &set); err != nil {
		return Template{}, false, fmt.Errorf("decode ReplicaSet %s/%s: %w", namespace, name, err)
	}
	if err := json.Unmarshal(set.Spec.Template, &t.JSON); err != nil {
		return Template{}, false, fmt.Errorf("decode the template of ReplicaSet %s/%s: %w", namespace, name, err)
	}
	if err := json.Unmarshal(set.Spec.Template, &t.Typed); err != nil {
		return Template{}, false, fmt.Errorf("decode the template of ReplicaSet %s/%s: %w", namespace, name, err)
	}
	return t, string(set.Metadata.UID) == uid, nil
}

// HasConfigMap reports whether there is a ConfigMap of that name. What is in
// it is not even sent.
func (r Reader) HasConfigMap(ctx context.Context, namespace, name string) (bool, error) {
	err := r.Kube.CoreV1().RESTClient().Get().Namespace(namespace).Resource("configmaps").Name(name).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read ConfigMap %s/%s: %w", namespace, name, err)
	}
	return true, nil
}
