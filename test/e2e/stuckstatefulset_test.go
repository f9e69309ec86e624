package e2e

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var stuckStatefulSet = scenario{
	name:   "stuck StatefulSet",
	proves: "the revision is taken back, and the pod that Kubernetes itself would wait for for ever (kubernetes#67250) is deleted",
	homes:  1,
	play: func(s *stage) {
		replicas := int32(3)
		selector, pods := s.template("db", "shop/db:1")
		if _, err := s.kube.AppsV1().StatefulSets(s.ns).Create(s.Context(), &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Name: "db"},
			Spec:       appsv1.StatefulSetSpec{Replicas: &replicas, Selector: selector, Template: pods},
		}, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
		s.image("db", "shop/db:1", 3)
		s.breaks(s.rollOut("statefulsets", "db", `{"name":"app","image":"shop/db:broken"}`))
		s.ends(90*time.Second, end{heal.Rollback, "StatefulSet", heal.Succeeded, "Verified", []string{"patch statefulsets", "delete pods"}})
		s.image("db", "shop/db:1", 3)
		s.stays()
	},
}
