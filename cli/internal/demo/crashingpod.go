package demo

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// crashingPod damages the local state of one pod: restarting its container
// does not help, a fresh pod does.
var crashingPod = scenario{
	id:   "crashing-pod",
	name: "a pod crashes",
	story: "One of checkout's three pods loses its local state. Kubernetes restarts the container in it, " +
		"again and again, and it crashes each time. A fresh pod would be fine.",
	wants:  healed,
	within: 90 * time.Second,
	about:  ofWorkload("checkout"),
	play: func(ctx context.Context, s *stage, w *watch) error {
		pods, err := podsOf(ctx, s.kube, "checkout")
		if err != nil {
			return err
		}
		patch, err := annotation(simBehaviour, "crash")
		if err != nil {
			return err
		}
		pod := pods[0].Name
		if _, err := s.kube.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("break pod %s: %w", pod, err)
		}
		s.say(ctx, "BREAKS", "%s/%s: from now on it crashes whenever it starts", namespace, pod)
		err = w.until(ctx, "a fresh pod that is proven well", func(o observation) bool { return over(o) && o.provenAndTold() })
		if err != nil {
			return err
		}
		return waitWhole(ctx, s.kube, "checkout")
	},
}
