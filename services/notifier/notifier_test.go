package notifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/channel"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

// A receiver is the other side of a channel.
type receiver struct {
	url string
	got chan request
}

type request struct {
	header http.Header
	body   string
}

// newDouble answers every request as answer does; nil takes everything.
func newDouble(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	d := &receiver{got: make(chan request, 64)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.got <- request{r.Header, string(body)}
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	d.url = srv.URL + "/services/T0CANARY/B0CANARY"
	return d
}

// next waits for a request.
func (d *receiver) next(t *testing.T) request {
	t.Helper()
	select {
	case r := <-d.got:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was sent")
		return request{}
	}
}

// A run is a notifier at work on a bus of its own.
type run struct {
	bus     *bus.Bus
	server  *bustest.Server
	metrics *prometheus.Registry
	log     *syncBuffer
	checks  sync.Map // func() error by field
	shown   atomic.Pointer[func() map[string]any]
	stop    func()
}

// start runs the notifier until the test ends, or stop is called.
func start(t testing.TB, change func(*Config)) *run {
	t.Helper()
	server := bustest.Start(t)
	r := &run{server: server, bus: server.Bus(t, "actuator"), metrics: prometheus.NewRegistry(), log: &syncBuffer{}}
	r.again(t, change)
	return r
}

func (r *run) again(t testing.TB, change func(*Config)) {
	t.Helper()
	cfg := Config{
		Settings: config.Settings{
			NotificationEnabled: true, SlackChannel: "#monitoring", SlackIncidentChannel: "#incidents", SlackAPIURL: "https://slack.com/api/",
		},
		SendTimeout: 5 * time.Second,
	}
	change(&cfg)
	deps := Deps{
		Bus: r.server.Bus(t, Name), Metrics: r.metrics,
		Log:    slog.New(slog.NewJSONHandler(io.MultiWriter(r.log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Check:  func(field string, check func() error) { r.checks.Store(field, check) },
		Status: func(fields func() map[string]any) { r.shown.Store(&fields) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := Run(ctx, cfg, deps); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
}

// status is what /status would show of it.
func (r *run) status() map[string]any {
	if shown := r.shown.Load(); shown != nil {
		return (*shown)()
	}
	return nil
}

// listens reports why the notifier is not ready, or nil.
func (r *run) listens() error {
	check, ok := r.checks.Load("monitoring_active")
	if !ok {
		return errors.New("not started")
	}
	return check.(func() error)()
}

func (r *run) publish(t *testing.T, results ...heal.Result) {
	t.Helper()
	for _, result := range results {
		if err := bus.Results.Publish(t.Context(), r.bus, result); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *run) count(t *testing.T, channel, outcome string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "self_healing_notifications_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["channel"] == channel && labels["outcome"] == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// until waits for a condition that no channel tells of.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 10s: %s", what)
		}
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// headline is the header of a Slack message, and the channel it names.
func headline(t *testing.T, r request) string {
	t.Helper()
	var m struct {
		Channel string
		Blocks  []struct{ Text struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || len(m.Blocks) == 0 {
		t.Fatalf("not a Slack message (%v): %s", err, r.body)
	}
	return m.Channel + " " + m.Blocks[0].Text.Text
}

func TestAResultIsToldOnSlackAndToTheWebhookAsItWas(t *testing.T) {
	slack, hook := newDouble(t, nil), newDouble(t, nil)
	r := start(t, func(c *Config) {
		c.Settings.SlackWebhookURL, c.Settings.WebhookURL = config.Secret(slack.url), config.Secret(hook.url)
	})
	stored := make(chan []byte, 1)
	go func() {
		_ = r.bus.Tail(t.Context(), time.Now().Add(-time.Minute), func(m bus.Raw) error {
			if strings.Contains(m.Subject, ".results.") {
				stored <- m.Data
			}
			return nil
		})
	}()
	r.publish(t, sample.Healed())

	if got, want := headline(t, slack.next(t)), "#incidents ✅ shop/Deployment/checkout: CrashLoopBackOff → healed by recreate in 29.3 s"; got != want {
		t.Errorf("Slack\n got %s\nwant %s", got, want)
	}
	event := hook.next(t)
	if diff := cmp.Diff(string(<-stored), event.body); diff != "" {
		t.Errorf("the webhook's event (-as stored +as sent):\n%s", diff)
	}
	if got, want := event.header.Get("Idempotency-Key"), sample.Healed().Head().ID; got != want {
		t.Errorf("Idempotency-Key: %q, want %q", got, want)
	}
	for _, ch := range []string{"slack", "webhook"} {
		until(t, ch+" counted", func() bool { return r.count(t, ch, outcomeSent) == 1 })
	}
	if n := testutil.CollectAndCount(r.metrics, "self_healing_notification_latency_seconds"); n != 2 {
		t.Errorf("latency of %d channels, want 2", n)
	}
	if err := r.listens(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	r.stop()
	if err := r.listens(); err == nil {
		t.Error("ready although stopped")
	}
}

func TestSeveritiesGoToTheirChannels(t *testing.T) {
	slack, incident := newDouble(t, nil), newDouble(t, nil)
	r := start(t, func(c *Config) {
		c.Settings.SlackWebhookURL, c.Settings.SlackIncidentWebhookURL = config.Secret(slack.url), config.Secret(incident.url)
	})
	r.publish(t, sample.At(heal.Medium, "m"), sample.At(heal.Critical, "c"))
	if got := headline(t, slack.next(t)); !strings.HasPrefix(got, "#monitoring ") {
		t.Errorf("medium: %s", got)
	}
	if got := headline(t, incident.next(t)); !strings.HasPrefix(got, "#incidents ") {
		t.Errorf("critical: %s", got)
	}
}

// A postbox takes every e-mail.
type postbox struct {
	port int
	got  chan string // the subjects
}

func newPostbox(t *testing.T) *postbox {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &postbox{port: l.Addr().(*net.TCPAddr).Port, got: make(chan string, 64)}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return p, nil }))
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }() // it ends by Close
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return p
}

func (p *postbox) Mail(string, *smtp.MailOptions) error { return nil }
func (p *postbox) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (p *postbox) Reset()                               {}
func (p *postbox) Logout() error                        { return nil }
func (p *postbox) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	p.got <- subject
	return err
}

func TestEveryAudienceHearsWhatTheContractSays(t *testing.T) {
	slack, incident, pager, alerts, post := newDouble(t, nil), newDouble(t, nil), newDouble(t, nil), newDouble(t, nil), newPostbox(t)
	r := start(t, func(c *Config) {
		s := &c.Settings
		s.SlackWebhookURL, s.SlackIncidentWebhookURL = config.Secret(slack.url), config.Secret(incident.url)
		s.PagerDutyEnabled, s.PagerDutyRoutingKey, s.PagerDutyAPIURL = true, "R0CANARYR0CANARYR0CANARYR0CANARY", pager.url
		s.EmailSMTPServer, s.EmailSMTPPort, s.EmailFrom, s.EmailRecipients = "127.0.0.1", post.port, "heal@example.com", []string{"ops@example.com"}
		s.AlertmanagerURL = alerts.url
	})
	for i, severity := range heal.Severities {
		result := sample.At(severity, string(severity))
		result.Outcome, result.Verification, result.Decision.Failure.Reason = heal.Failed, nil, "Reason"+strings.ToUpper(string(severity[0]))
		r.publish(t, result)
		// One after another, so that what is heard too much is heard before the next.
		until(t, "told of "+string(severity), func() bool { return r.count(t, "alertmanager", outcomeSent) == float64(i+1) })
	}
	reason := regexp.MustCompile(`Reason([LMHC])`)
	heard := func(text string) string { return reason.FindStringSubmatch(text)[1] }
	for name, test := range map[string]struct {
		next func() string
		want string
	}{
		"#monitoring":  {func() string { return slack.next(t).body }, "LM"},
		"#incidents":   {func() string { return incident.next(t).body }, "HC"},
		"e-mail":       {func() string { return <-post.got }, "HC"},
		"PagerDuty":    {func() string { return pager.next(t).body }, "C"},
		"Alertmanager": {func() string { return alerts.next(t).body }, "LMHC"},
	} {
		got := ""
		for range test.want {
			got += heard(test.next())
		}
		if got != test.want {
			t.Errorf("%s heard %s, want %s", name, got, test.want)
		}
	}
	for channel, want := range map[string]float64{"slack": 4, "email": 2, "pagerduty": 1, "alertmanager": 4} {
		until(t, channel+" counted", func() bool { return r.count(t, channel, outcomeSent) == want })
	}
	for _, d := range []*receiver{slack, incident, pager, alerts} {
		if len(d.got) != 0 {
			t.Errorf("told too much: %s", d.next(t).body)
		}
	}
	if strings.Contains(r.log.String(), "CANARY") {
		t.Error("the log shows a secret")
	}
}

func TestAChannelThatHangsDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	slack := newDouble(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release) // before the notifier is stopped: it does not break off what is under way
	hook := newDouble(t, nil)
	r := start(t, func(c *Config) {
		c.Settings.SlackWebhookURL, c.Settings.WebhookURL = config.Secret(slack.url), config.Secret(hook.url)
		c.SendTimeout = time.Minute // longer than the test
	})
	var want []string
	for i := range 20 {
		result := sample.At(heal.High, fmt.Sprint(i))
		want = append(want, result.Head().ID)
		r.publish(t, result)
	}
	slack.next(t)
	var got []string
	for range want {
		got = append(got, hook.next(t).header.Get("Idempotency-Key"))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the webhook's events (-want +got):\n%s", diff)
	}
	if len(slack.got) != 0 {
		t.Error("Slack was sent more while it hung")
	}
}

func TestAChannelThatIsBackHearsWhatItMissed(t *testing.T) {
	down := true // read and written by the double's requests, which come one at a time
	slack := newDouble(t, func(w http.ResponseWriter, _ *http.Request) {
		if down {
			down = false
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	r := start(t, func(c *Config) { c.Settings.SlackWebhookURL = config.Secret(slack.url) })
	r.publish(t, sample.Healed())
	first, second := slack.next(t), slack.next(t)
	if diff := cmp.Diff(first.body, second.body); diff != "" {
		t.Errorf("-first +second:\n%s", diff)
	}
	until(t, "told", func() bool { return r.count(t, "slack", outcomeSent) == 1 })
	if r.count(t, "slack", outcomeRetried) < 1 {
		t.Error("the attempt that failed was not counted")
	}
	for _, line := range []string{"channel takes no messages, trying again until it does", "channel takes messages again"} {
		if n := strings.Count(r.log.String(), line); n != 1 {
			t.Errorf("logged %d times: %s", n, line)
		}
	}
}

func TestARefusedMessageIsADeadLetterAndShowsNoSecret(t *testing.T) {
	slack := newDouble(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "no such hook: "+r.URL.Path)
	})
	r := start(t, func(c *Config) { c.Settings.SlackWebhookURL = config.Secret(slack.url) })
	letters := make(chan bus.Raw, 1)
	go func() {
		_ = r.bus.Tail(t.Context(), time.Now().Add(-time.Minute), func(m bus.Raw) error {
			if strings.Contains(m.Subject, ".dlq.") {
				letters <- m
			}
			return nil
		})
	}()
	r.publish(t, sample.Healed())
	select {
	case raw := <-letters:
		e, err := heal.Decode[heal.DeadLetter](raw.Data)
		if err != nil {
			t.Fatal(err)
		}
		if l := e.Data; l.Stage != "notifier-slack" || l.Reason != heal.DeadRefused || l.Error != "slack_webhook_url: 127.0.0.1 answered 404 Not Found" {
			t.Errorf("dead letter of %s, %s: %s", l.Stage, l.Reason, l.Error)
		}
		if strings.Contains(string(raw.Data), "CANARY") {
			t.Errorf("the dead letter shows the secret: %s", raw.Data)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no dead letter")
	}
	if got := r.count(t, "slack", outcomeFailed); got != 1 {
		t.Errorf("failed: %v, want 1", got)
	}
	r.stop()
	if strings.Contains(r.log.String(), "CANARY") {
		t.Errorf("the log shows the secret:\n%s", r.log)
	}
}

func TestAResultDeliveredAgainIsToldOnce(t *testing.T) {
	slack := newDouble(t, nil)
	r := start(t, func(c *Config) { c.Settings.SlackWebhookURL = config.Secret(slack.url) })
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	// As after a crash between storing the notifications and noting so.
	d := newDesk(r.server.Bus(t, Name), slog.New(slog.DiscardHandler), m, defaultPolicy(t), []route.Listener{{Channel: "slack", To: "#incidents", Audience: route.Incident}})
	again := bus.Message[heal.Result]{Event: heal.NewEvent(sample.Healed(), bustest.Cluster, "actuator", time.Now()), Attempt: 2, Stored: time.Now()}
	for range 3 {
		if err := d.result(t.Context(), again); err != nil {
			t.Fatal(err)
		}
	}
	r.publish(t, sample.Healed(), sample.Healed(), sample.At(heal.High, "last"))
	slack.next(t)
	slack.next(t) // the last one
	until(t, "both told", func() bool { return r.count(t, "slack", outcomeSent) == 2 })
	if len(slack.got) != 0 {
		t.Errorf("told again: %s", headline(t, slack.next(t)))
	}
}

func TestSwitchedOffNobodyIsToldAndNothingWaits(t *testing.T) {
	slack, hook := newDouble(t, nil), newDouble(t, nil)
	set := func(enabled bool) func(*Config) {
		return func(c *Config) {
			c.Settings.NotificationEnabled = enabled
			c.Settings.SlackWebhookURL, c.Settings.WebhookURL = config.Secret(slack.url), config.Secret(hook.url)
		}
	}
	r := start(t, set(false))
	r.publish(t, sample.Healed())
	for _, ch := range []string{"slack", "webhook"} {
		until(t, ch+" suppressed", func() bool { return r.count(t, ch, outcomeSuppressed) == 1 })
	}
	r.stop()
	r.metrics = prometheus.NewRegistry()
	r.again(t, set(true))
	r.publish(t, sample.At(heal.High, "later"))
	if got, want := hook.next(t).header.Get("Idempotency-Key"), sample.At(heal.High, "later").Head().ID; got != want {
		t.Errorf("told %s, want only %s", got, want)
	}
	slack.next(t)
	if len(slack.got)+len(hook.got) != 0 {
		t.Error("what was suppressed is told after all")
	}
}

func TestWhatIsNotWorthTellingReachesOnlyTheRecord(t *testing.T) {
	slack, hook := newDouble(t, nil), newDouble(t, nil)
	r := start(t, func(c *Config) {
		c.Settings.SlackWebhookURL, c.Settings.WebhookURL = config.Secret(slack.url), config.Secret(hook.url)
	})
	moot := sample.At(heal.High, "moot")
	moot.Outcome, moot.Reason, moot.Verification = heal.Skipped, heal.ReasonRecovered, nil
	r.publish(t, moot)
	if got := hook.next(t); !strings.Contains(got.body, `"outcome":"skipped"`) {
		t.Errorf("the webhook got %s", got.body)
	}
	until(t, "suppressed", func() bool { return r.count(t, "slack", outcomeSuppressed) == 1 })
	if len(slack.got) != 0 {
		t.Errorf("told: %s", headline(t, slack.next(t)))
	}
}

func TestWrongSettingsEndTheStart(t *testing.T) {
	err := Run(t.Context(), Config{Settings: config.Settings{WebhookURL: "http://example.com/canary"}}, Deps{Bus: bustest.New(t, Name)})
	if !errors.Is(err, config.ErrSettings) || !strings.Contains(err.Error(), "webhook_url: want https://") || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func defaultPolicy(t *testing.T) route.Policy {
	t.Helper()
	p, err := route.Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheOperatorIsAdvisedOnce(t *testing.T) {
	slack := newDouble(t, nil)
	r := start(t, func(c *Config) { c.Settings.SlackWebhookURL = config.Secret(slack.url) })
	r.publish(t, sample.At(heal.High, "1"), sample.At(heal.Low, "2"))
	slack.next(t)
	slack.next(t)
	if n := strings.Count(r.log.String(), "set slack_incident_webhook_url for #incidents"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestWhatBecomesOfAMessage(t *testing.T) {
	refused := &channel.SendError{Reason: "refused", Permanent: true}
	away := &channel.SendError{Reason: "away"}
	busy := &channel.SendError{Reason: "busy", After: 7 * time.Minute}
	const giveUp = 24 * time.Hour
	for _, test := range []struct {
		name    string
		err     error
		attempt uint64
		age     time.Duration
		outcome string
		want    error
	}{
		{"taken", nil, 1, 0, outcomeSent, nil},
		{"taken at last", nil, 900, 30 * time.Hour, outcomeSent, nil},
		{"refused", refused, 1, 0, outcomeFailed, bus.Permanent(refused)},
		{"away", away, 1, time.Second, outcomeRetried, bus.Later(away, 2*time.Second)},
		{"away for long", away, 900, giveUp - 1, outcomeRetried, bus.Later(away, time.Minute)},
		{"away for too long", away, 901, giveUp, outcomeFailed, bus.Permanent(fmt.Errorf("given up after %s: %w", giveUp, away))},
		{"busy", busy, 3, time.Minute, outcomeRetried, bus.Later(busy, 7*time.Minute)},
		{"busy for too long", busy, 300, giveUp, outcomeFailed, bus.Permanent(fmt.Errorf("given up after %s: %w", giveUp, busy))},
	} {
		t.Run(test.name, func(t *testing.T) {
			outcome, err := judge(test.err, test.attempt, test.age, giveUp)
			if outcome != test.outcome {
				t.Errorf("outcome %s, want %s", outcome, test.outcome)
			}
			if got, want := fmt.Sprintf("%#v", err), fmt.Sprintf("%#v", test.want); bus.IsPermanent(err) != bus.IsPermanent(test.want) || got != want && !bus.IsPermanent(err) {
				t.Errorf("error\n got %s\nwant %s", got, want)
			}
			if test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("%v does not hold its cause", err)
			}
		})
	}
}

func TestAttemptsAreAMinuteApartAtMost(t *testing.T) {
	var got []time.Duration
	for attempt := range uint64(9) {
		got = append(got, backoff(attempt))
	}
	want := []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9, 60e9}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := backoff(1 << 63); got != time.Minute {
		t.Errorf("got %s, want 1m0s", got)
	}
}
