package rights_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sign"
	"github.com/selfheal/selfheal/test/chart/rights/natstest"
)

const (
	ourTopics = "selfheal.v1.prod_eu."
	forged    = ourTopics + "decisions.pod_failure.recreate.high.shop.pod.checkout-1"
)

// A step is one thing that a client tries with its own key.
type step struct {
	name      string
	client    string
	publish   string // a subject
	reply     string // where the answer is to go
	body      string
	subscribe string // or a subject to listen to
	allowed   bool   // the server takes the request; it is to come to nothing
}

func steps() []step {
	var all []step
	for _, p := range []struct{ client, subject, what string }{
		{"watcher", forged, "a decision"},
		{"watcher", ourTopics + "results.pod_failure.recreate.succeeded.shop.pod.checkout-1", "a result"},
		{"watcher", ourTopics + "notifications.slack.high", "a notification"},
		{"watcher", ourTopics + "approvals.d-1", "an approval"},
		{"watcher", ourTopics + "control.resume", "a resume"},
		{"watcher", ourTopics + "dlq.analyzer", "a dead letter"},
		{"watcher", "selfheal.v1.other.failures.pod_failure.shop.pod.checkout-1", "a failure of another cluster"},
		{"analyzer", ourTopics + "failures.pod_failure.shop.pod.checkout-1", "a failure"},
		{"analyzer", ourTopics + "results.pod_failure.recreate.succeeded.shop.pod.checkout-1", "a result"},
		{"analyzer", ourTopics + "approvals.d-1", "an approval of its own decision"},
		{"analyzer", ourTopics + "control.resume", "a resume"},
		{"analyzer", ourTopics + "dlq.actuator", "a dead letter of the actuator"},
		{"actuator", forged, "a decision for itself"},
		{"actuator", ourTopics + "approvals.d-1", "an approval for itself"},
		{"actuator", ourTopics + "control.resume", "a resume for itself"},
		{"actuator", ourTopics + "failures.pod_failure.shop.pod.checkout-1", "a failure"},
		{"notifier", forged, "a decision"},
		{"notifier", ourTopics + "approvals.d-1", "an approval, where no buttons are"},
		{"notifier", ourTopics + "control.pause", "a pause, where no buttons are"},
		{"notifier", ourTopics + "control.resume", "a resume"},
		{"notifier", ourTopics + "control.undo", "an undo"},
		{"actuator", ourTopics + "control.undo", "an undo for itself"},
		{"notifier", ourTopics + "failures.pod_failure.shop.pod.checkout-1", "a failure"},
		{"notifier", ourTopics + "results.pod_failure.recreate.succeeded.shop.pod.checkout-1", "a result"},
		{"keeper", forged, "a decision"},
		{"keeper", ourTopics + "approvals.d-1", "an approval"},
		{"keeper", "$KV.SELFHEAL_ACTIONS.x", "a page of the actuator's ledger"},
		{"operator", forged, "a decision"},
		{"operator", ourTopics + "failures.pod_failure.shop.pod.checkout-1", "a failure"},
		{"analyzer", "$KV.SELFHEAL_EPISODES.x", "an episode"},
		{"analyzer", "$KV.SELFHEAL_OBSERVERS.x", "what a watcher sees"},
		{"actuator", "$KV.SELFHEAL_OBSERVERS.x", "what a watcher sees"},
		{"actuator", "$KV.SELFHEAL_INCIDENTS.x", "an incident"},
		{"analyzer", "$KV.SELFHEAL_ACTIONS.x", "a page of the actuator's ledger"},
		{"notifier", "$KV.SELFHEAL_ACTIONS.x", "a page of the actuator's ledger"},
		{"watcher", "$KV.SELFHEAL_INCIDENTS.x", "an incident"},
		{"operator", "$KV.SELFHEAL_ACTIONS.x", "a page of the actuator's ledger"},
		{"notifier", "$JS.ACK.SELFHEAL_DECISIONS.actuator.1.1.1.1.0", "that the actuator is done"},
		{"watcher", "$JS.ACK.SELFHEAL_FAILURES.analyzer.1.1.1.1.0", "that the analyzer is done"},
		{"analyzer", "$JS.ACK.SELFHEAL_DECISIONS.actuator.1.1.1.1.0", "that the actuator is done"},
		{"actuator", "$JS.ACK.SELFHEAL_RESULTS.notifier.1.1.1.1.0", "that the notifier is done"},
	} {
		all = append(all, step{name: p.client + " writes " + p.what, client: p.client, publish: p.subject, body: "{}"})
	}
	for _, client := range []string{"watcher", "analyzer", "actuator", "notifier", "operator"} {
		for _, r := range []struct{ what, subject, body string }{
			{"deletes the stream of decisions", "$JS.API.STREAM.DELETE.SELFHEAL_DECISIONS", ""},
			{"purges the stream of failures", "$JS.API.STREAM.PURGE.SELFHEAL_FAILURES", ""},
			{"deletes a message of the audit", "$JS.API.STREAM.MSG.DELETE.SELFHEAL_AUDIT", `{"seq":1}`},
			{"reshapes the stream of failures", "$JS.API.STREAM.UPDATE.SELFHEAL_FAILURES", `{"name":"SELFHEAL_FAILURES","subjects":["selfheal.v1.*.failures.>"],"republish":{"src":">","dest":"selfheal.v1.prod_eu.decisions.x"}}`},
			{"makes a stream that copies the decisions", "$JS.API.STREAM.CREATE.MINE", `{"name":"MINE","sources":[{"name":"SELFHEAL_DECISIONS"}]}`},
			{"takes a snapshot of the decisions", "$JS.API.STREAM.SNAPSHOT.SELFHEAL_DECISIONS", `{"deliver_subject":"_INBOX_x"}`},
			{"deletes the actuator's consumer", "$JS.API.CONSUMER.DELETE.SELFHEAL_DECISIONS.actuator", ""},
			{"pauses the actuator's consumer", "$JS.API.CONSUMER.PAUSE.SELFHEAL_DECISIONS.actuator", `{"pause_until":"2099-01-01T00:00:00Z"}`},
			{"has the stream's leader step down", "$JS.API.STREAM.LEADER.STEPDOWN.SELFHEAL_DECISIONS", ""},
			{"lists every stream", "$JS.API.STREAM.NAMES", ""},
			{"asks the system", "$SYS.REQ.SERVER.PING", ""},
		} {
			all = append(all, step{name: client + " " + r.what, client: client, publish: r.subject, body: r.body})
		}
		for _, l := range []struct{ what, subject string }{
			{"listens to everything", ">"},
			{"listens to the decisions past the stream", "selfheal.v1.>"},
			{"listens to the system", "$SYS.>"},
			{"listens to another's answers", "_INBOX_somebody.>"},
			{"listens to all answers", "_R_.>"},
		} {
			all = append(all, step{name: client + " " + l.what, client: client, subscribe: l.subject})
		}
	}
	for _, thief := range []struct{ client, stream, consumer string }{
		{"watcher", "SELFHEAL_FAILURES", "analyzer"},
		{"watcher", "SELFHEAL_DECISIONS", "actuator"},
		{"analyzer", "SELFHEAL_DECISIONS", "actuator"},
		{"analyzer", "SELFHEAL_RESULTS", "notifier"},
		{"actuator", "SELFHEAL_FAILURES", "analyzer"},
		{"actuator", "SELFHEAL_RESULTS", "analyzer-feedback"},
		{"notifier", "SELFHEAL_DECISIONS", "actuator"},
		{"notifier", "SELFHEAL_RESULTS", "analyzer-feedback"},
	} {
		all = append(all, step{
			name: thief.client + " takes the messages of " + thief.consumer, client: thief.client,
			publish: "$JS.API.CONSUMER.MSG.NEXT." + thief.stream + "." + thief.consumer, reply: "_INBOX_" + thief.client + ".x", body: `{"batch":1}`,
		}, step{
			name: thief.client + " reshapes the consumer " + thief.consumer, client: thief.client,
			publish: "$JS.API.CONSUMER.CREATE." + thief.stream + "." + thief.consumer + ".selfheal.v1.prod_eu.nothing.>",
			body:    `{"stream_name":"` + thief.stream + `","config":{"durable_name":"` + thief.consumer + `","filter_subject":"selfheal.v1.prod_eu.nothing.>"},"action":"update"}`,
		})
	}
	for _, client := range []string{"watcher", "analyzer", "actuator", "notifier", "operator"} {
		all = append(all,
			step{name: client + " makes a stream of ours anew with another shape", client: client, publish: "$JS.API.STREAM.CREATE.SELFHEAL_FAILURES", body: `{"name":"SELFHEAL_FAILURES","subjects":["selfheal.v1.*.failures.>"],"storage":"memory","republish":{"src":">","dest":"selfheal.v1.prod_eu.decisions.x"}}`},
			step{name: client + " makes a bucket of ours anew", client: client, publish: "$JS.API.STREAM.CREATE.KV_SELFHEAL_ACTIONS", body: `{"name":"KV_SELFHEAL_ACTIONS","subjects":["a"]}`},
		)
	}
	for _, k := range []struct{ what, publish, subscribe string }{
		{"deletes the stream of decisions", "$JS.API.STREAM.DELETE.SELFHEAL_DECISIONS", ""},
		{"purges the audit", "$JS.API.STREAM.PURGE.SELFHEAL_AUDIT", ""},
		{"purges the actuator's ledger", "$JS.API.STREAM.PURGE.KV_SELFHEAL_ACTIONS", ""},
		{"makes a stream of its own", "$JS.API.STREAM.CREATE.MINE", ""},
		{"makes a consumer of the decisions", "$JS.API.CONSUMER.CREATE.SELFHEAL_DECISIONS.x", ""},
		{"reads a message of the decisions", "$JS.API.STREAM.MSG.GET.SELFHEAL_DECISIONS", ""},
		{"reads the audit directly", "$JS.API.DIRECT.GET.SELFHEAL_AUDIT", ""},
		{"listens to everything", "", ">"},
		{"listens to the decisions past the stream", "", "selfheal.v1.>"},
		{"listens to another's answers", "", "_INBOX_watcher.>"},
	} {
		all = append(all, step{name: "keeper " + k.what, client: "keeper", publish: k.publish, subscribe: k.subscribe, body: `{}`})
	}
	for _, reader := range []struct{ client, stream string }{
		{"watcher", "SELFHEAL_FAILURES"}, {"watcher", "SELFHEAL_DECISIONS"}, {"actuator", "SELFHEAL_DECISIONS"}, {"notifier", "SELFHEAL_DECISIONS"},
		{"analyzer", "SELFHEAL_NOTIFICATIONS"}, {"analyzer", "SELFHEAL_AUDIT"}, {"analyzer", "KV_SELFHEAL_ACTIONS"},
	} {
		all = append(all, step{
			name: reader.client + " reads the whole of " + reader.stream, client: reader.client,
			publish: "$JS.API.DIRECT.GET." + reader.stream, reply: "_INBOX_" + reader.client + ".x", body: `{"seq":1,"batch":10}`,
		})
	}
	// What the server takes, but has to come to nothing: an answer that is to
	// go into a stream.
	for _, l := range []step{
		{name: "notifier has its next message answered into the decisions", client: "notifier", publish: "$JS.API.CONSUMER.MSG.NEXT.SELFHEAL_RESULTS.notifier", reply: forged, body: `{"batch":1}`},
		{name: "analyzer has its next message answered into the results", client: "analyzer", publish: "$JS.API.CONSUMER.MSG.NEXT.SELFHEAL_FAILURES.analyzer", reply: ourTopics + "results.x", body: `{"batch":1}`},
		{name: "analyzer has the failures answered into the results", client: "analyzer", publish: "$JS.API.DIRECT.GET.SELFHEAL_FAILURES", reply: ourTopics + "results.x", body: `{"seq":1,"batch":10}`},
		{name: "analyzer has the decisions answered among themselves", client: "analyzer", publish: "$JS.API.DIRECT.GET.SELFHEAL_DECISIONS", reply: forged, body: `{"seq":1,"batch":10}`},
		{name: "watcher has an episode answered into the decisions", client: "watcher", publish: "$JS.API.DIRECT.GET.KV_SELFHEAL_EPISODES.$KV.SELFHEAL_EPISODES.seed", reply: forged},
		{name: "watcher has a description answered into the decisions", client: "watcher", publish: "$JS.API.STREAM.INFO.SELFHEAL_FAILURES", reply: forged},
	} {
		l.allowed = true
		all = append(all, l)
	}
	return all
}

func TestAStepOutsideItsRightsIsRefused(t *testing.T) {
	s := start(t)
	furnish(t, s)
	_, admin, _ := s.plain(t, "admin")
	type client struct {
		nc      *nats.Conn
		refused <-chan error
	}
	clients := map[string]client{}
	for _, name := range []string{"watcher", "analyzer", "actuator", "notifier", "operator", "keeper"} {
		nc, _, refused := s.plain(t, name)
		clients[name] = client{nc, refused}
	}
	tried := 0
	for _, tt := range steps() {
		tried++
		t.Run(tt.name, func(t *testing.T) {
			before := picture(t, admin)
			c := clients[tt.client]
			if tt.subscribe != "" {
				sub, err := c.nc.SubscribeSync(tt.subscribe)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = sub.Unsubscribe() }() // it is refused already
			} else if err := c.nc.PublishRequest(tt.publish, cmp.Or(tt.reply, "_INBOX_x"), []byte(tt.body)); err != nil {
				t.Fatal(err)
			}
			if err := c.nc.FlushTimeout(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-c.refused:
				if !errors.Is(err, nats.ErrPermissionViolation) || tt.allowed {
					t.Errorf("got %v", err)
				}
			case <-time.After(refusalWithin(tt)):
				if !tt.allowed {
					t.Error("the server took it")
				}
			}
			if diff := gocmp.Diff(before, picture(t, admin)); diff != "" {
				t.Errorf("it changed something (-before +after):\n%s", diff)
			}
		})
	}
	t.Logf("%d steps tried", tried)
}

// refusalWithin is how long the server may take to refuse; what it does not
// refuse must have shown its effect by then.
func refusalWithin(s step) time.Duration {
	if s.allowed {
		return 100 * time.Millisecond
	}
	return 5 * time.Second
}

func TestTheNotifierPassesAnswersOnOnlyWhereTheChartHasButtons(t *testing.T) {
	s := stage{natstest.StartWithButtons(t, cluster)}
	notifier := s.provisioned(t, "notifier")
	if err := bus.Approvals.Publish(t.Context(), notifier, heal.Approval{DecisionID: "d-1", Approved: true, By: "anna", At: time.Now()}); err != nil {
		t.Error(err)
	}
	if err := bus.Controls.Publish(t.Context(), notifier, heal.Control{Verb: heal.Pause, By: "anna", At: time.Now()}); err != nil {
		t.Error(err)
	}
	if err := bus.Controls.Publish(t.Context(), notifier, heal.Control{Verb: heal.Resume, By: "anna", At: time.Now()}); !errors.Is(err, bus.ErrPermission) {
		t.Errorf("resume: %v, want a refusal", err)
	}
}

// The server drops a message of which it knows the id, whatever its subject. So
// who may write anything else to the stream of decisions could keep one out.
func TestAPlantedIDKeepsNoDecisionOut(t *testing.T) {
	s := stage{natstest.StartWithButtons(t, cluster)}
	_, admin, _ := s.plain(t, "admin")
	private, _, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "decisions.key")
	if err := os.WriteFile(key, private, 0o400); err != nil {
		t.Fatal(err)
	}
	analyzer := s.Provisioned(t, "analyzer", bus.Options{SigningKey: key})
	for by, subject := range map[string]string{"notifier": "approvals.d-1", "operator": "control.pause", "actuator": "control.undone"} {
		d := decide(failure("planted-by-" + by))
		_, js, _ := s.plain(t, by)
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: ourTopics + subject, Header: nats.Header{nats.MsgIdHdr: {d.ID}}, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it comes twice, as anything may
			if err := bus.Decisions.Publish(t.Context(), analyzer, d); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := admin.Stream(t.Context(), bus.Decisions.Stream)
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.GetLastMsgForSubject(t.Context(), d.Head().Subject(cluster))
		if err != nil {
			t.Errorf("the %s has kept the decision out: %v", by, err)
			continue
		}
		if e, err := heal.Decode[heal.Decision](m.Data); err != nil || e.Data.ID != d.ID {
			t.Errorf("stored is %s, %v", e.Data.ID, err)
		}
	}
}

func TestNobodyComesInWithoutAKeyOfTheirs(t *testing.T) {
	s := start(t)
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("without a key: connected")
	}
	other := start(t) // of which every key is another
	key, err := nats.NkeyOptionFromSeed(other.Seeds["analyzer"])
	if err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(s.URL(), key); err == nil {
		nc.Close()
		t.Error("with a foreign key: connected")
	}
}

// A consumer's maker chooses where it delivers to, and NATS has no right that
// says where. So whoever makes a consumer on a stream that it also fills could
// have the server put its words among the decisions, were it not that the
// server delivers only to a subject that somebody listens to by that very name,
// which nobody in the streams' account can but its administrator.
func TestAConsumerThatDeliversIntoTheDecisionsDeliversNothing(t *testing.T) {
	s := start(t)
	furnish(t, s)
	nc, js, _ := s.plain(t, "notifier")
	_, admin, _ := s.plain(t, "admin")
	before := picture(t, admin)[bus.Decisions.Stream]
	if _, err := js.Publish(t.Context(), ourTopics+"notifications.slack.high", []byte("forged")); err != nil {
		t.Fatal(err)
	}
	body := `{"stream_name":"SELFHEAL_NOTIFICATIONS","config":{"name":"x","filter_subject":"selfheal.v1.prod_eu.notifications.>","deliver_subject":"` + forged + `","ack_policy":"none"}}`
	answer, err := nc.RequestWithContext(limited(t, 5*time.Second), "$JS.API.CONSUMER.CREATE.SELFHEAL_NOTIFICATIONS.x.selfheal.v1.prod_eu.notifications.>", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(answer.Data), `"num_pending":1`) {
		t.Fatalf("the consumer was not made: %s", answer.Data)
	}
	<-time.After(500 * time.Millisecond) // to be delivered in, if it is
	if diff := gocmp.Diff(before, picture(t, admin)[bus.Decisions.Stream]); diff != "" {
		t.Errorf("it delivered (-before +after):\n%s", diff)
	}
}

// furnish makes everything that there is in a cluster at work.
func furnish(t *testing.T, s stage) {
	t.Helper()
	watcher := s.provisioned(t, "watcher")
	if err := bus.Failures.Publish(t.Context(), watcher, failure("checkout-1")); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.NewStore[string](watcher, bus.EpisodesBucket).Create(t.Context(), "seed", "x"); err != nil {
		t.Fatal(err)
	}
	_, admin, _ := s.plain(t, "admin")
	for _, c := range [][2]string{
		{"SELFHEAL_FAILURES", "analyzer"}, {"SELFHEAL_DECISIONS", "actuator"}, {"SELFHEAL_DECISIONS", "actuator-approvals"},
		{"SELFHEAL_RESULTS", "analyzer-feedback"}, {"SELFHEAL_RESULTS", "notifier"},
	} {
		// Nothing comes of a pull within the test, so that a picture shows only what others do.
		if _, err := admin.CreateConsumer(t.Context(), c[0], jetstream.ConsumerConfig{Durable: c[1], AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverNewPolicy}); err != nil {
			t.Fatal(err)
		}
	}
}

// A look is what can be seen of a stream.
type look struct {
	Config    string
	Messages  uint64
	Last      uint64
	Consumers map[string]string
}

// picture is all that there is in the streams' account.
func picture(t *testing.T, admin jetstream.JetStream) map[string]look {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	all := map[string]look{}
	streams := admin.ListStreams(ctx)
	for info := range streams.Info() {
		config, err := json.Marshal(info.Config)
		if err != nil {
			t.Fatal(err)
		}
		l := look{Config: string(config), Messages: info.State.Msgs, Last: info.State.LastSeq, Consumers: map[string]string{}}
		stream, err := admin.Stream(ctx, info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			about, err := json.Marshal([]any{c.Config, c.AckFloor, c.Delivered.Stream})
			if err != nil {
				t.Fatal(err)
			}
			l.Consumers[c.Name] = string(about)
		}
		if err := consumers.Err(); err != nil {
			t.Fatal(err)
		}
		// The audit copies at its own pace.
		if strings.HasSuffix(info.Config.Name, "AUDIT") {
			l.Messages, l.Last = 0, 0
		}
		all[info.Config.Name] = l
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
