package real

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// A roll-out whose first pod crash-loops, seen by a watcher with a detector of
// the operator's own for pods, and one for nodes: what the failure says of the
// roll-out, and that the two detectors of one pod do not get into each other's way.
func TestAPodOfABrokenRolloutSaysSoAndIsSeenByAnOwnDetectorToo(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	c := kubetest.Get(t)
	ns := c.Namespace(t)
	client := c.Client(t)
	deployments := client.AppsV1().Deployments(ns)
	three := int32(3)
	labels := map[string]string{"app": "web"}
	_, err := deployments.Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &three, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "app", Image: "shop/web:good", Env: []corev1.EnvVar{{Name: "TOKEN", Value: "canary"}}, Command: []string{"canary"},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
			}}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ready := func(updated, available int32) func(context.Context) error {
		return func(ctx context.Context) error {
			d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if s := d.Status; s.ObservedGeneration < d.Generation || s.UpdatedReplicas != updated || s.AvailableReplicas != available {
				return fmt.Errorf("%+v", s)
			}
			return nil
		}
	}
	kubetest.Eventually(t, time.Minute, ready(3, 3))

	cfg := config
	cfg.PodCheckInterval = time.Second
	cfg.DetectorsFile = filepath.Join(t.TempDir(), "detectors.yaml")
	rules := `detectors:
- name: waits
  version: v1
  kind: Pod
  resource: pods
  type: pod_failure
  reason: PodWaits
  expression: object.metadata.namespace == "` + ns + `" && object.?status.?containerStatuses.orValue([]).exists(c, has(c.state.waiting) && c.state.waiting.reason == "CrashLoopBackOff")
  description: string("asks for " + object.spec.containers[0].resources.requests.cpu)
  evidence: [spec.containers]
- name: schedulable
  version: v1
  kind: Node
  resource: nodes
  namespaced: false
  type: node_failure
  reason: NodeSchedulable
  expression: object.?spec.?unschedulable.orValue(false) == false
`
	if err := os.WriteFile(cfg.DetectorsFile, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	kube, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	all := published(t, srv)
	stop := startWith(t, srv, kube, nil, cfg, nil)

	broken := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/web:broken"}]}}}}`)
	if _, err := deployments.Patch(t.Context(), "web", types.StrategicMergePatchType, broken, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, time.Minute, ready(1, 3))
	find := func(detector string, over bool) (f heal.Failure) {
		t.Helper()
		kubetest.Eventually(t, time.Minute, func(context.Context) error {
			for _, f = range all() {
				if f.Detector == detector && f.Resolved() == over && (f.Namespace == ns || f.Target.Kind == "Node") {
					return nil
				}
			}
			return fmt.Errorf("nothing of %s (over: %v) in %d messages", detector, over, len(all()))
		})
		return f
	}
	ours, own, node := find("crash_loop", false), find("own.waits", false), find("own.schedulable", false)
	hash := ours.Metadata["pod_template_hash"]
	got := map[string]string{}
	for _, key := range []string{"revision", "newest_revision", "workload_available", "workload_updated", "exit_code"} {
		got[key] = ours.Metadata[key]
	}
	want := map[string]string{"revision": "2", "newest_revision": "2", "workload_available": "3", "workload_updated": "1", "exit_code": "1"}
	if diff := cmp.Diff(want, got); diff != "" || !strings.HasPrefix(ours.Target.Name, "web-"+hash+"-") {
		t.Errorf("of %s, made of %q (-want +got):\n%s", ours.Target.Name, hash, diff)
	}
	if own.Target != ours.Target && own.Target.UID != ours.Target.UID || own.EpisodeID == ours.EpisodeID || own.Owner.Kind != "Deployment" || own.Node != ours.Node {
		t.Errorf("ours found %+v, the other %+v", ours, own)
	}
	if own.Description != "asks for 10m" || node.Node != node.Target.Name || node.Target.UID == "" {
		t.Errorf("they say %q, and %q of node %q", own.Description, node.Description, node.Node)
	}

	good := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/web:good"}]}}}}`)
	if _, err := deployments.Patch(t.Context(), "web", types.StrategicMergePatchType, good, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if f := find("crash_loop", true); f.EpisodeID != ours.EpisodeID {
		t.Errorf("%+v is over, want %s", f, ours.EpisodeID)
	}
	if f := find("own.waits", true); f.EpisodeID != own.EpisodeID {
		t.Errorf("%+v is over, want %s", f, own.EpisodeID)
	}

	// What a detector found ends when the file has it no more.
	stop()
	cfg.DetectorsFile = ""
	startWith(t, srv, kube, nil, cfg, nil)
	if f := find("own.schedulable", true); f.Target.Kind != "Node" {
		t.Errorf("%+v is over", f)
	}
	for _, f := range all() {
		if strings.Contains(fmt.Sprint(f), "canary") {
			t.Errorf("published: %+v", f)
		}
	}
}
