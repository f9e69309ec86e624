package detect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// budgetBlocking finds disruption budgets that hold up a drain. A budget that
// allows nothing does no harm by itself, and many clusters have some: it is a
// failure only while a cordoned node runs pods that it protects.
var budgetBlocking = Detector[*policyv1.PodDisruptionBudget]{
	Name: "budget_blocking",
	Row:  "W12",
	Type: heal.DeploymentFailure,

	Reasons: []string{"DrainBlocked"},
	Hold:    "15 min",
	Excused: "the budget is deleted, or its status is of an older generation; no node is cordoned that runs pods of it",

	Find:   findBlocking,
	Excuse: budgetExcuse,
}

const (
	blockingHold = 15 * time.Minute
	maxHeld      = 5 // of the pods that are held, so many are named
)

// A Held pod is one on a cordoned node that a drain would evict.
type Held struct {
	Pod, Node string
	Ready     bool
}

// Blocks reports whether a budget allows no disruption although it has pods.
func Blocks(b *policyv1.PodDisruptionBudget) bool {
	s := &b.Status
	_, failed := syncFailed(b)
	return failed || s.DisruptionsAllowed <= 0 && s.ExpectedPods > 0 && s.CurrentHealthy <= s.DesiredHealthy
}

func syncFailed(b *policyv1.PodDisruptionBudget) (int, bool) {
	i := slices.IndexFunc(b.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == policyv1.DisruptionAllowedCondition && c.Status == metav1.ConditionFalse && c.Reason == policyv1.SyncFailedReason
	})
	return i, i >= 0
}

func findBlocking(b *policyv1.PodDisruptionBudget, facts Facts) []Finding {
	held := heldBy(b, facts.Held)
	if !Blocks(b) || len(held) == 0 {
		return nil
	}
	s := &b.Status
	n := func(i int32) string { return strconv.Itoa(int(i)) }
	why, words := whyBlocked(b)
	f := Finding{
		Reason: "DrainBlocked", Hold: blockingHold,
		Description: fmt.Sprintf("disruption budget %s holds up the drain of %s: %s", b.Name, strings.Join(nodesOf(held), ", "), words),
		Evidence: []heal.Evidence{
			{Path: "status.disruptionsAllowed", Value: n(s.DisruptionsAllowed)},
			{Path: "status.currentHealthy", Value: n(s.CurrentHealthy)},
			{Path: "status.desiredHealthy", Value: n(s.DesiredHealthy)},
			{Path: "status.expectedPods", Value: n(s.ExpectedPods)},
		},
		Metadata: map[string]string{"why": why, "held": strconv.Itoa(len(held)), "nodes": strings.Join(nodesOf(held), ",")},
	}
	if i, failed := syncFailed(b); failed {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: fmt.Sprintf("status.conditions[%d].message", i), Value: s.Conditions[i].Message})
	}
	var pods []string
	for _, h := range held[:min(len(held), maxHeld)] {
		pods = append(pods, h.Pod)
	}
	f.Metadata["pods"] = strings.Join(pods, ",")
	return []Finding{f}
}

// whyBlocked names what must be done about it: make pods well, or loosen the
// budget.
func whyBlocked(b *policyv1.PodDisruptionBudget) (why, words string) {
	s := &b.Status
	if i, failed := syncFailed(b); failed {
		return "sync_failed", "its controller cannot tell how many of its pods are healthy: " + s.Conditions[i].Message
	}
	if s.DesiredHealthy >= s.ExpectedPods {
		return "too_strict", fmt.Sprintf("it wants %d of %s to be healthy, and so never lets one go", s.DesiredHealthy, count(int(s.ExpectedPods), "pod"))
	}
	return "pods_unhealthy", fmt.Sprintf("only %d of %s are healthy, and %d must be", s.CurrentHealthy, count(int(s.ExpectedPods), "pod"), s.DesiredHealthy)
}

// heldBy is those of the pods that may not go. Some budgets let pods go that
// are not healthy anyway.
func heldBy(b *policyv1.PodDisruptionBudget, pods []Held) []Held {
	if p := b.Spec.UnhealthyPodEvictionPolicy; p == nil || *p != policyv1.AlwaysAllow {
		return pods
	}
	return slices.DeleteFunc(slices.Clone(pods), func(h Held) bool { return !h.Ready })
}

func nodesOf(held []Held) []string {
	var nodes []string
	for _, h := range held {
		if !slices.Contains(nodes, h.Node) {
			nodes = append(nodes, h.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

func budgetExcuse(b *policyv1.PodDisruptionBudget, _ Facts) Excuse {
	switch {
	case b.DeletionTimestamp != nil:
		return Leaving
	case b.Status.ObservedGeneration < b.Generation:
		if _, failed := syncFailed(b); !failed {
			return Masked
		}
	}
	return None
}
