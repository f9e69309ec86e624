package watch

import (
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var autoscalers = kind{
	Version:    "autoscaling/v2",
	Kind:       "HorizontalPodAutoscaler",
	Group:      "autoscaling",
	Resource:   "horizontalpodautoscalers",
	Namespaced: true,
	Optional:   true,
	New:        func() object { return new(autoscalingv2.HorizontalPodAutoscaler) },
	Slim:       slimAutoscaler,
	Open:       openAutoscalers,
}

func openAutoscalers(w *Watcher, k kind) view {
	d := detectors[*autoscalingv2.HorizontalPodAutoscaler]{
		kind: k,
		list: detect.Autoscalers,
		node: func(*autoscalingv2.HorizontalPodAutoscaler) string { return "" },
	}
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			return d.judge(obj.(*autoscalingv2.HorizontalPodAutoscaler), detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}, tracked)
		},
		change: func(_ metav1.Object, _ bool, _ time.Time) {}, // it says all of itself
		forget: func(string) {},
	}
}

// slimAutoscaler keeps of an autoscaler what detectors read.
func slimAutoscaler(obj any) any {
	a, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return obj
	}
	slim := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: slimMeta(a.ObjectMeta),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: clip(a.Spec.ScaleTargetRef.Kind), Name: clip(a.Spec.ScaleTargetRef.Name)},
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{ObservedGeneration: a.Status.ObservedGeneration, CurrentReplicas: a.Status.CurrentReplicas},
	}
	for _, c := range a.Status.Conditions {
		slim.Status.Conditions = append(slim.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message),
		})
	}
	return slim
}
