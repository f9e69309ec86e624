package analyzer

import (
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident/book"
)

var rebuildFailures = flag.Int("rebuild.failures", 2000, "failures on record from which what is remembered is rebuilt")

// rebuilt is what the streams say should be remembered.
func (p *pipeline) rebuilt(t *testing.T) book.Contents {
	t.Helper()
	m := newMemory(testJudge(t, heal.ModeAuto))
	if _, err := m.read(t.Context(), p.watcher, time.Time{}); err != nil {
		t.Fatal(err)
	}
	return m.contents(time.Now())
}

// held is what the bucket holds, without what was told since it was written.
func (p *pipeline) held(t *testing.T) book.Contents {
	t.Helper()
	c := book.Contents{Groups: map[string]incident.Group{}, Boards: map[string]incident.Board{}, Purses: map[string]incident.Purse{}}
	err := bus.NewStore[json.RawMessage](p.watcher, bus.IncidentsBucket).All(t.Context(), func(key string, v json.RawMessage, _ uint64) bool {
		into := func(v any, text json.RawMessage) {
			if err := json.Unmarshal(text, v); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		switch key[:2] {
		case "g-":
			var g incident.Group
			into(&g, v)
			var told []string
			for _, s := range g.States {
				for _, r := range s.Untold {
					told = append(told, r.Decision.ID)
				}
			}
			c.Groups[key] = g.Tell(told)
		case "b-":
			var b incident.Board
			into(&b, v)
			c.Boards[key] = b
		case "p-":
			var purse incident.Purse
			into(&purse, v)
			c.Purses[key] = purse
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// almost compares what is remembered but for what no stream tells to the
// millisecond: when this analyzer heard of something.
func almost() cmp.Options {
	const slack = 5 * time.Second
	millis := map[string]bool{"Heard": true, "Ended": true}
	return cmp.Options{
		cmpopts.EquateApproxTime(slack),
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b incident.History) bool {
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			return string(x) == string(y)
		}),
		cmp.FilterPath(func(p cmp.Path) bool {
			f, ok := p.Last().(cmp.StructField)
			return ok && millis[f.Name()] && f.Type().String() == "int64"
		}, cmp.Comparer(func(a, b int64) bool { return (a == 0) == (b == 0) && max(a-b, b-a) < slack.Milliseconds() })),
	}
}

func TestWhatIsRememberedIsRebuiltFromTheStreamsAsItWas(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	stop := p.analyzer(t, auto, Deps{})
	decided := func(f heal.Failure) heal.Decision {
		t.Helper()
		p.announce(t, f)
		return p.next(t)
	}
	on := func(app, episode string, n int, node string) heal.Failure {
		f := podFailure(app, episode, n, time.Now())
		f.Node = node
		return f
	}

	// A try that fails, one that helps, one that nobody knows the end of.
	first := decided(on("checkout", "c1", 1, "n1"))
	p.report(t, first, heal.Failed)
	p.quiet(t)
	decided(on("checkout", "c1", 2, "n1"))
	helped := decided(on("cart", "k1", 1, "n2"))
	p.report(t, helped, heal.Succeeded)
	p.quiet(t)
	p.announce(t, over(on("cart", "k1", 1, "n2")))
	p.quiet(t)
	decided(on("search", "s1", 1, "n3"))
	decided(on("search", "s2", 1, "n4"))
	decided(on("search", "s1", 2, "n3"))
	// A dead node with a pod that follows from it, and a dependency that another waits for.
	decided(nodeFailure("n9", time.Now()))
	decided(on("lost", "l1", 1, "n9"))
	db := serviceFailure("db", time.Now())
	decided(db)
	space := incident.Surroundings(on("x", "x", 1, "n1")).Namespace
	p.noted(t, space, "the service is noted", func(b incident.Board) bool { return b.Fails("shop/Service/db", time.Now()) })
	waits := on("waiting", "w1", 1, "n5")
	waits.Description += ": cannot reach db:5432"
	if d := decided(waits); d.Reason != "WaitsForDependency" {
		t.Fatalf("%s does not wait: %s", d.Target, d.Reason)
	}
	p.quiet(t)
	want := p.rebuilt(t)
	for key, board := range want.Boards {
		p.noted(t, key, "all is noted", func(b incident.Board) bool { return len(b.Entries) == len(board.Entries) })
	}
	stop()

	had := p.held(t)
	if len(had.Groups) != 7 {
		t.Fatalf("%d groups are remembered, want 7", len(had.Groups))
	}
	if diff := cmp.Diff(had.Groups, want.Groups, almost()); diff != "" {
		t.Errorf("groups (-as they were +as they are rebuilt)\n%s", diff)
	}
	if diff := cmp.Diff(had.Boards, want.Boards, almost()); diff != "" {
		t.Errorf("boards (-as they were +as they are rebuilt)\n%s", diff)
	}

	// The bucket is lost. The next analyzer goes on as if nothing had happened.
	p.forget(t)
	p.analyzer(t, auto, Deps{})
	again := decided(on("search", "s1", 3, "n3"))
	if again.Reason != heal.ReasonRecoveryUnderWay || again.SimilarFailures != 1 || again.IncidentID == "" {
		t.Errorf("a recovery that is under way was forgotten: %s, %s, %d similar", again.Strategy, again.Reason, again.SimilarFailures)
	}
	if next := decided(on("checkout", "c3", 1, "n1")); next.IncidentID != first.IncidentID || next.SimilarFailures != 2 || next.Reason != "Backoff" {
		t.Errorf("a try that failed was forgotten: %s, %s, %d similar", next.Strategy, next.Reason, next.SimilarFailures)
	}
	p.announce(t, over(db))
	if d := p.next(t); d.Failure.EpisodeID != waits.EpisodeID || d.Reason != "DependencyIsBack" {
		t.Errorf("who waited is not woken: %s, %s, %s", d.Target, d.Strategy, d.Reason)
	}
	waits.Occurrence, waits.Timestamp = 2, heal.Unix{Time: time.Now()}
	p.announce(t, waits)                   // which is decided
	p.copy(t, on("search", "s1", 2, "n3")) // the same
	p.quiet(t)
	for id, n := range p.told.all() {
		if n != 1 {
			t.Errorf("decision %s was told %d times", id, n)
		}
	}
}

// forget deletes all that is in the bucket, as an operator does.
func (p *pipeline) forget(t *testing.T) {
	t.Helper()
	js := p.srv.JetStream(t)
	if err := js.DeleteKeyValue(t.Context(), bus.IncidentsBucket.Name); err != nil {
		t.Fatal(err)
	}
	p.srv.Bus(t, "analyzer") // makes it anew
}

// TestManyFailuresAreRebuiltInSeconds takes -rebuild.failures=100000 for the
// figure that is asked for; the time is logged.
func TestManyFailuresAreRebuiltInSeconds(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	n := *rebuildFailures
	j := testJudge(t, heal.ModeAuto)
	began := time.Now()
	replay := NewReplay(ReplayConfig{Policy: j.policy})
	owners, js := max(1, n/50), p.srv.JetStream(t)
	record := func(head heal.Head, event any) { // soon, as a service does
		body, err := json.Marshal(event)
		if err == nil {
			_, err = js.PublishAsync(head.Subject(bustest.Cluster), body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		f := podFailure(fmt.Sprint("app", i%owners), fmt.Sprint("e", i), 1, began.Add(time.Duration(i-n)*time.Millisecond))
		f.Node = fmt.Sprint("n", i%500)
		d, made := replay.Take(Recorded{At: f.Timestamp.Time, Failure: &f})
		if !made {
			t.Fatalf("failure %d is not decided", i)
		}
		record(f.Head(), heal.NewEvent(f, bustest.Cluster, "watcher", f.Timestamp.Time))
		record(d.Head(), heal.NewEvent(d, bustest.Cluster, "analyzer", f.Timestamp.Time))
	}
	for _, stream := range []string{bus.Failures.Stream, bus.Decisions.Stream} {
		eventually(t, stream+" holds all", func() bool {
			s, err := js.Stream(t.Context(), stream)
			return err == nil && s.CachedInfo().State.Msgs == uint64(n)
		})
	}
	t.Logf("recorded in %s", time.Since(began).Round(time.Millisecond))

	b := p.srv.Bus(t, "analyzer")
	a, err := newAnalyzer(auto.withDefaults(), Deps{Bus: b})
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if err := a.rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	got := p.held(t)
	counted := 0
	for _, g := range got.Groups {
		for _, s := range g.States {
			similar, _ := s.History.Within(time.Now(), time.Hour)
			counted += similar
		}
	}
	if len(got.Groups) != owners || counted != n {
		t.Errorf("%d failures in %d groups are remembered, want %d in %d", counted, len(got.Groups), n, owners)
	}
	t.Logf("%d failures and decisions: %s", n, took.Round(time.Millisecond))
	began = time.Now()
	if err := a.rebuild(t.Context()); err != nil || time.Since(began) > took+time.Second {
		t.Errorf("it is rebuilt twice: %v", err)
	}
}
