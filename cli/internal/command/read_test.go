package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// noon is far ahead, so that nothing in the sample is ever too old.
var noon = time.Date(2099, 11, 22, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return noon.Add(time.Duration(seconds * float64(time.Second)))
}

// A sample is a system that is filled with messages.
type sample struct {
	*bustest.Server
	t     *testing.T
	audit jetstream.MessagesContext
}

// newSample has an incident in each state, a pause, and two dead letters.
func newSample(t *testing.T) *sample {
	t.Helper()
	s := &sample{Server: bustest.Listen(t), t: t}
	b := s.Bus(t, "analyzer")
	js := s.JetStream(t)
	for _, p := range overview.Places {
		s.consumer(p.Stream, p.Consumer)
	}
	s.consumer(bus.Notifications.Stream, "notifier-slack")
	stream, err := js.Stream(t.Context(), bus.Audit[0])
	if err != nil {
		t.Fatal(err)
	}
	cons, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if s.audit, err = cons.Messages(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.audit.Stop)
	s.fill(b)
	return s
}

func (s *sample) consumer(stream, name string) {
	s.t.Helper()
	_, err := s.JetStream(s.t).CreateConsumer(s.t.Context(), stream, jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		s.t.Fatal(err)
	}
}

// put stores a message as of a time. One that is on record is waited for
// there, as the audit stream promises no order between its sources.
func put[T heal.Payload](s *sample, seconds float64, service string, data T) {
	s.t.Helper()
	body, err := json.Marshal(heal.NewEvent(data, bustest.Cluster, service, at(seconds)))
	if err != nil {
		s.t.Fatal(err)
	}
	head := data.Head()
	s.PublishRaw(s.t, head.Subject(bustest.Cluster), map[string][]string{"Nats-Msg-Id": {head.ID}}, body)
	switch any(data).(type) {
	case heal.DeadLetter, heal.Notification:
	default:
		if _, err := s.audit.Next(jetstream.NextMaxWait(10 * time.Second)); err != nil {
			s.t.Fatalf("%s is not on record: %v", head.ID, err)
		}
	}
}

// crash is a pod of a Deployment that crashes.
func crash(name string, seconds float64) heal.Failure {
	pod := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name + "-7d9f6c-x2kpl", UID: "uid-of-" + name}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: name, UID: "uid-of-the-" + name}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod.Name, Namespace: pod.Namespace,
		Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1", Timestamp: heal.Unix{Time: at(seconds)},
		Target: pod, Owner: owner, Detector: "crash_loop", EpisodeID: heal.ID("e", name), Occurrence: 1, FirstSeen: at(seconds - 4),
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, pod, owner, "api", "CrashLoopBackOff"),
	}
}

// decide is a decision about a failure that is to be carried out.
func decide(f heal.Failure, strategy heal.Strategy) heal.Decision {
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type, Severity: heal.High, BaseSeverity: f.Severity, SimilarFailures: 2,
		Strategy: strategy, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: f.Timestamp.Add(5 * time.Minute), Target: f.Target, Cause: heal.Cause{Kind: heal.CauseUnknown},
		Policy:      heal.PolicyRef{Name: "default", Revision: "sha256:00", Rule: "pod_failure/high"},
		Explanation: heal.Explanation{Summary: string(strategy) + " " + f.Target.String()}, Failure: f,
	}
}

func (s *sample) fill(b *bus.Bus) {
	s.t.Helper()
	healed := crash("checkout", 0)
	put(s, 0, "watcher", healed)
	d := decide(healed, heal.Recreate)
	put(s, 1, "analyzer", d)
	put(s, 32, "actuator", heal.Result{
		Decision: d, Outcome: heal.Succeeded, Reason: "Verified", Message: "checkout-7d9f6c-9fjq2 is Ready", Attempt: 1, StartedAt: at(2), Duration: 29.3,
		Steps: []heal.Step{{Name: "evict", Status: heal.StepOK, Milliseconds: 41}},
	})
	healed.ResolvedAt = at(20)
	put(s, 33, "watcher", healed)

	waits := crash("cart", 40)
	put(s, 40, "watcher", waits)
	d = decide(waits, heal.Restart)
	d.Mode = heal.ModeApprove
	put(s, 41, "analyzer", d)

	acting := crash("catalog", 50)
	put(s, 50, "watcher", acting)
	d = decide(acting, heal.Restart)
	d.Mode = heal.ModeApprove
	put(s, 51, "analyzer", d)
	put(s, 52, "selfheal", heal.Approval{DecisionID: d.ID, Approved: true, By: "ann@laptop", Reason: "looked at it", At: at(52)})

	given := crash("web", 60)
	put(s, 60, "watcher", given)
	d = decide(given, heal.Restart)
	d.Reason, d.Guards = heal.ReasonGivenUp, []heal.Verdict{{Name: "attempts", Reason: heal.ReasonGivenUp, Detail: "3 tries did not help"}}
	d.Explanation.Summary = "3 tries did not help: a person must look"
	put(s, 61, "analyzer", d)

	node := heal.Target{APIVersion: "v1", Kind: "Node", Name: "ip-10-0-3-17.internal", UID: "uid-of-node"}
	open := heal.Failure{
		Type: heal.NodeFailure, Reason: "NodeNotReady", Severity: heal.Critical, ResourceName: node.Name, Description: "the kubelet stopped posting node status",
		Timestamp: heal.Unix{Time: at(70)}, Target: node, Detector: "node_not_ready", EpisodeID: heal.ID("e", "node"), Occurrence: 3, FirstSeen: at(5),
		Fingerprint: heal.MakeFingerprint(heal.NodeFailure, node, heal.Target{}, "", "NodeNotReady"),
	}
	put(s, 70, "watcher", open)
	d = decide(open, heal.DrainAndReplace)
	d.Severity, d.Reason = heal.Critical, "Storm"
	d.Guards = []heal.Verdict{{Name: "storm", Reason: "Storm", Detail: "2 of 4 nodes are unhealthy"}}
	d.Explanation.Summary = "not carried out: 2 of 4 nodes are unhealthy"
	put(s, 71, "analyzer", d)
	put(s, 72, "actuator", heal.Result{Decision: d, Outcome: heal.Skipped, Reason: "Storm", Message: "2 of 4 nodes are unhealthy", StartedAt: at(72)})

	over := crash("search", 80)
	over.Description = "=cmd|' /C calc'!A0 \x1b[31mred"
	put(s, 80, "watcher", over)
	over.ResolvedAt = at(85)
	put(s, 85, "watcher", over)

	put(s, 90, "selfheal", heal.Control{Verb: heal.Pause, By: "ann@laptop", Reason: "the database moves", At: at(90), Until: at(3690)})

	again, err := json.Marshal(heal.NewEvent(crash("late", 95), bustest.Cluster, "watcher", at(95)))
	if err != nil {
		s.t.Fatal(err)
	}
	put(s, 96, "analyzer", heal.DeadLetter{
		Stage: "analyzer", Reason: heal.DeadBadMessage, Error: "bad-json: offset 1: invalid character", Stream: bus.Failures.Stream,
		Subject: "selfheal.v1.test.failures.pod_failure.shop.pod.evil", Sequence: 7, Delivered: 1,
		Headers: map[string][]string{"Nats-Msg-Id": {"f-7"}, "X-Evil": {"\x1b[2J"}}, Body: []byte("{\x1b[31mnot json"),
	})
	put(s, 97, "analyzer", heal.DeadLetter{
		Stage: "analyzer", Reason: heal.DeadPoison, Error: "delivered 9 times, last error: no answer", Stream: bus.Failures.Stream,
		Subject: crash("late", 95).Head().Subject(bustest.Cluster), Sequence: 8, Delivered: 9,
		Headers: map[string][]string{"Nats-Msg-Id": {"f-8"}, "Content-Type": {heal.ContentType}}, Body: again,
	})
	o := heal.Observer{ID: "w-1", State: heal.ObserverClear, Since: at(0), SeenAt: at(90)}
	if _, err := bus.NewStore[heal.Observer](b, bus.ObserversBucket).Create(s.t.Context(), "w-1", o); err != nil {
		s.t.Fatal(err)
	}
}

// run runs a command against the sample, with what differs from run to run
// written as it might be.
func (s *sample) run(args ...string) (string, error) {
	s.t.Helper()
	out, err := execute(s.t, append(args, "--nats-url", s.URL(), "--cluster", bustest.Cluster)...)
	return s.steady(out), err
}

var versions = regexp.MustCompile(`\b2\.\d+\.\d+\b`)

// storedAt is when the server took a dead letter, which is when the test runs.
var storedAt = regexp.MustCompile(`"stored": "[^"]+"`)

func (s *sample) steady(out string) string {
	out = storedAt.ReplaceAllString(out, `"stored": "now"`)
	return versions.ReplaceAllString(strings.ReplaceAll(out, s.URL(), "nats://127.0.0.1:4222"), "2.15.2")
}

const begin = "2026-01-01T00:00:00Z" // before anything was stored

func TestWhatIsPrintedOfASystem(t *testing.T) {
	s := newSample(t)
	for file, line := range map[string]string{
		"status.txt":         "status --since " + begin,
		"status.json":        "status -o json --since " + begin,
		"status.yaml":        "status -o yaml --since " + begin,
		"incidents.txt":      "get incidents --since " + begin,
		"incidents.json":     "get incidents -o json --since " + begin,
		"incidents.yaml":     "get incidents -o yaml -n shop --open --since " + begin,
		"incidents.ndjson":   "get incidents -o ndjson --since " + begin,
		"failures.txt":       "get failures --since " + begin,
		"decisions.txt":      "get decisions --since " + begin,
		"decisions_open.txt": "get decisions --open -A --since " + begin,
		"results.txt":        "get results --since " + begin,
		"result.json":        "get result -o json --since " + begin + " " + heal.MakeDecisionID(crash("checkout", 0)),
		"audit.txt":          "audit --since " + begin,
		"audit_incident.txt": "audit --since " + begin + " --incident " + crash("catalog", 50).IncidentID(),
		"audit.json":         "audit -o json -n shop --since " + begin,
		"audit.ndjson":       "audit -o ndjson --since " + begin,
		"audit.csv":          "audit -o csv --since " + begin,
		"dlq_list.txt":       "dlq list",
		"dlq_list.json":      "dlq list -o json",
		"dlq_show.txt":       "dlq show 1",
		"dlq_body.txt":       "dlq show 1 --body",
	} {
		t.Run(file, func(t *testing.T) {
			out, err := s.run(strings.Fields(line)...)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out, "\x1b") != (file == "dlq_body.txt") {
				t.Errorf("an escape sequence gets through: %q", out)
			}
			golden(t, filepath.Join("read", file), out)
		})
	}
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	s := bustest.Listen(t)
	s.Bus(t, "analyzer")
	for line, want := range map[string]string{
		"get incidents":         "no incidents on cluster test\n",
		"get incidents -o json": "{\n  \"items\": []\n}\n",
		"audit":                 "nothing is on record for cluster test\n",
		"dlq list":              "no message of cluster test was given up\n",
		"dlq drop --all":        "no message of cluster test was given up\n",
	} {
		out, err := execute(t, append(strings.Fields(line), "--nats-url", s.URL(), "--cluster", "test")...)
		if err != nil || out != want {
			t.Errorf("%s prints %q, %v; want %q", line, out, err, want)
		}
	}
	for line, want := range map[string]string{
		"get incident i-none": "no incident i-none since ",
		"dlq show 5":          "no dead letter of cluster test has the number 5",
	} {
		_, err := execute(t, append(strings.Fields(line), "--nats-url", s.URL(), "--cluster", "test")...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestADeadLetterIsReplayedOnceAndDropped(t *testing.T) {
	s := newSample(t)
	if out, err := s.run("dlq", "replay", "2"); err != nil || !strings.HasPrefix(out, "replayed 2 to selfheal.v1.test.failures.pod_failure.shop.pod.late") {
		t.Fatalf("printed %q, %v", out, err)
	}
	if _, err := s.audit.Next(jetstream.NextMaxWait(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	out, err := s.run("get", "failures", "--since", begin, "-o", "ndjson")
	if err != nil || !strings.Contains(out, "late-7d9f6c-x2kpl") {
		t.Errorf("it is not back: %v\n%s", err, out)
	}
	if out, err := s.run("dlq", "drop", "1"); err != nil || out != "dropped 1: BadMessage of analyzer\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	if out, err := s.run("dlq", "list"); err != nil || out != "no message of cluster test was given up\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}

// lines runs a command that goes on until the test has read what it wants.
func (s *sample) lines(args ...string) (next func() string, end func() error) {
	s.t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(s.t.Context())
	root := newRoot()
	root.SetOut(w)
	root.SetArgs(append(args, "--nats-url", s.URL(), "--cluster", bustest.Cluster))
	ended := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(ctx)
		w.CloseWithError(io.EOF)
		ended <- err
	}()
	var left string
	buf := make([]byte, 1<<16)
	next = func() string {
		for !strings.Contains(left, "\n") {
			n, err := r.Read(buf)
			if err != nil {
				return left
			}
			left += string(buf[:n])
		}
		line, rest, _ := strings.Cut(left, "\n")
		left = rest
		return line
	}
	return next, func() error {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, r) }()
		return <-ended
	}
}

func TestWhatComesLaterIsPrintedAsItComes(t *testing.T) {
	s := newSample(t)
	late := crash("late", 100)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "failures", "-w", "--since", begin}, late.Target.String()},
		{[]string{"get", "failures", "-w", "-o", "json", "--since", begin}, `"resource_name":"late-7d9f6c-x2kpl"`},
		{[]string{"audit", "--follow", "--since", begin}, late.Target.String()},
		{[]string{"watch", "--since", begin}, "shop/" + late.Target.Name},
	} {
		next, end := s.lines(tt.args...)
		first := next() // it is under way
		if first == "" {
			t.Fatalf("%v prints nothing", tt.args)
		}
		put(s, 100, "watcher", late)
		late.Occurrence++
		for line := next(); !strings.Contains(line, tt.want); line = next() {
			if line == "" {
				t.Fatalf("%v ended without %q", tt.args, tt.want)
			}
		}
		if err := end(); err != nil {
			t.Errorf("%v: %v", tt.args, err)
		}
	}
}

func TestMistakesOfReadersAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		"get":                             "get what? One of incidents, failures, decisions, results",
		"get pods":                        `"pods" is nothing to get; want one of incidents, failures, decisions, results`,
		"get incidents a b":               `unexpected argument "b": one id at a time`,
		"get incidents -o xml":            `-o "xml": want one of table, json, yaml, ndjson`,
		"get incidents -A -n shop":        "-A and -n shop: give one of them",
		"get incidents --since yesterday": `--since "yesterday": want a span such as 90m, 24h or 7d, or a time such as 2026-11-22T12:00:00Z`,
		"audit --since -1h":               `--since "-1h": want a span such as 90m, 24h or 7d, or a time such as 2026-11-22T12:00:00Z`,
		"audit -o json --follow":          "-o json --follow: a list that never ends is not JSON; want -o ndjson",
		"dlq show":                        "which dead letter? Give its number; `selfheal dlq list` shows it",
		"dlq show 1 2":                    `unexpected argument "2": one dead letter at a time`,
		"dlq drop x":                      `"x" is not a dead letter's number, such as 3`,
		"dlq drop --all 1":                "--all and 1: give one of them",
		"dlq lst":                         `unknown command "lst"; did you mean "list"?`,
		"completion":                      "which shell? One of bash, zsh, fish",
		"completion tcsh":                 `shell "tcsh": want one of bash, zsh, fish`,
		"demo run nothing":                `scenario "nothing" is not known; want one of crashing-pod, dying-node, stalled-rollout, bad-image`,
		"status --nats-context none":      `nats context "none": `,
		"status --nats-context a --nats-url nats://x": "--nats-url and --nats-context: give one of them",
	} {
		_, err := execute(t, strings.Fields(line)...)
		var usage usageError
		if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want the usage error %q", line, err, want)
		}
	}
}

func TestAContextOfTheNatsCommandLineSaysWhereNATSIs(t *testing.T) {
	s := bustest.Listen(t)
	s.Bus(t, "analyzer")
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	dir := filepath.Join(home, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "prod.json"), []byte(`{"url":`+strconv.Quote(s.URL())+`}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "no message of cluster test was given up\n"
	if out, err := execute(t, "dlq", "list", "--cluster", "test", "--nats-context", "prod"); err != nil || out != want {
		t.Errorf("printed %q, %v", out, err)
	}
	t.Setenv("NATS_CONTEXT", "prod")
	if out, err := execute(t, "dlq", "list", "--cluster", "test"); err != nil || out != want {
		t.Errorf("printed %q, %v", out, err)
	}
	_, err := execute(t, "dlq", "list", "--nats-context", "staging")
	if err == nil || !strings.Contains(err.Error(), "there is prod") {
		t.Errorf("got %v", err)
	}
}

func TestTheSettingsAreShownWithTheirOrigin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte("mode: observe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DRY_RUN", "true")
	t.Setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/secret")
	args := []string{"config", "view", "--changed", "--config", file, "--recovery-timeout", "90s"}
	for form, name := range map[string]string{"table": "config.txt", "json": "config.json", "yaml": "config.yaml"} {
		out, err := execute(t, append(args, "--show-origin", "-o", form)...)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "secret") {
			t.Errorf("a secret gets out:\n%s", out)
		}
		golden(t, filepath.Join("read", name), strings.ReplaceAll(out, file, "settings.yaml"))
	}
	out, err := execute(t, append(args, "-o", "json")...)
	var values map[string]string
	if err != nil || json.Unmarshal([]byte(out), &values) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := map[string]string{"dry_run": "true", "mode": "observe", "recovery_timeout": "1m30s", "slack_webhook_url": "***"}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if got := Main([]string{"config", "view", "--mode", "ACT"}); got != exitUsage {
		t.Errorf("exit code %d, want %d", got, exitUsage)
	}
}

func TestEveryShellGetsItsCompletion(t *testing.T) {
	for _, shell := range shells {
		out, err := execute(t, "completion", shell.name)
		if err != nil || !strings.Contains(out, "selfheal") || len(out) < 1000 {
			t.Errorf("%s: %d characters, %v", shell.name, len(out), err)
		}
	}
	out, err := execute(t, "__complete", "get", "")
	if err != nil || !strings.HasPrefix(out, "incidents\nfailures\ndecisions\nresults\n") {
		t.Errorf("completes %q, %v", out, err)
	}
}

func TestTheScenariosOfTheDemoAreListed(t *testing.T) {
	out, err := execute(t, "demo", "list")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("read", "demo_list.txt"), out)
}

// measured is what differs from one look at a server to the next.
var measured = regexp.MustCompile(`[0-9.]+(µs|ms|s) (away|ahead of|behind)( this machine's)?`)

func TestTheDoctorSaysWhatIsWrongAndHowToMendIt(t *testing.T) {
	s := newSample(t)
	js := s.JetStream(t)
	if err := js.DeleteConsumer(t.Context(), bus.Failures.Stream, "analyzer"); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "KV_"+bus.ActionsBucket.Name); err != nil {
		t.Fatal(err)
	}
	for form, file := range map[string]string{"table": "doctor.txt", "json": "doctor.json"} {
		out, err := s.run("doctor", "--no-kubernetes", "-o", form)
		if !errors.Is(err, errSilent) {
			t.Errorf("it ends with %v, want the exit code for a failure", err)
		}
		out = measured.ReplaceAllString(out, "1ms $2$3")
		out = strings.ReplaceAll(out, "1ms behind", "1ms ahead of")
		out = regexp.MustCompile(`since 20\d\d-[0-9T:-]+Z`).ReplaceAllString(out, "since 2026-11-21T12:00:00Z")
		golden(t, filepath.Join("read", file), out)
	}
}

func TestTheDocumentationOfTheCommandLineIsWhatHelpSays(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "cli.md")
	live, err := os.ReadFile(filepath.Join("testdata", "watch.screen"))
	if err != nil {
		t.Fatal(err)
	}
	got := markdown(string(live))
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/cli.md is out of date; `go test ./internal/command -update` in cli writes it (-want +got):\n%s", diff)
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	walk(newRoot(), func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" && c.Name() != "version" {
			t.Errorf("%s has no help", c.CommandPath())
		}
		if c.Example == "" && !c.HasSubCommands() && c.Name() != "version" {
			t.Errorf("%s has no example", c.CommandPath())
		}
	})
}
