package e2e

import (
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
)

var disruptionBudget = scenario{
	name:   "deadlock by a disruption budget",
	proves: "the budget is named and kept to, nothing is evicted; once a person lets failing pods go, it heals",
	homes:  1,
	play: func(s *stage) {
		s.deploy("pay", "shop/pay:1", 2)
		least := intstr.FromInt32(2)
		if _, err := s.kube.PolicyV1().PodDisruptionBudgets(s.ns).Create(s.Context(), &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: "pay"},
			Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "pay"}}},
		}, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
		s.breaks(s.fares(s.pod("pay").Name, "crash"))
		r := s.ends(90*time.Second, end{heal.Restart, "Pod", heal.Rejected, "PDB", nil})
		if !strings.Contains(r.Message, s.ns+"/pay") || !strings.Contains(r.Message, "AlwaysAllow") {
			s.Errorf("message %q does not name the budget and what would help", r.Message)
		}
		patch := []byte(`{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}`)
		if _, err := s.kube.PolicyV1().PodDisruptionBudgets(s.ns).Patch(s.Context(), "pay", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			s.Fatal(err)
		}
		s.ends(90*time.Second, end{heal.Restart, "Pod", heal.Succeeded, "Verified", []string{"create pods/eviction"}})
		s.image("pay", "shop/pay:1", 2)
		s.stays()
	},
}
