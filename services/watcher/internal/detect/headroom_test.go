package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestClusterThatCannotLoseItsLargestNodeIsFound(t *testing.T) {
	const gi = 1 << 30
	capacity := func(nodes int, cpu, memory int64) Capacity {
		return Capacity{
			Known: true, Nodes: nodes,
			Allocatable: Amount{CPU: 12_000, Memory: 48 * gi}, Largest: Amount{CPU: 4_000, Memory: 16 * gi},
			Requested: Amount{CPU: cpu, Memory: memory},
		}
	}
	tests := []struct {
		name      string
		namespace string
		capacity  Capacity
		want      []string // parts
	}{
		{"all fits on the others", "kube-system", capacity(3, 8_000, 32*gi), nil},
		{"too little cpu", "kube-system", capacity(3, 8_001, 32*gi), []string{"cpu"}},
		{"too little memory", "kube-system", capacity(3, 8_000, 32*gi+1), []string{"memory"}},
		{"too little of both", "kube-system", capacity(3, 11_000, 47*gi), []string{"cpu", "memory"}},
		{"one node is all there is", "kube-system", capacity(1, 11_000, 47*gi), nil},
		{"nothing is known", "kube-system", Capacity{}, nil},
		{"another namespace does not stand for the cluster", "shop", capacity(3, 11_000, 47*gi), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tt.namespace}}
			var got []string
			for _, f := range headroomLost.Find(n, Facts{Capacity: tt.capacity}) {
				got = append(got, f.Part)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
		})
	}
	want := []Finding{{
		Part: "memory", Reason: "HeadroomLost", Hold: 10 * time.Minute,
		Description: "if the largest of 3 nodes failed, its pods would find too little memory: 33Gi requested, 32Gi left without it",
		Evidence: []heal.Evidence{
			{Path: "sum(pods[*].spec.containers[*].resources.requests.memory)", Value: "33Gi"},
			{Path: "sum(nodes[*].status.allocatable.memory)", Value: "48Gi"},
			{Path: "max(nodes[*].status.allocatable.memory)", Value: "16Gi"},
		},
		Metadata: map[string]string{"resource": "memory", "nodes": "3"},
	}}
	cluster := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ClusterNamespace}}
	if diff := cmp.Diff(want, headroomLost.Find(cluster, Facts{Capacity: capacity(3, 0, 33*gi)})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestHeadroomIsNotJudgedWhileItIsUnknownOrMadeOnDemand(t *testing.T) {
	tests := []struct {
		name     string
		capacity Capacity
		want     Excuse
	}{
		{"any other is", Capacity{Known: true, Nodes: 3}, None},
		{"not all was read", Capacity{Nodes: 3}, Masked},
		{"nodes come when they are needed", Capacity{Known: true, Elastic: true, Nodes: 3}, Masked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := headroomLost.Excuse(nil, Facts{Capacity: tt.capacity}); got != tt.want {
				t.Errorf("excuse = %v, want %v", got, tt.want)
			}
		})
	}
}
