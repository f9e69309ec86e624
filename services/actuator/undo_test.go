package actuator_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// answers listens to what becomes of undoing. What is returned asks for it, and
// waits for the answer.
func (r *rig) answers() (undo func(decision string) heal.Control) {
	r.t.Helper()
	var mu sync.Mutex
	var all []heal.Control
	listener := r.server.Bus(r.t, "notifier")
	r.background(func(ctx context.Context) error {
		return bus.Controls.Consume(ctx, listener, bus.Consumer{Name: "answers"}, func(_ context.Context, m bus.Message[heal.Control]) error {
			mu.Lock()
			defer mu.Unlock()
			if m.Data.Verb == heal.TakenBack {
				all = append(all, m.Data)
			}
			return nil
		})
	})
	return func(decision string) (answer heal.Control) {
		r.t.Helper()
		mu.Lock()
		before := len(all)
		mu.Unlock()
		r.control(heal.Control{Verb: heal.TakeBack, DecisionID: decision})
		kubetest.Eventually(r.t, 30*time.Second, func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if i := slices.IndexFunc(all[before:], func(c heal.Control) bool { return c.DecisionID == decision }); i >= 0 {
				answer = all[before+i]
				return nil
			}
			return fmt.Errorf("no answer about %s", decision)
		})
		return answer
	}
}

func TestACordonIsTakenBackWhenAPersonAsks(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 3 * time.Second
	r.start(cfg)
	r.start(cfg) // which of them does it does not matter
	undo := r.answers()
	a, _ := r.nodes()
	d := drainOf(r.down(a))
	if res := r.carryOut(d); res.Undo == nil {
		t.Fatalf("nothing can be undone: %+v", res)
	}
	r.annotate("Node", a, heal.AnnotationMode, "off")
	if got := undo(d.ID); got.Outcome != heal.Rejected || !strings.HasPrefix(got.Reason, "MarkedOff: ") {
		t.Errorf("against a mark: %+v", got)
	}
	r.annotate("Node", a, heal.AnnotationMode, "")
	r.control(heal.Control{Verb: heal.Pause})
	kubetest.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := undo(d.ID); got.Outcome != heal.Rejected || !strings.HasPrefix(got.Reason, "Paused: ") {
			return fmt.Errorf("while acting is paused: %+v", got)
		}
		return nil
	})
	if n := r.node(a); !n.Spec.Unschedulable {
		t.Error("it was uncordoned though that was refused")
	}
	r.control(heal.Control{Verb: heal.Resume})
	kubetest.Eventually(t, 20*time.Second, func(context.Context) error {
		if got := undo(d.ID); got.Outcome != heal.Succeeded {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if n := r.node(a); n.Spec.Unschedulable || n.Annotations[heal.AnnotationDecisionID] != "" || n.Annotations[guard.AnnotationUncordonSeen] == "" {
		t.Errorf("unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
	}
	if got := undo(d.ID); got.Outcome != heal.Rejected || !strings.HasPrefix(got.Reason, "ChangedSince: ") {
		t.Errorf("a second time: %+v", got)
	}
	// A person has said no: hands off.
	if res := r.carryOut(drainOf(r.node(a))); res.Reason != "UncordonedByOther" {
		t.Errorf("decided again: %v: %s", end(res), res.Message)
	}
}

func TestAFailoverIsTakenBackWhenAPersonAsksAndSomebodyAnswersThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.FailBack = time.Hour
	r.start(cfg)
	undo := r.answers()
	s, sick := r.service(1, standby)
	res := r.carryOut(serviceDecision(s, heal.Failover))
	if got := undo(res.Decision.ID); got.Outcome != heal.Rejected || !strings.HasPrefix(got.Reason, "PrimaryNotReady: ") {
		t.Errorf("while the primary is down: %+v", got)
	}
	if err := r.cluster.SetBehaviour(t.Context(), r.ns, sick.Name, ""); err != nil {
		t.Fatal(err)
	}
	r.until(sick, "Ready", isReady)
	if got := undo(res.Decision.ID); got.Outcome != heal.Succeeded {
		t.Errorf("%+v", got)
	}
	if selector, marks := r.selects(); selector["app"] != "primary" || len(marks) > 0 {
		t.Errorf("it selects %v, with the marks %v", selector, marks)
	}
}

func TestARollbackIsTakenBackUnlessSomebodyChangedTheTemplateSince(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change string // the image that somebody rolls out since
		want   heal.Outcome
		image  string
	}{
		"nobody did":   {"", heal.Succeeded, "shop/api:broken"},
		"somebody did": {"shop/api:broken-2", heal.Rejected, "shop/api:broken-2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			undo := r.answers()
			res := r.carryOut(about(r.stalled(), heal.Rollback))
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
			}
			if tt.change != "" {
				r.rollOut(tt.change)
			}
			if got := undo(res.Decision.ID); got.Outcome != tt.want {
				t.Errorf("%+v, want %s", got, tt.want)
			}
			if got := image(r.deployment()); got != tt.image {
				t.Errorf("it has the image %s, want %s", got, tt.image)
			}
		})
	}
}

func TestWhatWasNeverDoneIsNotUndone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	if got := r.answers()("d-0123456789abcdef"); got.Outcome != heal.Rejected || !strings.HasPrefix(got.Reason, "NothingToUndo: ") {
		t.Errorf("%+v", got)
	}
}
