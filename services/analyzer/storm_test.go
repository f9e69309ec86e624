package analyzer

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// The storm of the long run: go test -run Kill9 -storm.failures=20000 -storm.kills=50.
var (
	stormFailures = flag.Int("storm.failures", 600, "failures of the storm during which analyzers are killed")
	stormKills    = flag.Int("storm.kills", 3, "analyzers that are killed by SIGKILL during it")
	stormSeed     = flag.Uint64("storm.seed", 0, "of the storm; default: one of its own each time")
)

// stormServer, in the environment, has this binary be an analyzer of that server.
const stormServer = "SELFHEAL_TEST_ANALYZER_OF"

// TestMain lets tests start analyzers as processes that can be killed.
func TestMain(m *testing.M) {
	if server := os.Getenv(stormServer); server != "" {
		if err := analyze(server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// analyze runs an analyzer until standard input ends, which it does with the test.
func analyze(server string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	b, err := bus.Connect(bus.Options{URL: server, Cluster: bustest.Cluster, Service: "analyzer", Log: log})
	if err != nil {
		return err
	}
	defer b.Close()
	fmt.Println("runs")
	return Run(ctx, auto, Deps{Bus: b, Log: log})
}

// process starts an analyzer of its own, and returns when it runs.
func process(t *testing.T, server string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), stormServer+"="+server)
	c.Stderr = os.Stderr
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "runs\n" {
		t.Fatalf("the analyzer says %q, %v", line, err)
	}
	return c
}

func kill9(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Errorf("kill: %v", err)
	}
	_ = c.Wait() // it says that it was killed
}

// TestKill9DuringAStormLosesNothingAndDoublesNothing reads the audit stream at
// the end, which nobody can change: every occurrence that was announced has one
// decision in it, and nothing else has.
func TestKill9DuringAStormLosesNothingAndDoublesNothing(t *testing.T) {
	t.Parallel()
	seed := *stormSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d failures, %d kills; again with -storm.seed=%d", *stormFailures, *stormKills, seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	srv := bustest.Listen(t)
	for _, owner := range []string{"analyzer", "actuator", "notifier"} {
		srv.Bus(t, owner)
	}
	watcher := srv.Bus(t, "watcher")

	began := time.Now()
	failures := make([]heal.Failure, *stormFailures)
	for i := range failures {
		// A third is about one owner, where analyzers collide; of the others each has a few.
		app := "checkout"
		if dice.IntN(3) > 0 {
			app = fmt.Sprint("app", dice.IntN(1+*stormFailures/40))
		}
		failures[i] = podFailure(app, fmt.Sprint("e", i/2), 1+i%2, began)
		failures[i].Node = fmt.Sprint("n", dice.IntN(50))
	}
	want := map[string]bool{}
	for _, f := range failures {
		want[heal.MakeDecisionID(f)] = true
	}

	var announcing sync.WaitGroup
	next := make(chan heal.Failure)
	for range 32 {
		announcing.Go(func() {
			for f := range next {
				if err := bus.Failures.Publish(t.Context(), watcher, f); err != nil {
					t.Errorf("announce: %v", err)
				}
			}
		})
	}
	announcing.Go(func() {
		defer close(next)
		for _, f := range failures {
			next <- f
		}
	})

	// Each kill is after a random number of decisions more, so that all of them
	// fall into the storm however fast the machine is.
	running := []*exec.Cmd{process(t, srv.URL()), process(t, srv.URL())}
	share := len(want) / (*stormKills + 1)
	for n := range *stormKills {
		until := n*share + 1 + dice.IntN(share)
		reach(t, srv, until)
		victim := dice.IntN(len(running))
		kill9(t, running[victim])
		running[victim] = process(t, srv.URL())
	}
	announcing.Wait()
	reach(t, srv, len(want))
	took := time.Since(began)

	p := &pipeline{srv: srv}
	p.quiet(t)
	for _, c := range running {
		kill9(t, c)
	}
	got := audited(t, srv, watcher, 2*len(want))
	for id := range want {
		if got[id] != 1 {
			t.Errorf("decision %s is in the audit stream %d times, want once", id, got[id])
		}
	}
	for id, n := range got {
		if !want[id] {
			t.Errorf("decision %s, which nothing asked for, is in the audit stream %d times", id, n)
		}
	}
	for _, letter := range srv.DeadLetters(t) {
		t.Errorf("dead letter: %s: %s", letter.Reason, letter.Error)
	}
	t.Logf("%d occurrences, %d decision ids in the audit stream, %d kills, %s", len(want), len(got), *stormKills, took.Round(time.Millisecond))
}

// audited counts the decisions in the audit stream by id, once that holds as
// many messages as were stored.
func audited(t *testing.T, srv *bustest.Server, b *bus.Bus, messages int) map[string]int {
	t.Helper()
	js := srv.JetStream(t)
	eventually(t, "everything is in the audit stream", func() bool {
		s, err := js.Stream(t.Context(), bus.Audit[0])
		return err == nil && s.CachedInfo().State.Msgs >= uint64(messages)
	})
	got := map[string]int{}
	_, err := b.Read(t.Context(), bus.Audit, time.Time{}, func(m bus.Raw) error {
		if d, err := heal.Decode[heal.Decision](m.Data); err == nil && d.Type == heal.TypeDecisionMade {
			got[d.Data.ID]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// reach waits until so many decisions are stored.
func reach(t *testing.T, srv *bustest.Server, n int) {
	t.Helper()
	js := srv.JetStream(t)
	last, moved := uint64(0), time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := js.Stream(t.Context(), bus.Decisions.Stream)
		if err != nil {
			t.Fatal(err)
		}
		at := s.CachedInfo().State.Msgs
		if at >= uint64(n) {
			return
		}
		if at > last {
			last, moved = at, time.Now()
		}
		if time.Since(moved) > 2*patience { // what one that was killed had in hand comes again after 30 s
			t.Fatalf("%d of %d decisions, and no more for %s", last, n, 2*patience)
		}
		<-tick.C
	}
}
