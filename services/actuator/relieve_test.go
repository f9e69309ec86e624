package actuator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// pressed makes the node run short of memory, and decides to relieve it.
func (r *rig) pressed(node string) heal.Decision {
	r.t.Helper()
	if err := r.cluster.SetPressure(r.t.Context(), node, corev1.NodeMemoryPressure); err != nil {
		r.t.Fatal(err)
	}
	n := r.untilNode(node, "under pressure", func(n *corev1.Node) bool {
		return strings.Contains(fmt.Sprint(n.Status.Conditions), "MemoryPressure True")
	})
	d := decide(nodeTarget(n), heal.ResourceExhaustion, heal.Relieve)
	d.Failure.Reason, d.Failure.Detector = "MemoryPressure", "node_pressure"
	return d
}

func TestANodeUnderPressureLosesTheHeaviestPodAndNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, b := r.nodes()
	r.define("metrics.k8s.io", "v1beta1", "Pod", "Namespaced")
	cordon(t, r, b, true)
	pods := r.ready(r.deploy("web", "shop/api:good", 3, r.here))
	r.ready(r.deploy("kept", "shop/api:good", 1, r.here, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")}
	}))
	cordon(t, r, b, false)
	for i, p := range pods {
		r.custom("POST", "/apis/metrics.k8s.io/v1beta1/namespaces/"+r.ns+"/pods", map[string]any{
			"apiVersion": "metrics.k8s.io/v1beta1", "kind": "Pod", "metadata": map[string]any{"name": p.Name},
			"containers": []any{map[string]any{"name": "app", "usage": map[string]any{"memory": fmt.Sprintf("%dMi", []int{10, 500, 30}[i])}}},
		})
	}
	d := r.pressed(a)
	r.publish(d)
	kubetest.Eventually(t, 40*time.Second, r.gone(&pods[1]))
	if err := r.cluster.SetPressure(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"patch nodes", "create pods/eviction", "patch nodes"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if n := r.node(a); !untouched(n) {
		t.Errorf("left behind: unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
	}
}

func TestARelievedNodeSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{
		crash.AfterAPIBeforeRecord + ":1",                         // cordoned
		crash.BeforeAPI + ":2", crash.AfterAPIBeforeRecord + ":2", // a pod goes
		crash.AfterAPIBeforeRecord + ":3", // uncordoned
	} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), ward(t))
			a, b := r.nodes()
			cordon(t, r, b, true)
			pods := r.ready(r.deploy("web", "shop/api:good", 2, r.here))
			cordon(t, r, b, false)
			d := r.pressed(a)
			r.background(func(ctx context.Context) error { // one pod less is enough
				for ctx.Err() == nil {
					if r.gone(&pods[0])(ctx) == nil || r.gone(&pods[1])(ctx) == nil {
						return r.cluster.SetPressure(ctx, a)
					}
					pause(ctx, 100*time.Millisecond)
				}
				return nil
			})
			r.survives(at, d, verified, nil)
			evicted := map[string]int{}
			for _, e := range r.effective() {
				evicted[e.UID]++
			}
			for uid, times := range evicted {
				if times != 1 {
					t.Errorf("%d effective writes on UID %s, want 1", times, uid)
				}
			}
			if len(evicted) != 1 {
				t.Errorf("evicted %v, want one pod", evicted)
			}
			if n := r.node(a); !untouched(n) {
				t.Errorf("left behind: unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
			}
		})
	}
}
