package contract

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestMessagesGoToTheContractsSubjects(t *testing.T) {
	for _, s := range samples() {
		payload, ok := reflect.ValueOf(s.event).FieldByName("Data").Interface().(heal.Payload)
		if !ok {
			t.Fatalf("%s carries no payload", s.name)
		}
		if got := payload.Head().Subject(s.cluster); got != s.subject {
			t.Errorf("%s: subject\n got %s\nwant %s", s.name, got, s.subject)
		}
	}
}

func TestNamesBecomeOneTokenEach(t *testing.T) {
	for _, test := range []struct {
		cluster string
		target  heal.Target
		want    string
	}{
		{"default", heal.Target{Kind: "Pod", Namespace: "shop", Name: "checkout"}, "selfheal.v1.default.failures.pod_failure.shop.pod.checkout"},
		{"default", heal.Target{Kind: "StatefulSet", Namespace: "shop", Name: "db.v2.main"}, "selfheal.v1.default.failures.pod_failure.shop.statefulset.db_v2_main"},
		{"default", heal.Target{Kind: "PersistentVolumeClaim", Namespace: "a-b", Name: "data-db-0"}, "selfheal.v1.default.failures.pod_failure.a-b.persistentvolumeclaim.data-db-0"},
		{"prod.eu-west-1", heal.Target{Kind: "Node", Name: "ip-10-0-0-1.ec2.internal"}, "selfheal.v1.prod_eu-west-1.failures.pod_failure._.node.ip-10-0-0-1_ec2_internal"},
	} {
		f := heal.Failure{Type: heal.PodFailure, Target: test.target}
		if got := f.Head().Subject(test.cluster); got != test.want {
			t.Errorf("subject\n got %s\nwant %s", got, test.want)
		}
	}
}

// Readers filter by position: selfheal.v1.*.decisions.*.*.critical.> and the like.
func FuzzAValidTargetNeverShiftsTheTokens(f *testing.F) {
	f.Add("Pod", "shop", "checkout-7d9f6c-x2kpl")
	f.Add("Node", "", "ip-10-0-0-1.ec2.internal")
	f.Add("Pod", "a.b", "x.>")
	token := regexp.MustCompile(`^[-a-z0-9_]+$`)
	f.Fuzz(func(t *testing.T, kind, namespace, name string) {
		d := recreate()
		d.Target.Kind, d.Target.Namespace, d.Target.Name = kind, namespace, name
		d.Failure.Target = d.Target
		if d.Validate() != nil {
			return // never published
		}
		tokens := strings.Split(d.Head().Subject("prod.eu"), ".")
		if len(tokens) != 10 {
			t.Fatalf("%d tokens, want 10: %q", len(tokens), tokens)
		}
		for _, tok := range tokens {
			if !token.MatchString(tok) {
				t.Errorf("token %q", tok)
			}
		}
		if got := heal.FromToken(tokens[9]); got != name {
			t.Errorf("name reads back as %q, want %q", got, name)
		}
		if got := heal.FromToken(tokens[7]); got != namespace {
			t.Errorf("namespace reads back as %q, want %q", got, namespace)
		}
	})
}
