package detect

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func cronJob(schedule string, change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "backup", CreationTimestamp: metav1.Time{Time: noon.Add(-30 * 24 * time.Hour)}},
		Spec:       batchv1.CronJobSpec{Schedule: schedule},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func ran(ago time.Duration) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Status.LastScheduleTime = &metav1.Time{Time: noon.Add(-ago)} }
}

func createdAgo(ago time.Duration) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.CreationTimestamp.Time = noon.Add(-ago) }
}

func in(zone string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) { c.Spec.TimeZone = &zone }
}

func TestCronJobThatDidNotRunTwiceIsFound(t *testing.T) {
	tests := []struct {
		name    string
		cronJob *batchv1.CronJob
		waiting time.Duration // since when its spec is as it is; 0: for longer than we know
		want    string        // the run that was due first; empty for no finding
	}{
		{"hourly, ran an hour ago", cronJob("0 * * * *", ran(time.Hour)), 0, ""},
		{"hourly, one run is missing", cronJob("30 * * * *", ran(90*time.Minute)), 0, ""},
		{"hourly, two runs are missing", cronJob("0 * * * *", ran(2*time.Hour)), 0, "2026-11-22T11:00:00Z"},
		{"never ran, created just now", cronJob("0 * * * *", createdAgo(time.Minute)), 0, ""},
		{"never ran, created two periods ago", cronJob("0 * * * *", createdAgo(2*time.Hour)), 0, "2026-11-22T11:00:00Z"},
		{"resumed or changed just now", cronJob("0 * * * *", ran(90*time.Hour)), time.Minute, ""},
		{"resumed two periods ago", cronJob("0 * * * *", ran(90*time.Hour)), 2 * time.Hour, "2026-11-22T11:00:00Z"},
		{"at intervals", cronJob("@every 10m", ran(20*time.Minute)), 0, "2026-11-22T11:50:00Z"},
		{"at intervals, in time", cronJob("@every 10m", ran(19*time.Minute)), 0, ""},
		{"daily, by name", cronJob("@daily", ran(60*time.Hour)), 0, "2026-11-21T00:00:00Z"},
		{"on weekdays, over the weekend", cronJob("0 9 * * 1-5", ran(2*24*time.Hour+3*time.Hour)), 0, ""},
		{"weekly", cronJob("0 0 * * 0", ran(7*24*time.Hour)), 0, ""},
		{"elsewhere it is not due yet", cronJob("0 13 * * *", in("Europe/Berlin"), ran(24*time.Hour-time.Minute)), 0, ""},
		{"elsewhere it is", cronJob("0 13 * * *", in("Europe/Berlin"), ran(48*time.Hour-time.Minute)), 0, "2026-11-21T12:00:00Z"},
		{"a zone in the schedule itself", cronJob("CRON_TZ=Asia/Tokyo 0 21 * * *", ran(48*time.Hour-time.Minute)), 0, "2026-11-21T12:00:00Z"},
		{"on a day that never comes", cronJob("59 23 31 2 *", ran(1000*time.Hour)), 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			schedule, err := ReadSchedule(tt.cronJob, time.LoadLocation)
			if err != nil {
				t.Fatal(err)
			}
			facts := Facts{Now: noon, Schedule: schedule}
			if tt.waiting > 0 {
				facts.WaitingSince = noon.Add(-tt.waiting)
			}
			got := ""
			for _, f := range cronJobMissed.Find(tt.cronJob, facts) {
				got += f.Metadata["due"]
			}
			if got != tt.want {
				t.Errorf("due first %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMissedRunIsToldWithTheScheduleAndTheLastRun(t *testing.T) {
	c := cronJob("0 * * * *", ran(3*time.Hour), in("Etc/UTC"))
	schedule, err := ReadSchedule(c, time.LoadLocation)
	if err != nil {
		t.Fatal(err)
	}
	want := []Finding{{
		Reason: "RunsMissed", Hold: time.Minute,
		Description: "cron job backup does not run: it was due at 2026-11-22T10:00:00Z and again at 2026-11-22T11:00:00Z, and last started 2026-11-22T09:00:00Z",
		Evidence: []heal.Evidence{
			{Path: "spec.schedule", Value: "0 * * * *"},
			{Path: "spec.timeZone", Value: "Etc/UTC"},
			{Path: "status.lastScheduleTime", Value: "2026-11-22T09:00:00Z"},
		},
		Metadata: map[string]string{"schedule": "0 * * * *", "time_zone": "Etc/UTC", "due": "2026-11-22T10:00:00Z", "last_run": "2026-11-22T09:00:00Z"},
	}}
	if diff := cmp.Diff(want, cronJobMissed.Find(c, Facts{Now: noon, Schedule: schedule})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestScheduleThatNobodyCanReadIsAFailureAndWhatWeDoNotKnowIsNone(t *testing.T) {
	for _, spec := range []string{
		"", "* *", "99 * * * *", "@sometimes", "@every", "@every x", "TZ=", "TZ=UTC", "CRON_TZ=UTC", "TZ= ", "\x00", "*/0 * * * *",
	} {
		if s, err := ReadSchedule(cronJob(spec), time.LoadLocation); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("%.20q: schedule %v, error %v; want that it cannot be read", spec, s, err)
		}
	}
	for _, c := range []*batchv1.CronJob{
		cronJob("0 * * * *", in("Mars/Olympus")), cronJob("TZ=../../etc/passwd 0 * * * *"), cronJob("CRON_TZ=Nowhere 0 * * * *"),
		cronJob(strings.Repeat("*,", 1000) + "* * * * *"),
	} {
		if s, err := ReadSchedule(c, time.LoadLocation); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: schedule %v, error %v; want that it is not known here", c.Spec.Schedule, s, err)
		}
	}
	want := []Finding{{
		Reason: "UnparseableSchedule", Hold: time.Minute,
		Description: `cron job backup never runs: its schedule "99 * * * *" cannot be read`,
		Evidence:    []heal.Evidence{{Path: "spec.schedule", Value: "99 * * * *"}},
		Metadata:    map[string]string{"schedule": "99 * * * *"},
	}}
	if diff := cmp.Diff(want, cronJobMissed.Find(cronJob("99 * * * *"), Facts{Now: noon, Unparseable: true})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if got := cronJobMissed.Find(cronJob("0 * * * *", in("Mars/Olympus")), Facts{Now: noon}); got != nil {
		t.Errorf("found %+v in a zone that we do not know", got)
	}
}

func TestCronJobThatIsNotToRunNowIsExcused(t *testing.T) {
	yes := true
	active := func(c *batchv1.CronJob) { c.Status.Active = make([]corev1.ObjectReference, 1) }
	forbid := func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = batchv1.ForbidConcurrent }
	for name, tt := range map[string]struct {
		cronJob *batchv1.CronJob
		want    Excuse
	}{
		"any other is not":                      {cronJob("0 * * * *"), None},
		"suspended":                             {cronJob("0 * * * *", func(c *batchv1.CronJob) { c.Spec.Suspend = &yes }), Leaving},
		"not suspended":                         {cronJob("0 * * * *", func(c *batchv1.CronJob) { c.Spec.Suspend = new(bool) }), None},
		"deleted":                               {cronJob("0 * * * *", func(c *batchv1.CronJob) { c.DeletionTimestamp = &metav1.Time{Time: noon} }), Leaving},
		"a run still goes on, and forbids more": {cronJob("0 * * * *", forbid, active), Masked},
		"none goes on":                          {cronJob("0 * * * *", forbid), None},
		"a run goes on, and allows more":        {cronJob("0 * * * *", active), None},
	} {
		if got := cronJobMissed.Excuse(tt.cronJob, Facts{Now: noon}); got != tt.want {
			t.Errorf("%s: excuse %v, want %v", name, got, tt.want)
		}
	}
}
