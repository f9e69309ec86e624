package detect

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// cronJobMissed finds cron jobs that should have run twice by now and did not
// once, and those that can never run.
var cronJobMissed = Detector[*batchv1.CronJob]{
	Name: "cronjob_missed",
	Row:  "W9",
	Type: heal.DeploymentFailure,

	Reasons: []string{"RunsMissed", "UnparseableSchedule"},
	Hold:    "two periods of its schedule + 1 min",
	Excused: "the cron job is deleted or suspended, or was until then; a run is still active and forbids another (concurrencyPolicy); " +
		"its time zone is not known here",

	Find:   findMissed,
	Excuse: cronJobExcuse,
}

// missedHold is what the controller may take to start a run that is due, and
// what clocks may differ by.
const missedHold = time.Minute

func findMissed(c *batchv1.CronJob, facts Facts) []Finding {
	evidence := []heal.Evidence{{Path: "spec.schedule", Value: c.Spec.Schedule}}
	metadata := map[string]string{"schedule": c.Spec.Schedule}
	if c.Spec.TimeZone != nil {
		evidence = append(evidence, heal.Evidence{Path: "spec.timeZone", Value: *c.Spec.TimeZone})
		metadata["time_zone"] = *c.Spec.TimeZone
	}
	if facts.Unparseable {
		return []Finding{{
			Reason: "UnparseableSchedule", Hold: missedHold,
			Description: fmt.Sprintf("cron job %s never runs: its schedule %q cannot be read", c.Name, c.Spec.Schedule),
			Evidence:    evidence, Metadata: metadata,
		}}
	}
	if facts.Schedule == nil {
		return nil
	}
	from := c.CreationTimestamp.Time
	last := "never"
	if t := c.Status.LastScheduleTime; t != nil {
		from = t.Time
		last = t.UTC().Format(time.RFC3339)
		evidence = append(evidence, heal.Evidence{Path: "status.lastScheduleTime", Value: last})
	}
	if facts.WaitingSince.After(from) {
		from = facts.WaitingSince
	}
	first := facts.Schedule.Next(from)
	second := facts.Schedule.Next(first)
	if first.IsZero() || second.IsZero() || facts.Now.Before(second) { // zero: on no day of the next five years
		return nil
	}
	metadata["due"] = first.UTC().Format(time.RFC3339)
	metadata["last_run"] = last
	return []Finding{{
		Reason: "RunsMissed", Hold: missedHold,
		Description: fmt.Sprintf("cron job %s does not run: it was due at %s and again at %s, and last started %s",
			c.Name, metadata["due"], second.UTC().Format(time.RFC3339), last),
		Evidence: evidence, Metadata: metadata,
	}}
}

func cronJobExcuse(c *batchv1.CronJob, _ Facts) Excuse {
	switch {
	case c.DeletionTimestamp != nil, Suspended(c):
		return Leaving
	case c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(c.Status.Active) > 0:
		return Masked
	}
	return None
}

// Suspended reports whether a cron job is not to run.
func Suspended(c *batchv1.CronJob) bool { return c.Spec.Suspend != nil && *c.Spec.Suspend }

// A Schedule says when a cron job is to run next after a time; the zero time
// if it never is.
type Schedule interface {
	Next(after time.Time) time.Time
}

// ErrUnknown says that a schedule is of a time zone that we do not know, or
// longer than we read. Its controller may understand it.
var ErrUnknown = errors.New("not known here")

// maxSchedule is the longest schedule that is read: what is kept of an object
// is bounded, and half a schedule is another one.
const maxSchedule = 200

// ReadSchedule reads a cron job's schedule as its controller does. One without
// a time zone is in the controller's own, which is taken to be UTC. The zone
// is looked up by load.
func ReadSchedule(c *batchv1.CronJob, load func(name string) (*time.Location, error)) (Schedule, error) {
	spec, zone := c.Spec.Schedule, ""
	if len(spec) > maxSchedule {
		return nil, fmt.Errorf("schedule of %d bytes: %w", len(spec), ErrUnknown)
	}
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	// The library reads such a prefix too, but panics if nothing follows it.
	for _, prefix := range []string{"TZ=", "CRON_TZ="} {
		if rest, found := strings.CutPrefix(spec, prefix); found {
			zone, spec, _ = strings.Cut(rest, " ")
		}
	}
	where := time.UTC
	if zone != "" {
		var err error
		if where, err = load(zone); err != nil {
			return nil, fmt.Errorf("time zone: %w: %w", ErrUnknown, err)
		}
	}
	s, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("read schedule %q: %w", c.Spec.Schedule, err)
	}
	return local{s, where}, nil
}

// local is a schedule in a place.
type local struct {
	cron.Schedule
	where *time.Location
}

func (l local) Next(after time.Time) time.Time { return l.Schedule.Next(after.In(l.where)) }
