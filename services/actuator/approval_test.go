package actuator_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// asking is a config that asks a person first.
func asking() actuator.Config {
	cfg := quick()
	cfg.Mode = heal.ModeApprove
	cfg.ApprovalLook = 500 * time.Millisecond
	return cfg
}

// answer says what a person would by the command line.
func (r *rig) answer(d heal.Decision, approved bool, by string) {
	r.t.Helper()
	err := bus.Approvals.Publish(r.t.Context(), r.bus, heal.Approval{
		DecisionID: d.ID, Approved: approved, By: by, Reason: "looked at it", At: time.Now().UTC(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// asked waits until the decision waits for a person.
func (r *rig) asked(d heal.Decision) {
	r.t.Helper()
	kubetest.Eventually(r.t, 20*time.Second, func(ctx context.Context) error {
		_, err := r.admin.EventsV1().Events(r.ns).Get(ctx, d.ID+".ask", metav1.GetOptions{})
		return err
	})
}

// sickOne is a pod that is to be restarted, though not its Deployment's others.
func (r *rig) sickOne() *corev1.Pod {
	r.t.Helper()
	return r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
}

func approvalStep(res heal.Result) heal.Step {
	for _, s := range res.Steps {
		if s.Name == "approval" {
			return s
		}
	}
	return heal.Step{}
}

func TestADecisionWaitsForAPersonAndIsThenCarriedOutOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(asking())
	r.start(asking())
	d := restartOf(r.sickOne())
	r.publish(d)
	r.asked(d)
	r.noWrites()

	for _, by := range []string{"ann", "ben", "eve"} {
		r.answer(d, true, by)
	}
	res := r.result(d, time.Minute)

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if s := approvalStep(res); s.Status != heal.StepOK || !strings.HasPrefix(s.Detail, "approved by ") || !strings.HasSuffix(s.Detail, ": looked at it") {
		t.Errorf("step %+v does not say who approved", s)
	}
	r.settled()
	if got := r.told(d); got != 1 {
		t.Errorf("%d results, want 1", got)
	}
	if got := r.writes(); len(got) != 1 {
		t.Errorf("writes %v, want 1", got)
	}
}

func TestWhatAPersonDoesNotApproveIsNotDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(asking())
	sick := r.sickOne()

	denied := restartOf(sick)
	r.publish(denied)
	r.asked(denied)
	r.answer(denied, false, "ben")
	res := r.result(denied, time.Minute)
	if got, want := end(res), (ended{heal.Rejected, "ApprovalDenied"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	for _, part := range []string{"denied by ben", "looked at it"} {
		if !strings.Contains(res.Message, part) {
			t.Errorf("message %q does not say %q", res.Message, part)
		}
	}
	r.answer(denied, true, "ann") // too late

	unanswered := restartOf(sick)
	unanswered.Expires = time.Now().Add(3 * time.Second)
	res = r.carryOut(unanswered)
	if got, want := end(res), (ended{heal.Rejected, "ApprovalNotGiven"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}

	before := restartOf(sick)
	before.Expires = time.Now().Add(5 * time.Second)
	r.answer(before, true, "ann") // of something that is yet to be decided
	r.settledApprovals()
	res = r.carryOut(before)
	if got, want := end(res), (ended{heal.Rejected, "ApprovalNotGiven"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

// settledApprovals waits until the actuators have taken every answer.
func (r *rig) settledApprovals() {
	r.t.Helper()
	kubetest.Eventually(r.t, time.Minute, func(ctx context.Context) error {
		cons, err := r.server.JetStream(r.t).Consumer(ctx, bus.Approvals.Stream, actuator.Name+"-approvals")
		if err != nil {
			return err
		}
		if i := cons.CachedInfo(); i.NumPending > 0 || i.NumAckPending > 0 {
			return fmt.Errorf("%d answers wait, %d are under way", i.NumPending, i.NumAckPending)
		}
		return nil
	})
}

func TestWhatWasApprovedIsJudgedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(asking())
	sick := r.sickOne()
	d := restartOf(sick)
	r.publish(d)
	r.asked(d)
	r.annotate("Namespace", r.ns, heal.AnnotationMode, "off")
	r.answer(d, true, "ann")
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Rejected, "MarkedOff"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestAPersonIsNotNeededForWhatHasHealedByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(asking())
	sick := r.sickOne()
	d := restartOf(sick)
	r.publish(d)
	r.asked(d)
	if err := r.admin.CoreV1().Pods(r.ns).Delete(t.Context(), sick.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, 20*time.Second)
	if !slices.Contains([]string{"TargetGone", "TargetTerminating"}, res.Reason) || res.Outcome != heal.Skipped {
		t.Errorf("ended %v: %s", end(res), res.Message)
	}
	r.noWrites()
}

func TestAMarkMakesADecisionWaitForAPersonAlsoOverARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	stop := r.start(cfg)
	d := restartOf(r.sickOne())
	r.annotate("Namespace", r.ns, heal.AnnotationMode, "approve")
	r.publish(d)
	r.asked(d)
	stop()
	r.answer(d, true, "ann")
	r.start(cfg)
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	if got := r.told(d); got != 1 || len(r.writes()) != 1 {
		t.Errorf("%d results, writes %v, want 1 of each", got, r.writes())
	}
}

func TestTheOwnerTellsWhatWasDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	sick := r.sickOne()
	owner, err := r.admin.AppsV1().Deployments(r.ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := restartOf(sick)
	d.Failure.Owner = heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: r.ns, Name: "web", UID: string(owner.UID)}
	res := r.carryOut(d)
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		// As kubectl describe looks for them.
		list, err := r.admin.CoreV1().Events(r.ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(owner.UID) + ",source=selfheal.dev/actuator"})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 {
			return fmt.Errorf("%d events, want 1", len(list.Items))
		}
		e := list.Items[0]
		if e.Reason != "Verified" || e.Type != corev1.EventTypeNormal || e.Action != "restart" || e.Message != "restart succeeded: "+res.Message {
			t.Errorf("event %s %s %s: %s", e.Type, e.Action, e.Reason, e.Message)
		}
		return nil
	})
}

func TestWhatWasApprovedSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.BeforeAPI, crash.AfterAPIBeforeRecord} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			sick := r.sickOne()
			d := restartOf(sick)
			d.Mode = heal.ModeApprove
			v := &victim{rig: r, sick: sick, decision: d, first: r.launch(at, "KILL")}
			v.publish(d)
			v.asked(d)
			v.answer(d, true, "ann")
			v.killed(v.first)
			v.second = v.launch("", "")
			res := v.result(d, 2*time.Minute)
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if s := approvalStep(res); !strings.HasPrefix(s.Detail, "approved by ann") {
				t.Errorf("step %+v does not say who approved", s)
			}
			v.settled()
			v.settledApprovals()
			v.once()
			v.stop(v.second)
		})
	}
}
