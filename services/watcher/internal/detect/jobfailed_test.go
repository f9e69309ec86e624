package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func job(conditions ...batchv1.JobCondition) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "pay"}, Status: batchv1.JobStatus{Failed: 3, Succeeded: 1, Conditions: conditions}}
}

func jobCondition(of batchv1.JobConditionType, status corev1.ConditionStatus, reason string, ago time.Duration) batchv1.JobCondition {
	return batchv1.JobCondition{Type: of, Status: status, Reason: reason, LastTransitionTime: metav1.Time{Time: noon.Add(-ago)}}
}

func TestJobThatHasFailedForGoodIsFoundAtOnce(t *testing.T) {
	found := func(reason, says string) []Finding {
		return []Finding{{
			Reason:      reason,
			Description: "job pay failed after 3 of its pods had: " + says,
			Evidence: []heal.Evidence{
				{Path: "status.conditions[1].status", Value: "True"},
				{Path: "status.conditions[1].reason", Value: says},
				{Path: "status.failed", Value: "3"},
			},
			Metadata: map[string]string{"failed": "3", "succeeded": "1"},
		}}
	}
	before := jobCondition(batchv1.JobFailureTarget, corev1.ConditionTrue, "BackoffLimitExceeded", 0)
	for says, want := range map[string]string{
		"BackoffLimitExceeded": "BackoffLimitExceeded", "DeadlineExceeded": "DeadlineExceeded", "PodFailurePolicy": "PodFailurePolicy",
		"MaxFailedIndexesExceeded": "MaxFailedIndexesExceeded", "FailedIndexes": "FailedIndexes", "SomethingNew": "JobFailed",
	} {
		got := jobFailed.Find(job(before, jobCondition(batchv1.JobFailed, corev1.ConditionTrue, says, 0)), Facts{Now: noon})
		if diff := cmp.Diff(found(want, says), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", says, diff)
		}
	}
	for name, j := range map[string]*batchv1.Job{
		"still trying":               job(),
		"its pods are being stopped": job(before),
		"complete":                   job(jobCondition(batchv1.JobComplete, corev1.ConditionTrue, "CompletionsReached", 0)),
		"suspended":                  job(jobCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", 0)),
		"not failed":                 job(jobCondition(batchv1.JobFailed, corev1.ConditionFalse, "", 0)),
	} {
		if got := jobFailed.Find(j, Facts{Now: noon}); got != nil {
			t.Errorf("%s: found %+v, want nothing", name, got)
		}
	}
}

func TestJobThatFailedIsNewsForADayOrUntilTheNextRunSucceeds(t *testing.T) {
	tests := []struct {
		name    string
		ago     time.Duration
		deleted bool
		unknown bool // its cron job
		facts   Facts
		want    Excuse
	}{
		{name: "just failed", want: None},
		{name: "just failed, and its cron job is not known yet", unknown: true, want: Masked},
		{name: "failed a while ago", ago: 24*time.Hour - time.Second, want: None},
		{name: "failed a day ago", ago: 24 * time.Hour, want: Leaving},
		{name: "deleted", deleted: true, want: Leaving},
		{name: "a run before it succeeded", ago: time.Hour, facts: Facts{Succeeded: noon.Add(-2 * time.Hour)}, want: None},
		{name: "a run after it succeeded", ago: time.Hour, facts: Facts{Succeeded: noon.Add(-time.Minute)}, want: Leaving},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job(jobCondition(batchv1.JobFailed, corev1.ConditionTrue, "BackoffLimitExceeded", tt.ago))
			if tt.deleted {
				j.DeletionTimestamp = &metav1.Time{Time: noon}
			}
			tt.facts.Now, tt.facts.CronJobKnown = noon, !tt.unknown
			if got := jobFailed.Excuse(j, tt.facts); got != tt.want {
				t.Errorf("excuse %v, want %v", got, tt.want)
			}
		})
	}
}
