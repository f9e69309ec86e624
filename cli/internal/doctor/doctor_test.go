package doctor

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/pkg/bus"
)

func levels(findings []Finding) map[string]Level {
	all := map[string]Level{}
	for _, f := range findings {
		all[f.Check] = f.Level
		if (f.Level == OK) != (f.Mend == "") {
			all[f.Check] += " with the wrong way to mend it"
		}
	}
	return all
}

func TestWhatTheAPIServerSaysIsJudged(t *testing.T) {
	k := &Kube{Version: "v1.36.3", ClockAhead: -40 * time.Second, Home: "self-healing", Duties: []Answer{
		{Duty: Duty{Service: "actuator", What: "restart"}, As: "system:serviceaccount:self-healing:self-healing-actuator"},
		{Duty: Duty{Service: "actuator", What: "rollback"}, As: "you", Missing: []string{"patch deployments.apps"}},
		{Duty: Duty{Service: "actuator", What: "resize"}, Err: apierrors.NewForbidden(schema.GroupResource{Resource: "subjectaccessreviews"}, "", errors.New("no"))},
	}}
	want := map[string]Level{
		"kubernetes": OK, "kubernetes-clock": Fail, "rights: actuator, restart": OK, "rights: actuator, rollback": Fail, "rights: actuator, resize": Unknown,
	}
	if diff := cmp.Diff(want, levels(k.judge())); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]Level{"kubernetes": Fail}, levels((&Kube{Err: errors.New("away")}).judge())); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

func TestEachTroubleWithNATSIsNamed(t *testing.T) {
	listening := func(name string, pending uint64) bus.ConsumerState {
		return bus.ConsumerState{Name: name, Waiting: 1, Pending: pending}
	}
	f := overview.Facts{At: time.Now(), NATS: bus.Inspection{TooOld: errors.New("nats-server 2.9.0: need >= 2.14.0"), ClockAhead: 5 * time.Second, Streams: []bus.StreamState{
		{Name: bus.Failures.Stream, MaxBytes: 100, Bytes: 99, Refuses: true, Consumers: []bus.ConsumerState{listening("analyzer", 5000)}},
		{Name: bus.Decisions.Stream, Drift: []string{"max_age"}, Consumers: []bus.ConsumerState{listening("actuator", 0), {Name: "actuator-approvals"}}},
		{Name: bus.Results.Stream, Err: bus.ErrNotFound},
	}}}
	want := map[string]Level{
		"nats": Fail, "nats-clock": Warn, "stream SELFHEAL_FAILURES": Fail, "stream SELFHEAL_DECISIONS": Warn, "stream SELFHEAL_RESULTS": Fail,
		"consumer analyzer": Warn, "consumer actuator": OK, "consumer actuator-approvals": Fail, "consumer analyzer-feedback": Fail, "consumer notifier": Fail,
		"consumer actuator-undo": Fail, "consumer notifier-decisions": Fail, "consumer notifier-critical": Fail, "consumer notifier-failures": Fail,
		"watchers": Fail, "acting": OK, "dead letters": OK, "channels": Warn,
	}
	if diff := cmp.Diff(want, levels(Judge(f, nil))); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

func TestRulesComeToSingleRights(t *testing.T) {
	var got []string
	for _, n := range needs([]rbacv1.PolicyRule{{APIGroups: []string{"", "apps"}, Resources: []string{"pods/eviction", "nodes"}, Verbs: []string{"create"}}}) {
		got = append(got, words(n))
	}
	want := []string{"create pods/eviction", "create nodes", "create pods.apps/eviction", "create nodes.apps"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rights (-want +got):\n%s", diff)
	}
}
