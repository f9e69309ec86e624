package bus_test

import (
	"encoding/json"
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
)

func pauseAt(minute int) heal.Control {
	return heal.Control{Verb: heal.Pause, By: "ann", At: time.Date(2026, 11, 22, 12, minute, 0, 0, time.UTC)}
}

func TestWhatIsStoredIsReadOnceAndTheRestFollows(t *testing.T) {
	b := bustest.New(t, "selfheal")
	publish := func(c heal.Control) {
		t.Helper()
		if err := bus.Controls.Publish(t.Context(), b, c); err != nil {
			t.Fatal(err)
		}
	}
	var seqs []uint64
	if _, err := b.Read(t.Context(), bus.Journals, time.Time{}, func(bus.Raw) error { return errors.New("there is nothing") }); err != nil {
		t.Fatal(err)
	}
	publish(pauseAt(1))
	publish(pauseAt(2))
	mark, err := b.Read(t.Context(), bus.Journals, time.Time{}, func(r bus.Raw) error { seqs = append(seqs, r.Seq); return nil })
	if err != nil {
		t.Fatal(err)
	}
	publish(pauseAt(3))
	enough := errors.New("enough")
	err = b.TailFrom(t.Context(), mark, func(r bus.Raw) error { seqs = append(seqs, r.Seq); return enough })
	if !errors.Is(err, enough) || len(seqs) != 3 || seqs[0] != 1 || seqs[1] != 2 || seqs[2] != 3 {
		t.Errorf("read %v, %v", seqs, err)
	}
	stop := errors.New("stop")
	if _, err := b.Read(t.Context(), bus.Journals, time.Time{}, func(bus.Raw) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a reader that stops gets %v", err)
	}
	if _, err := b.Read(t.Context(), bus.Journals, time.Now().Add(time.Hour), func(bus.Raw) error { return stop }); err != nil {
		t.Errorf("reading what is yet to come gets %v", err)
	}
}

func TestTheLatestOfATopicIsReadAndNothingElse(t *testing.T) {
	b := bustest.New(t, "selfheal")
	if events, err := bus.Controls.Latest(t.Context(), b); err != nil || len(events) != 0 {
		t.Errorf("of nothing: %v, %v", events, err)
	}
	for minute := range 3 {
		if err := bus.Controls.Publish(t.Context(), b, pauseAt(minute)); err != nil {
			t.Fatal(err)
		}
	}
	events, err := bus.Controls.Latest(t.Context(), b)
	if err != nil || len(events) != 1 || !events[0].Data.At.Equal(pauseAt(2).At) {
		t.Errorf("%v, %v", events, err)
	}
}

func TestAnInspectionFindsWhatIsMissingAndWhatWasChanged(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "selfheal")
	js := s.JetStream(t)
	in, err := b.Inspect(t.Context())
	if err != nil || in.TooOld != nil || in.ClockAhead.Abs() > time.Second {
		t.Fatalf("%+v, %v", in, err)
	}
	for _, st := range in.Streams {
		if st.Err != nil || len(st.Drift) > 0 || st.Unlisted != nil {
			t.Errorf("%+v", st)
		}
	}
	if err := js.DeleteStream(t.Context(), bus.Failures.Stream); err != nil {
		t.Fatal(err)
	}
	dlq, err := js.Stream(t.Context(), bus.DeadLetters.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := dlq.CachedInfo().Config
	config.MaxAge = time.Hour
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if in, err = b.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, st := range in.Streams {
		missing, drifted := errors.Is(st.Err, bus.ErrNotFound), len(st.Drift) > 0
		if missing != (st.Name == bus.Failures.Stream) || drifted != (st.Name == bus.DeadLetters.Stream) {
			t.Errorf("%s: missing %v, drift %v", st.Name, missing, st.Drift)
		}
	}
}

func TestOnlyWhatCameFromAStreamOfOursIsReplayed(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "selfheal")
	letter := heal.DeadLetter{
		Stage: "actuator", Reason: heal.DeadPoison, Stream: bus.Controls.Stream, Sequence: 4, Subject: pauseAt(1).Head().Subject(bustest.Cluster),
		Headers: map[string][]string{nats.MsgIdHdr: {"c-1"}, "Nats-Expected-Stream": {"ANOTHER"}, "X-Mine": {"kept"}}, Body: []byte(`{"a":1}`),
	}
	for range 2 { // twice is once
		if err := bus.Replay(t.Context(), b, letter, 9); err != nil {
			t.Fatal(err)
		}
	}
	var got []bus.Raw
	if _, err := b.Read(t.Context(), []string{bus.Controls.Stream}, time.Time{}, func(r bus.Raw) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || string(got[0].Data) != `{"a":1}` || got[0].Header["X-Mine"][0] != "kept" || got[0].Header["Nats-Expected-Stream"] != nil {
		t.Errorf("replayed %+v", got)
	}
	for _, bad := range []func(*heal.DeadLetter){
		func(l *heal.DeadLetter) { l.Truncated = true },
		func(l *heal.DeadLetter) { l.Subject = "selfheal.v1.other.control.pause" },
		func(l *heal.DeadLetter) { l.Subject = "selfheal.v1.test.dlq.x" },
		func(l *heal.DeadLetter) { l.Subject = "$JS.API.STREAM.PURGE.SELFHEAL_AUDIT" },
	} {
		l := letter
		bad(&l)
		if err := bus.Replay(t.Context(), b, l, 10); !bus.IsPermanent(err) {
			t.Errorf("%s, truncated %v: %v", l.Subject, l.Truncated, err)
		}
	}
	if err := bus.Drop(t.Context(), b, 99); err == nil {
		t.Error("a letter that is not there was dropped")
	}
}

func TestAContextOfTheNatsCommandLine(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		content map[string]any
		url     string
		options int
		fails   string
	}{
		{"plain", map[string]any{"url": "nats://a:4222, nats://b:4222"}, "nats://a:4222,nats://b:4222", 0, ""},
		{"secret", map[string]any{"url": "nats://me:pass@a:4222"}, "nats://a:4222", 1, ""},
		{"token", map[string]any{"url": "nats://a:4222", "token": "t"}, "nats://a:4222", 1, ""},
		{"tls", map[string]any{"url": "tls://a:4222", "ca": "ca.pem", "cert": "c.pem", "key": "k.pem", "tls_first": true}, "tls://a:4222", 3, ""},
		{"domain", map[string]any{"url": "nats://a:4222", "jetstream_domain": "hub"}, "", 0, "jetstream_domain is set"},
	} {
		data, err := json.Marshal(tt.content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, tt.name+".json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := bus.NATSContext(bus.Options{}, home, tt.name)
		if tt.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err != nil || o.URL != tt.url || len(o.NATS) != tt.options {
			t.Errorf("%s: %q with %d options, %v", tt.name, o.URL, len(o.NATS), err)
		}
	}
	for _, name := range []string{"../plain", ".hidden", "", "none"} {
		if _, err := bus.NATSContext(bus.Options{}, home, name); err == nil {
			t.Errorf("%q is a context", name)
		}
	}
}
