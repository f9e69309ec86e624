// Package sample has typical results for the tests of this module: one of
// each way in which a decision can end.
package sample

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Noon is when the failures of this package are first seen.
var Noon = time.Date(2026, 11, 22, 12, 19, 22, 104e6, time.UTC)

// Failure is a pod of shop/checkout in CrashLoopBackOff.
func Failure() heal.Failure {
	pod := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "checkout-7d9f6c-x2kpl", UID: "0f3c6a1e-5b1d-4c56-8a55-0a2f4d0c9e11"}
	app := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "9b1e44c2-73e0-4f0c-9d6b-64c3c1c6b0aa"}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod.Name, Namespace: pod.Namespace,
		Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1", Timestamp: heal.Unix{Time: Noon},
		Target: pod, Owner: app, Node: "ip-10-0-3-17.eu-west-1.compute.internal", Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, pod, app, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID("test", pod.UID, "crash_loop", "api", Noon),
		Occurrence:  1, FirstSeen: Noon,
		Evidence: []heal.Evidence{{Path: "status.containerStatuses[0].restartCount", Value: "7"}},
	}
}

// Decision is what the default policy says about f at a severity.
func Decision(f heal.Failure, severity heal.Severity, strategy heal.Strategy) heal.Decision {
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type,
		Severity: severity, BaseSeverity: f.Severity, SimilarFailures: 2,
		Strategy: strategy, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: Noon.Add(5 * time.Minute), Target: f.Target, Parameters: map[string]string{},
		Cause:  heal.Cause{Kind: heal.CauseUnknown},
		Policy: heal.PolicyRef{Name: "default", Revision: "sha256:2c26b46b", Rule: string(f.Type) + "/" + string(severity)},
		Guards: []heal.Verdict{{Name: "cooldown", Allowed: true, Detail: "nothing was done about it in the last 1m0s"}},
		Explanation: heal.Explanation{
			Summary: "2 similar failures in 1h0m0s raise the severity to " + string(severity) + ": " + string(strategy),
			Steps:   []string{"base severity of " + string(f.Type) + " is " + string(f.Severity), "2 similar failures in 1h0m0s: " + string(severity), string(f.Type) + "/" + string(severity) + ": " + string(strategy)},
		},
		Failure: f,
	}
}

// Healed is a pod replaced, verified, of high severity.
func Healed() heal.Result {
	return heal.Result{
		Decision: Decision(Failure(), heal.High, heal.Recreate), Outcome: heal.Succeeded, Reason: "Verified",
		Message: "checkout-7d9f6c-9fjq2 is Ready", Attempt: 1, StartedAt: Noon.Add(time.Second), Duration: 29.34,
		Steps:        []heal.Step{{Name: "evict", Status: heal.StepOK, Milliseconds: 41}, {Name: "wait", Status: heal.StepOK, Milliseconds: 29_210.5, Detail: "replacement Ready"}},
		Verification: &heal.Verification{Passed: true, Checks: []heal.Check{{Name: "replacement_ready", Passed: true, Observed: "checkout-7d9f6c-9fjq2 Ready for 10s"}}},
	}
}

// At is Healed, but of the given severity and episode: results that are not
// each other.
func At(severity heal.Severity, episode string) heal.Result {
	f := Failure()
	f.EpisodeID = heal.ID("e", episode)
	r := Healed()
	r.Decision = Decision(f, severity, heal.Recreate)
	return r
}

// Drained is a dead node whose drain failed, of critical severity.
func Drained() heal.Result {
	f := Failure()
	f.Type, f.Reason, f.Severity, f.Detector = heal.NodeFailure, "NotReady", heal.Critical, "not_ready"
	f.Target = heal.Target{APIVersion: "v1", Kind: "Node", Name: f.Node, UID: "5d0c7f0a-7a60-4bb3-8f1e-3f4f2f9d1c77"}
	f.Owner, f.Namespace, f.ResourceName = heal.Target{}, "", f.Node
	f.Description = "node has sent no heartbeat for 1m30s"
	f.EpisodeID = heal.MakeEpisodeID("test", f.Target.UID, "not_ready", "", Noon)
	f.Occurrence = 3
	d := Decision(f, heal.Critical, heal.DrainAndReplace)
	d.Cause = heal.Cause{Kind: heal.CauseNode, Evidence: []string{"the node's lease is 1m30s old"}, Confidence: 0.9}
	return heal.Result{
		Decision: d, Outcome: heal.Failed, Reason: "DrainTimedOut", Message: "2 of 5 pods could not be evicted within 5m0s", Attempt: 1,
		StartedAt: Noon.Add(time.Second), Duration: 300.2,
		Steps: []heal.Step{
			{Name: "cordon", Status: heal.StepOK, Milliseconds: 12},
			{Name: "drain", Status: heal.StepFailed, Milliseconds: 300_000, Detail: "disruption budget shop/cart allows no more"},
			{Name: "replace", Status: heal.StepSkipped},
		},
		Verification: &heal.Verification{Checks: []heal.Check{{Name: "node_empty", Observed: "2 pods left"}}},
		Undo:         &heal.Undo{Summary: "make the node schedulable again", Command: "kubectl uncordon ip-10-0-3-17.eu-west-1.compute.internal"},
	}
}

// Unproven is a pod replaced without anybody knowing whether it helped.
func Unproven() heal.Result {
	r := Healed()
	r.Outcome, r.Reason, r.Message, r.Duration = heal.TimedOut, "VerificationTimedOut", "no replacement became Ready within 5m0s", 300
	r.Verification = &heal.Verification{Checks: []heal.Check{{Name: "replacement_ready", Observed: "0 of 1 Ready"}}}
	return r
}

// Refused is a decision that a guard said no to.
func Refused() heal.Result {
	d := Decision(Failure(), heal.High, heal.Recreate)
	d.Reason = "Storm"
	d.Guards = append(d.Guards, heal.Verdict{Name: "storm", Reason: "Storm", Detail: "3 of 10 nodes are unhealthy, more than 20%"})
	return heal.Result{Decision: d, Outcome: heal.Rejected, Reason: "Storm", Message: "3 of 10 nodes are unhealthy, more than 20%", Attempt: 1, StartedAt: Noon.Add(time.Second), Steps: []heal.Step{}}
}

// Proposed is what would have been done, were the mode not observe.
func Proposed() heal.Result {
	d := Decision(Failure(), heal.Medium, heal.Restart)
	d.Mode, d.Reason = heal.ModeObserve, "ModeObserve"
	return heal.Result{Decision: d, Outcome: heal.Skipped, Reason: "ModeObserve", Message: "nothing is carried out in mode observe", Attempt: 1, StartedAt: Noon.Add(time.Second), Steps: []heal.Step{}}
}

// Watched is a failure that asks for no more than to be watched.
func Watched() heal.Result {
	r := Proposed()
	r.Decision = Decision(Failure(), heal.Low, heal.Monitor)
	r.Reason, r.Message = "Monitor", "nothing is to be done"
	return r
}

// Tried is a dry run.
func Tried() heal.Result {
	r := Healed()
	r.Outcome, r.Reason, r.Message, r.DryRun, r.Verification = heal.DryRun, "DryRun", "checkout-7d9f6c-x2kpl would be evicted", true, nil
	r.Steps = []heal.Step{{Name: "evict", Status: heal.StepSkipped, Detail: "dry run"}}
	return r
}

// Notification asks for r to be told on a channel.
func Notification(channel, to string, r heal.Result) heal.Notification {
	e := heal.NewEvent(r, "test", "actuator", Noon.Add(31*time.Second))
	e.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	return heal.Notification{
		Channel: channel, To: to, Severity: r.Decision.Severity, Result: r,
		Origin: heal.MakeOrigin(e, e.Time.Add(2*time.Millisecond)),
	}
}
