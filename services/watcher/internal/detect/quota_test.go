package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestQuotaOfWhichNothingIsLeftIsFound(t *testing.T) {
	quota := func(hard, used string) *corev1.ResourceQuota {
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "team"}}
		if hard != "" {
			q.Status.Hard = corev1.ResourceList{"requests.cpu": resource.MustParse(hard), "pods": resource.MustParse("10")}
		}
		if used != "" {
			q.Status.Used = corev1.ResourceList{"requests.cpu": resource.MustParse(used), "pods": resource.MustParse("9")}
		}
		return q
	}
	finding := func(used, hard string) []Finding {
		return []Finding{{
			Part: "requests.cpu", Reason: "QuotaExhausted", Hold: 15 * time.Minute,
			Description: "quota team leaves no requests.cpu: " + used + " of " + hard + " used",
			Evidence:    []heal.Evidence{{Path: "status.used['requests.cpu']", Value: used}, {Path: "status.hard['requests.cpu']", Value: hard}},
			Metadata:    map[string]string{"resource": "requests.cpu", "used": used, "hard": hard},
		}}
	}
	tests := []struct {
		name       string
		hard, used string
		want       []Finding
	}{
		{"all is used", "4", "4", finding("4", "4")},
		{"more is used, since it was lowered", "4", "4500m", finding("4500m", "4")},
		{"some is left", "4", "3999m", nil},
		{"it forbids", "0", "0", nil},
		{"not counted yet", "4", "", nil},
		{"new", "", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, quotaExhausted.Find(quota(tt.hard, tt.used), facts(Endpoints{}))); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	deleted := quota("4", "4")
	deleted.DeletionTimestamp = &metav1.Time{Time: noon}
	if got := quotaExhausted.Excuse(deleted, Facts{}); got != Leaving {
		t.Errorf("excuse of a deleted one = %v, want %v", got, Leaving)
	}
}
