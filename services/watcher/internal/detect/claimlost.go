package detect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// claimLost finds claims whose volume is gone, and what was on it perhaps.
var claimLost = Detector[*corev1.PersistentVolumeClaim]{
	Name: "claim_lost",
	Row:  "V2",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"ClaimLost"},
	Hold:    "none",
	Excused: claimExcused,

	Find: func(c *corev1.PersistentVolumeClaim, _ Facts) []Finding {
		if c.Status.Phase != corev1.ClaimLost {
			return nil
		}
		f := claimFinding(c, "ClaimLost")
		f.Description = fmt.Sprintf("claim %s has lost its volume %s; what was on it may be gone", c.Name, c.Spec.VolumeName)
		f.Metadata = critical(f.Metadata)
		return []Finding{f}
	},
	Excuse: claimExcuse,
}
