package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 11, 22, 2, 47, 12, 0, time.UTC)

func at(seconds float64) time.Time {
	return noon.Add(time.Duration(seconds * float64(time.Second)))
}

// A story is the messages about one incident.
type story struct {
	t    *testing.T
	raws []bus.Raw
}

func put[T heal.Payload](s *story, stream string, seconds float64, service string, data T) {
	s.t.Helper()
	body, err := json.Marshal(heal.NewEvent(data, "prod", service, at(seconds)))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := heal.Decode[T](body); err != nil {
		s.t.Fatal(err)
	}
	s.raws = append(s.raws, bus.Raw{Subject: data.Head().Subject("prod"), Stream: stream, Seq: uint64(len(s.raws) + 1), Time: at(seconds), Data: body})
}

func stalled() heal.Failure {
	target := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "9b1e77d0-0000-4000-8000-000000000002"}
	return heal.Failure{
		Type: heal.DeploymentFailure, Reason: "ProgressDeadlineExceeded", Severity: heal.High, ResourceName: target.Name, Namespace: target.Namespace,
		Description: "the rollout of revision 42 has not gone on for 10m0s: 1 of 4 new pods is ready", Timestamp: heal.Unix{Time: at(2)},
		Target: target, Detector: "rollout", EpisodeID: "e-rollout", Occurrence: 1, FirstSeen: noon,
		Fingerprint: heal.MakeFingerprint(heal.DeploymentFailure, target, heal.Target{}, "", "ProgressDeadlineExceeded"),
		Evidence: []heal.Evidence{
			{Path: "status.conditions[?(@.type=='Progressing')].reason", Value: "ProgressDeadlineExceeded"},
			{Path: "status.updatedReplicas", Value: "4"}, {Path: "status.readyReplicas", Value: "3"},
		},
		Metadata: map[string]string{"image": "registry.example.com/shop/checkout:2.14.0", "revision": "42"},
	}
}

func decide(f heal.Failure, strategy heal.Strategy) heal.Decision {
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: "i-checkout", Type: f.Type, Severity: heal.High, BaseSeverity: f.Severity, SimilarFailures: 2,
		Strategy: strategy, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: f.Timestamp.Add(5 * time.Minute), Target: f.Target,
		Cause:  heal.Cause{Kind: heal.CauseRollout, Confidence: 0.92, Evidence: []string{"it fails since revision 42 was rolled out 10 min before", "revision 41 ran for 6 days without a failure"}},
		Policy: heal.PolicyRef{Name: "default", Revision: "sha256:4c1f0b7a55aa", Rule: "deployment_failure/high"},
		Guards: []heal.Verdict{
			{Name: "cooldown", Allowed: true, Detail: "no action on it in the last 10m0s"},
			{Name: "storm", Allowed: true, Detail: "1 of 48 workloads fails"},
		},
		Explanation: heal.Explanation{
			Summary: "roll back shop/Deployment/checkout, since revision 42 is what broke it",
			Steps:   []string{"base severity of deployment_failure is high", "2 similar failures in 1h0m0s: stays high", "deployment_failure/high: rollback"},
		},
		Failure: f,
	}
}

// healed is an incident with all that there can be: refused at first, approved
// by a person, done, verified, with an undo that somebody asked for.
func healed(t *testing.T) *story {
	s := &story{t: t}
	f := stalled()
	put(s, bus.Failures.Stream, 2, "watcher", f)
	refused := decide(f, heal.Rollback)
	refused.Reason = "Budget"
	refused.Guards = append(refused.Guards, heal.Verdict{Name: "budget", Reason: "Budget", Detail: "2 of 2 recoveries at a time are under way"})
	refused.Explanation.Summary = "not carried out: 2 of 2 recoveries at a time are under way"
	put(s, bus.Decisions.Stream, 2.4, "analyzer", refused)
	put(s, bus.Results.Stream, 2.5, "actuator", heal.Result{Decision: refused, Outcome: heal.Skipped, Reason: "Budget", Message: "2 of 2 recoveries at a time are under way", StartedAt: at(2.5)})
	for n := 2; n <= 3; n++ {
		f.Occurrence, f.Timestamp = n, heal.Unix{Time: at(float64(30 * n))}
		put(s, bus.Failures.Stream, float64(30*n), "watcher", f)
		again := refused
		again.Failure, again.ID = f, heal.MakeDecisionID(f)
		put(s, bus.Decisions.Stream, float64(30*n)+.4, "analyzer", again)
	}
	f.Occurrence, f.Timestamp = 4, heal.Unix{Time: at(210)}
	put(s, bus.Failures.Stream, 210, "watcher", f)
	d := decide(f, heal.Rollback)
	d.Mode = heal.ModeApprove
	put(s, bus.Decisions.Stream, 210.4, "analyzer", d)
	put(s, bus.Decisions.Stream, 238, "selfheal", heal.Approval{DecisionID: d.ID, Approved: true, By: "anna@laptop", Reason: "2.14.0 is broken, seen in staging too", At: at(238)})
	r := heal.Result{
		Decision: d, Outcome: heal.Succeeded, Reason: "Verified", Message: "4 of 4 pods of revision 41 are Ready for 30 s", Attempt: 1, StartedAt: at(238.3), Duration: 74.6,
		Steps: []heal.Step{
			{Name: "precheck", Status: heal.StepOK, Milliseconds: 38, Detail: "still ProgressDeadlineExceeded, same UID"},
			{Name: "patch_template", Status: heal.StepOK, Milliseconds: 112, Detail: "the template of revision 41"},
			{Name: "drain_old", Status: heal.StepSkipped, Detail: "nothing to drain"},
			{Name: "verify", Status: heal.StepOK, Milliseconds: 74400, Detail: "watched until 4 of 4 pods were Ready for 30 s"},
		},
		Verification: &heal.Verification{Passed: true, Checks: []heal.Check{
			{Name: "rollout_complete", Passed: true, Observed: "4 of 4 updated, 4 available"}, {Name: "symptom_gone", Passed: true, Observed: "Progressing is True: NewReplicaSetAvailable"},
		}},
		Undo:     &heal.Undo{Summary: "puts the template of revision 42 back", Command: "selfheal undo " + d.ID},
		Evidence: &heal.Kept{Bucket: "SELFHEAL_EVIDENCE", Object: d.ID, Bytes: 18231},
	}
	put(s, bus.Results.Stream, 313, "actuator", r)
	for _, to := range []string{"#incidents", "oncall@example.com"} {
		channel := "slack"
		if strings.Contains(to, "@") {
			channel = "email"
		}
		put(s, bus.Notifications.Stream, 313.2, "notifier", heal.Notification{Channel: channel, To: to, Severity: heal.High, Result: r, Incident: d.IncidentID, Phase: heal.PhaseVerified})
	}
	f.ResolvedAt, f.Timestamp = at(312), heal.Unix{Time: at(312)}
	put(s, bus.Failures.Stream, 313.5, "watcher", f)
	return s
}

// evil is text that would be markup, a script, a link, a style or a control
// sequence somewhere.
var evil = []string{
	`</title><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</style><style>*{display:none}`, `javascript:alert(1)`,
	"<!channel> @everyone [a](https://evil.example) ![i](http://evil.example/x.png)", "| a | b |\n# head\n```\n", "\x1b[31mred\u202egnp.exe\u200b",
	`{{.Style}} {{template "x"}}`, `<svg onload=alert(1)>`, `&lt;b&gt; &#60;i&#62;`, `www.evil.example https://evil.example/?q=1`,
}

func hostile(t *testing.T) *story {
	s := &story{t: t}
	f := stalled()
	text := strings.Join(evil, " ")
	f.Description, f.Reason = text, `<b>Reason</b>`
	f.Node = text
	f.Evidence = []heal.Evidence{{Path: text, Value: text}}
	f.Metadata = map[string]string{text: text}
	put(s, bus.Failures.Stream, 2, "watcher", f)
	d := decide(f, heal.Rollback)
	d.Cause.Evidence = evil
	d.Explanation = heal.Explanation{Summary: text, Steps: evil}
	d.Parameters = map[string]string{text: text}
	d.Policy = heal.PolicyRef{Name: text, Revision: text, Rule: text}
	d.Guards = []heal.Verdict{{Name: text, Allowed: true, Detail: text}}
	d.Mode = heal.ModeApprove
	put(s, bus.Decisions.Stream, 3, "analyzer", d)
	put(s, bus.Decisions.Stream, 4, "selfheal", heal.Approval{DecisionID: d.ID, Approved: true, By: "<script>", Reason: heal.Clean(text, 200), At: at(4)})
	put(s, bus.Results.Stream, 5, "actuator", heal.Result{
		Decision: d, Outcome: heal.Failed, Reason: text, Message: text, Attempt: 1, StartedAt: at(4),
		Steps:        []heal.Step{{Name: text, Status: heal.StepFailed, Milliseconds: 3, Detail: text}},
		Verification: &heal.Verification{Checks: []heal.Check{{Name: text, Observed: text}}},
		Undo:         &heal.Undo{Summary: text, Command: text + "\n\n<script>"},
		Evidence:     &heal.Kept{Bucket: text, Object: text},
	})
	return s
}

// made is the report of a story, put together from its messages and those of
// the audit stream, which are the same ones.
func made(t *testing.T, s *story) Report {
	t.Helper()
	find := NewFinder("i-checkout")
	all := s.raws
	for _, raw := range s.raws {
		if raw.Stream != bus.Notifications.Stream {
			raw.Stream = bus.Audit[0]
			all = append(all, raw)
		}
	}
	for _, raw := range all {
		find.Look(raw)
	}
	var raws []bus.Raw
	for _, raw := range all {
		if find.Belongs(raw) {
			raws = append(raws, raw)
		}
	}
	r, found := Make(raws, "i-checkout", "prod", at(600))
	if !found {
		t.Fatal("the incident is not found")
	}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestTheReportInItsThreeForms(t *testing.T) {
	for name, s := range map[string]*story{"healed": healed(t), "hostile": hostile(t)} {
		r := made(t, s)
		var html, md, js bytes.Buffer
		e := json.NewEncoder(&js)
		e.SetIndent("", "  ")
		if err := r.HTML(&html); err != nil {
			t.Fatal(err)
		}
		if err := r.Markdown(&md); err != nil {
			t.Fatal(err)
		}
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".html", html.Bytes())
		golden(t, name+".md", md.Bytes())
		golden(t, name+".json", js.Bytes())
	}
}

func TestTheMessagesOfOthersAreLeftOut(t *testing.T) {
	s := healed(t)
	want := made(t, s)
	other := stalled()
	other.EpisodeID, other.Target.Name, other.Target.UID = "e-other", "cart", "uid-of-cart"
	put(s, bus.Failures.Stream, 3, "watcher", other)
	d := decide(other, heal.Restart)
	d.IncidentID = "i-other"
	put(s, bus.Decisions.Stream, 4, "analyzer", d)
	if diff := cmp.Diff(want, made(t, s), cmp.AllowUnexported(Moment{})); diff != "" {
		t.Errorf("another incident changes it:\n%s", diff)
	}
}

func TestWhatIsNotOnRecordIsNotFound(t *testing.T) {
	if _, found := Make(healed(t).raws, "i-none", "prod", at(600)); found {
		t.Error("an incident is found that is not there")
	}
}

func TestRefusalsThatSayTheSameAreOneChapter(t *testing.T) {
	r := made(t, healed(t))
	var got []string
	for _, c := range r.Decisions {
		got = append(got, fmt.Sprintf("%s %s x%d", c.Decision.Strategy, c.Decision.Reason, c.Times))
	}
	if diff := cmp.Diff([]string{"rollback Budget x3", "rollback SeverityTable x1"}, got); diff != "" {
		t.Error(diff)
	}
	if r.Incident.State != record.Healed {
		t.Errorf("the incident is %s", r.Incident.State)
	}
}

var (
	tag     = regexp.MustCompile(`<(/?[a-zA-Z!][a-zA-Z0-9]*)`)
	outside = regexp.MustCompile(`(?i)<[^>]*\b(src|href|action|style|on[a-z]+|formaction|data|poster|background)\s*=`)
)

func TestThePageHoldsNoMarkupButItsOwn(t *testing.T) {
	var good, bad bytes.Buffer
	if err := made(t, healed(t)).HTML(&good); err != nil {
		t.Fatal(err)
	}
	if err := made(t, hostile(t)).HTML(&bad); err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, m := range tag.FindAllStringSubmatch(good.String(), -1) {
		own[m[1]] = true
	}
	for _, m := range tag.FindAllStringSubmatch(bad.String(), -1) {
		if !own[m[1]] {
			t.Errorf("foreign markup: %s", m[0])
		}
	}
	for _, page := range []string{good.String(), bad.String()} {
		if m := outside.FindString(page); m != "" {
			t.Errorf("something of the page reaches out or runs: %s", m)
		}
		if strings.ContainsAny(page, "\x1b\u202e\u200b") {
			t.Error("a control or invisible character gets through")
		}
		if strings.Count(page, "<style>") != 1 || strings.Contains(page, "<script") || strings.Contains(page, "<link") || strings.Contains(page, "url(") {
			t.Error("the page has a script, a link, or a style that is not its own")
		}
	}
}

func TestTheMarkdownHasNoMarkupFromOutside(t *testing.T) {
	var b bytes.Buffer
	if err := made(t, hostile(t)).Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "      ") { // a command: code
			continue
		}
		for _, bad := range []string{"<", "[a](", "![", "://", "@everyone", "```", "\x1b"} {
			if strings.Contains(line, bad) {
				t.Errorf("line %d: %q is markup: %s", n+1, bad, line)
			}
		}
	}
}
