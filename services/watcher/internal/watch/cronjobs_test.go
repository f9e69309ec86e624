package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// hourly is a cron job that ran at midday, with its view and a book.
type hourly struct {
	*batchv1.CronJob
	view view
	book *episode.Book
}

func newHourly() *hourly {
	h := &hourly{
		CronJob: &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Name: "backup", Namespace: "shop", UID: "uid-cron", Generation: 1},
			Spec:       batchv1.CronJobSpec{Schedule: "0 * * * *"},
		},
		view: openCronJobs(&Watcher{}, cronJobs),
		book: episode.NewBook(episode.Config{Recheck: time.Minute, Max: 10, Schedule: episode.Schedule{First: time.Hour, Limit: time.Hour}}),
	}
	h.ranAt(0)
	return h
}

func (h *hourly) ranAt(after time.Duration) {
	h.Status.LastScheduleTime = &metav1.Time{Time: midday.Add(after)}
}

// change has the book see the cron job as it is now, as after a change of it.
func (h *hourly) change(after time.Duration) {
	now := midday.Add(after)
	h.view.change(h.CronJob, true, now)
	h.look(now)
}

func (h *hourly) look(now time.Time) []episode.Key {
	return h.book.See(now, target(cronJobs, h.CronJob), h.view.judge(h.CronJob, now, h.book.Tracked("uid-cron")))
}

// opened is when an episode begins if nothing changes but the time; zero if
// none has until then.
func (h *hourly) opened(from, until time.Duration) time.Duration {
	for at := from; at <= until; at += time.Minute {
		for range h.book.Due(midday.Add(at)) {
			if keys := h.look(midday.Add(at)); len(keys) > 0 {
				return at
			}
		}
	}
	return 0
}

func TestCronJobThatDoesNotRunIsNoticedThoughNothingHappens(t *testing.T) {
	h := newHourly()
	h.change(time.Second)
	// Due at one and at two. The look after two begins the hold of a minute; its
	// preparation, which comes at once, is the first work there is.
	if got := h.opened(time.Minute, 5*time.Hour); got < 2*time.Hour || got > 2*time.Hour+2*time.Minute {
		t.Errorf("there was something to do after %s, want soon after two hours", got)
	}
	h.ranAt(3 * time.Hour)
	h.change(3 * time.Hour)
	want := []episode.Key{{UID: "uid-cron", Detector: "awaited"}}
	if diff := cmp.Diff(want, h.book.Tracked("uid-cron")); diff != "" {
		t.Errorf("tracked after it ran again (-want +got):\n%s", diff)
	}
}

func TestCronJobThatIsSuspendedIsNotAwaitedAndMayTakeItsTimeWhenItIsResumed(t *testing.T) {
	h := newHourly()
	h.change(time.Second)
	yes := true
	h.Spec.Suspend, h.Generation = &yes, 2
	h.change(time.Minute)
	if tracked := h.book.Tracked("uid-cron"); len(tracked) != 0 {
		t.Errorf("tracked while it is suspended: %v", tracked)
	}
	h.Spec.Suspend, h.Generation = nil, 3
	h.change(10*time.Hour + 30*time.Minute)
	if got := h.opened(10*time.Hour+31*time.Minute, 20*time.Hour); got < 12*time.Hour || got > 12*time.Hour+2*time.Minute {
		t.Errorf("there was something to do after %s, want soon after twelve hours", got)
	}
}

func TestScheduleThatCannotBeReadIsHarmless(t *testing.T) {
	for _, schedule := range []string{"TZ=", "99 99 * * *", ""} {
		h := newHourly()
		h.Spec.Schedule = schedule
		h.change(time.Second)
		if tracked := h.book.Tracked("uid-cron"); len(tracked) != 1 || tracked[0].Detector != "cronjob_missed" {
			t.Errorf("%q: tracked %v, want that it can never run", schedule, tracked)
		}
	}
}
