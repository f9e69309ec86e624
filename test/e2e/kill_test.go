package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// TestNothingIsLostOrDoneTwiceWhenEverythingIsKilled breaks pods while each of
// the four services and NATS is killed with SIGKILL at random moments. Ground
// truth is the API server's audit log. FAILURES and SEED choose another run.
func TestNothingIsLostOrDoneTwiceWhenEverythingIsKilled(t *testing.T) {
	n := fromEnv(t, "FAILURES", 40)
	seed := uint64(fromEnv(t, "SEED", 1))
	rnd := rand.New(rand.NewPCG(seed, 0))

	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	for i := range n {
		d := harness.Deployment(fmt.Sprintf("app-%03d", i), "shop/app:1", 1)
		if _, err := kube.AppsV1().Deployments(ns).Create(t.Context(), d, createOptions); err != nil {
			t.Fatal(err)
		}
	}
	victims := map[string]bool{} // by uid; true once healed
	for i := range n {
		app := fmt.Sprintf("app-%03d", i)
		harness.WaitAvailable(t, kube, ns, app, 1)
		victims[string(harness.Pods(t, kube, ns, app)[0].UID)] = false
	}
	p := harness.Start(t, c, quick(t, map[string]string{"MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000"}))
	record := harness.Listen(t, p.Bus(t))

	// One failure after the other, and about every third a kill.
	kills := map[string]int{}
	for i := range n {
		app := fmt.Sprintf("app-%03d", i)
		if err := c.SetBehaviour(t.Context(), ns, harness.Pods(t, kube, ns, app)[0].Name, "crash"); err != nil {
			t.Fatal(err)
		}
		pause(t, time.Duration(rnd.IntN(300))*time.Millisecond)
		if rnd.IntN(3) > 0 {
			continue
		}
		what := append(harness.Services, "nats")[rnd.IntN(len(harness.Services)+1)]
		kills[what]++
		if what == "nats" {
			p.NATS.Kill()
			pause(t, time.Duration(rnd.IntN(1000))*time.Millisecond)
			p.NATS.Start(t)
		} else {
			p.Kill(what)
			pause(t, time.Duration(rnd.IntN(1000))*time.Millisecond)
			p.Run(t, what)
		}
	}

	harness.WaitFor(t, 6*time.Minute, "one result for each failure", func() error {
		told := map[string]string{}
		healed := map[string]bool{}
		for _, e := range record.Failures() {
			told[e.Data.Target.UID] += fmt.Sprintf("; failure %s occurrence %d resolved %t", e.Data.Target.Name, e.Data.Occurrence, e.Data.Resolved())
		}
		for _, e := range record.Decisions() {
			told[e.Data.Target.UID] += fmt.Sprintf("; decided %s: %s", e.Data.Strategy, e.Data.Reason)
		}
		for _, e := range record.Results() {
			uid := e.Data.Decision.Target.UID
			told[uid] += fmt.Sprintf("; %s: %s: %s", e.Data.Outcome, e.Data.Reason, e.Data.Message)
			healed[uid] = healed[uid] || e.Data.Outcome == heal.Succeeded
		}
		var missing []string
		for uid := range victims {
			if victims[uid] = healed[uid]; !healed[uid] {
				missing = append(missing, uid+told[uid])
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d without a successful result:\n%s", len(missing), n, strings.Join(missing, "\n"))
		}
		return nil
	})

	// Twice: more than one effective write for one target or one decision.
	writes := map[string][]kubetest.AuditEvent{}
	for _, e := range effective(t, c, ns) {
		writes[e.UID] = append(writes[e.UID], e)
		if _, ok := victims[e.UID]; !ok {
			t.Errorf("a write on something that was not broken: %v uid %s", e, e.UID)
		}
	}
	twice := 0
	for uid, same := range writes {
		if len(same) > 1 {
			twice++
			t.Errorf("%d effective writes on uid %s:", len(same), uid)
			for _, e := range same {
				t.Logf("  %s %s", e.Time.Format(time.RFC3339Nano), e)
			}
			for _, e := range record.Results() {
				if e.Data.Decision.Target.UID == uid {
					t.Logf("  %s decision %s attempt %d: %s %s: %s; %+v", e.Data.StartedAt.Format(time.RFC3339Nano), e.Data.Decision.ID, e.Data.Attempt, e.Data.Outcome, e.Data.Reason, e.Data.Message, e.Data.Steps)
				}
			}
		}
	}
	decisions := unique(t, "decision", record.Decisions(), func(e heal.Event[heal.Decision]) string { return e.Data.Failure.EventID() })
	results := unique(t, "result", record.Results(), func(e heal.Event[heal.Result]) string { return e.Data.Decision.ID })
	for _, e := range record.Failures() {
		if !e.Data.Resolved() && !decisions[e.ID] {
			t.Errorf("failure %s (occurrence %d of %s) has no decision", e.ID, e.Data.Occurrence, e.Data.Target)
		}
	}
	if dead := record.DeadLetters(); len(dead) > 0 {
		t.Errorf("%d dead letters, first: %s", len(dead), dead[0])
	}
	t.Logf("seed %d: %d failures, killed %v; lost 0, acted on twice %d; %d decisions, %d results", seed, n, kills, twice, len(decisions), len(results))
}

// unique fails the test when two messages are about the same cause, and returns the causes.
func unique[T heal.Payload](t *testing.T, what string, events []heal.Event[T], cause func(heal.Event[T]) string) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range events {
		if seen[cause(e)] {
			t.Errorf("a second %s for %s", what, cause(e))
		}
		seen[cause(e)] = true
	}
	return seen
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is not a positive number", name, v)
	}
	return n
}

// pause lets the pipeline run for a random while, so that kills fall at random moments.
func pause(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}
