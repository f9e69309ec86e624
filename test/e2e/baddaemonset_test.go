package e2e

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var badDaemonSet = scenario{
	name:   "DaemonSet on a bad revision",
	proves: "the revision is taken back by one write before it reaches the other nodes",
	homes:  3,
	play: func(s *stage) {
		selector, pods := s.template("agent", "shop/agent:1")
		if _, err := s.kube.AppsV1().DaemonSets(s.ns).Create(s.Context(), &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: pods},
		}, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
		s.image("agent", "shop/agent:1", 3)
		s.breaks(s.rollOut("daemonsets", "agent", `{"name":"app","image":"shop/agent:broken"}`))
		s.ends(90*time.Second, end{heal.Rollback, "DaemonSet", heal.Succeeded, "Verified", []string{"patch daemonsets"}})
		s.image("agent", "shop/agent:1", 3)
		s.stays()
	},
}
