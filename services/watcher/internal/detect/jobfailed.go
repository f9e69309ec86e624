package detect

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// jobFailed finds jobs that have failed for good. Whether one may be run again
// is not for us to know: it may have paid somebody.
var jobFailed = Detector[*batchv1.Job]{
	Name: "job_failed",
	Row:  "W8",
	Type: heal.DeploymentFailure,

	Reasons: append(slices.Clone(jobReasons), "JobFailed"),
	Hold:    "none",
	Excused: "the job is deleted; it failed more than 24 h ago; a later run of its cron job has succeeded, or that cron job has not been read yet",

	Find:   findJobFailed,
	Excuse: jobExcuse,
}

var jobReasons = []string{
	batchv1.JobReasonBackoffLimitExceeded,
	batchv1.JobReasonDeadlineExceeded,
	batchv1.JobReasonPodFailurePolicy,
	batchv1.JobReasonMaxFailedIndexesExceeded,
	batchv1.JobReasonFailedIndexes,
}

// jobNews is how long a failed job is news. It stays in the cluster until
// somebody deletes it, and nothing can make it well.
const jobNews = 24 * time.Hour

func failedCondition(j *batchv1.Job) (int, *batchv1.JobCondition) {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
			return i, c
		}
	}
	return -1, nil
}

func findJobFailed(j *batchv1.Job, _ Facts) []Finding {
	i, c := failedCondition(j)
	if c == nil {
		return nil
	}
	path := fmt.Sprintf("status.conditions[%d]", i)
	f := Finding{
		Reason:      "JobFailed",
		Description: fmt.Sprintf("job %s failed after %s of its pods had: %s", j.Name, strconv.Itoa(int(j.Status.Failed)), c.Reason),
		Evidence: []heal.Evidence{
			{Path: path + ".status", Value: string(c.Status)},
			{Path: path + ".reason", Value: c.Reason},
		},
		Metadata: map[string]string{"failed": strconv.Itoa(int(j.Status.Failed)), "succeeded": strconv.Itoa(int(j.Status.Succeeded))},
	}
	if slices.Contains(jobReasons, c.Reason) {
		f.Reason = c.Reason
	}
	if c.Message != "" {
		f.Description += ": " + c.Message
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: c.Message})
	}
	f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.failed", Value: f.Metadata["failed"]})
	return []Finding{f}
}

func jobExcuse(j *batchv1.Job, facts Facts) Excuse {
	_, c := failedCondition(j)
	if j.DeletionTimestamp != nil || c != nil &&
		(facts.Now.Sub(c.LastTransitionTime.Time) >= jobNews || facts.Succeeded.After(c.LastTransitionTime.Time)) {
		return Leaving
	}
	if !facts.CronJobKnown { // just after our start
		return Masked
	}
	return None
}
