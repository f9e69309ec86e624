package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A trial sends one failure that is none through the pipeline.
type trial struct {
	reader
	namespace           string
	seed, creds         string // of the watcher
	tell                bool
	operator, asWatcher *bus.Bus
	failure             heal.Failure
	out                 io.Writer
	begin               time.Time
}

func provisionTestCommand() *cobra.Command {
	var t trial
	c := &cobra.Command{
		Use:   "test",
		Short: "Send a synthetic failure through all four stages, of which nothing comes",
		Long: `test asks the four services whether they are ready, then tells of a failure in the
watcher's place, and waits until the analyzer has decided, the actuator has ended the
decision, and the notifier has taken note. What is said to be broken is a pod that does
not exist, in the namespace of the services, which is protected: so nothing can be
done, and it is a fault if something is. Nobody is told, unless by --tell: a silence of
ten minutes for this one incident is made first.

It needs the keys of the operator (as any command) and of the watcher, and is what
'helm test' runs.
` + operatorHelp,
		Example: `  selfheal provision test --nats-nkey operator.seed --watcher-nkey watcher.seed
  selfheal provision test --tell        # people are told, as of any failure: to try the channels`,
		Args: noArgs,
	}
	t.flags(c)
	f := c.Flags()
	t.timeout = time.Minute
	f.Lookup("timeout").DefValue = t.timeout.String()
	f.Lookup("timeout").Usage = "how long all of it may take"
	f.StringVarP(&t.namespace, "namespace", "n", heal.Product, "the namespace that the services run in")
	f.StringVar(&t.seed, "watcher-nkey", "", "file with the watcher's seed")
	f.StringVar(&t.creds, "watcher-creds", "", "or with its credentials")
	f.BoolVar(&t.tell, "tell", false, "let people be told")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := t.options(cmd)
		if err != nil {
			return err
		}
		o.Service = "watcher"
		if t.seed != "" || t.creds != "" {
			o.NKeyFile, o.CredsFile = t.seed, t.creds
		}
		if t.asWatcher, err = bus.Connect(o); err != nil {
			return config.Invalid(err)
		}
		defer t.asWatcher.Close()
		t.out = cmd.OutOrStdout()
		return t.connected(cmd, func(ctx context.Context) error {
			t.operator = t.bus
			return t.run(ctx)
		})
	}
	return c
}

func (t *trial) run(ctx context.Context) error {
	for _, service := range services[:4] {
		if err := t.ready(ctx, service); err != nil {
			return err
		}
	}
	now := time.Now().UTC()
	id := heal.ID("u", whoami(), now.Format(time.RFC3339Nano))
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: t.namespace, Name: "selfheal-test-" + id[len(id)-8:], UID: id, ResourceVersion: "1"}
	t.failure = heal.Failure{
		Type: heal.PodFailure, Reason: "SyntheticTest", Severity: heal.Low, ResourceName: target.Name, Namespace: target.Namespace,
		Description: "not a failure: a test of the way from here to there, by " + whoami(), Timestamp: heal.Unix{Time: now},
		Target: target, Detector: "synthetic_test", Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, heal.Target{}, "", "SyntheticTest"),
		EpisodeID: heal.MakeEpisodeID(t.operator.Cluster(), target.UID, "synthetic_test", "", now), Occurrence: 1, FirstSeen: now, Evidence: []heal.Evidence{},
	}
	if err := t.failure.Validate(); err != nil {
		return usageError{err}
	}
	if !t.tell {
		if err := t.silence(ctx, now); err != nil {
			return err
		}
	}
	t.begin = time.Now()
	if err := bus.Failures.Publish(ctx, t.asWatcher, t.failure); err != nil {
		return fmt.Errorf("tell of the failure in the watcher's place: %w", err)
	}
	t.say("watcher", time.Now(), "told of %s %s", t.failure.Reason, target)
	result, err := t.follow(ctx)
	if resolveErr := t.resolve(ctx); err == nil {
		err = resolveErr
	}
	if err != nil {
		return err
	}
	if !slices.Contains([]heal.Outcome{heal.Skipped, heal.Rejected, heal.DryRun}, result.Outcome) {
		return fmt.Errorf("the actuator ended it as %s (%s), though there was nothing that it may change", result.Outcome, heal.Clean(result.Message, heal.MaxText))
	}
	_, err = fmt.Fprintf(t.out, "a failure passes all four stages; nothing was changed\n")
	return err
}

// ready asks a service whether it is, until it says so.
func (t *trial) ready(ctx context.Context, service string) error {
	return t.until(ctx, func() (bool, error) {
		answer, err := bus.Ask[struct {
			Status string         `json:"status"`
			Checks map[string]any `json:"checks"`
		}](ctx, t.operator, service, "ready", nil)
		if err == nil && answer.Status != "ready" {
			err = fmt.Errorf("%s is not ready: %v", service, answer.Checks)
		}
		return err == nil, err
	})
}

// until calls fn twice a second until it reports true. At the end of ctx it
// returns why it did not.
func (t *trial) until(ctx context.Context, fn func() (bool, error)) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := fn()
		if done {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// silence keeps people from being told of this one incident.
func (t *trial) silence(ctx context.Context, now time.Time) error {
	s := heal.Silence{
		Match: heal.Match{Incident: t.failure.IncidentID()}, By: whoami(), Reason: "a test of the pipeline: nothing is broken",
		At: now, Until: now.Add(10 * time.Minute),
	}
	s.ID = heal.MakeSilenceID(s)
	if _, err := bus.NewStore[heal.Silence](t.operator, bus.SilencesBucket).Create(ctx, s.ID, s); err != nil {
		return fmt.Errorf("silence the test's incident: %w", err)
	}
	select {
	case <-time.After(time.Second): // until the notifier has heard of it
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// follow waits for what becomes of the failure at each stage. The streams come
// each in its own order, so that a result may be seen before its decision.
func (t *trial) follow(ctx context.Context) (heal.Result, error) {
	var decision *heal.Decision
	var result *heal.Result
	both := errors.New("both were seen")
	err := t.operator.Tail(ctx, t.begin.Add(-5*time.Second), func(r bus.Raw) error {
		switch {
		case r.Stream == bus.Decisions.Stream && strings.Contains(r.Subject, ".decisions."):
			if e, err := heal.Decode[heal.Decision](r.Data); err == nil && e.Data.Failure.EpisodeID == t.failure.EpisodeID {
				t.say("analyzer", r.Time, "decided %s, %s, for %s: %s", e.Data.Strategy, e.Data.Reason, e.Data.Severity, heal.Clean(e.Data.Explanation.Summary, heal.MaxText))
				decision = &e.Data
			}
		case r.Stream == bus.Results.Stream:
			if e, err := heal.Decode[heal.Result](r.Data); err == nil && e.Data.Decision.Failure.EpisodeID == t.failure.EpisodeID {
				t.say("actuator", r.Time, "%s, %s: %s", e.Data.Outcome, e.Data.Reason, heal.Clean(e.Data.Message, heal.MaxText))
				result = &e.Data
			}
		}
		if decision != nil && result != nil {
			return both
		}
		return nil
	})
	switch {
	case errors.Is(err, both):
		return *result, t.noted(ctx)
	case decision == nil && result == nil:
		return heal.Result{}, errors.Join(errors.New("the analyzer has decided nothing about it"), err, context.Cause(ctx))
	}
	return heal.Result{}, errors.Join(errors.New("the actuator has not ended the decision"), err, context.Cause(ctx))
}

// noted waits until the notifier has nothing of the results before it.
func (t *trial) noted(ctx context.Context) error {
	err := t.until(ctx, func() (bool, error) {
		in, err := t.operator.Inspect(ctx)
		if err != nil {
			return false, err
		}
		for _, s := range in.Streams {
			if s.Name != bus.Results.Stream {
				continue
			}
			for _, c := range s.Consumers {
				if c.Name == "notifier" {
					return c.Pending == 0 && c.AckPending == 0, fmt.Errorf("the notifier has %d results before it", c.Pending+uint64(max(c.AckPending, 0)))
				}
			}
		}
		return false, errors.New("no notifier listens to results")
	})
	if err == nil {
		t.say("notifier", time.Now(), "has taken note")
	}
	return err
}

// resolve ends the episode, so that nothing of it stays open.
func (t *trial) resolve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	over := t.failure
	over.ResolvedAt = time.Now().UTC()
	over.Timestamp = heal.Unix{Time: over.ResolvedAt}
	return bus.Failures.Publish(ctx, t.asWatcher, over)
}

// say prints what a stage did, and how long after the beginning. The server's
// clock may differ from ours.
func (t *trial) say(stage string, at time.Time, format string, args ...any) {
	fmt.Fprintf(t.out, "%-9s %6.0f ms  %s\n", stage, float64(at.Sub(t.begin).Microseconds())/1000, fmt.Sprintf(format, args...))
}
