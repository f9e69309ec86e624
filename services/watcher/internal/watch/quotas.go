package watch

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

var quotas = kind{
	Version:    "v1",
	Kind:       "ResourceQuota",
	Resource:   "resourcequotas",
	Namespaced: true,
	New:        func() object { return new(corev1.ResourceQuota) },
	Slim:       slimQuota,
	Open: func(w *Watcher, k kind) view {
		return plain(w, detectors[*corev1.ResourceQuota]{
			kind: k,
			list: detect.Quotas,
			node: func(*corev1.ResourceQuota) string { return "" },
		})
	},
}

// slimQuota keeps of a quota what detectors read.
func slimQuota(obj any) any {
	q, ok := obj.(*corev1.ResourceQuota)
	if !ok {
		return obj
	}
	return &corev1.ResourceQuota{
		ObjectMeta: slimMeta(q.ObjectMeta),
		Status:     corev1.ResourceQuotaStatus{Hard: q.Status.Hard, Used: q.Status.Used},
	}
}
