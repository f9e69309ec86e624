package e2e

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/harness"
)

var nodeUnderPressure = scenario{
	name:     "node under pressure",
	proves:   "cordoned, the pod evicted that asked for nothing and uses most, and no other; uncordoned once it is well. It counts after 10 min, and is acted upon here by a policy's rule, else from the third time within an hour on",
	long:     true,
	rule:     `failure.kind == "Node" && failure.name == "a-" + %q && failure.reason == "MemoryPressure"`,
	severity: heal.High,
	play: func(s *stage) {
		full, other := s.pair()
		s.define("metrics.k8s.io", "v1beta1", "Pod", "pods") // what a metrics server would serve
		s.onNode(full, other, "guaranteed", 1, func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
			}
		})
		s.onNode(full, other, "batch", 3)
		pods := harness.Pods(s.T, s.kube, s.ns, "batch")
		heaviest := pods[1]
		for i, p := range pods {
			s.create("/apis/metrics.k8s.io/v1beta1/namespaces/"+s.ns+"/pods", map[string]any{
				"apiVersion": "metrics.k8s.io/v1beta1", "kind": "Pod", "metadata": map[string]any{"name": p.Name},
				"containers": []any{map[string]any{"name": "app", "usage": map[string]any{"cpu": "1m", "memory": fmt.Sprintf("%dMi", []int{10, 500, 30}[i])}}},
			})
		}
		s.breaks(func() error { return s.cluster.SetPressure(s.Context(), full, corev1.NodeMemoryPressure) })
		harness.WaitFor(s.T, 13*time.Minute, "the heaviest pod to go", func() error {
			for _, p := range harness.Pods(s.T, s.kube, s.ns, "batch") {
				if p.UID == heaviest.UID {
					return fmt.Errorf("%s is there", p.Name)
				}
			}
			return nil
		})
		if err := s.cluster.SetPressure(s.Context(), full); err != nil { // as its kubelet would see
			s.Fatal(err)
		}
		s.ends(2*time.Minute, end{heal.Relieve, "Node", heal.Succeeded, "Verified", []string{"patch nodes", "create pods/eviction", "patch nodes"}})
		harness.WaitAvailable(s.T, s.kube, s.ns, "batch", 3)
		s.stays()
	},
}
