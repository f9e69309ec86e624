package bus_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sign"
)

// keys are a signing key and a folder that trusts it.
func keys(t *testing.T) (key, trust string) {
	t.Helper()
	private, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	key, trust = filepath.Join(t.TempDir(), "decisions.key"), t.TempDir()
	for name, data := range map[string][]byte{key: private, filepath.Join(trust, "decisions.pub"): public} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key, trust
}

func TestWhoTrustsKeysTakesNoDecisionOfAnybodyElse(t *testing.T) {
	s := bustest.Start(t)
	key, trust := keys(t)
	stranger, _ := keys(t)
	s.Bus(t, "test") // makes the streams
	publish := func(o bus.Options, pod string) {
		t.Helper()
		o.Service = "analyzer"
		if err := bus.Decisions.Publish(t.Context(), s.Connect(t, o), decisionAbout(pod)); err != nil {
			t.Fatal(err)
		}
	}
	publish(bus.Options{}, "unsigned")
	publish(bus.Options{SigningKey: stranger}, "strange")
	publish(bus.Options{SigningKey: key}, "good")

	actuator := s.Connect(t, bus.Options{Service: "actuator", TrustedKeys: trust})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var taken []string
	if err := bus.Decisions.Consume(ctx, actuator, bus.Consumer{Name: "actuator"}, func(_ context.Context, m bus.Message[heal.Decision]) error {
		taken = append(taken, m.Data.Target.Name)
		cancel()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(taken) != 1 || taken[0] != "good" {
		t.Errorf("taken: %q", taken)
	}
	letters := s.DeadLetters(t)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters", len(letters))
	}
	for i, want := range []string{"it is not signed", "none of the 1 that are trusted"} {
		if l := letters[i]; l.Reason != heal.DeadUntrusted || !strings.Contains(l.Error, want) {
			t.Errorf("letter %d: %s: %s; want %s", i, l.Reason, l.Error, want)
		}
	}
}

func TestADecisionThatIsReplayedIsStillSigned(t *testing.T) {
	s := bustest.Start(t)
	key, trust := keys(t)
	b := s.Bus(t, "test")
	if err := bus.Decisions.Publish(t.Context(), s.Connect(t, bus.Options{Service: "analyzer", SigningKey: key}), decisionAbout("checkout")); err != nil {
		t.Fatal(err)
	}
	actuator := s.Connect(t, bus.Options{Service: "actuator", TrustedKeys: trust})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	deliveries := 0
	if err := bus.Decisions.Consume(ctx, actuator, bus.Consumer{Name: "actuator"}, func(ctx context.Context, m bus.Message[heal.Decision]) error {
		if deliveries++; deliveries == 1 {
			letter := heal.DeadLetter{
				Stage: "actuator", Reason: heal.DeadPoison, Stream: bus.Decisions.Stream, Sequence: 1, Subject: m.Data.Head().Subject(bustest.Cluster),
			}
			stream, err := s.JetStream(t).Stream(ctx, bus.Decisions.Stream)
			if err != nil {
				return err
			}
			raw, err := stream.GetMsg(ctx, 1)
			if err != nil {
				return err
			}
			letter.Headers, letter.Body = raw.Header, raw.Data
			return bus.Replay(ctx, b, letter, 7)
		}
		cancel()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if letters := s.DeadLetters(t); deliveries != 2 || len(letters) != 0 {
		t.Errorf("%d deliveries, dead letters %+v", deliveries, letters)
	}
}

func TestWhileItsKeysCannotBeReadTheBusIsNotReadyAndDecisionsWait(t *testing.T) {
	s := bustest.Start(t)
	key, trust := keys(t)
	analyzer := s.Connect(t, bus.Options{Service: "analyzer", SigningKey: key})
	s.Bus(t, "test")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := bus.Decisions.Publish(t.Context(), analyzer, decisionAbout("checkout")); err == nil || bus.IsPermanent(err) {
		t.Errorf("published without a key: %v", err)
	}
	if err := analyzer.Ready(); err == nil || !strings.Contains(err.Error(), "signing key") {
		t.Errorf("ready: %v", err)
	}
	actuator := s.Connect(t, bus.Options{Service: "actuator", TrustedKeys: trust})
	if err := os.Remove(filepath.Join(trust, "decisions.pub")); err != nil {
		t.Fatal(err)
	}
	s.PublishRaw(t, decisionAbout("checkout").Head().Subject(bustest.Cluster), nats.Header{"Selfheal-Key": {"x"}, "Selfheal-Sig": {"x"}}, []byte("{}"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- bus.Decisions.Consume(ctx, actuator, bus.Consumer{Name: "actuator"}, func(context.Context, bus.Message[heal.Decision]) error {
			return errors.New("it was taken")
		})
	}()
	for ctx.Err() == nil {
		if err := actuator.Ready(); err != nil && strings.Contains(err.Error(), "trusted keys") {
			break
		}
		select {
		case <-ctx.Done():
			t.Error("ready without its keys")
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if letters := s.DeadLetters(t); len(letters) != 0 {
		t.Errorf("given up for our own fault: %+v", letters)
	}
}

func decisionAbout(pod string) heal.Decision {
	now := time.Now()
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: pod, UID: "uid-" + pod, ResourceVersion: "1"}
	f := heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod, Namespace: "shop",
		Description: "container api is in CrashLoopBackOff", Timestamp: heal.Unix{Time: now}, Target: target, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, heal.Target{}, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID(bustest.Cluster, target.UID, "crash_loop", "api", now),
		Occurrence:  1, FirstSeen: now,
	}
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type, Severity: heal.High, BaseSeverity: heal.Medium,
		Strategy: heal.Recreate, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: now.Add(5 * time.Minute), Target: f.Target, Parameters: map[string]string{},
		Cause: heal.Cause{Kind: heal.CauseUnknown}, Policy: heal.PolicyRef{Name: "default", Revision: "sha256:0", Rule: "pod_failure/high"},
		Explanation: heal.Explanation{Summary: "recreate", Steps: []string{"recreate"}}, Failure: f,
	}
}
