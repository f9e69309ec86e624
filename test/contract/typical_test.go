package contract

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Typical values: what the pipeline says of one bad roll-out, one dead node
// and one full disk. The golden files are made of them.

var (
	noon = time.Date(2026, 11, 22, 12, 19, 22, 104e6, time.UTC)

	pod  = heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "checkout-7d9f6c-x2kpl", UID: "0f3c6a1e-5b1d-4c56-8a55-0a2f4d0c9e11", ResourceVersion: "88213"}
	app  = heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "9b1e44c2-73e0-4f0c-9d6b-64c3c1c6b0aa"}
	node = heal.Target{APIVersion: "v1", Kind: "Node", Name: "ip-10-0-3-17.eu-west-1.compute.internal", UID: "5d0c7f0a-7a60-4bb3-8f1e-3f4f2f9d1c77", ResourceVersion: "90411"}
)

func podFailure() heal.Failure {
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium,
		ResourceName: pod.Name, Namespace: pod.Namespace,
		Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1",
		Timestamp:   heal.Unix{Time: noon},
		Target:      pod, Owner: app, Node: node.Name, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, pod, app, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID("default", pod.UID, "crash_loop", "api", noon),
		Occurrence:  1, FirstSeen: noon,
		Evidence: []heal.Evidence{{Path: "status.containerStatuses[0].restartCount", Value: "7"}},
		Metadata: map[string]string{"exit_code": "1"},
	}
}

func podFailureAgain() heal.Failure {
	f := podFailure()
	f.Occurrence = 2
	f.Timestamp = heal.Unix{Time: noon.Add(30 * time.Second)}
	return f
}

func podFailureOver() heal.Failure {
	f := podFailure()
	f.ResolvedAt = noon.Add(29 * time.Second)
	return f
}

func nodeFailure() heal.Failure {
	return heal.Failure{
		Type: heal.NodeFailure, Reason: "NotReady", Severity: heal.Critical, ResourceName: node.Name,
		Description: "node has sent no heartbeat for 1m30s",
		Timestamp:   heal.Unix{Time: noon}, Target: node, Node: node.Name, Detector: "not_ready",
		Fingerprint: heal.MakeFingerprint(heal.NodeFailure, node, heal.Target{}, "", "NotReady"),
		EpisodeID:   heal.MakeEpisodeID("prod.eu", node.UID, "not_ready", "", noon.Add(-90*time.Second)),
		Occurrence:  1, FirstSeen: noon.Add(-90 * time.Second),
		Evidence: []heal.Evidence{{Path: `status.conditions[?(@.type=="Ready")].status`, Value: "Unknown"}},
	}
}

func decide(f heal.Failure, severity heal.Severity, strategy heal.Strategy) heal.Decision {
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type,
		Severity: severity, BaseSeverity: f.Type.BaseSeverity(), SimilarFailures: 2,
		Strategy: strategy, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: noon.Add(5 * time.Minute), Target: f.Target, Parameters: map[string]string{},
		Cause:  heal.Cause{Kind: heal.CauseUnknown},
		Policy: heal.PolicyRef{Name: "default", Revision: "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", Rule: string(f.Type) + "/" + string(severity)},
		Guards: []heal.Verdict{{Name: "cooldown", Allowed: true, Detail: "nothing was done about it in the last 1m0s"}},
		Explanation: heal.Explanation{
			Summary: "2 similar failures in 1h0m0s raise the severity to " + string(severity) + ": " + string(strategy),
			Steps:   []string{"base severity of " + string(f.Type) + " is " + string(f.Type.BaseSeverity()), "2 similar failures in 1h0m0s: " + string(severity), string(f.Type) + "/" + string(severity) + ": " + string(strategy)},
		},
		Failure: f,
	}
}

func recreate() heal.Decision { return decide(podFailure(), heal.High, heal.Recreate) }

func drain() heal.Decision {
	d := decide(nodeFailure(), heal.Critical, heal.DrainAndReplace)
	d.Mode = heal.ModeApprove
	d.Cause = heal.Cause{Kind: heal.CauseNode, Evidence: []string{"the node's lease is 1m30s old"}, Confidence: 0.9}
	return d
}

func vetoed() heal.Decision {
	d := recreate()
	d.Guards = append(d.Guards, heal.Verdict{Name: "storm", Allowed: false, Reason: "Storm", Detail: "3 of 10 nodes are unhealthy, more than 20%"})
	d.Reason = "Storm"
	return d
}

func healed() heal.Result {
	return heal.Result{
		Decision: recreate(), Outcome: heal.Succeeded, Reason: "Verified", Message: "checkout-7d9f6c-9fjq2 is Ready", Attempt: 1,
		StartedAt: noon.Add(time.Second), Duration: 29.34,
		Steps:        []heal.Step{{Name: "evict", Status: heal.StepOK, Milliseconds: 41}, {Name: "wait", Status: heal.StepOK, Milliseconds: 29_210.5, Detail: "replacement Ready"}},
		Verification: &heal.Verification{Passed: true, Checks: []heal.Check{{Name: "replacement_ready", Passed: true, Observed: "checkout-7d9f6c-9fjq2 Ready for 10s"}}},
	}
}

func notDrained() heal.Result {
	return heal.Result{
		Decision: drain(), Outcome: heal.Failed, Reason: "DrainTimedOut", Message: "2 of 5 pods could not be evicted within 5m0s", Attempt: 2,
		StartedAt: noon.Add(time.Second), Duration: 300.2,
		Steps:        []heal.Step{{Name: "cordon", Status: heal.StepOK, Milliseconds: 12}, {Name: "drain", Status: heal.StepFailed, Milliseconds: 300_000, Detail: "disruption budget shop/cart allows no more"}, {Name: "replace", Status: heal.StepSkipped}},
		Verification: &heal.Verification{Passed: false, Checks: []heal.Check{{Name: "node_empty", Passed: false, Observed: "2 pods left"}}},
		Undo:         &heal.Undo{Summary: "make the node schedulable again", Command: "kubectl uncordon " + node.Name},
	}
}

func refused() heal.Result {
	return heal.Result{
		Decision: vetoed(), Outcome: heal.Rejected, Reason: "Storm", Message: "3 of 10 nodes are unhealthy, more than 20%", Attempt: 1,
		StartedAt: noon.Add(time.Second), Steps: []heal.Step{},
	}
}

func onSlack() heal.Notification {
	e := heal.NewEvent(healed(), "default", "actuator", noon.Add(31*time.Second))
	e.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	return heal.Notification{
		Channel: "slack", To: "#incidents", Severity: heal.High, Result: healed(),
		Origin:   heal.MakeOrigin(e, e.Time.Add(2*time.Millisecond)),
		Metadata: map[string]string{"runbook": "https://example.com/runbooks/checkout"},
	}
}

func approved() heal.Approval {
	return heal.Approval{DecisionID: drain().ID, Approved: true, By: "anna", Reason: "spare node is up", At: noon.Add(time.Minute)}
}

func paused() heal.Control {
	return heal.Control{Verb: heal.Pause, By: "anna", Reason: "network maintenance", At: noon, Until: noon.Add(time.Hour)}
}

func resumed() heal.Control { return heal.Control{Verb: heal.Resume, By: "anna", At: noon} }

func dead() heal.DeadLetter {
	return heal.DeadLetter{
		Stage: "actuator", Reason: heal.DeadBadMessage, Error: `data: strategy: "reboot" is not known`,
		Stream: "SELFHEAL_DECISIONS", Subject: "selfheal.v1.default.decisions.pod_failure.reboot.high.shop.pod.checkout", Sequence: 7, Delivered: 1,
		Headers: map[string][]string{"Nats-Msg-Id": {recreate().ID}}, Body: []byte(`{"specversion":"1.0"}`), Truncated: true,
	}
}
