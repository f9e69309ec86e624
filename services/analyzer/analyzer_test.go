package analyzer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident/book"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// A pipeline is a server, what a test sees of it, and the analyzers on it.
type pipeline struct {
	srv     *bustest.Server
	watcher *bus.Bus
	decided chan heal.Decision // as they are told, each id once
	told    *tally
}

// tally counts messages by id, and so sees what is stored twice.
type tally struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (c *tally) add(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[id]++
	return c.n[id]
}

func (c *tally) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

func newPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{srv: bustest.Start(t), decided: make(chan heal.Decision, 10000), told: &tally{n: map[string]int{}}}
	for _, owner := range []string{"analyzer", "actuator", "notifier"} {
		p.srv.Bus(t, owner) // brings its streams
	}
	p.watcher = p.srv.Bus(t, "watcher")
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	listening.Go(func() {
		err := bus.Decisions.Consume(ctx, p.watcher, bus.Consumer{Name: "test", Workers: 1}, func(_ context.Context, m bus.Message[heal.Decision]) error {
			if m.Attempt == 1 && p.told.add(m.ID) == 1 {
				select {
				case p.decided <- m.Data:
				case <-ctx.Done(): // nobody takes any more
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("listen for decisions: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); listening.Wait() })
	return p
}

// analyzer starts an analyzer. It ends when stop is called, or with the test.
func (p *pipeline) analyzer(t *testing.T, cfg Config, deps Deps) (stop func()) {
	t.Helper()
	deps.Bus = p.srv.Bus(t, "analyzer")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, deps) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("the analyzer does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// crashing starts an analyzer that ends as if it was killed when crash is called:
// nothing that it has in hand reaches the server any more.
func (p *pipeline) crashing(t *testing.T, cfg Config) (crash func()) {
	t.Helper()
	b := p.srv.Bus(t, "analyzer")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = Run(ctx, cfg, Deps{Bus: b}) }) // whatever it says, it is dead
	crash = sync.OnceFunc(func() { b.Close(); cancel(); running.Wait() })
	t.Cleanup(crash)
	return crash
}

func (p *pipeline) announce(t *testing.T, f heal.Failure) {
	t.Helper()
	if err := bus.Failures.Publish(t.Context(), p.watcher, f); err != nil {
		t.Fatal(err)
	}
}

// copy stores an announcement that is stored already, as the stream takes one
// after its duplicate window: without the header that the window knows it by.
func (p *pipeline) copy(t *testing.T, f heal.Failure) {
	t.Helper()
	body, err := json.Marshal(heal.NewEvent(f, bustest.Cluster, "watcher", f.Timestamp.Time))
	if err != nil {
		t.Fatal(err)
	}
	p.srv.PublishRaw(t, f.Head().Subject(bustest.Cluster), map[string][]string{"Content-Type": {heal.ContentType}}, body)
}

func (p *pipeline) report(t *testing.T, d heal.Decision, o heal.Outcome) {
	t.Helper()
	r := heal.Result{Decision: d, Outcome: o, Reason: "Test", StartedAt: time.Now(), Attempt: 1}
	if err := bus.Results.Publish(t.Context(), p.watcher, r); err != nil {
		t.Fatal(err)
	}
}

// next is the next decision that is told.
func (p *pipeline) next(t *testing.T) heal.Decision {
	t.Helper()
	select {
	case d := <-p.decided:
		return d
	case <-time.After(patience):
		t.Fatal("no decision")
		return heal.Decision{}
	}
}

// await takes decisions until all of want are there.
func (p *pipeline) await(t *testing.T, want map[string]bool) map[string]heal.Decision {
	t.Helper()
	return p.awaitFor(t, want, patience)
}

func (p *pipeline) awaitFor(t *testing.T, want map[string]bool, patience time.Duration) map[string]heal.Decision {
	t.Helper()
	got := map[string]heal.Decision{}
	timeout := time.After(patience)
	for missing := len(want); missing > 0; {
		select {
		case d := <-p.decided:
			got[d.ID] = d
			if want[d.ID] {
				missing--
			}
		case <-timeout:
			t.Fatalf("%d of %d decisions are missing", missing, len(want))
		}
	}
	return got
}

// quiet waits until the analyzer has nothing in hand.
func (p *pipeline) quiet(t *testing.T) {
	t.Helper()
	js := p.srv.JetStream(t)
	for _, at := range []struct{ stream, consumer string }{{bus.Failures.Stream, "analyzer"}, {bus.Results.Stream, "analyzer-feedback"}} {
		eventually(t, at.consumer+" is done", func() bool {
			c, err := js.Consumer(t.Context(), at.stream, at.consumer)
			if err != nil {
				return false
			}
			info, err := c.Info(t.Context())
			return err == nil && info.NumPending == 0 && info.NumAckPending == 0
		})
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

var auto = Config{Mode: heal.ModeAuto}

func TestEveryAnnouncementEndsInOneDecision(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	want := map[string]bool{}
	var all []heal.Failure
	for i := range 60 {
		f := podFailure(fmt.Sprint("app", i%7), fmt.Sprint("e", i), 1, time.Now())
		if i%10 == 9 {
			f = nodeFailure(fmt.Sprint("n", i), time.Now())
		}
		all = append(all, f)
		want[heal.MakeDecisionID(f)] = true
		p.announce(t, f) // also before there is an analyzer
		if i == 30 {
			p.analyzer(t, auto, Deps{})
		}
		if i%3 == 0 {
			p.copy(t, f)
		}
	}
	got := p.await(t, want)
	for _, f := range all {
		p.copy(t, f)
	}
	p.quiet(t)
	for id, n := range p.told.all() {
		if n != 1 || !want[id] {
			t.Errorf("decision %s was told %d times (wanted: %v)", id, n, want[id])
		}
	}
	for _, d := range got {
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, letter := range p.srv.DeadLetters(t) {
		t.Errorf("dead letter: %s: %s", letter.Reason, letter.Error)
	}
}

func TestTheDecisionIsTracedBackToTheEventAsItsWriterNamedIt(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	f := podFailure("app", "e", 1, time.Now())
	e := heal.NewEvent(f, bustest.Cluster, "watcher", time.Now())
	e.ID, e.CorrelationID = "event-of-another-writer", "incident-of-another-writer"
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	p.srv.PublishRaw(t, f.Head().Subject(bustest.Cluster), nil, body)
	p.await(t, map[string]bool{heal.MakeDecisionID(f): true})
	found := errors.New("found")
	err = p.watcher.Tail(t.Context(), time.Time{}, func(m bus.Raw) error {
		if m.Stream != bus.Decisions.Stream {
			return nil
		}
		d, err := heal.Decode[heal.Decision](m.Data)
		if err != nil {
			return err
		}
		if d.CausationID != e.ID || d.CorrelationID != e.CorrelationID || d.Data.IncidentID != e.CorrelationID {
			t.Errorf("caused by %q in incident %q (data: %q), want %q in %q", d.CausationID, d.CorrelationID, d.Data.IncidentID, e.ID, e.CorrelationID)
		}
		return found
	})
	if !errors.Is(err, found) {
		t.Fatal(err)
	}
}

func TestSimilarFailuresAreCountedExactlyWhateverTheOrderOfWork(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	p.analyzer(t, auto, Deps{})
	want := map[string]bool{}
	for i := range 40 {
		f := podFailure("checkout", fmt.Sprint("e", i), 1, time.Now())
		want[heal.MakeDecisionID(f)] = true
		p.announce(t, f)
	}
	var counts []int
	acting := 0
	incidents := map[string]bool{}
	for _, d := range p.await(t, want) {
		counts = append(counts, d.SimilarFailures)
		incidents[d.IncidentID] = true
		if d.Acts() {
			acting++
		}
		if want := []heal.Severity{heal.Medium, heal.Medium, heal.High, heal.High, heal.Critical}[min(d.SimilarFailures, 4)]; d.Severity != want {
			t.Errorf("%d similar: %s, want %s", d.SimilarFailures, d.Severity, want)
		}
	}
	slices.Sort(counts)
	for i, n := range counts {
		if n != i {
			t.Fatalf("the counts are %v, want each of 0 to 39 once", counts)
		}
	}
	if acting != 1 || len(incidents) != 1 {
		t.Errorf("%d decisions act, in %d incidents; want 1 of each", acting, len(incidents))
	}
}

func TestAnalyzersThatDieLoseNothingAndDoubleNothing(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	want := map[string]bool{}
	announce := func(from, to int) {
		for i := from; i < to; i++ {
			// A third of them is about one fingerprint, where analyzers collide.
			app := "checkout"
			if i%3 > 0 {
				app = fmt.Sprint("app", i%20)
			}
			f := podFailure(app, fmt.Sprint("e", i/2), 1+i%2, time.Now())
			want[heal.MakeDecisionID(f)] = true
			p.announce(t, f)
			if i%5 == 0 {
				p.copy(t, f)
			}
		}
	}
	announce(0, 200)
	for round := range 3 {
		crash := p.crashing(t, auto)
		stop := p.analyzer(t, auto, Deps{})
		announce(200+100*round, 300+100*round)
		before := len(p.told.all())
		eventually(t, "some decisions more", func() bool { return len(p.told.all()) > before+20 || len(p.told.all()) == len(want) })
		crash()
		stop()
	}
	p.analyzer(t, auto, Deps{})
	decisions := p.await(t, want)
	p.quiet(t)
	for id, n := range p.told.all() {
		if n != 1 || !want[id] {
			t.Errorf("decision %s was told %d times (wanted: %v)", id, n, want[id])
		}
	}
	acting := map[string]int{}
	for _, d := range decisions {
		if d.Acts() {
			acting[d.Failure.Fingerprint]++
		}
	}
	for fingerprint, n := range acting {
		if n != 1 {
			t.Errorf("%d decisions about %s act, want 1 until its result", n, fingerprint)
		}
	}
}

func TestADecisionThatWasRecordedByWhoDiedIsToldAsItWasMade(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	f := podFailure("checkout", "e0", 1, time.Now())
	p.announce(t, f)
	stream, err := p.srv.JetStream(t).Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	// What an analyzer does before it tells, with a mode that nobody else has here.
	var made judgement
	err = book.New(p.srv.Bus(t, "analyzer")).Update(t.Context(), incident.GroupKey(f), func(g incident.Group) (incident.Group, bool) {
		g, made = testJudge(t, heal.ModeApprove).decideIn(g, occasion{failure: f, announced: m.Time, now: time.Now(), sight: clearly})
		return g, true
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewRegistry()
	p.analyzer(t, auto, Deps{Metrics: metrics})
	got := p.next(t)
	// What goes over the wire has its times without the monotonic clock.
	if diff := cmp.Diff(wire(t, got), wire(t, made.decision)); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	p.quiet(t)
	p.copy(t, f) // long after: the first copy was seen to
	p.quiet(t)
	if n := p.told.all()[got.ID]; n != 1 {
		t.Errorf("told %d times", n)
	}
	for name, value := range gather(t, metrics) {
		if strings.HasPrefix(name, "self_healing_decisions_total") {
			t.Errorf("%s is %v: whoever made the decision counted it", name, value)
		}
	}
}

func wire(t *testing.T, d heal.Decision) string {
	t.Helper()
	text, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAFailureIsFollowedFromFirstSightToResolved(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	metrics := prometheus.NewRegistry()
	p.analyzer(t, auto, Deps{Metrics: metrics})
	active := func() float64 { return gather(t, metrics)[`self_healing_active_failures{type="pod_failure"}`] }

	p.announce(t, podFailure("checkout", "e0", 1, time.Now()))
	first := p.next(t)
	if first.Strategy != heal.Restart || !first.Acts() {
		t.Fatalf("first: %s, %s", first.Strategy, first.Reason)
	}
	if n := active(); n != 1 {
		t.Errorf("%v active failures, want 1", n)
	}

	p.announce(t, podFailure("checkout", "e0", 2, time.Now()))
	held := p.next(t)
	if held.Strategy != heal.Monitor || held.Reason != heal.ReasonRecoveryUnderWay || held.IncidentID != first.IncidentID {
		t.Errorf("during the recovery: %s, %s", held.Strategy, held.Reason)
	}
	p.announce(t, podFailure("checkout", "e1", 1, time.Now()))
	other := p.next(t)
	if other.Strategy != heal.Restart || other.Reason != heal.ReasonRecoveryUnderWay || other.Acts() || other.SimilarFailures != 1 {
		t.Errorf("another episode during the recovery: %s, %s, %d similar", other.Strategy, other.Reason, other.SimilarFailures)
	}

	p.report(t, held, heal.Skipped) // of a decision that does not act: of no account
	p.report(t, first, heal.Failed)
	p.quiet(t)
	p.announce(t, podFailure("checkout", "e0", 3, time.Now()))
	again := p.next(t)
	if again.Strategy != heal.Recreate || again.Severity != heal.High || again.SimilarFailures != 2 || again.Reason != "Backoff" {
		t.Errorf("after the try failed: %s, %s, %d similar, %s", again.Strategy, again.Severity, again.SimilarFailures, again.Reason)
	}

	for _, episode := range []string{"e0", "e1"} {
		f := podFailure("checkout", episode, 3, time.Now())
		f.ResolvedAt = time.Now()
		p.announce(t, f)
	}
	p.quiet(t)
	if n := active(); n != 0 {
		t.Errorf("%v active failures, want 0", n)
	}
	p.announce(t, podFailure("checkout", "e2", 1, time.Now()))
	if next := p.next(t); next.IncidentID != first.IncidentID {
		t.Error("what fails after a try that did not help is another incident")
	}

	want := map[string]float64{
		`self_healing_failures_detected_total{severity="medium",type="pod_failure"}`:                                      2,
		`self_healing_failures_detected_total{severity="high",type="pod_failure"}`:                                        1,
		`self_healing_decisions_total{reason="SeverityTable",severity="medium",strategy="restart",type="pod_failure"}`:    1,
		`self_healing_decisions_total{reason="RecoveryUnderWay",severity="medium",strategy="monitor",type="pod_failure"}`: 1,
		`self_healing_decisions_total{reason="RecoveryUnderWay",severity="medium",strategy="restart",type="pod_failure"}`: 1,
		`self_healing_decisions_total{reason="Backoff",severity="high",strategy="recreate",type="pod_failure"}`:           2,
		`self_healing_guard_vetoes_total{guard="one_at_a_time"}`:                                                          1,
		`self_healing_guard_vetoes_total{guard="backoff"}`:                                                                2,
		`self_healing_active_failures{type="pod_failure"}`:                                                                1,
		`self_healing_active_failures{type="node_failure"}`:                                                               0,
		`self_healing_active_failures{type="service_failure"}`:                                                            0,
		`self_healing_active_failures{type="deployment_failure"}`:                                                         0,
		`self_healing_active_failures{type="resource_exhaustion"}`:                                                        0,
	}
	if diff := cmp.Diff(gather(t, metrics), want); diff != "" {
		t.Errorf("metrics (-got +want)\n%s", diff)
	}
}

// gather is what a scrape shows of our metrics, without the counters that are
// still zero: those exist from the start.
func gather(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetCounter() != nil && m.GetCounter().GetValue() == 0 {
				continue
			}
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			got[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func TestNoMoreDecisionsActInAMinuteThanThePolicyAllows(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	want := map[string]bool{}
	for i := range 50 {
		f := podFailure(fmt.Sprint("app", i), fmt.Sprint("e", i), 1, time.Now())
		f.Node = fmt.Sprint("n", i) // on one node, it would be the node's fault
		want[heal.MakeDecisionID(f)] = true
		p.announce(t, f)
	}
	acting := 0
	for _, d := range p.await(t, want) {
		if d.Acts() {
			acting++
		} else if d.Reason != "RateLimited" || d.Strategy != heal.Restart {
			t.Errorf("%s is %s, %s", d.Target, d.Strategy, d.Reason)
		}
	}
	if acting != 20 {
		t.Errorf("%d decisions act, want 20", acting)
	}
}

func TestModeObserveIsTheDefaultAndActsOnNothing(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, Config{}, Deps{})
	for n := 1; n <= 3; n++ {
		p.announce(t, podFailure("checkout", "e0", n, time.Now()))
		if d := p.next(t); d.Acts() || d.Strategy != heal.Restart || d.Reason != "ModeObserve" || d.Severity != heal.Medium {
			t.Errorf("occurrence %d: %s, %s, %s", n, d.Severity, d.Strategy, d.Reason)
		}
	}
}

func TestThePolicyFileDecides(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("name: quiet\nseverity: {pod_failure: low}\nguards: {protected_namespaces: [bank]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPipeline(t)
	p.analyzer(t, Config{Mode: heal.ModeAuto, PolicyFile: file}, Deps{})
	p.announce(t, podFailure("checkout", "e0", 1, time.Now()))
	if d := p.next(t); d.Strategy != heal.Monitor || d.Policy.Name != "quiet" || d.Policy.Rule != "pod_failure/low" || d.Reason != heal.ReasonSeverityTable {
		t.Errorf("%s by %+v, %s", d.Strategy, d.Policy, d.Reason)
	}
}

func TestSettingsThatCannotWorkAreTheSettingsFault(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("strategy: {pod_failure: {high: recreat}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := bustest.New(t, "analyzer")
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"a mode that there is not", Config{Mode: "bold"}, `mode: "bold" is not known; want observe, approve or auto`},
		{"no such policy file", Config{PolicyFile: bad + ".not"}, "policy_file: open"},
		{"a bad policy", Config{PolicyFile: bad}, `policy_file ` + bad + `: strategy.pod_failure.high: "recreat" is not known here; want one of monitor, restart, recreate, scale_and_replace; did you mean "recreate"?`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Run(t.Context(), tt.cfg, Deps{Bus: b})
			if !errors.Is(err, config.ErrSettings) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%v; want %q as an error of settings", err, tt.want)
			}
		})
	}
}

func TestTheAnalyzerSaysWhatItDid(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	var mu sync.Mutex
	checks := map[string]func() error{}
	var status func() map[string]any
	logged := make(chan map[string]any, 100)
	p.analyzer(t, auto, Deps{
		Log: slog.New(slog.NewJSONHandler(lines(logged), nil)),
		Check: func(field string, check func() error) {
			mu.Lock()
			defer mu.Unlock()
			checks[field] = check
		},
		Status: func(fields func() map[string]any) {
			mu.Lock()
			defer mu.Unlock()
			status = fields
		},
	})
	f := podFailure("checkout", "e0", 1, time.Now())
	p.announce(t, f)
	d := p.next(t)
	p.quiet(t)
	mu.Lock()
	defer mu.Unlock()
	if err := checks["monitoring_active"](); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if diff := cmp.Diff(status(), map[string]any{"failures_detected": int64(1), "decisions_made": int64(1), "signing_key": ""}); diff != "" {
		t.Errorf("status (-got +want)\n%s", diff)
	}
	for line := range logged {
		if line["msg"] != "decision made" {
			continue
		}
		for key, want := range map[string]any{"decision": d.ID, "incident": d.IncidentID, "failure": f.EventID(), "strategy": "restart", "reason": "SeverityTable", "acts": true} {
			if line[key] != want {
				t.Errorf("the log says %s=%v, want %v", key, line[key], want)
			}
		}
		return
	}
}

// lines hands on each JSON line that is written.
type lines chan<- map[string]any

func (l lines) Write(line []byte) (int, error) {
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return 0, err
	}
	l <- fields
	return len(line), nil
}

func TestTheServiceRunsAsADaemon(t *testing.T) {
	t.Parallel()
	srv := bustest.Listen(t)
	watcher := srv.Bus(t, "watcher")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	settings := config.Settings{NATSURL: srv.URL(), Cluster: bustest.Cluster, Mode: "auto", RecoveryTimeout: 5 * time.Minute}
	go func() { ended <- daemon.Run(ctx, Service(), settings, slog.New(slog.DiscardHandler)) }()

	if err := bus.Failures.Publish(t.Context(), watcher, podFailure("checkout", "e0", 1, time.Now())); err != nil {
		t.Fatal(err)
	}
	decided, stop := make(chan heal.Decision, 1), make(chan error, 1)
	go func() {
		stop <- bus.Decisions.Consume(ctx, watcher, bus.Consumer{Name: "test"}, func(_ context.Context, m bus.Message[heal.Decision]) error {
			decided <- m.Data
			return nil
		})
	}()
	select {
	case d := <-decided:
		if d.Mode != heal.ModeAuto || !d.Acts() {
			t.Errorf("mode %s, acts: %v", d.Mode, d.Acts())
		}
	case err := <-ended:
		t.Fatalf("ended early: %v", err)
	case <-time.After(patience):
		t.Fatal("no decision")
	}
	cancel()
	for _, c := range []chan error{ended, stop} {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
}

func TestOurNamespacesAreProtected(t *testing.T) {
	tests := []struct {
		servers string
		want    []string
	}{
		{"nats://127.0.0.1:4222", nil},
		{"nats://nats:4222", nil},
		{"nats://nats.prod.example.com:4222", nil},
		{"nats://nats.messaging.svc:4222", []string{"messaging"}},
		{"nats://n-0.messaging.svc.cluster.local:4222, tls://n-1.messaging.svc.cluster.local:4222, nats://x.other.svc", []string{"messaging", "other"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(daemon.NATSNamespaces(tt.servers), tt.want); diff != "" {
			t.Errorf("%s (-got +want)\n%s", tt.servers, diff)
		}
	}
	if cfg := fromSettings(config.Settings{}); !slices.Contains(cfg.Protected, heal.Product) {
		t.Errorf("protected: %v", cfg.Protected)
	}
}
