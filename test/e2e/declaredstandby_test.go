package e2e

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/harness"
)

var declaredStandby = scenario{
	name:   "service with a declared standby",
	proves: "requests go to the standby that the service itself names, and back once its primary has been Ready for two minutes",
	long:   true,
	homes:  1,
	play: func(s *stage) {
		s.deploy("primary", "shop/api:1", 1)
		s.deploy("standby", "shop/api:1", 1)
		if _, err := s.kube.CoreV1().Services(s.ns).Create(s.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "api", Annotations: map[string]string{heal.AnnotationStandby: "app=standby"}},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "primary"}, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
		s.endpoints("api", 1)
		primary := s.pod("primary").Name
		s.breaks(s.fares(primary, "unready")) // it runs and does not answer: nobody may restart it for that at once
		s.ends(2*time.Minute, end{heal.Failover, "Service", heal.Succeeded, "Verified", []string{"patch services"}})
		if err := s.fares(primary, "")(); err != nil {
			s.Fatal(err)
		}
		s.later(4*time.Minute, "patch services")
		now, err := s.kube.CoreV1().Services(s.ns).Get(s.Context(), "api", metav1.GetOptions{})
		if err != nil {
			s.Fatal(err)
		}
		if now.Spec.Selector["app"] != "primary" || now.Annotations[heal.AnnotationPrevious] != "" {
			s.Errorf("it selects %v, with the annotations %v", now.Spec.Selector, now.Annotations)
		}
		s.stays()
	},
}

// endpoints waits until so many of a service are ready.
func (s *stage) endpoints(service string, want int) {
	s.Helper()
	harness.WaitFor(s.T, 40*time.Second, fmt.Sprintf("%d ready endpoints of %s", want, service), func() error {
		list, err := s.kube.DiscoveryV1().EndpointSlices(s.ns).List(s.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
		if err != nil {
			return err
		}
		ready := 0
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					ready++
				}
			}
		}
		if ready != want {
			return fmt.Errorf("%d", ready)
		}
		return nil
	})
}
