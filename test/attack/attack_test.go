// Package attack tries to make the actuator act that should not: with forged,
// altered, replayed and misdirected decisions, from the place of each service.
// The actuator is the real one, with all rights on a real control plane, and a
// pod is really sick, so that only its own checks stand between an attack and
// an action. What happened is judged by the API server's audit log.
package attack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/pkg/sign"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/test/chart/rights/natstest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Main(m, kubetest.Options{})) }

const (
	cluster = "attacked"
	agent   = "actuator-under-attack"
)

// A field is where the attacks happen.
type field struct {
	nats    natstest.Stage
	cluster *kubetest.Cluster
	admin   jetstream.JetStream
	key     ed25519.PrivateKey // the analyzer's, which is trusted
	strange ed25519.PrivateKey // nobody's
	sick    corev1.Pod
	well    corev1.Pod
}

// A blow is one message, as it is sent.
type blow struct {
	by      string // whose credentials; default the analyzer's
	subject string // default the decision's own
	reply   string // with it, a request whose answer is to go there
	header  nats.Header
	body    []byte
}

// What is to become of a blow.
const (
	denied    = "denied"           // the NATS server does not let it pass
	nothing   = "nothing"          // the server takes it, and nothing is stored
	untrusted = heal.DeadUntrusted // a dead letter
	malformed = heal.DeadBadMessage
	refused   = "refused" // a result says why not
	silence   = "silence" // it ended before: nothing more is said
)

// An attack has a name that says what is tried.
type attack struct {
	name  string
	want  string
	blows func(f *field) blow
}

func TestNoAttackMakesTheActuatorAct(t *testing.T) {
	f := prepare(t)
	all := slices.Concat(unsigned(), altered(), stolenKey(), outside())
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) { f.strike(t, a) })
	}
	if acts := f.acts(t); len(acts) > 0 {
		t.Fatalf("%d attacks, and the actuator did %v", len(all), acts)
	}

	// That nothing happened means something only if it could have.
	good := f.decision(f.sick)
	honest := f.signed(good)
	f.send(t, honest)
	if r := f.result(t, good.ID); r.Outcome != heal.Succeeded {
		t.Fatalf("the honest decision ended %s, %s: %s", r.Outcome, r.Reason, r.Message)
	}
	acts := f.acts(t)
	if len(acts) == 0 {
		t.Fatal("the honest decision did nothing")
	}
	again := replayed(honest)
	for _, a := range again {
		t.Run(a.name, func(t *testing.T) { f.strike(t, a) })
	}
	if after := f.acts(t); len(after) != len(acts) {
		t.Errorf("a replay was carried out: %v", after[len(acts):])
	}
	t.Logf("%d attacks tried, none landed", len(all)+len(again))
	if n := len(all) + len(again); n < 60 {
		t.Errorf("only %d attacks", n)
	}
}

func prepare(t *testing.T) *field {
	t.Helper()
	f := &field{nats: natstest.Start(t, cluster), cluster: kubetest.Get(t)}
	trust := t.TempDir()
	private, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(trust, "decisions.pub"), public, 0o400); err != nil {
		t.Fatal(err)
	}
	if f.key, err = sign.ParsePrivate(private); err != nil {
		t.Fatal(err)
	}
	if _, f.strange, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	watcher := f.nats.Provisioned(t, "watcher", bus.Options{})
	own := f.nats.Provisioned(t, "actuator", bus.Options{TrustedKeys: trust})
	_, f.admin, _ = f.nats.Plain(t, "admin")

	config, err := f.cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.UserAgent = agent
	client, err := kube.Client(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- see(ctx, watcher) }()
	go func() {
		ended <- actuator.Run(ctx, actuator.Config{
			Mode: heal.ModeAuto, RecoveryTimeout: 30 * time.Second, VerifyWindow: 2 * time.Second,
			MaxPodActionsNamespace: 600, MaxPodActionsCluster: 3000, Protected: []string{heal.Product},
		}, actuator.Deps{Bus: own, Kube: client, Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})

	k, ns := f.cluster.Client(t), f.cluster.Namespace(t)
	harness.Deploy(t, k, ns, harness.Deployment("shop", "shop/api:good", 3))
	pods := harness.Pods(t, k, ns, "shop")
	f.sick, f.well = pods[0], pods[1]
	if err := f.cluster.SetBehaviour(t.Context(), ns, f.sick.Name, "crash"); err != nil {
		t.Fatal(err)
	}
	return f
}

// see says again and again, as a watcher would, that it sees well.
func see(ctx context.Context, b *bus.Bus) error {
	store := bus.NewStore[heal.Observer](b, bus.ObserversBucket)
	id := heal.ID("o", agent)
	tick := time.NewTicker(heal.ObserverBeat / 3)
	defer tick.Stop()
	for {
		now := time.Now().UTC()
		o := heal.Observer{ID: id, State: heal.ObserverClear, Doubts: []heal.Doubt{}, Since: now, SeenAt: now}
		if _, rev, err := store.Get(ctx, id); err == nil {
			_, _ = store.Update(ctx, id, o, rev) // the next beat does, if this one is lost
		} else {
			_, _ = store.Create(ctx, id, o)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// decision is one that the analyzer could make about a pod, changed as wanted.
func (f *field) decision(p corev1.Pod, change ...func(*heal.Decision)) heal.Decision {
	now := time.Now()
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}
	fail := heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: p.Name, Namespace: p.Namespace,
		Description: "container app is in CrashLoopBackOff", Timestamp: heal.Unix{Time: now}, Target: target, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, heal.Target{}, "app", "CrashLoopBackOff"),
		EpisodeID:   heal.ID("e", now.String()), Occurrence: 1, FirstSeen: now.Add(-10 * time.Second), Evidence: []heal.Evidence{},
	}
	d := heal.Decision{
		ID: heal.MakeDecisionID(fail), IncidentID: fail.IncidentID(), Type: fail.Type, Severity: fail.Severity, BaseSeverity: fail.Severity,
		Strategy: heal.Restart, ActionType: fail.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: now.Add(4 * time.Minute), Target: target, Parameters: map[string]string{}, Cause: heal.Cause{Kind: heal.CauseUnknown},
		Policy: heal.PolicyRef{Name: "default", Revision: "sha256:0", Rule: "pod_failure"}, Guards: []heal.Verdict{}, Failure: fail,
	}
	for _, c := range change {
		c(&d)
	}
	return d
}

// plain is d in its envelope, with the headers of an unsigned message.
func (f *field) plain(d heal.Decision, change ...func(*heal.Event[heal.Decision])) blow {
	e := heal.NewEvent(d, cluster, "analyzer", time.Now())
	for _, c := range change {
		c(&e)
	}
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // of values that this test made itself
	}
	return blow{subject: d.Head().Subject(cluster), header: nats.Header{"Content-Type": {heal.ContentType}, nats.MsgIdHdr: {d.ID}}, body: body}
}

// signed is plain with the signature that the analyzer would give it.
func (f *field) signed(d heal.Decision, change ...func(*heal.Event[heal.Decision])) blow {
	return f.plain(d, change...).signedBy(f.key, f.key)
}

// signedBy signs with one key under the name of another.
func (b blow) signedBy(key, name ed25519.PrivateKey) blow {
	b.header = maps.Clone(b.header)
	b.header["Selfheal-Key"] = []string{keyID(name)}
	b.header["Selfheal-Sig"] = []string{base64.StdEncoding.EncodeToString(ed25519.Sign(key, b.body))}
	return b
}

func keyID(key ed25519.PrivateKey) string { return sign.ID(ed25519.PublicKey(key[ed25519.SeedSize:])) }

// with is b with a header set to values.
func (b blow) with(key string, values ...string) blow {
	b.header = maps.Clone(b.header)
	delete(b.header, key)
	if len(values) > 0 {
		b.header[key] = values
	}
	return b
}

// edit replaces a part of the body, after it was signed.
func (b blow) edit(before, after string) blow {
	if !bytes.Contains(b.body, []byte(before)) {
		panic("the body has no " + before)
	}
	b.body = bytes.Replace(b.body, []byte(before), []byte(after), 1)
	return b
}

// strike sends the attack's blow and waits for what becomes of it.
func (f *field) strike(t *testing.T, a attack) {
	t.Helper()
	letters, results := f.last(t, bus.DeadLetters.Stream), f.last(t, bus.Results.Stream)
	stored := f.last(t, bus.Decisions.Stream)
	b := a.blows(f)
	if got := f.send(t, b); got != "" {
		if got != a.want {
			t.Errorf("NATS: %s, want %s", got, a.want)
		}
		return
	}
	switch a.want {
	case denied:
		t.Fatal("NATS let it pass")
	case nothing:
		if now := f.last(t, bus.Decisions.Stream); now != stored {
			t.Errorf("%d messages were stored", now-stored)
		}
		return
	}
	f.settled(t, f.last(t, bus.Decisions.Stream))
	if a.want == refused {
		if now := f.last(t, bus.Results.Stream); now == results {
			t.Fatalf("no result says why not; dead letter: %+v", f.letter(t, letters))
		}
		if r := decode[heal.Result](t, f, bus.Results.Stream); r.Outcome != heal.Rejected && r.Outcome != heal.Skipped {
			t.Errorf("ended %s, %s: %s", r.Outcome, r.Reason, r.Message)
		} else {
			t.Logf("%s, %s: %s", r.Outcome, r.Reason, r.Message)
		}
		return
	}
	if a.want == silence {
		if f.last(t, bus.DeadLetters.Stream) != letters || f.last(t, bus.Results.Stream) != results {
			t.Errorf("there is an answer: %+v", f.letter(t, letters))
		}
		return
	}
	letter := f.letter(t, letters)
	if letter.Reason != a.want || letter.Stage != actuator.Name {
		t.Errorf("given up as %q by %q: %s; want %s", letter.Reason, letter.Stage, letter.Error, a.want)
	}
	if now := f.last(t, bus.Results.Stream); now != results {
		t.Errorf("there is a result: %+v", decode[heal.Result](t, f, bus.Results.Stream))
	}
	t.Log(letter.Error)
}

// send sends b and says how NATS took it: denied, nothing, or empty if it is stored.
func (f *field) send(t *testing.T, b blow) string {
	t.Helper()
	nc, _, problems := f.nats.Plain(t, cmp.Or(b.by, "analyzer"))
	defer nc.Close()
	m := &nats.Msg{Subject: b.subject, Reply: cmp.Or(b.reply, nc.NewInbox()), Header: b.header, Data: b.body}
	answers := make(chan *nats.Msg, 1)
	if b.reply == "" {
		if _, err := nc.ChanSubscribe(m.Reply, answers); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	patience := 2 * time.Second
	if b.reply != "" {
		patience = 300 * time.Millisecond // nothing comes back, and it must have shown its effect by then
	}
	select {
	case err := <-problems:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Fatal(err)
		}
		return denied
	case answer := <-answers:
		var ack struct {
			Stream    string
			Duplicate bool
		}
		if err := json.Unmarshal(answer.Data, &ack); err == nil && ack.Stream != "" && !ack.Duplicate {
			return ""
		}
	case <-time.After(patience):
	}
	return nothing
}

// last is a stream's last sequence.
func (f *field) last(t *testing.T, stream string) uint64 {
	t.Helper()
	s, err := f.admin.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// letter is the dead letter behind a sequence.
func (f *field) letter(t *testing.T, behind uint64) heal.DeadLetter {
	t.Helper()
	if f.last(t, bus.DeadLetters.Stream) == behind {
		return heal.DeadLetter{Error: "there is none"}
	}
	return decode[heal.DeadLetter](t, f, bus.DeadLetters.Stream)
}

// decode reads a stream's last message.
func decode[T heal.Payload](t *testing.T, f *field, stream string) T {
	t.Helper()
	s, err := f.admin.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), s.CachedInfo().State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	e, err := heal.Decode[T](m.Data)
	if err != nil {
		t.Fatal(err)
	}
	return e.Data
}

// settled waits until the actuator is done with all decisions up to a sequence.
func (f *field) settled(t *testing.T, last uint64) {
	t.Helper()
	harness.WaitFor(t, 30*time.Second, "the actuator to be done", func() error {
		c, err := f.admin.Consumer(t.Context(), bus.Decisions.Stream, actuator.Name)
		if err != nil {
			return err
		}
		if done := c.CachedInfo().AckFloor.Stream; done < last {
			return fmt.Errorf("it is done with %d of %d", done, last)
		}
		return nil
	})
}

func (f *field) result(t *testing.T, id string) heal.Result {
	t.Helper()
	var found heal.Result
	harness.WaitFor(t, 60*time.Second, "the result of "+id, func() error {
		if f.last(t, bus.Results.Stream) > 0 {
			found = decode[heal.Result](t, f, bus.Results.Stream)
		}
		if found.Decision.ID != id {
			return errors.New("not there yet")
		}
		return nil
	})
	return found
}

// acts are what the actuator changed: neither dry runs nor notes about them.
func (f *field) acts(t *testing.T) []kubetest.AuditEvent {
	t.Helper()
	return slices.DeleteFunc(kubetest.Mutations(f.cluster.Audit(t), agent), func(e kubetest.AuditEvent) bool {
		return e.DryRun || e.Resource == "events"
	})
}

// hexOf is the signature in another encoding.
func hexOf(b blow) string {
	raw, err := base64.StdEncoding.DecodeString(b.header["Selfheal-Sig"][0])
	if err != nil {
		panic(err) // it was encoded here
	}
	return hex.EncodeToString(raw)
}

func hashed(b blow) []byte { sum := sha512.Sum512(b.body); return sum[:] }
