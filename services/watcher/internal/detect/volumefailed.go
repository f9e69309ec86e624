package detect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// volumeFailed finds volumes that could not be freed for reuse, or deleted,
// after their claim had gone.
var volumeFailed = Detector[*corev1.PersistentVolume]{
	Name: "volume_failed",
	Row:  "V2",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"VolumeFailed"},
	Hold:    "none",
	Excused: "none",

	Find: findVolumeFailed,
}

func findVolumeFailed(v *corev1.PersistentVolume, _ Facts) []Finding {
	if v.Status.Phase != corev1.VolumeFailed {
		return nil
	}
	f := Finding{
		Reason:      "VolumeFailed",
		Description: fmt.Sprintf("volume %s has failed", v.Name),
		Evidence:    []heal.Evidence{{Path: "status.phase", Value: string(v.Status.Phase)}},
		Metadata:    critical(map[string]string{}),
	}
	if v.Status.Reason != "" {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.reason", Value: v.Status.Reason})
	}
	if v.Status.Message != "" {
		f.Description += ": " + v.Status.Message
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.message", Value: v.Status.Message})
	}
	if c := v.Spec.ClaimRef; c != nil {
		f.Metadata["claim"] = c.Namespace + "/" + c.Name
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "spec.claimRef", Value: f.Metadata["claim"]})
	}
	return []Finding{f}
}
