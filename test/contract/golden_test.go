package contract

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

var update = flag.Bool("update", false, "write testdata anew")

// A sample is one typical message.
type sample struct {
	name    string // of its golden file: the type, and a word if there are several
	subject string // NATS
	cluster string
	event   any
	decode  func([]byte) (any, error)
}

func newSample[T heal.Payload](name, cluster, service string, data T, subject string) sample {
	e := heal.NewEvent(data, cluster, service, noon.Add(31*time.Second))
	e.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	return sample{name, subject, cluster, e, func(b []byte) (any, error) { return heal.Decode[T](b) }}
}

func samples() []sample {
	return []sample{
		newSample("failure.detected.v1", "default", "watcher", podFailure(), "selfheal.v1.default.failures.pod_failure.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("failure.detected.v1-again", "default", "watcher", podFailureAgain(), "selfheal.v1.default.failures.pod_failure.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("failure.detected.v1-node", "prod.eu", "watcher", nodeFailure(), "selfheal.v1.prod_eu.failures.node_failure._.node.ip-10-0-3-17_eu-west-1_compute_internal"),
		newSample("failure.resolved.v1", "default", "watcher", podFailureOver(), "selfheal.v1.default.failures.pod_failure.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("decision.made.v1", "default", "analyzer", recreate(), "selfheal.v1.default.decisions.pod_failure.recreate.high.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("decision.made.v1-node", "prod.eu", "analyzer", drain(), "selfheal.v1.prod_eu.decisions.node_failure.drain_and_replace.critical._.node.ip-10-0-3-17_eu-west-1_compute_internal"),
		newSample("decision.made.v1-vetoed", "default", "analyzer", vetoed(), "selfheal.v1.default.decisions.pod_failure.recreate.high.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("action.completed.v1", "default", "actuator", healed(), "selfheal.v1.default.results.pod_failure.recreate.succeeded.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("action.completed.v1-node", "prod.eu", "actuator", notDrained(), "selfheal.v1.prod_eu.results.node_failure.drain_and_replace.failed._.node.ip-10-0-3-17_eu-west-1_compute_internal"),
		newSample("action.completed.v1-refused", "default", "actuator", refused(), "selfheal.v1.default.results.pod_failure.recreate.rejected.shop.pod.checkout-7d9f6c-x2kpl"),
		newSample("notification.requested.v1", "default", "notifier", onSlack(), "selfheal.v1.default.notifications.slack.high"),
		newSample("approval.given.v1", "prod.eu", "selfheal", approved(), "selfheal.v1.prod_eu.approvals."+drain().ID),
		newSample("control.changed.v1", "default", "selfheal", paused(), "selfheal.v1.default.control.pause"),
		newSample("control.changed.v1-resume", "default", "selfheal", resumed(), "selfheal.v1.default.control.resume"),
		newSample("message.dead.v1", "default", "actuator", dead(), "selfheal.v1.default.dlq.actuator"),
	}
}

// schema is the name of the sample's schema.
func (s sample) schema() string {
	name, _, _ := strings.Cut(s.name, "-")
	return name
}

func (s sample) marshal(t testing.TB) []byte {
	t.Helper()
	data, err := json.Marshal(s.event)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMessagesAreWrittenAsEver(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := json.Indent(&got, s.marshal(t), "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			file := filepath.Join("testdata", s.name+".json")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", file, diff)
			}
		})
	}
}

func TestEveryGoldenFileIsOfASample(t *testing.T) {
	known := map[string]bool{}
	for _, s := range samples() {
		known[s.name+".json"] = true
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() && !known[e.Name()] {
			t.Errorf("testdata/%s is of no sample", e.Name())
		}
	}
}

func TestMessagesAreCloudEventsAndAsOurSchemasSay(t *testing.T) {
	all := loadSchemas(t)
	for _, s := range samples() {
		doc := parseJSON(t, s.marshal(t))
		if err := all["cloudevents"].Validate(doc); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if err := all[s.schema()].Validate(doc); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		for name, other := range all {
			if name != s.schema() && strings.HasSuffix(name, ".v1") && other.Validate(doc) == nil {
				t.Errorf("%s passes for %s too", s.name, name)
			}
		}
	}
}

func TestMessagesReadBackAsTheyWereWritten(t *testing.T) {
	for _, s := range samples() {
		got, err := s.decode(s.marshal(t))
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if diff := cmp.Diff(s.event, got); diff != "" {
			t.Errorf("%s (-written +read):\n%s", s.name, diff)
		}
	}
}

func TestTypicalMessagesAreSmall(t *testing.T) {
	const most = 16 << 10 // the tightest stream, SELFHEAL_FAILURES
	for _, s := range samples() {
		if n := len(s.marshal(t)); n > most {
			t.Errorf("%s has %d bytes, more than %d", s.name, n, most)
		}
	}
}

// The contract's own examples, their elided values completed.
func TestTheContractsExamplesPass(t *testing.T) {
	all := loadSchemas(t)
	failure := parseJSON(t, []byte(exampleFailure)).(map[string]any)
	decision := parseJSON(t, []byte(exampleDecision)).(map[string]any)
	decision["failure"] = failure
	result := parseJSON(t, []byte(exampleResult)).(map[string]any)
	result["decision"] = decision
	resolved := parseJSON(t, []byte(exampleFailure)).(map[string]any)
	resolved["resolved_at"] = "2026-11-22T12:19:51.104Z"
	for eventType, example := range map[string]struct {
		id   string
		data map[string]any
	}{
		heal.TypeFailureDetected: {"f-000000000000000000000000", failure},
		heal.TypeFailureResolved: {"f-000000000000000000000001", resolved},
		heal.TypeDecisionMade:    {"d-000000000000000000000000", decision},
		heal.TypeActionCompleted: {"r-000000000000000000000000", result},
	} {
		event := map[string]any{
			"specversion": "1.0", "id": example.id, "type": eventType, "source": "/clusters/default/self-healing/watcher",
			"subject": "shop/Pod/checkout-7d9f6c-x2kpl", "time": "2026-11-22T12:19:22.104Z", "datacontenttype": "application/json",
			"correlationid": "i-000000000000000000000000", "causationid": "f-000000000000000000000000", "severitytext": "medium",
			"expirytime": "2026-11-22T12:24:22Z", "data": example.data,
		}
		if err := all.of(t, eventType).Validate(event); err != nil {
			t.Errorf("%s: %v", eventType, err)
		}
		if err := all["cloudevents"].Validate(event); err != nil {
			t.Errorf("%s: %v", eventType, err)
		}
	}
}

const exampleFailure = `
{"type":"pod_failure","reason":"CrashLoopBackOff","severity":"medium","resource_name":"checkout-7d9f6c-x2kpl","namespace":"shop",
 "description":"container api is in CrashLoopBackOff: 7 restarts, last exit 1","timestamp":1795349962.104,
 "target":{"api_version":"v1","kind":"Pod","namespace":"shop","name":"checkout-7d9f6c-x2kpl","uid":"0f3c6a1e-5b1d-4c56-8a55-0a2f4d0c9e11","resource_version":"88213"},
 "owner":{"api_version":"apps/v1","kind":"Deployment","namespace":"shop","name":"checkout","uid":"9b1e44c2-73e0-4f0c-9d6b-64c3c1c6b0aa"},
 "node":"ip-10-0-3-17.eu-west-1.compute.internal","detector":"crash_loop",
 "fingerprint":"pod_failure/shop/Deployment/checkout/api/CrashLoopBackOff",
 "episode_id":"e-000000000000000000000000","occurrence":1,"first_seen":"2026-11-22T12:19:22.104Z",
 "evidence":[{"path":"status.containerStatuses[0].restartCount","value":"7"}],"metadata":{"exit_code":"1"}}`

const exampleDecision = `
{"decision_id":"d-000000000000000000000000","incident_id":"i-000000000000000000000000","type":"pod_failure","severity":"high","base_severity":"medium","similar_failures":2,
 "strategy":"recreate","action_type":"pod_recovery","mode":"auto","reason":"SeverityTable","expires":"2026-11-22T12:24:22Z",
 "target":{"api_version":"v1","kind":"Pod","namespace":"shop","name":"checkout-7d9f6c-x2kpl","uid":"0f3c6a1e-5b1d-4c56-8a55-0a2f4d0c9e11"},"parameters":{},
 "cause":{"kind":"unknown","evidence":["no other pod of shop/checkout fails"]},
 "policy":{"name":"default","revision":"sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae","rule":"pod_failure/high"},
 "guards":[{"name":"cooldown","allowed":true,"detail":"nothing was done about it in the last 1m0s"}],
 "explanation":{"summary":"2 similar failures in an hour: recreate","steps":["base severity of pod_failure is medium","2 similar failures in 1h0m0s: high","pod_failure/high: recreate"]}}`

const exampleResult = `
{"outcome":"succeeded","reason":"Verified","message":"checkout-7d9f6c-9fjq2 is Ready","attempt":1,
 "started_at":"2026-11-22T12:19:22.204Z","duration_seconds":29.34,"steps":[{"name":"evict","status":"ok","milliseconds":41}],
 "verification":{"passed":true,"checks":[{"name":"replacement_ready","passed":true,"observed":"checkout-7d9f6c-9fjq2 is Ready"}]},"undo":null,"dry_run":false}`
