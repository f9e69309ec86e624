package detect

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// quotaExhausted finds quotas of which nothing is left. Whatever needs more is
// refused by the API server. A quota of nothing forbids, and is never used up.
var quotaExhausted = Detector[*corev1.ResourceQuota]{
	Name: "quota_exhausted",
	Row:  "R1",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"QuotaExhausted"},
	Hold:    "30 × `pod_check_interval`",
	Excused: "the quota is deleted; it is zero",

	Find: findQuotaExhausted,
	Excuse: func(q *corev1.ResourceQuota, _ Facts) Excuse {
		if q.DeletionTimestamp != nil {
			return Leaving
		}
		return None
	},
	// No Clear: one that is used up again and again, as by roll-outs where there
	// is room for one pod more, has room in between.
}

const quotaPatience time.Duration = 30

func findQuotaExhausted(q *corev1.ResourceQuota, facts Facts) []Finding {
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		hard := q.Status.Hard[name]
		used, counted := q.Status.Used[name]
		if !counted || hard.Sign() <= 0 || used.Cmp(hard) < 0 {
			continue
		}
		found = append(found, Finding{
			Part: string(name), Reason: "QuotaExhausted", Hold: quotaPatience * facts.PodCheckInterval,
			Description: fmt.Sprintf("quota %s leaves no %s: %s of %s used", q.Name, name, used.String(), hard.String()),
			Evidence: []heal.Evidence{
				{Path: fmt.Sprintf("status.used['%s']", name), Value: used.String()},
				{Path: fmt.Sprintf("status.hard['%s']", name), Value: hard.String()},
			},
			Metadata: map[string]string{"resource": string(name), "used": used.String(), "hard": hard.String()},
		})
	}
	return found
}
