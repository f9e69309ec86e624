package live

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Scaler is what says how many pods a Deployment has at least: itself, the
// HorizontalPodAutoscaler that scales it, or the ScaledObject of KEDA that the
// autoscaler belongs to. Whatever else writes that number would be undone.
type Scaler struct {
	Target heal.Target
	Meta   metav1.ObjectMeta
	Field  string // that holds the number: "minReplicas"
	Count  int64  // what it says, or what its absence means
	Has    bool   // it does say so
}

// An Autoscaling is how a Deployment is scaled.
type Autoscaling struct {
	By    Scaler
	Most  int64 // how many pods an autoscaler allows; 0 for no limit
	Blind bool  // an autoscaler does not get what it scales by, so it takes no pod away
}

// scalerKinds is where the number stands, and what it is when it stands nowhere.
var scalerKinds = map[string]struct {
	resource, field string
	absent          int64
}{
	"Deployment":              {"deployments", "replicas", 1},
	"HorizontalPodAutoscaler": {"horizontalpodautoscalers", "minReplicas", 1},
	"ScaledObject":            {"scaledobjects", "minReplicaCount", 0}, // https://keda.sh/docs/latest/reference/scaledobject-spec
}

// ScalerPath is the path of the object at the API server; none if it cannot be
// a scaler.
func ScalerPath(t heal.Target) (string, error) {
	kind, ok := scalerKinds[t.Kind]
	if !ok {
		return "", fmt.Errorf("%s: a %s says for no Deployment how many pods it has", t, t.Kind)
	}
	return fmt.Sprintf("/apis/%s/namespaces/%s/%s/%s", t.APIVersion, t.Namespace, kind.resource, t.Name), nil
}

// Autoscaling finds out who scales a Deployment. More than one autoscaler is
// an error of the second result: they fight each other.
func (r Reader) Autoscaling(ctx context.Context, deployment heal.Target) (a Autoscaling, ambiguous string, err error) {
	list, err := r.Kube.AutoscalingV2().HorizontalPodAutoscalers(deployment.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return a, "", fmt.Errorf("list autoscalers of namespace %s: %w", deployment.Namespace, err)
	}
	by := deployment
	var names []string
	for i := range list.Items {
		h := &list.Items[i]
		if ref := h.Spec.ScaleTargetRef; ref.Kind != "Deployment" || ref.Name != deployment.Name || !strings.HasPrefix(ref.APIVersion, "apps/") {
			continue
		}
		names = append(names, h.Name)
		by = heal.Target{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler", Namespace: h.Namespace, Name: h.Name, UID: string(h.UID)}
		a.Most, a.Blind = int64(h.Spec.MaxReplicas), blind(h)
		if o := metav1.GetControllerOf(h); o != nil && o.Kind == "ScaledObject" && strings.HasPrefix(o.APIVersion, "keda.sh/") {
			by = heal.Target{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: h.Namespace, Name: o.Name, UID: string(o.UID)}
		}
	}
	if len(names) > 1 {
		return a, fmt.Sprintf("%d autoscalers scale it: %s", len(names), heal.Clean(strings.Join(names, ", "), 128)), nil
	}
	s, err := r.Scaler(ctx, by)
	if err != nil {
		return a, "", err
	}
	if s == nil {
		return a, fmt.Sprintf("%s, which scales it, is gone", by), nil
	}
	a.By = *s
	return a, "", nil
}

// blind reports whether the autoscaler says that it cannot compute anything.
func blind(h *autoscalingv2.HorizontalPodAutoscaler) bool {
	for _, c := range h.Status.Conditions {
		if c.Type == autoscalingv2.ScalingActive {
			return c.Status != corev1.ConditionTrue
		}
	}
	return true
}

// Scaler reads one; nil if it is gone or replaced.
func (r Reader) Scaler(ctx context.Context, t heal.Target) (*Scaler, error) {
	path, err := ScalerPath(t)
	if err != nil {
		return nil, err
	}
	raw, err := r.Kube.AppsV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t, err)
	}
	var o struct {
		Metadata metav1.ObjectMeta          `json:"metadata"`
		Spec     map[string]json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("decode %s: %w", t, err)
	}
	if string(o.Metadata.UID) != t.UID {
		return nil, nil
	}
	kind := scalerKinds[t.Kind]
	s := &Scaler{Target: t, Meta: o.Metadata, Field: kind.field, Count: kind.absent}
	if text, has := o.Spec[kind.field]; has {
		s.Has = true
		if err := json.Unmarshal(text, &s.Count); err != nil {
			return nil, fmt.Errorf("decode %s: spec.%s: %w", t, kind.field, err)
		}
	}
	return s, nil
}
