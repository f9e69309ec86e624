package guard

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// serviceSymptom is that nobody answers a service's requests.
func serviceSymptom(f Facts) (bool, string) {
	switch {
	case f.Service == nil:
		return false, "it is not a service"
	case len(f.Service.Spec.Selector) == 0 || f.Service.Spec.Type == corev1.ServiceTypeExternalName:
		return false, "it selects no pods"
	}
	return f.Endpoints == 0, fmt.Sprintf("%d endpoints are ready", f.Endpoints)
}
