package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// volumeFilling finds claims whose volume is nearly full, or will be soon, as
// the kubelets say.
var volumeFilling = Detector[*corev1.PersistentVolumeClaim]{
	Name: "volume_nearly_full",
	Row:  "V4",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"VolumeNearlyFull"},
	Hold:    "at once with less than 3 % available; 2 polls with less than 15 % of which nothing is left within 4 days; with `volume_stats`",
	Excused: claimExcused,

	Find: func(c *corev1.PersistentVolumeClaim, facts Facts) []Finding {
		u, high := facts.Usage[""]
		if !high {
			return nil
		}
		f := claimFinding(c, "VolumeNearlyFull")
		f.Description = fmt.Sprintf("the volume of claim %s is %d %% full: %s of %s", c.Name, u.Percent(), bytes(u.Used), bytes(u.Of))
		for key, value := range u.metadata() {
			f.Metadata[key] = value
		}
		if u.FullIn > 0 {
			f.Description += fmt.Sprintf("; nothing will be left in %s if it goes on like this", u.FullIn.Round(time.Hour))
			f.Metadata["full_in"] = u.FullIn.Round(time.Minute).String()
		}
		f.Evidence = append(f.Evidence,
			heal.Evidence{Path: "usage.used", Value: bytes(u.Used)}, heal.Evidence{Path: "usage.capacity", Value: bytes(u.Of)})
		return []Finding{f}
	},
	Excuse: claimExcuse,
}
