package detect

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// told are the facts when Kubernetes has said of late that pods are refused.
func told(message string) Facts {
	return Facts{Now: noon, Events: []Event{{Reason: "FailedCreate", Message: message, At: noon.Add(-time.Minute)}}}
}

func spoke[T any](list []Detector[T], obj T, facts Facts) []string {
	var all []string
	for _, d := range list {
		if len(d.Find(obj, facts)) > 0 && d.Excuse(obj, facts) == None {
			all = append(all, d.Name)
		}
	}
	slices.Sort(all)
	return all
}

func TestStatefulSetWhosePodsAreRefusedIsFoundOnce(t *testing.T) {
	three := int32(3)
	set := func(created int32) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: &three},
			Status: appsv1.StatefulSetStatus{Replicas: created, ReadyReplicas: created, AvailableReplicas: created}}
	}
	message := `create Pod db-1 in StatefulSet db failed error: pods "db-1" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2`
	want := []Finding{{
		Reason: "FailedCreate", Hold: 2 * time.Minute,
		Description: "stateful set db is refused pods by a quota: it has created 1 of 3",
		Evidence: []heal.Evidence{
			{Path: "status.replicas", Value: "1"},
			{Path: `events[?(@.reason=="FailedCreate")].message`, Value: message},
		},
		Metadata: map[string]string{"refused_by": "quota", "refused_by_name": "few", "created": "1", "desired": "3"},
	}}
	if diff := cmp.Diff(want, statefulSetRefused.Find(set(1), told(message))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	old := told(message)
	old.Events[0].At = noon.Add(-EventWindow)
	for name, tt := range map[string]struct {
		created int32
		facts   Facts
		want    []string
	}{
		"refused, and nothing is ready":      {0, told(message), []string{"statefulset_refused"}},
		"refused, and some are ready":        {1, told(message), []string{"statefulset_refused"}},
		"all were created after all":         {3, told(message), nil},
		"nobody said so":                     {1, Facts{Now: noon}, []string{"statefulset_degraded"}},
		"somebody said so long ago":          {1, old, []string{"statefulset_degraded"}},
		"its namespace is being deleted":     {1, told(`unable to create new content in namespace shop because it is being terminated`), []string{"statefulset_degraded"}},
		"nothing is ready, and nobody knows": {0, Facts{Now: noon}, []string{"statefulset_unavailable"}},
	} {
		if diff := cmp.Diff(tt.want, spoke(StatefulSets, set(tt.created), tt.facts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if statefulSetRefused.Well(set(2), "") || !statefulSetRefused.Well(set(3), "") {
		t.Error("it is well before all pods are created, or not then")
	}
}

func TestDaemonSetWhosePodsAreRefusedIsFoundOnce(t *testing.T) {
	set := func(created int32) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent"},
			Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 3, CurrentNumberScheduled: created, UpdatedNumberScheduled: created, NumberAvailable: created, NumberUnavailable: 3 - created}}
	}
	facts := told(`Error creating: pods "agent-" is forbidden: violates PodSecurity "restricted:latest": hostPath`)
	for created, want := range map[int32][]string{1: {"daemonset_refused"}, 3: nil} {
		if diff := cmp.Diff(want, spoke(DaemonSets, set(created), facts)); diff != "" {
			t.Errorf("%d created (-want +got):\n%s", created, diff)
		}
	}
	deleted := set(1)
	deleted.DeletionTimestamp = &metav1.Time{Time: noon}
	if got := spoke(DaemonSets, deleted, facts); got != nil {
		t.Errorf("deleted: %v", got)
	}
}

func TestJobWhosePodsAreRefusedIsFound(t *testing.T) {
	job := func(change func(*batchv1.Job)) *batchv1.Job {
		two, three := int32(2), int32(3)
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "import"}, Spec: batchv1.JobSpec{Parallelism: &two, Completions: &three}}
		change(j)
		return j
	}
	yes := true
	facts := told(`Error creating: pods "import-" is forbidden: error looking up service account shop/robot: serviceaccount "robot" not found`)
	for name, tt := range map[string]struct {
		change func(*batchv1.Job)
		want   []string
	}{
		"none was created":             {func(*batchv1.Job) {}, []string{"job_refused"}},
		"as many run as may":           {func(j *batchv1.Job) { j.Status.Active = 2 }, nil},
		"the last one runs":            {func(j *batchv1.Job) { j.Status.Active, j.Status.Succeeded = 1, 2 }, nil},
		"the last one was not created": {func(j *batchv1.Job) { j.Status.Succeeded = 2 }, []string{"job_refused"}},
		"it is suspended":              {func(j *batchv1.Job) { j.Spec.Suspend = &yes }, nil},
		"it is complete":               {func(j *batchv1.Job) { j.Status.CompletionTime = &metav1.Time{Time: noon} }, nil},
		"it has given up (job_failed)": {func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionFalse}}
		}, nil},
		"it wants one, and says nothing of it": {func(j *batchv1.Job) { j.Spec = batchv1.JobSpec{} }, []string{"job_refused"}},
	} {
		if diff := cmp.Diff(tt.want, spoke([]Detector[*batchv1.Job]{jobRefused}, job(tt.change), facts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestBareReplicaSetIsFoundByTheFirstThatFits(t *testing.T) {
	set := func(ready int32, change func(*appsv1.ReplicaSet)) *appsv1.ReplicaSet {
		four := int32(4)
		r := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web", Generation: 1}, Spec: appsv1.ReplicaSetSpec{Replicas: &four},
			Status: appsv1.ReplicaSetStatus{ObservedGeneration: 1, ReadyReplicas: ready, AvailableReplicas: ready}}
		change(r)
		return r
	}
	as := func(*appsv1.ReplicaSet) {}
	yes, none := true, int32(0)
	refusing := func(message string) func(*appsv1.ReplicaSet) {
		return func(r *appsv1.ReplicaSet) {
			r.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: message}}
		}
	}
	long, now := noon.Add(-time.Hour), noon
	for name, tt := range map[string]struct {
		of    *appsv1.ReplicaSet
		facts Facts
		want  []string
	}{
		"all is well":                  {set(4, as), Facts{Now: now}, nil},
		"some are missing":             {set(3, as), Facts{Now: now}, []string{"replicaset_degraded"}},
		"some are missing, in a drain": {set(3, as), Facts{Now: now, Draining: true, RolloutSince: long, ScaledSince: long, ProgressSince: long}, nil},
		"scaled a moment ago":          {set(3, as), Facts{Now: now, ScaledSince: now}, nil},
		"none is ready":                {set(0, as), Facts{Now: now}, []string{"replicaset_unavailable"}},
		"scaled to zero":               {set(0, func(r *appsv1.ReplicaSet) { r.Spec.Replicas = &none }), Facts{Now: now}, nil},
		"deleted":                      {set(0, func(r *appsv1.ReplicaSet) { r.DeletionTimestamp = &metav1.Time{Time: noon} }), Facts{Now: now}, nil},
		"another controls it": {set(0, func(r *appsv1.ReplicaSet) {
			r.OwnerReferences = []metav1.OwnerReference{{Kind: "Rollout", Name: "web", Controller: &yes}}
		}), Facts{Now: now}, nil},
		"a quota refuses its pods":          {set(2, refusing(overQuota)), Facts{Now: now}, []string{"replicaset_refused"}},
		"refused as its namespace goes":     {set(4, refusing(`unable to create new content in namespace shop because it is being terminated`)), Facts{Now: now}, nil},
		"nobody takes in its latest change": {set(0, func(r *appsv1.ReplicaSet) { r.Generation = 2 }), Facts{Now: now}, []string{"replicaset_unobserved"}},
		"nobody takes in that of a Rollout's": {set(0, func(r *appsv1.ReplicaSet) {
			r.Generation, r.OwnerReferences = 2, []metav1.OwnerReference{{Kind: "Rollout", Name: "web", Controller: &yes}}
		}), Facts{Now: now}, nil},
	} {
		if diff := cmp.Diff(tt.want, spoke(ReplicaSets, tt.of, tt.facts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	want := []Finding{{
		Reason: "NoReplicasReady", Hold: 5 * time.Minute, Description: "replica set web serves nothing: 0 of 4 replicas ready",
		Evidence: []heal.Evidence{{Path: "status.readyReplicas", Value: "0"}, {Path: "status.availableReplicas", Value: "0"}, {Path: "spec.replicas", Value: "4"}},
		Metadata: map[string]string{"ready": "0", "available": "0", "desired": "4"},
	}}
	if diff := cmp.Diff(want, replicaSetUnavailable.Find(set(0, as), Facts{Now: now})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
