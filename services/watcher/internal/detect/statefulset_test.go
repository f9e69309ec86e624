package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// stateful is a stateful set of four, on its way to another revision if not
// all are updated.
func stateful(ready, updated int32, change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	four := int32(4)
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Generation: 7},
		Spec:       appsv1.StatefulSetSpec{Replicas: &four},
		Status: appsv1.StatefulSetStatus{
			ObservedGeneration: 7, Replicas: 4, ReadyReplicas: ready, AvailableReplicas: ready, UpdatedReplicas: updated,
			CurrentRevision: "db-1", UpdateRevision: "db-2",
		},
	}
	if updated == 4 {
		s.Status.CurrentRevision = "db-2"
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func onDelete(s *appsv1.StatefulSet) {
	s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
}

func partitioned(n int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) {
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &n}
	}
}

// lastOne has a roll-out wait for the last of its pods.
func lastOne(s *appsv1.StatefulSet) { s.Status.CurrentRevision = "db-1" }

// warming is a pod that is ready, but not for minReadySeconds yet.
func warming(s *appsv1.StatefulSet) { s.Status.AvailableReplicas-- }

func TestOneDetectorSpeaksForWhatAilsAStatefulSet(t *testing.T) {
	type spoken struct {
		Detector string
		Hold     time.Duration
	}
	tests := []struct {
		name string
		set  *appsv1.StatefulSet
		want []spoken
	}{
		{"all is well", stateful(4, 4), nil},
		{"a pod of the roll-out is not ready", stateful(3, 1), []spoken{{"statefulset_stalled", 15 * time.Minute}}},
		{"the last pod of the roll-out is not ready", stateful(3, 4, lastOne), []spoken{{"statefulset_stalled", 15 * time.Minute}}},
		{"none is ready during the roll-out", stateful(0, 1), []spoken{{"statefulset_stalled", 15 * time.Minute}}},
		{"the roll-out has the next pod yet to replace", stateful(4, 1), nil},
		{"none is ready", stateful(0, 4), []spoken{{"statefulset_unavailable", 5 * time.Minute}}},
		{"one is missing", stateful(3, 4), []spoken{{"statefulset_degraded", 15 * time.Minute}}},
		{"one is ready, and not for long enough", stateful(4, 4, warming), []spoken{{"statefulset_degraded", 15 * time.Minute}}},
		{"replaced on deletion only: no roll-out waits", stateful(4, 1, onDelete), nil},
		{"replaced on deletion only, one is missing", stateful(3, 1, onDelete), []spoken{{"statefulset_degraded", 15 * time.Minute}}},
		{"replaced on deletion only, none is ready", stateful(0, 1, onDelete), []spoken{{"statefulset_unavailable", 5 * time.Minute}}},
		{"as far as its partition allows", stateful(4, 1, partitioned(3)), nil},
		{"as far as its partition allows, one is missing", stateful(3, 1, partitioned(3)), []spoken{{"statefulset_degraded", 15 * time.Minute}}},
		{"not as far as its partition allows", stateful(3, 1, partitioned(2)), []spoken{{"statefulset_stalled", 15 * time.Minute}}},
		{"a partition beyond its replicas", stateful(4, 0, partitioned(9)), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []spoken
			for _, d := range StatefulSets {
				for _, f := range d.Find(tt.set, Facts{Now: noon}) {
					got = append(got, spoken{d.Name, f.Hold})
					if d.Well(tt.set, "") {
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

func TestStalledRolloutOfAStatefulSetIsToldWithItsRevisions(t *testing.T) {
	want := []Finding{{
		Reason: "RolloutStalled", Hold: 15 * time.Minute,
		Description: "stateful set db made no progress with its roll-out: 3 of 4 replicas ready, 1 of the latest revision",
		Evidence: []heal.Evidence{
			{Path: "status.readyReplicas", Value: "3"},
			{Path: "status.availableReplicas", Value: "3"},
			{Path: "status.updatedReplicas", Value: "1"},
			{Path: "spec.replicas", Value: "4"},
			{Path: "status.currentRevision", Value: "db-1"},
			{Path: "status.updateRevision", Value: "db-2"},
		},
		Metadata: map[string]string{
			"ready": "3", "available": "3", "updated": "1", "desired": "4", "current_revision": "db-1", "update_revision": "db-2",
		},
	}}
	if diff := cmp.Diff(want, statefulSetStalled.Find(stateful(3, 1), Facts{Now: noon})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	for _, d := range []Detector[*appsv1.StatefulSet]{statefulSetStalled, statefulSetUnavailable, statefulSetDegraded} {
		if !d.Well(stateful(4, 4), "") {
			t.Errorf("%s does not take a set for well of which all is ready", d.Name)
		}
	}
	if !statefulSetStalled.Well(stateful(4, 2), "") {
		t.Error("a roll-out that goes on is taken for stalled")
	}
}

func TestStatefulSetThatChangesOnPurposeIsExcused(t *testing.T) {
	recent, before := noon.Add(-59*time.Second), noon.Add(-time.Minute)
	tests := []struct {
		name   string
		change func(*appsv1.StatefulSet)
		facts  Facts
		want   [3]Excuse // stalled, unavailable, degraded
	}{
		{name: "any other is not", facts: Facts{RolloutSince: before, ScaledSince: before, ProgressSince: before}, want: [3]Excuse{None, None, None}},
		{name: "just changed", facts: Facts{RolloutSince: recent}, want: [3]Excuse{Masked, Masked, Masked}},
		{name: "just scaled", facts: Facts{ScaledSince: recent}, want: [3]Excuse{Masked, Masked, Masked}},
		{name: "one pod after the other: it came further", facts: Facts{ProgressSince: recent}, want: [3]Excuse{Masked, Masked, Masked}},
		{name: "one is missing while nodes are drained", facts: Facts{Draining: true}, want: [3]Excuse{None, None, Masked}},
		{name: "deleted", change: func(s *appsv1.StatefulSet) { s.DeletionTimestamp = &metav1.Time{Time: noon} }, want: [3]Excuse{Leaving, Leaving, Leaving}},
		{name: "scaled to zero", change: func(s *appsv1.StatefulSet) { *s.Spec.Replicas = 0 }, want: [3]Excuse{Leaving, Leaving, Leaving}},
		{name: "changed, and not looked at yet", change: func(s *appsv1.StatefulSet) { s.Generation++ }, want: [3]Excuse{Masked, Masked, Masked}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stateful(3, 4)
			if tt.change != nil {
				tt.change(s)
			}
			tt.facts.Now = noon
			got := [3]Excuse{statefulSetStalled.Excuse(s, tt.facts), statefulSetUnavailable.Excuse(s, tt.facts), statefulSetDegraded.Excuse(s, tt.facts)}
			if got != tt.want {
				t.Errorf("excuses %v, want %v", got, tt.want)
			}
		})
	}
}
