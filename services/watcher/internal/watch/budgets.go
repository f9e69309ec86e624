package watch

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var budgets = kind{
	Version:    "policy/v1",
	Kind:       "PodDisruptionBudget",
	Group:      "policy",
	Resource:   "poddisruptionbudgets",
	Namespaced: true,
	Keep:       true, // each is judged by what happens to nodes
	New:        func() object { return new(policyv1.PodDisruptionBudget) },
	Slim:       slimBudget,
	Open:       openBudgets,
}

func openBudgets(w *Watcher, k kind) view {
	d := detectors[*policyv1.PodDisruptionBudget]{
		kind: k,
		list: detect.Budgets,
		node: func(*policyv1.PodDisruptionBudget) string { return "" },
	}
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			return d.judge(obj.(*policyv1.PodDisruptionBudget), detect.Facts{
				Now:        now,
				Thresholds: w.cfg.Thresholds,
				Held:       w.absences.heldBy(string(obj.GetUID())),
			}, tracked)
		},
		change: func(obj metav1.Object, _ bool, _ time.Time) {
			b := obj.(*policyv1.PodDisruptionBudget)
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil || !detect.Blocks(b) { // of one that nobody can read nothing is held
				delete(w.absences.budgets, string(b.UID))
				return
			}
			if w.absences.budgets == nil {
				w.absences.budgets = map[string]budget{}
			}
			w.absences.budgets[string(b.UID)] = budget{namespace: b.Namespace, name: b.Name, selector: selector}
		},
		forget: func(uid string) { delete(w.absences.budgets, uid) },
	}
}

// slimBudget keeps of a budget what detectors read.
func slimBudget(obj any) any {
	b, ok := obj.(*policyv1.PodDisruptionBudget)
	if !ok {
		return obj
	}
	slim := &policyv1.PodDisruptionBudget{
		ObjectMeta: slimMeta(b.ObjectMeta),
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: b.Spec.Selector, UnhealthyPodEvictionPolicy: b.Spec.UnhealthyPodEvictionPolicy},
		Status: policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: b.Status.ObservedGeneration,
			DisruptionsAllowed: b.Status.DisruptionsAllowed,
			CurrentHealthy:     b.Status.CurrentHealthy,
			DesiredHealthy:     b.Status.DesiredHealthy,
			ExpectedPods:       b.Status.ExpectedPods,
		},
	}
	for _, c := range b.Status.Conditions {
		if c.Type == policyv1.DisruptionAllowedCondition {
			slim.Status.Conditions = append(slim.Status.Conditions, metav1.Condition{
				Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message),
			})
		}
	}
	return slim
}
