package analyzer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident/book"
)

// dependent is a failure of a pod of shop/Deployment/<app> that names the service db.
func dependent(app string, n int) heal.Failure {
	f := podFailure(app, app+"-e", n, time.Now())
	f.Node = "n-" + app
	f.Description += ": cannot reach db:5432"
	return f
}

// waiting has a service fail, and so many dependents of it. It returns those,
// once all are known to wait.
func (p *pipeline) waiting(t *testing.T, db heal.Failure, dependents int) []heal.Failure {
	t.Helper()
	p.announce(t, db)
	p.next(t)
	space := incident.Surroundings(dependent("x", 1)).Namespace
	p.noted(t, space, "the service is noted", func(b incident.Board) bool { return b.Fails("shop/Service/db", time.Now()) })
	var all []heal.Failure
	for i := range dependents {
		f := dependent(fmt.Sprint("app", i), 1)
		p.announce(t, f)
		if d := p.next(t); d.Reason != "WaitsForDependency" {
			t.Fatalf("%s does not wait: %s, %s", d.Target, d.Strategy, d.Reason)
		}
		all = append(all, f)
	}
	p.noted(t, space, "all dependents are noted", func(b incident.Board) bool { return len(b.Waiters(time.Now())) == dependents })
	return all
}

func TestWhoWaitsIsJudgedTheMomentItsDependencyIsBack(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	db := serviceFailure("db", time.Now())
	all := p.waiting(t, db, 3)
	other := podFailure("other", "o", 1, time.Now()) // which waits for nothing
	other.Reason = "OOMKilled"
	other.Fingerprint = heal.MakeFingerprint(other.Type, other.Target, other.Owner, "api", other.Reason)
	p.announce(t, other)
	p.next(t)
	p.noted(t, incident.Beside(db), "it is noted", func(b incident.Board) bool { return len(b.Waiters(time.Now())) == 4 })

	want := map[string]bool{}
	for _, f := range all {
		f.Occurrence = 2
		want[heal.MakeDecisionID(f)] = true
	}
	back := over(db)
	p.announce(t, back) // and nothing else
	for _, d := range p.await(t, want) {
		if d.Reason != "DependencyIsBack" || d.Strategy != heal.Restart || !d.Acts() {
			t.Errorf("%s: %s, %s, acts %v", d.Target, d.Strategy, d.Reason, d.Acts())
		}
		if diff := cmp.Diff(d.Parameters, map[string]string{"dependency_back": "shop/Service/db"}); diff != "" {
			t.Errorf("parameters (-got +want)\n%s", diff)
		}
		step := "shop/Service/db is well again: judged at once, and not only at the next announcement"
		if !slices.Contains(d.Explanation.Steps, step) {
			t.Errorf("it does not say why now: %q", d.Explanation.Steps)
		}
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
	}

	// Neither the word once more, nor the announcement that was to come, brings
	// a second decision.
	p.copy(t, back)
	for _, f := range all {
		f.Occurrence, f.Timestamp = 2, heal.Unix{Time: time.Now()}
		p.announce(t, f)
	}
	p.quiet(t)
	for id, n := range p.told.all() {
		if n != 1 {
			t.Errorf("decision %s was told %d times", id, n)
		}
	}
	for len(p.decided) > 0 {
		d := p.next(t)
		t.Errorf("one more decision, about occurrence %d of %s: %s, %s", d.Failure.Occurrence, d.Target, d.Strategy, d.Explanation.Steps)
	}
}

func TestHowManyAreWokenAtOnceTheGuardsSay(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("guards: {actions_per_minute: 5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.analyzer(t, Config{Mode: heal.ModeAuto, PolicyFile: file}, Deps{})
	db := serviceFailure("db", time.Now())
	const dependents = 24
	all := p.waiting(t, db, dependents)
	p.announce(t, over(db))
	reasons := map[string]int{} // one action was the service's own
	for range dependents {
		reasons[p.next(t).Reason]++
	}
	if diff := cmp.Diff(reasons, map[string]int{"DependencyIsBack": 4, "RateLimited": dependents - 4}); diff != "" {
		t.Errorf("reasons (-got +want)\n%s", diff)
	}
	// Who was held back is still known to have waited.
	g, err := book.New(p.srv.Bus(t, "analyzer")).Group(t.Context(), incident.GroupKey(all[dependents-1]))
	if err != nil || g.Waits.For != "shop/Service/db" {
		t.Errorf("the last one waits for %q, %v", g.Waits.For, err)
	}
}

func TestWhoeverDiesOverWakingIsMadeUpFor(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	stop := p.analyzer(t, auto, Deps{})
	db := serviceFailure("db", time.Now())
	f := p.waiting(t, db, 1)[0]
	stop()
	p.announce(t, over(db))
	stream, err := p.srv.JetStream(t).Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	word, err := stream.GetLastMsgForSubject(t.Context(), db.Head().Subject(p.watcher.Cluster()))
	if err != nil {
		t.Fatal(err)
	}
	// What an analyzer does before it tells, with a mode that nobody else has here.
	var made judgement
	err = book.New(p.srv.Bus(t, "analyzer")).Update(t.Context(), incident.GroupKey(f), func(g incident.Group) (incident.Group, bool) {
		woken, waits := g.Wake("shop/Service/db", word.Time, time.Now())
		if !waits {
			t.Error("it does not wait")
		}
		g, made = testJudge(t, heal.ModeApprove).decideIn(g, occasion{failure: woken, announced: word.Time, now: time.Now(), sight: clearly, woken: "shop/Service/db"})
		return g, true
	})
	if err != nil {
		t.Fatal(err)
	}
	p.analyzer(t, auto, Deps{})
	if got := p.next(t); got.ID != made.decision.ID || got.Mode != heal.ModeApprove || got.Reason != "DependencyIsBack" {
		t.Errorf("%s, %s, %s: want the decision that was made, %s", got.ID, got.Mode, got.Reason, made.decision.ID)
	}
}

func TestWhatIsBackInOneWayAndFailsInAnotherWakesNobody(t *testing.T) {
	now := noon
	degraded := serviceFailure("db", now)
	degraded.Reason, degraded.EpisodeID = "EndpointsDegraded", "s-db-2"
	degraded.Fingerprint = heal.MakeFingerprint(degraded.Type, degraded.Target, degraded.Owner, "", degraded.Reason)
	var b incident.Board
	for _, f := range []heal.Failure{serviceFailure("db", now), degraded, podFailure("b", "b", 1, now.Add(time.Second)), podFailure("a", "a", 1, now)} {
		b, _ = b.Note(f, "i", now)
	}
	b, _ = b.Note(over(serviceFailure("db", now)), "", now)
	if !b.Fails("shop/Service/db", now) {
		t.Error("it is taken for well")
	}
	b, _ = b.Note(over(degraded), "", now)
	if b.Fails("shop/Service/db", now) {
		t.Error("it is taken for failing")
	}
	want := []string{incident.ObjectKey("shop", "Deployment", "a"), incident.ObjectKey("shop", "Deployment", "b")}
	if diff := cmp.Diff(b.Waiters(now), want); diff != "" {
		t.Errorf("who may wait, first who failed first (-got +want)\n%s", diff)
	}
	if key := incident.Beside(podFailure("a", "a", 1, now)); key != "" {
		t.Errorf("somebody is taken to wait for a pod: %s", key)
	}
}
