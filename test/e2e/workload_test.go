package e2e

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/test/harness"
)

// deploy makes a Deployment of pods of image on the scenario's nodes, and waits
// until all are available.
func (s *stage) deploy(name, image string, replicas int32, change ...func(*appsv1.Deployment)) {
	s.Helper()
	d := harness.Deployment(name, image, replicas)
	d.Spec.Template.Spec.NodeSelector = s.own()
	for _, c := range change {
		c(d)
	}
	harness.Deploy(s.T, s.kube, s.ns, d)
}

// annotated puts an annotation on a Deployment.
func annotated(key, value string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Annotations = map[string]string{key: value} }
}

// rollOut changes the first container of a workload's template.
func (s *stage) rollOut(resource, name, container string) func() error {
	return func() error {
		patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[%s]}}}}`, container)
		return s.kube.AppsV1().RESTClient().Patch(types.StrategicMergePatchType).Namespace(s.ns).Resource(resource).Name(name).
			Param("fieldManager", "kubectl-person").Body(patch).Do(s.Context()).Error()
	}
}

// pod is one of a workload's pods.
func (s *stage) pod(app string) corev1.Pod {
	s.Helper()
	pods := harness.Pods(s.T, s.kube, s.ns, app)
	if len(pods) == 0 {
		s.Fatalf("%s has no pods", app)
	}
	return pods[0]
}

// fares makes a pod fare otherwise than its image says.
func (s *stage) fares(pod, behaviour string) func() error {
	return func() error { return s.cluster.SetBehaviour(s.Context(), s.ns, pod, behaviour) }
}

// image waits until a workload's pods are all Ready, and of this image.
func (s *stage) image(app, image string, want int) {
	s.Helper()
	harness.WaitFor(s.T, 60*time.Second, fmt.Sprintf("%d ready pods of %s", want, image), func() error {
		pods := harness.Pods(s.T, s.kube, s.ns, app)
		ready := 0
		for _, p := range pods {
			if isReady(p) && p.Spec.Containers[0].Image == image {
				ready++
			}
		}
		if ready != want || len(pods) != want {
			return fmt.Errorf("%d of %d", ready, len(pods))
		}
		return nil
	})
}

// own selects the scenario's nodes.
func (s *stage) own() map[string]string { return map[string]string{"only": s.ns} }

// template is one of pods named app, on the scenario's nodes.
func (s *stage) template(app, image string) (*metav1.LabelSelector, corev1.PodTemplateSpec) {
	labels := map[string]string{"app": app}
	return &metav1.LabelSelector{MatchLabels: labels}, corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{NodeSelector: s.own(), Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
}
