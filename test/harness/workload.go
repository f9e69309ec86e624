package harness

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Deployment is a Deployment of simulated pods that behave as image says.
func Deployment(name, image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
			},
		},
	}
}

// Deploy creates deployments and waits until all their replicas are available.
func Deploy(t testing.TB, kube kubernetes.Interface, namespace string, deployments ...*appsv1.Deployment) {
	t.Helper()
	for _, d := range deployments {
		if _, err := kube.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
			t.Fatalf("create deployment %s: %v", d.Name, err)
		}
	}
	for _, d := range deployments {
		WaitAvailable(t, kube, namespace, d.Name, *d.Spec.Replicas)
	}
}

// WaitAvailable waits until a deployment has so many available replicas, all of the newest template.
func WaitAvailable(t testing.TB, kube kubernetes.Interface, namespace, name string, replicas int32) {
	t.Helper()
	WaitFor(t, 90*time.Second, fmt.Sprintf("%d available replicas of %s", replicas, name), func() error {
		d, err := kube.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := d.Status; s.AvailableReplicas != replicas || s.UpdatedReplicas != replicas || s.ObservedGeneration < d.Generation {
			return fmt.Errorf("%d available, %d updated of %d", s.AvailableReplicas, s.UpdatedReplicas, replicas)
		}
		return nil
	})
}

// Pods are the pods of a deployment that are not on their way out.
func Pods(t testing.TB, kube kubernetes.Interface, namespace, app string) []corev1.Pod {
	t.Helper()
	list, err := kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatalf("list pods of %s: %v", app, err)
	}
	live := list.Items[:0]
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			live = append(live, p)
		}
	}
	return live
}
