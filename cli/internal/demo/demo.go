// Package demo shows the whole pipeline at work on a cluster of its own: a
// real control plane with simulated nodes, the four real binaries, NATS with
// JetStream on disk, and an application that is broken in several ways.
//
// It promises to touch nothing but its own folders, to listen on the loopback
// interface only, and to leave no process behind, unless it is asked to.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/cli/internal/lock"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/kube"
)

// Options say where things lie. All are required.
type Options struct {
	BinDir     string        // watcher, analyzer, actuator, notifier, devcluster
	DataDir    string        // logs and NATS; emptied at the start
	ClusterDir string        // the control plane's; emptied at the start, and removed after a success
	Only       string        // the id of the one scenario to play; default all
	Keep       bool          // leave everything running until ctx is done
	Finished   func(ok bool) // called, if not nil, when all has been said
}

// ErrNotRight says that not everything ended as it should. What did not has
// been printed.
var ErrNotRight = errors.New("not everything ended as it should")

// nodes is how many nodes the cluster has: enough that one may fail.
const nodes = 4

// Run plays the demo and returns once everything that it started has stopped.
func Run(ctx context.Context, o Options, scr *screen.Screen) (err error) {
	d := dirs{bin: o.BinDir, data: o.DataDir, cluster: o.ClusterDir}
	script, err := chosen(o.Only)
	if err != nil {
		return err
	}
	if err := d.check(); err != nil {
		return err
	}
	mine, err := lock.Acquire(o.DataDir)
	if err != nil {
		return err
	}
	defer mine.Release()
	s, err := newStack(d)
	if err != nil {
		return err
	}
	kube.LogTo(s.logger("client-go")) // else it writes over the screen
	began := time.Now()
	defer func() {
		wait := progress(scr, "stopping everything")
		stopErr := s.stop()
		wait(stopErr)
		err = errors.Join(err, stopErr)
		if err == nil {
			_ = os.RemoveAll(o.ClusterDir) // a leftover only costs space
		}
	}()

	asked := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		select {
		case c := <-s.children.ended:
			fail(c.failure())
		case <-ctx.Done():
		}
	}()
	err = run(ctx, o, script, s, scr, began)
	switch {
	case err == nil:
		return nil
	case asked.Err() != nil:
		return errors.New("stopped before the end")
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%w\nlogs: %s", err, d.logs())
}

func run(ctx context.Context, o Options, script []scenario, s *stack, scr *screen.Screen, began time.Time) error {
	scr.Println(intro(scr, len(script)))
	if err := start(ctx, s, scr); err != nil {
		return err
	}

	g, playing := errgroup.WithContext(ctx) // ends when the messages do
	st := &stage{stack: s, live: timeline.NewLive(scr, time.Now())}
	messages := make(chan bus.Raw)
	showing, stopShowing := context.WithCancel(playing)
	defer stopShowing()
	s.receiver.shows(func(channel, text string) { st.slack(showing, channel, text) })
	g.Go(func() error { return st.follow(showing, time.Now(), messages) })
	g.Go(func() error { st.live.Run(showing, messages); return nil })

	all := play(playing, script, st, scr)
	stopShowing() // what comes below stays below
	if err := g.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	scr.Println("\n" + heading(scr, "How it went, each time counted from the break") + "\n")
	scr.Println(table(scr.Paint(), all))
	scr.Println(st.summary(scr, time.Since(began)))
	scr.Println("\n" + conclusion(scr.Paint(), all, len(script)) + "\n")
	ok := allRight(all, len(script))
	if o.Keep {
		scr.Println(lookAround(scr.Paint(), st, o))
	}
	if o.Finished != nil {
		o.Finished(ok)
	}
	if o.Keep {
		<-ctx.Done()
		return nil
	}
	if !ok {
		return ErrNotRight
	}
	return nil
}

// start starts everything, saying so.
func start(ctx context.Context, s *stack, scr *screen.Screen) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("it took longer than 2 minutes"))
	defer cancel()
	var version string
	steps := []struct {
		what string
		do   func() error
		done func() string
	}{
		{"a Kubernetes control plane", func() (err error) { version, err = s.startCluster(ctx, nodes); return err },
			func() string { return fmt.Sprintf("Kubernetes %s, %d simulated nodes", version, nodes) }},
		{"NATS", func() error { return s.startNATS(ctx) },
			func() string { return "NATS with JetStream on disk, " + s.nats.URL() }},
		{"someone to be told", func() (err error) { s.receiver, err = startReceiver(ctx); return err },
			func() string { return "stand-ins for Slack and a webhook, " + s.receiver.url }},
		{"the four services", func() error { return s.startServices(ctx) },
			func() string { return strings.Join(serviceNames, ", ") }},
		{"the shop", func() error {
			if err := deployShop(ctx, s.kube); err != nil {
				return err
			}
			return waitWhole(ctx, s.kube, shopNames()...)
		}, func() string { return "the shop, a small application: " + shopSizes() }},
	}
	for _, step := range steps {
		wait := progress(scr, "starting "+step.what)
		if err := step.do(); err != nil {
			wait(err)
			return fmt.Errorf("start %s: %w", step.what, err)
		}
		wait(nil, step.done())
	}
	return nil
}

// play plays the scenarios one after the other, up to the first that does not
// come to its end: what is broken then would disturb the next.
func play(ctx context.Context, script []scenario, st *stage, scr *screen.Screen) []played {
	var all []played
	for i, sc := range script {
		text := "\n" + heading(scr, fmt.Sprintf("%d of %d · %s", i+1, len(script), sc.name)) + "\n" + paragraph(scr, sc.story) + "\n"
		if i == 0 {
			text += "\n" + st.live.Header()
		}
		st.live.Println(ctx, text)
		within, cancel := context.WithTimeoutCause(ctx, sc.within, fmt.Errorf("it took longer than %s", sc.within))
		w := st.watch(sc.about)
		err := sc.play(within, st, w)
		cancel()
		o, _ := w.look()
		all = append(all, played{scenario: sc, o: o, err: err})
		if err != nil {
			st.say(ctx, "FAILED", "%v", err)
			break
		}
		pause(ctx)
	}
	return all
}

// pause lets the eye rest between two scenarios, and Slack show its message.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}
