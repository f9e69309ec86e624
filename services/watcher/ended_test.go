package watcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher"
)

// TestPodsThatEndedAndKubernetesEventsAreAnnouncedOnARealControlPlane shows
// what detectors of pods and nodes need besides the state of containers.
func TestPodsThatEndedAndKubernetesEventsAreAnnouncedOnARealControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	starting, cancel := context.WithTimeout(t.Context(), churnPatience)
	defer cancel()
	cluster, err := kubetest.Start(starting, kubetest.Options{Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	c := &churn{Cluster: cluster, kube: cluster.Client(t), ns: cluster.Namespace(t)}
	ctx := t.Context()

	server := bustest.Start(t)
	said := read(t, server)
	r := run(t, watcher.Config{
		HealthCheckInterval: time.Hour, RecoveryTimeout: time.Hour,
		PodCheckInterval: 200 * time.Millisecond, PodRestartThreshold: 5,
		NodeCheckInterval: 200 * time.Millisecond, NodeFailureThreshold: 100,
		SettleTime: time.Millisecond,
	}, reach(t, cluster), server.Bus(t, watcher.Name))
	// announced waits for the first failure that has the reason.
	announced := func(reason string) (found heal.Failure) {
		t.Helper()
		kubetest.Eventually(t, time.Minute, func(context.Context) error {
			for _, f := range said.all() {
				if f.Reason == reason && !f.Resolved() {
					found = f
					return nil
				}
			}
			return fmt.Errorf("no %s among %d failures", reason, len(said.all()))
		})
		return found
	}

	// Three pods without a controller, which no kubelet has, fail: one of them on purpose.
	disrupted := corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Preempting", Conditions: []corev1.PodCondition{
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "PreemptionByScheduler", LastTransitionTime: metav1.Now()},
	}}
	if err := c.end(ctx, "disrupted", disrupted); err != nil {
		t.Fatal(err)
	}
	if err := c.end(ctx, "bare", corev1.PodStatus{Phase: corev1.PodFailed}); err != nil {
		t.Fatal(err)
	}
	if f := announced("BarePodFailed"); f.Target.Name != "bare" || f.Type != heal.PodFailure {
		t.Errorf("announced %s of %s, want it of the bare pod that was not disrupted", f.Reason, f.Target)
	}

	// A kubelet evicts one pod of a deployment, and another makes it anew.
	if err := c.deploy(ctx, "web", 2); err != nil {
		t.Fatal(err)
	}
	pods, err := c.kube.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetBehaviour(ctx, c.ns, pods.Items[0].Name, "evicted"); err != nil {
		t.Fatal(err)
	}
	f := announced("Evicted")
	if f.Target.Name != pods.Items[0].Name || f.Owner.Kind != "Deployment" || f.Owner.Name != "web" || f.Node != pods.Items[0].Spec.NodeName {
		t.Errorf("announced the eviction of %s, owner %s, on node %q; want %s of deployment web on %q",
			f.Target, f.Owner, f.Node, pods.Items[0].Name, pods.Items[0].Spec.NodeName)
	}

	// An event about a node is a fact about it, but only if it is a warning.
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, of := range []string{corev1.EventTypeNormal, corev1.EventTypeWarning} {
		_, err := c.kube.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("rebooted.%d", i)},
			InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: nodes.Items[i].Name, UID: types.UID(nodes.Items[i].Name)},
			Type:           of, Reason: "Rebooted", Message: "boot id: 7", LastTimestamp: metav1.Now(),
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	f = announced("NodeRebooted")
	if f.Target.Name != nodes.Items[1].Name || len(f.Evidence) != 1 || f.Evidence[0].Value != "boot id: 7" {
		t.Errorf("announced %s of %s by %v, want it of %s by the event", f.Reason, f.Target, f.Evidence, nodes.Items[1].Name)
	}

	if strings.Contains(r.logs.String(), `"resource":"events"`) { // as health says it when a selector is refused
		t.Error("events cannot be watched")
	}
	for _, f := range said.all() {
		if f.Target.Name == "disrupted" || f.Target.Name == nodes.Items[0].Name {
			t.Errorf("announced %s of %s, want nothing about it", f.Reason, f.Target)
		}
	}
	// It was seen all the same: called off, the disruption is no excuse any more.
	disrupted.Conditions[0].Status = corev1.ConditionFalse
	if err := c.setStatus(ctx, "disrupted", disrupted); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, time.Minute, func(context.Context) error {
		for _, f := range said.all() {
			if f.Target.Name == "disrupted" && f.Reason == "BarePodFailed" {
				return nil
			}
		}
		return errors.New("nothing about the pod whose disruption was called off")
	})
}

// end creates a pod that no scheduler looks at, and gives it this status.
func (c *churn) end(ctx context.Context, name string, status corev1.PodStatus) error {
	p := churnPod(name, "good", nil)
	p.Spec.SchedulerName = "nobody"
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	return c.setStatus(ctx, name, status)
}

func (c *churn) setStatus(ctx context.Context, name string, status corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = c.kube.CoreV1().Pods(c.ns).Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
