package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// daemon is a daemon set for ten nodes.
func daemon(available, updated, misscheduled int32, change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Namespace: "kube-system", Generation: 2},
		Status: appsv1.DaemonSetStatus{
			ObservedGeneration: 2, DesiredNumberScheduled: 10, NumberAvailable: available, NumberUnavailable: 10 - available,
			UpdatedNumberScheduled: updated, NumberMisscheduled: misscheduled,
		},
	}
	for _, f := range change {
		f(d)
	}
	return d
}

func daemonOnDelete(d *appsv1.DaemonSet) {
	d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
}

func TestOneDetectorSpeaksForWhatAilsADaemonSet(t *testing.T) {
	type spoken struct {
		Detector string
		Hold     time.Duration
	}
	tests := []struct {
		name string
		set  *appsv1.DaemonSet
		want []spoken
	}{
		{"all is well", daemon(10, 10, 0), nil},
		{"the roll-out goes on", daemon(10, 4, 0), nil},
		{"the roll-out waits for a pod", daemon(9, 4, 0), []spoken{{"daemonset_stalled", 15 * time.Minute}}},
		{"the roll-out took all away", daemon(0, 4, 0), []spoken{{"daemonset_stalled", 5 * time.Minute}}},
		{"a pod is missing", daemon(9, 10, 0), []spoken{{"daemonset_unavailable", 15 * time.Minute}}},
		{"all are missing", daemon(0, 10, 0), []spoken{{"daemonset_unavailable", 5 * time.Minute}}},
		{"replaced on deletion only", daemon(10, 4, 0, daemonOnDelete), nil},
		{"replaced on deletion only, a pod is missing", daemon(9, 4, 0, daemonOnDelete), []spoken{{"daemonset_unavailable", 15 * time.Minute}}},
		{"a pod where none should be", daemon(10, 10, 1), []spoken{{"daemonset_misscheduled", 15 * time.Minute}}},
		{"no node to run on", &appsv1.DaemonSet{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []spoken
			for _, d := range DaemonSets {
				for _, f := range d.Find(tt.set, Facts{Now: noon}) {
					got = append(got, spoken{d.Name, f.Hold})
					if d.Well != nil && d.Well(tt.set, "") {
						t.Errorf("%s finds it and takes it for well", d.Name)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("who speaks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDaemonSetOfTheClusterItselfIsMarked(t *testing.T) {
	want := []Finding{{
		Reason: "RolloutStalled", Hold: 15 * time.Minute,
		Description: "daemon set agent made no progress with its roll-out: 8 of 10 pods available, 4 of the latest revision",
		Evidence: []heal.Evidence{
			{Path: "status.desiredNumberScheduled", Value: "10"},
			{Path: "status.numberUnavailable", Value: "2"},
			{Path: "status.updatedNumberScheduled", Value: "4"},
			{Path: "status.numberMisscheduled", Value: "1"},
		},
		Metadata: map[string]string{"desired": "10", "available": "8", "unavailable": "2", "updated": "4", "misscheduled": "1", "addon": "true"},
	}}
	addon := daemon(8, 4, 1)
	if diff := cmp.Diff(want, daemonSetStalled.Find(addon, Facts{Now: noon})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	addon.Namespace = "shop"
	if got := daemonSetStalled.Find(addon, Facts{Now: noon})[0].Metadata["addon"]; got != "" {
		t.Errorf("a daemon set of users is marked %q", got)
	}
}

func TestPodsOfNodesThatComeGoOrAreDownAreNotTheDaemonSetsFailure(t *testing.T) {
	tests := []struct {
		name         string
		available    int32
		misscheduled int32
		facts        Facts
		change       func(*appsv1.DaemonSet)
		want         [3]Excuse // stalled, unavailable, misscheduled
	}{
		{name: "all nodes are well", available: 8, misscheduled: 2, want: [3]Excuse{None, None, None}},
		{name: "as many nodes are away", available: 8, misscheduled: 2, facts: Facts{NodesAway: 2}, want: [3]Excuse{Masked, Masked, Masked}},
		{name: "fewer nodes are away", available: 8, misscheduled: 2, facts: Facts{NodesAway: 1}, want: [3]Excuse{None, None, None}},
		{name: "nothing is concerned any more: it may end", available: 10, facts: Facts{NodesAway: 3}, want: [3]Excuse{None, None, None}},
		{name: "it came further", available: 8, misscheduled: 2, facts: Facts{ProgressSince: noon.Add(-time.Second)}, want: [3]Excuse{Masked, Masked, None}},
		{name: "just changed", available: 8, misscheduled: 2, facts: Facts{RolloutSince: noon.Add(-time.Second)}, want: [3]Excuse{Masked, Masked, None}},
		{name: "changed, and not looked at yet", available: 8, misscheduled: 2, change: func(d *appsv1.DaemonSet) { d.Generation++ }, want: [3]Excuse{Masked, Masked, Masked}},
		{name: "deleted", available: 8, misscheduled: 2, change: func(d *appsv1.DaemonSet) { d.DeletionTimestamp = &metav1.Time{Time: noon} }, want: [3]Excuse{Leaving, Leaving, Leaving}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := daemon(tt.available, 10, tt.misscheduled)
			if tt.change != nil {
				tt.change(d)
			}
			tt.facts.Now = noon
			got := [3]Excuse{daemonSetStalled.Excuse(d, tt.facts), daemonSetUnavailable.Excuse(d, tt.facts), daemonSetMisscheduled.Excuse(d, tt.facts)}
			if got != tt.want {
				t.Errorf("excuses %v, want %v", got, tt.want)
			}
		})
	}
}
