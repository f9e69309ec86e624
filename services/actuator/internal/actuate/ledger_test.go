package actuate

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func newLedger(t *testing.T, lease time.Duration) ledger {
	t.Helper()
	return ledger{store: bus.NewStore[Record](bustest.New(t, "actuator"), bus.ActionsBucket), lease: lease}
}

func TestOnlyOneHoldsADecision(t *testing.T) {
	l := newLedger(t, time.Minute)
	first, err := l.claim(t.Context(), "d-1", "a")
	if err != nil {
		t.Fatal(err)
	}
	var busy errBusy
	if _, err := l.claim(t.Context(), "d-1", "b"); !errors.As(err, &busy) || busy.owner != "a" || busy.free <= 50*time.Second {
		t.Fatalf("second claim: %v", err)
	}
	if err := first.release(t.Context(), errors.New("connection refused")); err != nil {
		t.Fatal(err)
	}
	second, err := l.claim(t.Context(), "d-1", "b")
	if err != nil {
		t.Fatalf("claim after a release: %v", err)
	}
	if got := second.record().Trouble; got != "connection refused" {
		t.Errorf("trouble = %q", got)
	}
}

func TestASilentHolderLosesADecisionAndLearnsOfIt(t *testing.T) {
	l := newLedger(t, time.Minute)
	impatient := l
	impatient.lease = 0
	first, err := l.claim(t.Context(), "d-1", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.save(t.Context(), func(r *Record) { r.put(Step{Step: heal.Step{Name: "evict"}, Key: "evict u1", State: intended}) }); err != nil {
		t.Fatal(err)
	}
	second, err := impatient.claim(t.Context(), "d-1", "b")
	if err != nil {
		t.Fatal(err)
	}
	if got := second.record().find("evict u1"); got == nil || got.State != intended {
		t.Errorf("the second found %+v", got)
	}
	if err := first.save(t.Context(), func(*Record) {}); !errors.Is(err, errLost) {
		t.Errorf("the first wrote: %v", err)
	}
}

// forgetful is a store that does what it is told, and says that it did not.
type forgetful struct {
	Store[Record]
	lose atomic.Bool
}

func (f *forgetful) Update(ctx context.Context, key string, v Record, rev uint64) (uint64, error) {
	rev, err := f.Store.Update(ctx, key, v, rev)
	if f.lose.Swap(false) {
		return 0, errors.New("timeout")
	}
	return rev, err
}

func TestAWriteWhoseAnswerWasLostIsNotTakenForAnothers(t *testing.T) {
	l := newLedger(t, time.Minute)
	store := &forgetful{Store: l.store}
	l.store = store
	c, err := l.claim(t.Context(), "d-1", "a")
	if err != nil {
		t.Fatal(err)
	}
	store.lose.Store(true)
	if err := c.save(t.Context(), func(r *Record) { r.Counted = true }); err == nil {
		t.Fatal("the answer was not lost")
	}
	if err := c.save(t.Context(), func(*Record) {}); err != nil {
		t.Errorf("the next write: %v", err)
	}
	if rec, _, err := l.store.Get(t.Context(), "d-1"); err != nil || !rec.Counted {
		t.Errorf("record %+v, %v", rec, err)
	}
}

func TestAHolderKeepsWhatItHolds(t *testing.T) {
	l := newLedger(t, 400*time.Millisecond)
	c, err := l.claim(t.Context(), "d-1", "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c.keep(ctx, func(err error) { t.Errorf("lost: %v", err) })
	var busy errBusy
	if _, err := l.claim(t.Context(), "d-1", "b"); !errors.As(err, &busy) {
		t.Errorf("somebody else got it: %v", err)
	}
}

func TestTheBudgetsAreOneForAllReplicas(t *testing.T) {
	server := bustest.Start(t)
	replica := func() *spending {
		b := server.Bus(t, "actuator")
		return &spending{
			windows: bus.NewStore[guard.Window](b, bus.ActionsBucket), slots: bus.NewStore[slot](b, bus.ActionsBucket),
			limits: guard.Limits{Namespace: 3, Cluster: 5}, turn: make(chan struct{}, 1),
		}
	}
	replicas := []*spending{replica(), replica(), replica()}
	said := make(chan error, 60)
	for i := range cap(said) {
		ns := []string{"a", "b", "c"}[i%3]
		go func() { said <- replicas[i/3%3].pod(t.Context(), ns) }()
	}
	allowed := 0
	for range cap(said) {
		err := <-said
		var wait *action.Wait
		switch {
		case err == nil:
			allowed++
		case !errors.As(err, &wait) || wait.Refusal.Reason != "Budget" || wait.For <= 0:
			t.Errorf("refused with %v", err)
		}
	}
	if allowed != 5 {
		t.Errorf("%d were allowed, want 5", allowed)
	}
}

func TestAPodIsForOneDecisionAtATime(t *testing.T) {
	s := &spending{slots: bus.NewStore[slot](bustest.New(t, "actuator"), bus.ActionsBucket)}
	var refusal *guard.Refusal
	for _, step := range []struct {
		decision, uid string
		ok            bool
	}{{"d-1", "a", true}, {"d-1", "a", true}, {"d-2", "a", false}, {"d-2", "b", true}} {
		err := s.target(t.Context(), step.decision, step.uid)
		if (err == nil) != step.ok || !step.ok && (!errors.As(err, &refusal) || refusal.Outcome != heal.Skipped || refusal.Reason != "AlreadyActedOn") {
			t.Errorf("%s takes pod %s: %v", step.decision, step.uid, err)
		}
	}
}

func TestOneNodeAtATimeHasItsTurn(t *testing.T) {
	b := bustest.New(t, "actuator")
	s := &spending{slots: bus.NewStore[slot](b, bus.ActionsBucket)}
	steps := []struct {
		what string
		do   func() error
		ok   bool
	}{
		{"the first comes", func() error { return s.node(t.Context(), "d-1", "a") }, true},
		{"it stays", func() error { return s.node(t.Context(), "d-1", "a") }, true},
		{"another node waits", func() error { return s.node(t.Context(), "d-2", "b") }, false},
		{"another decision about the same node does not", func() error { return s.node(t.Context(), "d-3", "a") }, true},
		{"the first is no more the one to give it back", func() error { return s.freeNode(t.Context(), "d-1") }, true},
		{"so the other node still waits", func() error { return s.node(t.Context(), "d-2", "b") }, false},
		{"it is given back", func() error { return s.freeNode(t.Context(), "d-3") }, true},
		{"and taken", func() error { return s.node(t.Context(), "d-2", "b") }, true},
	}
	for _, step := range steps {
		if err := step.do(); (err == nil) != step.ok {
			t.Errorf("%s: %v", step.what, err)
		}
	}
}
