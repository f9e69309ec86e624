package cause

import (
	"fmt"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// rollout is the cause when pods of the newest revision fail and those of
// older ones do not: the pods differ in nothing else. Without older pods that
// work there is nothing to compare with, and nothing to go back to.
func rollout(f Facts) heal.Cause {
	fail := f.Failure
	revision, newest := fail.Metadata["revision"], fail.Metadata["newest_revision"]
	if fail.Type != heal.PodFailure || revision == "" || revision != newest || slices.Contains(notTheTemplates, fail.Reason) {
		return heal.Cause{}
	}
	available, ok := number(fail, "workload_available")
	if !ok {
		return heal.Cause{}
	}
	updated, _ := number(fail, "workload_updated")
	byRevision, _ := f.Group.Failing(f.Now)
	failingNew, failingOld := 0, 0
	for mark, n := range byRevision {
		switch mark {
		case incident.Mark(incident.Revision(fail)):
			failingNew += n
		case "":
		default:
			failingOld += n
		}
	}
	failingNew = max(1, failingNew)
	updated = max(updated, failingNew)
	fine := available - (updated - failingNew) // of older revisions, if all others of the newest are
	if slices.Contains(readyMeanwhile, fail.Reason) {
		fine = available - updated // those that fail are counted as well
	}
	if fine < 1 || failingOld > 0 {
		return heal.Cause{}
	}
	c := heal.Cause{
		Kind: heal.CauseRollout, Confidence: rounded(0.55 + 0.4*float64(failingNew)/float64(updated)),
		Evidence: []string{fmt.Sprintf("%d of %d pods of the newest revision (%s) fail, and none of the %d that are available of older ones",
			failingNew, updated, heal.Clean(revision, 64), fine)},
	}
	if missing := fail.Metadata["missing"]; missing != "" {
		c.Evidence = append(c.Evidence, heal.Clean(missing, 300)+" is missing")
	}
	return c
}

// readyMeanwhile are symptoms of pods that are started again, and may be
// available whenever they are counted.
var readyMeanwhile = []string{"OOMKilled", "OOMKilledOnce", "Restarting", "LivenessProbeFailed"}

// notTheTemplates are symptoms that a pod has for the place that it is in, and
// of which a template of before would suffer as well.
var notTheTemplates = []string{"Unschedulable", "StuckCreating", "StuckTerminating", "Evicted", "MultiAttach"}
