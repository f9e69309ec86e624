package analyzer

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// noted waits until a board says what is asked for.
func (p *pipeline) noted(t *testing.T, key, what string, done func(incident.Board) bool) {
	t.Helper()
	boards := bus.NewStore[incident.Board](p.watcher, bus.IncidentsBucket)
	eventually(t, what, func() bool {
		b, _, err := boards.Get(t.Context(), key)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			t.Fatal(err)
		}
		return done(b)
	})
}

// TestOneSymptomOfFiveCausesIsFiveDecisionsOfTheService announces five pods in
// CrashLoopBackOff, and around them what their causes are found by.
func TestOneSymptomOfFiveCausesIsFiveDecisionsOfTheService(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	pod := func(app, node string, change func(*heal.Failure)) heal.Failure {
		f := podFailure(app, app+"-1", 1, time.Now())
		f.Node = node
		if change != nil {
			change(&f)
		}
		return f
	}
	decided := func(f heal.Failure) heal.Decision {
		t.Helper()
		p.announce(t, f)
		return p.next(t)
	}

	// What goes on around: two others fail on the node n-bad, and the service db has no endpoints.
	db := serviceFailure("db", time.Now())
	decided(pod("cart", "n-bad", nil))
	decided(pod("search", "n-bad", nil))
	decided(db)
	around := incident.Surroundings(pod("x", "n-bad", nil))
	node, namespace := around.OnNode, around.Namespace
	p.noted(t, node, "the failures on the node are noted", func(b incident.Board) bool { return len(b.Going(time.Now())) == 2 })
	p.noted(t, namespace, "the service is noted", func(b incident.Board) bool { return b.Fails("shop/Service/db", time.Now()) })

	type want struct {
		Strategy   heal.Strategy
		Target     string
		Reason     string
		Cause      heal.CauseKind
		Parameters map[string]string
		Acts       bool
	}
	waiting := pod("waiting", "n3", func(f *heal.Failure) { f.Description += ": cannot reach db:5432" })
	tests := []struct {
		f    heal.Failure
		want want
	}{
		{pod("released", "n1", func(f *heal.Failure) {
			f.Metadata = map[string]string{"pod_template_hash": "new", "revision": "4", "newest_revision": "4", "workload_available": "3", "workload_updated": "1"}
		}), want{heal.Rollback, "shop/Deployment/released", "NewRevisionFails", heal.CauseRollout, map[string]string{}, true}},
		{pod("moved", "n-bad", nil),
			want{heal.Recreate, "shop/Pod/moved-moved-1", "NodeSuspected", heal.CauseNode, map[string]string{"suspect_node": "n-bad"}, true}},
		{waiting,
			want{heal.Monitor, "shop/Pod/waiting-waiting-1", "WaitsForDependency", heal.CauseDependency, map[string]string{"dependency": "shop/Service/db"}, false}},
		{pod("unset", "n4", func(f *heal.Failure) { f.Metadata = map[string]string{"missing": "Secret payments"} }),
			want{heal.Monitor, "shop/Pod/unset-unset-1", "ObjectMissing", heal.CauseConfig, map[string]string{"missing": "Secret payments"}, false}},
		{pod("cramped", "n5", func(f *heal.Failure) { f.Description += ": exceeded quota: small" }),
			want{heal.Monitor, "shop/Pod/cramped-cramped-1", "NoCapacity", heal.CauseCapacity, map[string]string{}, false}},
	}
	for _, tt := range tests {
		if tt.f.Reason != "CrashLoopBackOff" {
			t.Fatalf("%s has another symptom: %s", tt.f.Target, tt.f.Reason)
		}
		d := decided(tt.f)
		got := want{d.Strategy, d.Target.String(), d.Reason, d.Cause.Kind, maps.Clone(d.Parameters), d.Acts()}
		if diff := cmp.Diff(got, tt.want); diff != "" {
			t.Errorf("%s (-got +want)\n%s%q", tt.f.Target, diff, d.Explanation.Steps)
		}
	}

	// The dependency is back: who waited for it is woken.
	p.noted(t, namespace, "who waits is noted", func(b incident.Board) bool { return b.Fails("shop/Deployment/waiting", time.Now()) })
	p.announce(t, over(db))
	if d := p.next(t); d.Failure.EpisodeID != waiting.EpisodeID || d.Strategy != heal.Restart || d.Reason != "DependencyIsBack" || !d.Acts() {
		t.Errorf("once its dependency is back, %s: %s, %s, acts %v: %q", d.Target, d.Strategy, d.Reason, d.Acts(), d.Explanation.Steps)
	}
}
