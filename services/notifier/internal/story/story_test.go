package story_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

func givenUp() heal.Result {
	r := sample.Refused()
	r.Reason, r.Decision.Reason = heal.ReasonGivenUp, heal.ReasonGivenUp
	return r
}

func TestTheHeadlineSaysWhatBrokeAndWhatCameOfIt(t *testing.T) {
	unverified := sample.Healed()
	unverified.Verification = nil
	paused := sample.Refused()
	paused.Outcome = heal.Skipped
	long := sample.Healed()
	long.Decision.Failure.Owner.Name = strings.Repeat("n", 253)
	for _, test := range []struct {
		result heal.Result
		want   string
	}{
		{sample.Healed(), "✅ shop/Deployment/checkout: CrashLoopBackOff → healed by recreate in 29.3 s"},
		{unverified, "✅ shop/Deployment/checkout: CrashLoopBackOff → recreate done"},
		{sample.Drained(), "🔴 Node/ip-10-0-3-17.eu-west-1.compute.internal: NotReady → drain and replace failed"},
		{sample.Unproven(), "🟠 shop/Deployment/checkout: CrashLoopBackOff → recreate done, not known to have helped"},
		{givenUp(), "✋ shop/Deployment/checkout: CrashLoopBackOff → given up, a person must look"},
		{sample.Refused(), "✋ shop/Deployment/checkout: CrashLoopBackOff → recreate refused"},
		{sample.Proposed(), "👀 shop/Deployment/checkout: CrashLoopBackOff → would restart (mode observe)"},
		{sample.Watched(), "👀 shop/Deployment/checkout: CrashLoopBackOff → watching, nothing to be done"},
		{sample.Tried(), "👀 shop/Deployment/checkout: CrashLoopBackOff → would recreate (dry run)"},
		{paused, "👀 shop/Deployment/checkout: CrashLoopBackOff → nothing done"},
		{long, "✅ shop/Deployment/" + strings.Repeat("n", 88) + "… → healed by recreate in 29.3 s"},
	} {
		s := story.Of(sample.Notification("slack", "#incidents", test.result))
		if got := s.Mark + " " + s.Headline; got != test.want {
			t.Errorf("headline\n got %s\nwant %s", got, test.want)
		}
	}
}

func TestTheStoryAnswersInOrder(t *testing.T) {
	got := story.Of(sample.Notification("slack", "#incidents", sample.Drained()))
	want := story.Story{
		Mark:     "🔴",
		Headline: "Node/ip-10-0-3-17.eu-west-1.compute.internal: NotReady → drain and replace failed",
		Happened: "node has sent no heartbeat for 1m30s",
		Ended:    "2 of 5 pods could not be evicted within 5m0s",
		Facts: []story.Fact{
			{"Severity", "critical"},
			{"Outcome", "failed (DrainTimedOut)"},
			{"Failing", "Node/ip-10-0-3-17.eu-west-1.compute.internal"},
			{"First seen", "2026-11-22 12:19:22 UTC"},
			{"Announced", "3 times"},
			{"Likely cause", "node — the node's lease is 1m30s old"},
			{"Rule", "node_failure/critical of policy default"},
		},
		Chapters: []story.Chapter{
			{"Why we decided so", []string{
				"2 similar failures in 1h0m0s raise the severity to critical: drain_and_replace",
				"• base severity of node_failure is critical",
				"• 2 similar failures in 1h0m0s: critical",
				"• node_failure/critical: drain_and_replace",
			}},
			{"What was done", []string{
				"• cordon: ok, 12 ms",
				"• drain: failed, 5m0s — disruption budget shop/cart allows no more",
				"• replace: skipped",
			}},
			{"Not verified", []string{"• node_empty: no, 2 pods left"}},
			{"How to undo it", []string{"make the node schedulable again", "kubectl uncordon ip-10-0-3-17.eu-west-1.compute.internal"}},
		},
		IDs: []story.Fact{
			{"incident", sample.Drained().Decision.IncidentID},
			{"decision", sample.Drained().Decision.ID},
			{"cluster", "test"},
			{"more by", "selfheal report i-1nhhbm1b0uqve6kftvgc0glm"},
		},
		Cluster: "test",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestARaisedSeveritySaysSo(t *testing.T) {
	s := story.Of(sample.Notification("slack", "#incidents", sample.Healed()))
	if got, want := s.Facts[0], (story.Fact{Name: "Severity", Value: "high, raised from medium: 2 similar before it"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAVetoIsPartOfTheReason(t *testing.T) {
	s := story.Of(sample.Notification("slack", "#incidents", sample.Refused()))
	lines := s.Chapters[0].Lines
	if got, want := lines[len(lines)-1], "• storm says no: 3 of 10 nodes are unhealthy, more than 20%"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnlyOurOwnLinksAreTold(t *testing.T) {
	for given, want := range map[string][]story.Link{
		"https://heal.example.com/incidents/i-1?a=b":            {{Name: "report", URL: "https://heal.example.com/incidents/i-1?a=b"}},
		"http://heal.example.com/":                              nil,
		"https://user:pass@heal.example.com/":                   nil,
		"https:///path":                                         nil,
		"javascript:alert(1)":                                   nil,
		"https://heal.example.com/\r\nx":                        nil,
		"https://heal.example.com/" + strings.Repeat("x", 1024): nil,
		"": nil,
	} {
		n := sample.Notification("email", "", sample.Healed())
		n.Metadata = map[string]string{"report": given, "somewhere": "https://elsewhere.example.com/"}
		n.Result.Decision.Failure.Metadata = map[string]string{"runbook": "https://evil.example/"}
		if diff := cmp.Diff(want, story.Of(n).Links); diff != "" {
			t.Errorf("%.60q (-want +got):\n%s", given, diff)
		}
	}
}

func TestMapReachesAllForeignText(t *testing.T) {
	s := story.Of(sample.Notification("slack", "#incidents", sample.Drained())).Map(func(string) string { return "x" })
	want := story.Story{
		Mark: "🔴", Headline: "x", Happened: "x", Ended: "x", Cluster: "x",
		Facts: []story.Fact{{"Severity", "x"}, {"Outcome", "x"}, {"Failing", "x"}, {"First seen", "x"}, {"Announced", "x"}, {"Likely cause", "x"}, {"Rule", "x"}},
		Chapters: []story.Chapter{
			{"Why we decided so", []string{"x", "x", "x", "x"}}, {"What was done", []string{"x", "x", "x"}},
			{"Not verified", []string{"x"}}, {"How to undo it", []string{"x", "x"}},
		},
		IDs: []story.Fact{{"incident", "x"}, {"decision", "x"}, {"cluster", "x"}, {"more by", "x"}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAStoryIsBoundedAndCleanWhateverTheClusterSays(t *testing.T) {
	nasty := strings.Repeat("\u202e\x1b[31m\u200b<!channel>\n\xff", 1000)
	r := sample.Drained()
	r.Message, r.Reason = nasty, nasty
	d := &r.Decision
	d.Explanation.Summary, d.Policy.Name, d.IncidentID = nasty, nasty, nasty
	d.Failure.Description, d.Failure.Reason, d.Failure.Node = nasty, nasty, nasty
	d.Cause.Evidence = []string{nasty, nasty}
	r.Undo = &heal.Undo{Summary: nasty, Command: nasty}
	r.Steps, r.Verification.Checks, d.Explanation.Steps, d.Guards = nil, nil, nil, nil
	for i := range 100 {
		r.Steps = append(r.Steps, heal.Step{Name: fmt.Sprint(i), Status: heal.StepFailed, Detail: nasty})
		r.Verification.Checks = append(r.Verification.Checks, heal.Check{Name: nasty, Observed: nasty})
		d.Explanation.Steps = append(d.Explanation.Steps, nasty)
		d.Guards = append(d.Guards, heal.Verdict{Name: nasty, Detail: nasty})
	}
	s := story.Of(sample.Notification("slack", "#incidents", r))

	done := s.Chapters[1].Lines
	if len(done) != 10 || !strings.HasPrefix(done[4], "• 4:") || done[5] != "• … 91 more …" || !strings.HasPrefix(done[6], "• 96:") || !strings.HasPrefix(done[9], "• 99:") {
		t.Errorf("steps are cut to %q", done)
	}
	total := 0
	check := func(what, text string, limit int) {
		total += len(text)
		if len(text) > limit || !utf8.ValidString(text) || heal.Clean(text, limit) != text {
			t.Errorf("%s: %d bytes, want at most %d clean ones: %q", what, len(text), limit, text)
		}
	}
	check("headline", s.Headline, 140)
	check("happened", s.Happened, 512)
	check("ended", s.Ended, 512)
	for _, f := range append(s.Facts, s.IDs...) {
		check(f.Name, f.Value, 300)
	}
	for _, c := range s.Chapters {
		if len(c.Lines) > 10 {
			t.Errorf("%s has %d lines", c.Title, len(c.Lines))
		}
		for _, l := range c.Lines {
			check(c.Title, l, 256)
		}
	}
	if len(s.Facts) > 8 || total > 16<<10 {
		t.Errorf("%d facts, %d bytes", len(s.Facts), total)
	}
}
