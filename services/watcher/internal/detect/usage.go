package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Usage is how much is used of something of which too much has been used for
// two polls in a row. Package usage says what that is.
type Usage struct {
	Used, Of int64         // thousandths of a core, or bytes
	FullIn   time.Duration // of a volume: when nothing will be left, if it goes on like this; 0 if that is not known
}

// Percent is the part that is used.
func (u Usage) Percent() int {
	if u.Of <= 0 {
		return 0
	}
	return int(float64(u.Used) / float64(u.Of) * 100)
}

func (u Usage) metadata() map[string]string {
	return map[string]string{"percent": strconv.Itoa(u.Percent()), "used": strconv.FormatInt(u.Used, 10), "of": strconv.FormatInt(u.Of, 10)}
}

// The parts of a node of which usage is known.
const (
	UsageCPU    = "cpu"
	UsageMemory = "memory"
)

// nodeUsage finds nodes that use too much of what they have for pods, as the
// metrics API says. One that says itself that it is short of memory needs
// nobody else to say so.
var nodeUsage = Detector[*corev1.Node]{
	Name: "node_usage",
	Row:  "usage",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"NodeCPUHigh", "NodeMemoryHigh"},
	Hold:    "2 polls of 5 min, above `usage_threshold`; where metrics.k8s.io is served",
	Excused: conditionExcused + "; it has MemoryPressure (node_pressure)",

	Find: func(node *corev1.Node, facts Facts) []Finding {
		var found []Finding
		for _, part := range []string{UsageCPU, UsageMemory} {
			u, high := facts.Usage[part]
			if !high || part == UsageMemory && pressed(node) {
				continue
			}
			f := Finding{Part: part, Reason: "NodeCPUHigh", Metadata: u.metadata()}
			used, of := fmt.Sprintf("%.1f", float64(u.Used)/1000), fmt.Sprintf("%.1f cores", float64(u.Of)/1000)
			if part == UsageMemory {
				f.Reason, used, of = "NodeMemoryHigh", bytes(u.Used), bytes(u.Of)
			}
			f.Description = fmt.Sprintf("node %s uses %d %% of its %s: %s of %s", node.Name, u.Percent(), word(part), used, of)
			f.Evidence = []heal.Evidence{{Path: "usage." + part, Value: used}}
			if q, ok := node.Status.Allocatable[corev1.ResourceName(part)]; ok {
				f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.allocatable." + part, Value: q.String()})
			}
			found = append(found, f)
		}
		return found
	},
	Excuse: conditionExcuse,
}

func word(part string) string {
	if part == UsageCPU {
		return "CPU"
	}
	return part
}

// pressed reports whether a node says that it is short of memory.
func pressed(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeMemoryPressure && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func bytes(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
