package actuate

import (
	"errors"
	"testing"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func TestOfManyReplicasOneMayRollAWorkloadBack(t *testing.T) {
	server := bustest.Start(t)
	said := make(chan error, 12)
	target := heal.Target{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "0f3c-11"}
	for i := range cap(said) {
		s := &spending{taken: bus.NewStore[guard.Rollbacks](server.Bus(t, "actuator"), bus.ActionsBucket)}
		go func() { said <- s.rollback(t.Context(), heal.ID("d", string(rune('a'+i))), target, "hash") }()
	}
	allowed := 0
	for range cap(said) {
		err := <-said
		var refusal *guard.Refusal
		switch {
		case err == nil:
			allowed++
		case !errors.As(err, &refusal) || refusal.Reason != "RolledBackBefore":
			t.Errorf("refused with %v", err)
		}
	}
	if allowed != 1 {
		t.Errorf("%d were allowed, want 1", allowed)
	}
}

func TestARollbackThatWasNotMadeDoesNotCount(t *testing.T) {
	s := &spending{taken: bus.NewStore[guard.Rollbacks](bustest.New(t, "actuator"), bus.ActionsBucket)}
	target, another := heal.Target{Kind: "Deployment", Name: "web", UID: "u1"}, heal.Target{Kind: "Deployment", Name: "api", UID: "u2"}
	for _, step := range []struct {
		what string
		do   func() error
		ok   bool
	}{
		{"nothing to give back", func() error { return s.freeRollback(t.Context(), "d-1", target) }, true},
		{"the first", func() error { return s.rollback(t.Context(), "d-1", target, "a") }, true},
		{"it comes again", func() error { return s.rollback(t.Context(), "d-1", target, "a") }, true},
		{"another workload", func() error { return s.rollback(t.Context(), "d-2", another, "a") }, true},
		{"another decision", func() error { return s.rollback(t.Context(), "d-3", target, "b") }, false},
		{"which has nothing to give back", func() error { return s.freeRollback(t.Context(), "d-3", target) }, true},
		{"so it is still refused", func() error { return s.rollback(t.Context(), "d-3", target, "b") }, false},
		{"the first gives it back", func() error { return s.freeRollback(t.Context(), "d-1", target) }, true},
		{"and the other may", func() error { return s.rollback(t.Context(), "d-3", target, "b") }, true},
	} {
		if err := step.do(); (err == nil) != step.ok {
			t.Errorf("%s: %v", step.what, err)
		}
	}
}
