package e2e

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/harness"
)

var outOfMemory = scenario{
	name:   "out of memory",
	proves: "a restart is tried once; what ends for want of memory again gets half as much more, within the owner's limit",
	long:   true,
	homes:  1,
	play: func(s *stage) {
		d := harness.Deployment("report", "shop/report:grows-to-160Mi", 2) // the last Ready pod of one is never evicted
		d.Annotations = map[string]string{"selfheal.dev/max-memory": "256Mi"}
		d.Spec.Template.Spec.NodeSelector = s.own()
		d.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}
		s.breaks(func() error {
			_, err := s.kube.AppsV1().Deployments(s.ns).Create(s.Context(), d, metav1.CreateOptions{})
			return err
		})
		s.ends(4*time.Minute, end{heal.Restart, "Pod", heal.Succeeded, "Verified", []string{"create pods/eviction"}})
		s.ends(5*time.Minute, end{heal.Resize, "Pod", heal.Succeeded, "Verified", []string{"create pods/eviction?", "patch deployments", "patch pods/resize?"}}) // each of the two may be restarted once
		s.image("report", "shop/report:grows-to-160Mi", 2)
		now, err := s.kube.AppsV1().Deployments(s.ns).Get(s.Context(), "report", metav1.GetOptions{})
		if err != nil {
			s.Fatal(err)
		}
		if got := now.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().String(); got != "192Mi" {
			s.Errorf("the limit is %s, want 192Mi", got)
		}
		s.stays()
	},
}
