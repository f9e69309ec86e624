package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

var update = flag.Bool("update", false, "write testdata anew")

// samples are a result of each sort, by the name of its golden file.
func samples() map[string]heal.Result {
	return map[string]heal.Result{
		"healed": sample.Healed(), "drained": sample.Drained(), "unproven": sample.Unproven(), "refused": sample.Refused(),
		"proposed": sample.Proposed(), "watched": sample.Watched(), "tried": sample.Tried(),
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", file, diff)
	}
}

// indented is v as JSON for a golden file.
func indented(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func TestSlackMessagesAreWrittenAsEver(t *testing.T) {
	for name, r := range samples() {
		golden(t, "slack-"+name+".json", indented(t, renderSlack(sample.Notification("slack", "#incidents", r))))
	}
}

// A message is a Slack message, as Slack reads it.
type message struct {
	Channel string
	Text    string
	Blocks  []struct {
		Type     string
		Text     *textObject
		Fields   []textObject
		Elements []textObject
	}
}

type textObject struct {
	Type  string
	Text  string
	Emoji *bool
}

func render(t *testing.T, r heal.Result) message {
	t.Helper()
	data, err := json.Marshal(renderSlack(sample.Notification("slack", "#incidents", r)))
	if err != nil {
		t.Fatal(err)
	}
	var m message
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// checkSlack is what Slack itself would refuse, and what it would act upon.
func checkSlack(t *testing.T, m message) {
	t.Helper()
	title := regexp.MustCompile(`^\*[A-Za-z ]+\*$|^<https://[^<>|\s]+\|[a-z]+>( · <https://[^<>|\s]+\|[a-z]+>)*$`) // the only mrkdwn: our own
	active := regexp.MustCompile("<|>|[*_~`]|&([^alg]|$)")
	length := func(what string, o textObject, limit int) {
		if n := utf8.RuneCountInString(o.Text); n < 1 || n > limit {
			t.Errorf("%s has %d characters, want 1 to %d: %q", what, n, limit, o.Text)
		}
		switch o.Type {
		case "plain_text":
			if o.Emoji != nil && *o.Emoji {
				t.Errorf("%s turns :words: into emoji: %q", what, o.Text)
			}
		case "mrkdwn":
			if !title.MatchString(o.Text) {
				t.Errorf("%s has markup that is not ours: %q", what, o.Text)
			}
		default:
			t.Errorf("%s is %q", what, o.Type)
		}
		for _, line := range strings.Split(o.Text, "\n") {
			if heal.Clean(line, 1<<16) != line {
				t.Errorf("%s is not clean: %q", what, o.Text)
			}
		}
	}
	if len(m.Blocks) == 0 || len(m.Blocks) > 50 {
		t.Errorf("%d blocks", len(m.Blocks))
	}
	if m.Text == "" || utf8.RuneCountInString(m.Text) > 3000 || active.MatchString(m.Text) {
		t.Errorf("fallback text is %q", m.Text)
	}
	for i, b := range m.Blocks {
		what := fmt.Sprintf("block %d, %s", i, b.Type)
		switch b.Type {
		case "header":
			length(what, *b.Text, 150)
			if b.Text.Type != "plain_text" {
				t.Errorf("%s is not plain_text", what)
			}
		case "section":
			if b.Text == nil && len(b.Fields) == 0 || len(b.Fields) > 10 {
				t.Errorf("%s has %d fields and text %v", what, len(b.Fields), b.Text)
			}
			if b.Text != nil {
				length(what, *b.Text, 3000)
			}
			for _, f := range b.Fields {
				length(what+" field", f, 2000)
			}
		case "context":
			if len(b.Elements) == 0 || len(b.Elements) > 10 {
				t.Errorf("%s has %d elements", what, len(b.Elements))
			}
			for _, e := range b.Elements {
				length(what+" element", e, 2000)
			}
		default:
			t.Errorf("%s is not a block that we send", what)
		}
	}
}

func hostile() []string {
	return []string{
		"<!channel>", "<!here|here>", "<!everyone>", "<@U012AB3CD>", "<#C123|general>", "<!subteam^S123>", "<!date^1392734382^{date}|x>",
		"<http://evil.example|click me>", "<https://evil.example>", "<mailto:a@evil.example|mail>", "http://evil.example/?a=b&c=d", "javascript:alert(1)",
		"&lt;!channel&gt;", "&amp;lt;!channel&amp;gt;", "&#60;!channel&#62;", "&", "<", ">", "<<>>", "<!channel", "!channel>",
		"*bold*", "_italic_", "~strike~", "`code`", "```\ncode\n```", ">quote", ">>> quote", "• bullet", "1. list", "# heading", "[text](http://evil.example)", "![x](http://evil.example/x.png)",
		":rotating_light:", ":skull::skin-tone-2:", "@channel", "@here", "@everyone", "#general", "/shrug", "\\<!channel\\>",
		"a\nb", "a\r\nb", "a\r\nBcc: victim@example.com", "a\u2028b", "a\u2029b", "a\x00b", "a\x1b[31mb\x1b[0m", "a\x07b", "a\x7fb", "a\tb", "a\vb", "a\fb",
		"\u202eevil\u202c", "\u2066x\u2069", "\u200b\u200c\u200d\ufeff", "a\u00adb", "\u3164", "\U000e0041\U000e0042", "\ufff9x\ufffb",
		"\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "\xf0\x9f\x92", string(bytes.Repeat([]byte{0x80}, 100)),
		`","text":"injected`, `\u003c!channel\u003e`, "{{.Secret}}", "${env:TOKEN}", "%s%n%x", "'; DROP TABLE incidents; --", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
		strings.Repeat("<", 5000), strings.Repeat("&", 5000), strings.Repeat("𝕏", 5000), strings.Repeat("a\u0301", 5000), strings.Repeat("\n", 5000), strings.Repeat("<!channel> ", 5000),
		"", " ", "\n", "…", "👨‍👩‍👧‍👦", "ﷺ", "Z̷̛͚a̶l̴g̵o̶", "１２３", "ＡＢＣ＜！ｃｈａｎｎｅｌ＞",
	}
}

// everywhere puts text into every field that anybody but us may fill.
func everywhere(text string) heal.Result {
	r := sample.Drained()
	r.Reason, r.Message = text, text
	for i := range r.Steps {
		r.Steps[i].Name, r.Steps[i].Detail = text, text
	}
	r.Verification = &heal.Verification{Checks: []heal.Check{{Name: text, Observed: text}}}
	r.Undo = &heal.Undo{Summary: text, Command: text}
	d := &r.Decision
	d.Reason, d.IncidentID = text, text
	d.Parameters = map[string]string{text: text}
	d.Cause.Evidence = []string{text, text}
	d.Policy = heal.PolicyRef{Name: text, Revision: text, Rule: text}
	d.Guards = []heal.Verdict{{Name: text, Reason: text, Detail: text}}
	d.Explanation = heal.Explanation{Summary: text, Steps: []string{text, text}}
	f := &d.Failure
	f.Reason, f.Description, f.Node, f.Detector, f.Fingerprint, f.ResourceName, f.Namespace = text, text, text, text, text, text, text
	f.Evidence = []heal.Evidence{{Path: text, Value: text}}
	f.Metadata = map[string]string{text: text}
	return r
}

func TestNothingForeignIsActiveOnSlack(t *testing.T) {
	for _, text := range hostile() {
		checkSlack(t, render(t, everywhere(text)))
		if t.Failed() {
			t.Fatalf("that was %.80q", text)
		}
	}
}

func FuzzNothingForeignIsActiveOnSlack(f *testing.F) {
	for _, text := range hostile() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkSlack(t, render(t, everywhere(text))) })
}

func TestLinksOnSlackAreOursAndStayWhole(t *testing.T) {
	n := sample.Notification("slack", "#incidents", sample.Drained())
	n.Metadata = map[string]string{
		"report": "https://heal.example.com/i-1?a=<b>&c=d|e", "runbook": "https://wiki.example.com/nodes", "dashboard": "http://evil.example/", "other": "https://evil.example/",
	}
	data, err := json.Marshal(renderSlack(n))
	var m message
	if err := errors.Join(err, json.Unmarshal(data, &m)); err != nil {
		t.Fatal(err)
	}
	checkSlack(t, m)
	got := m.Blocks[len(m.Blocks)-2].Elements[0].Text
	if want := "<https://heal.example.com/i-1?a=%3Cb%3E&amp;c=d%7Ce|report> · <https://wiki.example.com/nodes|runbook>"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestEverySlackMessageKeepsSlacksLimits(t *testing.T) {
	for _, r := range []heal.Result{
		sample.Healed(), sample.Drained(), sample.Unproven(), sample.Refused(), sample.Proposed(), sample.Watched(), sample.Tried(),
	} {
		checkSlack(t, render(t, r))
	}
	r := everywhere(strings.Repeat("x", 10_000))
	for range 200 {
		r.Steps = append(r.Steps, r.Steps[0])
		r.Verification.Checks = append(r.Verification.Checks, r.Verification.Checks[0])
		r.Decision.Guards = append(r.Decision.Guards, r.Decision.Guards[0])
		r.Decision.Explanation.Steps = append(r.Decision.Explanation.Steps, r.Decision.Explanation.Steps[0])
	}
	checkSlack(t, render(t, r))
}

func TestSlackHearsByWebhook(t *testing.T) {
	main, toMain := double(t)
	incident, toIncident := double(t)
	for name, test := range map[string]struct {
		main, incident   string
		listeners        []route.Listener
		warnings         []string
		monitoring, high <-chan request // where messages to #monitoring and #incidents arrive
	}{
		"two webhooks": {
			main, incident,
			[]route.Listener{{Channel: "slack", To: "#monitoring", Audience: route.Monitoring}, {Channel: "slack", To: "#incidents", Audience: route.Incident}},
			nil, toMain, toIncident,
		},
		"one webhook": {
			main, "",
			[]route.Listener{{Channel: "slack", To: "#monitoring", Audience: route.Monitoring}, {Channel: "slack", To: "#incidents", Audience: route.Incident}},
			[]string{"slack_webhook_url serves #monitoring and #incidents, but a webhook posts only to the channel it was made for: set slack_incident_webhook_url for #incidents"},
			toMain, toMain,
		},
		"only the incidents'": {
			"", incident,
			[]route.Listener{{Channel: "slack", To: "#incidents", Audience: route.Incident}},
			[]string{"slack_webhook_url is not set: results of low and medium severity are not told in #monitoring"},
			toIncident, toIncident,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.SlackWebhookURL, s.SlackIncidentWebhookURL = config.Secret(test.main), config.Secret(test.incident)
			line := openOne(t, s)
			if diff := cmp.Diff(test.listeners, line.Listeners); diff != "" {
				t.Errorf("listeners (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, line.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			for to, got := range map[string]<-chan request{"#monitoring": test.monitoring, "#incidents": test.high} {
				if err := line.Send(t.Context(), sample.Notification("slack", to, sample.Healed())); err != nil {
					t.Fatal(err)
				}
				r := <-got
				var m message
				if err := json.Unmarshal(r.body, &m); err != nil {
					t.Fatal(err)
				}
				if m.Channel != to || !strings.Contains(m.Text, "shop/Deployment/checkout: CrashLoopBackOff → healed by recreate in 29.3 s — high") {
					t.Errorf("to %s came a message to %s: %s", to, m.Channel, m.Text)
				}
				if ct := r.header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
					t.Errorf("Content-Type: %s", ct)
				}
			}
		})
	}
}

func TestOneChannelForBothNeedsNoSecondWebhook(t *testing.T) {
	s := settings()
	s.SlackIncidentChannel = s.SlackChannel
	s.SlackWebhookURL = "http://127.0.0.1:1/x"
	if line := openOne(t, s); len(line.Warnings) != 0 {
		t.Errorf("warnings: %q", line.Warnings)
	}
}

func TestWithoutSettingsThereIsNoChannel(t *testing.T) {
	lines, err := Open(settings(), ample)
	if err != nil || len(lines) != 0 {
		t.Errorf("%d channels, %v; want none", len(lines), err)
	}
}
