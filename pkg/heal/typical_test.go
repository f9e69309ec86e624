package heal

import "time"

// The values that the other tests start from: one failing pod, from first
// sight to word of it.

var noon = time.Date(2026, 11, 22, 12, 19, 22, 104e6, time.UTC)

func typicalFailure() Failure {
	pod := Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "checkout-7d9f6c-x2kpl", UID: "0f3c1a52-0000-4000-8000-000000000001", ResourceVersion: "88213"}
	owner := Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "9b1e77d0-0000-4000-8000-000000000002"}
	return Failure{
		Type: PodFailure, Reason: "CrashLoopBackOff", Severity: Medium,
		ResourceName: pod.Name, Namespace: pod.Namespace,
		Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1",
		Timestamp:   Unix{noon},
		Target:      pod, Owner: owner, Node: "ip-10-0-3-17.eu-west-1.compute.internal", Detector: "crash_loop",
		Fingerprint: MakeFingerprint(PodFailure, pod, owner, "api", "CrashLoopBackOff"),
		EpisodeID:   MakeEpisodeID("default", pod.UID, "crash_loop", "api", noon),
		Occurrence:  1, FirstSeen: noon,
		Evidence: []Evidence{{Path: "status.containerStatuses[0].restartCount", Value: "7"}},
		Metadata: map[string]string{"exit_code": "1"},
	}
}

func typicalDecision() Decision {
	f := typicalFailure()
	return Decision{
		ID: MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type,
		Severity: High, BaseSeverity: Medium, SimilarFailures: 2,
		Strategy: Recreate, ActionType: f.Type.ActionType(), Mode: ModeAuto, Reason: ReasonSeverityTable,
		Expires: noon.Add(5 * time.Minute), Target: f.Target, Parameters: map[string]string{},
		Cause:       Cause{Kind: CauseUnknown},
		Policy:      PolicyRef{Name: "default", Revision: "sha256:00", Rule: "pod_failure/high"},
		Guards:      []Verdict{{Name: "cooldown", Allowed: true, Detail: "no action on it in the last 60 s"}},
		Explanation: Explanation{Summary: "recreate", Steps: []string{"2 similar failures in 1h0m0s: high"}},
		Failure:     f,
	}
}

func typicalResult() Result {
	return Result{
		Decision: typicalDecision(), Outcome: Succeeded, Reason: "Verified", Message: "checkout-7d9f6c-9fjq2 is Ready",
		Attempt: 1, StartedAt: noon.Add(time.Second), Duration: 29.34,
		Steps:        []Step{{Name: "evict", Status: StepOK, Milliseconds: 41}},
		Verification: &Verification{Passed: true, Checks: []Check{{Name: "replacement_ready", Passed: true, Observed: "Ready for 10s"}}},
	}
}

func typicalNotification() Notification {
	return Notification{Channel: "slack", To: "#incidents", Severity: High, Result: typicalResult()}
}
