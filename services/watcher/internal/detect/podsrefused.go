package detect

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Workloads whose pods the API server refuses to create, and that do not say
// so themselves, as deployments and replica sets do: only a Kubernetes event
// does. Such an event counts while the workload itself shows that pods are
// missing which it has not even created.
var (
	statefulSetRefused = refusedByEvent("stateful set", statefulSetExcused, statefulSetExcuse, uncreatedStateful)
	daemonSetRefused   = refusedByEvent("daemon set", "the daemon set is deleted; its status is of an older generation", daemonTold, uncreatedDaemon)
	jobRefused         = refusedByEvent("job", "the job is deleted, suspended or finished", jobRunning, uncreatedJob)
)

// uncreated is how many pods a workload should have, and has created.
type uncreated struct {
	want, have int32
	path       string // the field that says how many it has
}

func (u uncreated) lacks() bool { return u.have < u.want }

func uncreatedStateful(s *appsv1.StatefulSet) uncreated {
	return uncreated{desiredStateful(s), s.Status.Replicas, "status.replicas"}
}

func uncreatedDaemon(d *appsv1.DaemonSet) uncreated {
	return uncreated{d.Status.DesiredNumberScheduled, d.Status.CurrentNumberScheduled, "status.currentNumberScheduled"}
}

// uncreatedJob counts as the job's controller does: as many at once as it may,
// and no more than are left to be done.
func uncreatedJob(j *batchv1.Job) uncreated {
	want := int32(1)
	if j.Spec.Parallelism != nil {
		want = *j.Spec.Parallelism
	}
	if j.Spec.Completions != nil {
		want = min(want, *j.Spec.Completions-j.Status.Succeeded)
	}
	return uncreated{want, j.Status.Active, "status.active"}
}

func daemonTold(d *appsv1.DaemonSet, facts Facts) Excuse { return daemonSetExcuse(d, 0, facts) }

func jobRunning(j *batchv1.Job, _ Facts) Excuse {
	finished := slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete
	})
	if j.DeletionTimestamp != nil || finished || j.Status.CompletionTime != nil || j.Spec.Suspend != nil && *j.Spec.Suspend {
		return Leaving
	}
	return None
}

func refusedByEvent[T metav1.Object](kind, excused string, excuse func(T, Facts) Excuse, of func(T) uncreated) Detector[T] {
	return Detector[T]{
		Name: joined(kind) + "_refused",
		Row:  "W2",
		Type: heal.DeploymentFailure,

		Reasons: []string{failedCreate},
		Hold:    "2 min",
		Excused: excused + "; all of its pods were created; its namespace is being deleted",

		Find: func(obj T, facts Facts) []Finding {
			e, refused := toldRefusal(of(obj), facts)
			if !refused {
				return nil
			}
			return []Finding{eventRefusal(kind, obj.GetName(), of(obj), e)}
		},
		Excuse: excuse,
		Well:   func(obj T, _ string) bool { return !of(obj).lacks() },
	}
}

// toldRefusal is the event that says why pods are missing.
func toldRefusal(u uncreated, facts Facts) (*Event, bool) {
	e := facts.event(failedCreate, "")
	return e, e != nil && u.lacks() && refusalOf(e.Message).by != "namespace"
}

func eventRefusal(kind, name string, u uncreated, e *Event) Finding {
	have, want := strconv.Itoa(int(u.have)), strconv.Itoa(int(u.want))
	f := refusalFinding(refusalOf(e.Message), refusedHold)
	f.Description = fmt.Sprintf("%s %s is refused pods by %s: it has created %s of %s", kind, name, refusalOf(e.Message).words, have, want)
	f.Evidence = []heal.Evidence{{Path: u.path, Value: have}, e.evidence()}
	f.Metadata["created"], f.Metadata["desired"] = have, want
	return f
}

// refusalFinding is what all have in common whose pods are refused.
func refusalFinding(r refusal, hold time.Duration) Finding {
	f := Finding{Reason: failedCreate, Hold: hold, Metadata: map[string]string{"refused_by": r.by}}
	if r.name != "" {
		f.Metadata["refused_by_name"] = r.name
	}
	return f
}

// yielding has nothing of list found while pods of the workload are refused:
// then that is what is wrong with it, and refused speaks.
func yielding[T any](refused Detector[T], list ...Detector[T]) []Detector[T] {
	for i := range list {
		find := list[i].Find
		list[i].Find = func(obj T, facts Facts) []Finding {
			if len(refused.Find(obj, facts)) > 0 {
				return nil
			}
			return find(obj, facts)
		}
		list[i].Excused += "; pods are refused (" + refused.Name + ")"
	}
	return append(list, refused)
}
