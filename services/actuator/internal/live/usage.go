package live

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// MayReadUsage are the rights to read how much memory pods use.
var MayReadUsage = []rbacv1.PolicyRule{{APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"pods"}, Verbs: []string{"get"}}}

// Usage reads how many bytes of memory each container of the pod uses; nil
// where nobody serves metrics.k8s.io, or not yet of this pod
// (https://github.com/kubernetes/metrics, v1beta1).
func (r Reader) Usage(ctx context.Context, namespace, pod string) (map[string]int64, error) {
	raw, err := r.Kube.CoreV1().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/namespaces/", namespace, "/pods/", pod).
		SetHeader("Accept", "application/json").Do(ctx).Raw()
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsServiceUnavailable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the usage of pod %s/%s: %w", namespace, pod, err)
	}
	var metrics struct {
		Containers []struct {
			Name  string `json:"name"`
			Usage struct {
				Memory resource.Quantity `json:"memory"`
			} `json:"usage"`
		} `json:"containers"`
	}
	if err := json.Unmarshal(raw, &metrics); err != nil {
		return nil, fmt.Errorf("decode the usage of pod %s/%s: %w", namespace, pod, err)
	}
	usage := map[string]int64{}
	for _, c := range metrics.Containers {
		usage[c.Name] = c.Usage.Memory.Value()
	}
	return usage, nil
}

func (r Reader) claim(ctx context.Context, target heal.Target, f *guard.Facts) error {
	c, err := r.Claim(ctx, target)
	if c == nil || err != nil {
		return err
	}
	f.Claim = c
	f.Live = &guard.Object{Kind: "PersistentVolumeClaim", ObjectMeta: c.ObjectMeta}
	f.Namespace, err = r.namespace(ctx, c.Namespace)
	return err
}

// Claim reads one claim; nil if there is none of that name.
func (r Reader) Claim(ctx context.Context, target heal.Target) (*corev1.PersistentVolumeClaim, error) {
	c, err := r.Kube.CoreV1().PersistentVolumeClaims(target.Namespace).Get(ctx, target.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", target, err)
	}
	return c, nil
}

// StorageClass reads one; nil if there is none of that name.
func (r Reader) StorageClass(ctx context.Context, name string) (*storagev1.StorageClass, error) {
	class, err := r.Kube.StorageV1().StorageClasses().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read StorageClass %s: %w", name, err)
	}
	return class, nil
}
