package heal

import (
	"strings"
	"testing"
	"time"
)

func TestTypicalMessagesAreValid(t *testing.T) {
	resolved := typicalFailure()
	resolved.ResolvedAt = noon.Add(time.Hour)
	bare := typicalFailure()
	bare.Owner = Target{}
	node := typicalFailure()
	node.Target = Target{APIVersion: "v1", Kind: "Node", Name: "ip-10-0-3-17.eu-west-1.compute.internal", UID: "n"}
	node.Owner = Target{}
	ofOwner := typicalDecision()
	ofOwner.Target = ofOwner.Failure.Owner
	fresher := typicalDecision()
	fresher.Target.ResourceVersion = "99999"
	for name, p := range map[string]Payload{
		"failure": typicalFailure(), "resolved": resolved, "without owner": bare, "cluster-scoped": node,
		"decision": typicalDecision(), "decision on the owner": ofOwner, "decision on a fresher sight": fresher,
		"result": typicalResult(), "notification": typicalNotification(),
		"approval":    Approval{DecisionID: typicalDecision().ID, By: "anna", At: noon},
		"control":     Control{Verb: Resume, By: "anna", At: noon},
		"dead letter": DeadLetter{Stage: "notifier-slack", Reason: DeadRefused},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// broken returns typical() with one thing changed.
func broken[T any](typical func() T, change func(*T)) T {
	v := typical()
	change(&v)
	return v
}

func TestWhatIsWrongIsNamedWithItsValueAndWhatWasExpected(t *testing.T) {
	approval := func() Approval { return Approval{DecisionID: typicalDecision().ID, By: "anna", At: noon} }
	control := func() Control { return Control{Verb: Pause, By: "anna", At: noon} }
	dead := func() DeadLetter { return DeadLetter{Stage: "analyzer", Reason: DeadPoison} }
	for _, test := range []struct {
		payload Payload
		want    string
	}{
		{broken(typicalFailure, func(f *Failure) { f.Type = "disk_failure" }), `type: "disk_failure" is not known; want one of [node_failure`},
		{broken(typicalFailure, func(f *Failure) { f.Severity = "HIGH" }), `severity: "HIGH" is not known; want one of [low medium high critical]`},
		{broken(typicalFailure, func(f *Failure) { f.Reason = "" }), `reason: is empty`},
		{broken(typicalFailure, func(f *Failure) { f.Fingerprint = "" }), `fingerprint: is empty`},
		{broken(typicalFailure, func(f *Failure) { f.EpisodeID = "" }), `episode_id: is empty`},
		{broken(typicalFailure, func(f *Failure) { f.Detector = "" }), `detector: is empty`},
		{broken(typicalFailure, func(f *Failure) { f.Occurrence = 0 }), `occurrence: 0 is less than 1`},
		{broken(typicalFailure, func(f *Failure) { f.FirstSeen = time.Time{} }), `first_seen: is empty`},
		{broken(typicalFailure, func(f *Failure) { f.Timestamp = Unix{} }), `timestamp: is empty`},
		{broken(typicalFailure, func(f *Failure) { f.Owner.Name = "Check_out" }), `owner.name: "Check_out" is not a DNS-1123 subdomain`},

		{broken(typicalFailure, func(f *Failure) { f.Target.APIVersion = "apps/V1" }), `target.api_version: "apps/V1" is not a group and version such as "apps/v1"`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Kind = "pod" }), `target.kind: "pod" is not a Kubernetes kind`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Kind = "Pod.>" }), `target.kind: "Pod.>" is not a Kubernetes kind`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Namespace = "a.b" }), `target.namespace: "a.b" is not a DNS-1123 label`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Namespace = strings.Repeat("a", 64) }), `is not a DNS-1123 label`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "" }), `target.name: "" is not a DNS-1123 subdomain`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "../x" }), `target.name: "../x" is not`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "a/b" }), `target.name: "a/b" is not`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "a..b" }), `target.name: "a..b" is not`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "a\n" }), `target.name: "a " is not`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "a>" }), `target.name: "a>" is not`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = "a_b" }), `target.name: "a_b" is not`},
		{broken(typicalFailure, func(f *Failure) { f.Target.Name = strings.Repeat("a", 254) }), `…" is not a DNS-1123 subdomain`},
		{broken(typicalFailure, func(f *Failure) { f.Target.UID = "" }), `target.uid: "" is not a UID`},
		{broken(typicalFailure, func(f *Failure) { f.Target.UID = "a b" }), `target.uid: "a b" is not a UID`},

		{broken(typicalDecision, func(d *Decision) { d.ID = "d 0" }), `decision_id: "d 0" is not an id`},
		{broken(typicalDecision, func(d *Decision) { d.IncidentID = "" }), `incident_id: is empty`},
		{broken(typicalDecision, func(d *Decision) { d.Strategy = "reboot" }), `strategy: "reboot" is not known; want one of [monitor restart`},
		{broken(typicalDecision, func(d *Decision) { d.Mode = "ACT" }), `mode: "ACT" is not known; want one of [off observe approve auto]`},
		{broken(typicalDecision, func(d *Decision) { d.BaseSeverity = "" }), `base_severity: "" is not known`},
		{broken(typicalDecision, func(d *Decision) { d.Cause.Kind = "gremlins" }), `cause.kind: "gremlins" is not known`},
		{broken(typicalDecision, func(d *Decision) { d.Reason = "" }), `reason: is empty`},
		{broken(typicalDecision, func(d *Decision) { d.SimilarFailures = -1 }), `similar_failures: -1 is less than 0`},
		{broken(typicalDecision, func(d *Decision) { d.Cause.Confidence = 1.5 }), `cause.confidence: 1.5 is not between 0 and 1`},
		{broken(typicalDecision, func(d *Decision) { d.Expires = time.Time{} }), `expires: is empty`},
		{broken(typicalDecision, func(d *Decision) { d.Target.UID = "another" }), `target: shop/Pod/checkout-7d9f6c-x2kpl is neither the failure's target nor its owner`},
		{broken(typicalDecision, func(d *Decision) { d.Target.Name = "another" }), `target: shop/Pod/another is neither`},
		{broken(typicalDecision, func(d *Decision) { d.Failure.Reason = "" }), `failure: reason: is empty`},

		{broken(typicalResult, func(r *Result) { r.Outcome = "fine" }), `outcome: "fine" is not known`},
		{broken(typicalResult, func(r *Result) { r.Reason = "" }), `reason: is empty`},
		{broken(typicalResult, func(r *Result) { r.Attempt = -1 }), `attempt: -1 is less than 0`},
		{broken(typicalResult, func(r *Result) { r.Duration = -0.5 }), `duration_seconds: -0.5 is less than 0`},
		{broken(typicalResult, func(r *Result) { r.Steps[0].Status = "done" }), `steps[0].status: "done" is not known; want one of [ok failed skipped]`},
		{broken(typicalResult, func(r *Result) { r.Decision.Mode = "" }), `decision: mode: "" is not known`},

		{broken(typicalNotification, func(n *Notification) { n.Severity = "" }), `severity: "" is not known`},
		{broken(typicalNotification, func(n *Notification) { n.Channel = "slack.>" }), `channel: "slack.>" is not a channel's name`},
		{broken(typicalNotification, func(n *Notification) { n.Origin.Time = noon }), `origin.source: is empty`},
		{broken(typicalNotification, func(n *Notification) { n.Result.Outcome = "" }), `result: outcome: "" is not known`},

		{broken(approval, func(a *Approval) { a.DecisionID = "d-1.>" }), `decision_id: "d-1.>" is not a decision's id`},
		{broken(approval, func(a *Approval) { a.By = "" }), `by: is empty`},
		{broken(approval, func(a *Approval) { a.At = time.Time{} }), `at: is empty`},
		{broken(control, func(c *Control) { c.Verb = "stop" }), `verb: "stop" is not known; want one of [pause resume undo undone]`},
		{broken(control, func(c *Control) { c.By = "" }), `by: is empty`},
		{broken(control, func(c *Control) { c.At = time.Time{} }), `at: is empty`},
		{broken(dead, func(l *DeadLetter) { l.Stage = "" }), `stage: "" is not a consumer's name`},
		{broken(dead, func(l *DeadLetter) { l.Stage = "a.>" }), `stage: "a.>" is not a consumer's name`},
		{broken(dead, func(l *DeadLetter) { l.Reason = "Tired" }), `reason: "Tired" is not known; want one of [BadMessage Untrusted Poison Refused]`},
	} {
		err := test.payload.Validate()
		if err == nil {
			t.Errorf("valid, want %q", test.want)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %q\nwant it to hold %q", err, test.want)
		}
	}
}

func TestSeveralMistakesAreNamedTogetherAndInOneOrder(t *testing.T) {
	f := broken(typicalFailure, func(f *Failure) { f.Reason, f.Fingerprint, f.EpisodeID, f.Detector = "", "", "", "" })
	want := "reason: is empty\nfingerprint: is empty\nepisode_id: is empty\ndetector: is empty"
	for range 20 {
		if got := f.Validate().Error(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestAClusterNameIsOneToken(t *testing.T) {
	for name, valid := range map[string]bool{
		"default": true, "eu-west-1.prod": true, "": false, "Prod": false, "a b": false, "a.>": false, "*": false,
		"a_b": false, strings.Repeat("a", 64): false,
	} {
		if err := ValidClusterName(name); (err == nil) != valid {
			t.Errorf("%q: %v, want valid: %t", name, err, valid)
		}
	}
}
