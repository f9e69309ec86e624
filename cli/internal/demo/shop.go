package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// namespace is where the demo's application lives.
const namespace = "shop"

// workloads is the application: three small services.
var workloads = []struct {
	name     string
	replicas int32
}{
	{"checkout", 3},
	{"catalog", 2},
	{"cart", 2},
}

// What steers the simulated nodes of the development cluster; see
// dev/cluster/README.md.
const (
	simNode      = "sim.selfheal.dev/node"
	simHeartbeat = "sim.selfheal.dev/heartbeat"
	simBehaviour = "sim.selfheal.dev/behaviour"
)

// image is a container image that the simulated nodes know how to run.
func image(workload, tag string) string { return "shop/" + workload + ":" + tag }

// deployShop creates the application.
func deployShop(ctx context.Context, k kubernetes.Interface) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := k.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace %s: %w", namespace, err)
	}
	for _, w := range workloads {
		d := deployment(w.name, w.replicas)
		if _, err := k.AppsV1().Deployments(namespace).Create(ctx, d, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create deployment %s: %w", w.name, err)
		}
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: w.name},
			Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": w.name},
				Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
			},
		}
		if _, err := k.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create service %s: %w", w.name, err)
		}
	}
	return nil
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{
						Name:  "api",
						Image: image(name, "v1"),
						Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
						Resources: corev1.ResourceRequirements{
							Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")},
						},
					}},
					// One replica per node as far as that goes, so that a
					// node's death is felt and does not take a whole service.
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
				},
			},
		},
	}
}

// whole reports whether every replica of a deployment is of the newest
// revision and available.
func whole(d *appsv1.Deployment) bool {
	want := *d.Spec.Replicas
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.AvailableReplicas == want && s.Replicas == want
}

// pollEvery is how often the demo looks whether it can go on. The times that
// it shows do not depend on it: they come from the messages.
const pollEvery = 200 * time.Millisecond

// poll looks until the condition holds, an error comes, or ctx is done.
func poll(ctx context.Context, holds func(context.Context) (bool, error)) error {
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, holds)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// waitWhole waits until all of the named deployments are whole.
func waitWhole(ctx context.Context, k kubernetes.Interface, names ...string) error {
	var missing []string
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		missing = nil
		for _, name := range names {
			d, err := k.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			if !whole(d) {
				missing = append(missing, name)
			}
		}
		return len(missing) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("not all replicas of %v are available: %w", missing, err)
	}
	return nil
}

// setImage rolls out another image, as `kubectl set image` would.
func setImage(ctx context.Context, k kubernetes.Interface, workload, tag string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []map[string]string{{"name": "api", "image": image(workload, tag)}},
	}}}})
	if err != nil {
		return err
	}
	_, err = k.AppsV1().Deployments(namespace).Patch(ctx, workload, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "demo"})
	if err != nil {
		return fmt.Errorf("set image of deployment %s: %w", workload, err)
	}
	return nil
}

// podsOf lists the pods of a workload that are not going away.
func podsOf(ctx context.Context, k kubernetes.Interface, workload string) ([]corev1.Pod, error) {
	l, err := k.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + workload})
	if err != nil {
		return nil, fmt.Errorf("list pods of %s: %w", workload, err)
	}
	var pods []corev1.Pod
	for _, p := range l.Items {
		if p.DeletionTimestamp == nil {
			pods = append(pods, p)
		}
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("%s has no pods", workload)
	}
	return pods, nil
}

// annotation is a merge patch that sets one annotation.
func annotation(key, value string) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
}
