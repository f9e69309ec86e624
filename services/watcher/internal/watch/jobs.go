package watch

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var jobs = kind{
	Version:    "batch/v1",
	Kind:       "Job",
	Group:      "batch",
	Resource:   "jobs",
	Namespaced: true,
	New:        func() object { return new(batchv1.Job) },
	Slim:       slimJob,
	Open:       openJobs,
}

func openJobs(w *Watcher, k kind) view {
	d := detectors[*batchv1.Job]{
		kind: k,
		list: detect.Jobs,
		node: func(*batchv1.Job) string { return "" },
	}
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			facts := detect.Facts{Now: now, Thresholds: w.cfg.Thresholds, Events: w.notes.of(string(obj.GetUID()), now)}
			facts.Succeeded, facts.CronJobKnown = w.succeeded(obj)
			return d.judge(obj.(*batchv1.Job), facts, tracked)
		},
		change: func(_ metav1.Object, _ bool, _ time.Time) {}, // a job says all of itself
		forget: w.notes.forget,
	}
}

// succeeded is when a run of the cron job that made a job last did; zero for
// never. Known is false as long as cron jobs have not been read.
func (w *Watcher) succeeded(job metav1.Object) (at time.Time, known bool) {
	owner := metav1.GetControllerOfNoCopy(job)
	if owner == nil || owner.Kind != cronJobs.Kind {
		return time.Time{}, true
	}
	c, ok := w.find(cronJobs.Version, cronJobs.Kind, job.GetNamespace(), owner.Name).(*batchv1.CronJob)
	if !ok {
		return time.Time{}, w.read(cronJobs.Version, cronJobs.Kind) // then it is gone
	}
	if c.Status.LastSuccessfulTime == nil {
		return time.Time{}, true
	}
	return c.Status.LastSuccessfulTime.Time, true
}

// slimJob keeps of a job what detectors read; above all no pod template.
func slimJob(obj any) any {
	j, ok := obj.(*batchv1.Job)
	if !ok {
		return obj
	}
	slim := &batchv1.Job{
		ObjectMeta: slimMeta(j.ObjectMeta),
		Spec:       batchv1.JobSpec{Parallelism: j.Spec.Parallelism, Completions: j.Spec.Completions, Suspend: j.Spec.Suspend},
		Status: batchv1.JobStatus{
			Failed: j.Status.Failed, Succeeded: j.Status.Succeeded, Active: j.Status.Active, CompletionTime: j.Status.CompletionTime,
		},
	}
	for _, c := range j.Status.Conditions {
		if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
			slim.Status.Conditions = append(slim.Status.Conditions, batchv1.JobCondition{
				Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message), LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	return slim
}
