package watch

import (
	"errors"
	"time"
	_ "time/tzdata" // of the zones that schedules are in: an image may have none

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var cronJobs = kind{
	Version:    "batch/v1",
	Kind:       "CronJob",
	Group:      "batch",
	Resource:   "cronjobs",
	Namespaced: true,
	Keep:       true, // failed jobs are judged by it, and it itself by the time
	New:        func() object { return new(batchv1.CronJob) },
	Slim:       slimCronJob,
	Open:       openCronJobs,
}

func openCronJobs(w *Watcher, k kind) view {
	d := detectors[*batchv1.CronJob]{
		kind: k,
		list: detect.CronJobs,
		node: func(*batchv1.CronJob) string { return "" },
	}
	plans := map[string]plan{} // by UID
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			c, p := obj.(*batchv1.CronJob), plans[string(obj.GetUID())]
			sightings := d.judge(c, detect.Facts{
				Now:          now,
				Thresholds:   w.cfg.Thresholds,
				Schedule:     p.schedule,
				Unparseable:  p.unparseable,
				WaitingSince: p.since,
			}, tracked)
			return append(sightings, awaited(c, p.schedule != nil && !detect.Suspended(c)))
		},
		change: func(obj metav1.Object, _ bool, now time.Time) {
			c := obj.(*batchv1.CronJob)
			was, known := plans[string(c.UID)]
			if known && was.generation == c.Generation {
				return
			}
			is := readPlan(c)
			if known {
				is.since = now
			}
			plans[string(c.UID)] = is
		},
		forget: func(uid string) { delete(plans, uid) },
	}
}

// A plan is when a cron job is to run.
type plan struct {
	generation  int64
	since       time.Time // when we saw it change; zero if it has not since we first saw it
	schedule    detect.Schedule
	unparseable bool
}

func readPlan(c *batchv1.CronJob) plan {
	schedule, err := detect.ReadSchedule(c, time.LoadLocation)
	return plan{
		generation: c.Generation, schedule: schedule,
		unparseable: err != nil && !errors.Is(err, detect.ErrUnknown),
	}
}

// awaited keeps a cron job being looked at: that it does not run changes
// nothing about it, so that nothing else would have it judged.
func awaited(c *batchv1.CronJob, waits bool) episode.Sighting {
	s := episode.Sighting{Key: episode.Key{UID: string(c.UID), Detector: "awaited"}, State: episode.Well}
	if waits {
		s.State = episode.Excused // what is excused is looked at again, and never told
	}
	return s
}

// slimCronJob keeps of a cron job what detectors read; above all no template.
func slimCronJob(obj any) any {
	c, ok := obj.(*batchv1.CronJob)
	if !ok {
		return obj
	}
	slim := &batchv1.CronJob{
		ObjectMeta: slimMeta(c.ObjectMeta),
		Spec: batchv1.CronJobSpec{
			Schedule: clip(c.Spec.Schedule), Suspend: c.Spec.Suspend, ConcurrencyPolicy: c.Spec.ConcurrencyPolicy,
		},
		Status: batchv1.CronJobStatus{
			LastScheduleTime: c.Status.LastScheduleTime, LastSuccessfulTime: c.Status.LastSuccessfulTime,
		},
	}
	if c.Spec.TimeZone != nil {
		zone := clip(*c.Spec.TimeZone)
		slim.Spec.TimeZone = &zone
	}
	if len(c.Status.Active) > 0 { // how many matters, not which
		slim.Status.Active = make([]corev1.ObjectReference, 1)
	}
	return slim
}
