package guard

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// typical is a failure that nothing speaks against acting upon.
func typical(t testing.TB) Input {
	t.Helper()
	p, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Failure: heal.Failure{
			Target: heal.Target{Kind: "Pod", Namespace: "shop", Name: "checkout-x2kpl"},
			Owner:  heal.Target{Kind: "Deployment", Namespace: "shop", Name: "checkout"},
		},
		Strategy:  heal.Restart,
		Announced: noon.Add(-3 * time.Second),
		Now:       noon,
		Protected: []string{heal.Product},
		Limits:    p.Guards(),
	}
}

func TestGuards(t *testing.T) {
	failed := func(n int, ago time.Duration) func(*Input) {
		return func(in *Input) { in.State = incident.State{Failed: n, LastFailed: noon.Add(-ago)} }
	}
	namespace := func(ns string) func(*Input) {
		return func(in *Input) { in.Failure.Target.Namespace, in.Failure.Owner.Namespace = ns, ns }
	}
	node := func(in *Input) {
		in.Failure.Target, in.Failure.Owner = heal.Target{Kind: "Node", Name: "n1"}, heal.Target{}
	}
	actedAgo := func(ago ...time.Duration) func(*Input) {
		return func(in *Input) {
			for _, d := range ago {
				in.Acted = append(in.Acted, noon.Add(-d))
			}
		}
	}
	recovery := func(until time.Time) func(*Input) {
		return func(in *Input) {
			in.State.Recovery = incident.Recovery{Decision: "d-1", Strategy: heal.Restart, Until: until}
		}
	}
	full := make([]time.Duration, 20)
	for i := range full {
		full[i] = time.Duration(i) * time.Second
	}
	nothing := func(*Input) {}

	tests := []struct {
		name   string
		guard  func(Input) heal.Verdict
		change func(*Input)
		want   heal.Verdict
	}{
		{"an ordinary namespace is not protected", protected, nothing, allow("namespace shop is none of the 4 protected ones")},
		{"kube-system is", protected, namespace("kube-system"), veto("ProtectedNamespace", "namespace kube-system is protected")},
		{"kube-public is", protected, namespace("kube-public"), veto("ProtectedNamespace", "namespace kube-public is protected")},
		{"kube-node-lease is", protected, namespace("kube-node-lease"), veto("ProtectedNamespace", "namespace kube-node-lease is protected")},
		{"our own is", protected, namespace("self-healing"), veto("ProtectedNamespace", "namespace self-healing is protected")},
		{"one that the policy names is", protected, func(in *Input) { in.Limits.ProtectedNamespaces = []string{"shop"} }, veto("ProtectedNamespace", "namespace shop is protected")},
		{"an owner's namespace counts", protected, func(in *Input) { in.Failure.Owner.Namespace = "kube-system" }, veto("ProtectedNamespace", "namespace kube-system is protected")},
		{"a pod of no namespace may be anywhere", protected, namespace(""), veto("ProtectedNamespace", "Pod/checkout-x2kpl has no namespace, so nobody can tell whether it is protected")},
		{"a node has none", protected, node, allow("Node belongs to no namespace")},

		{"no recovery", oneAtATime, nothing, allow("no recovery of it is under way")},
		{"a recovery under way", oneAtATime, recovery(noon.Add(time.Minute)), veto(heal.ReasonRecoveryUnderWay, "restart by decision d-1 is under way, until 2026-11-22T12:01:00Z at the latest")},
		{"a recovery that nobody waits for any more", oneAtATime, recovery(noon), allow("no recovery of it is under way")},

		{"no failed try", backoff, nothing, allow("no try failed")},
		{"after one failed try", backoff, failed(1, 18500*time.Millisecond), veto("Backoff", "1 failed try: rest for 1m0s, 42s left")},
		{"after one failed try, rested", backoff, failed(1, time.Minute), allow("1 failed try, the last 1m0s ago, longer than the rest of 1m0s")},
		{"after two failed tries", backoff, failed(2, time.Minute), veto("Backoff", "2 failed tries in a row: rest for 2m0s, 1m0s left")},
		{"after two failed tries, rested", backoff, failed(2, 2*time.Minute), allow("2 failed tries in a row, the last 2m0s ago, longer than the rest of 2m0s")},
		{"after three failed tries", backoff, failed(3, 10*time.Minute), veto("GivenUp", "3 failed tries in a row, a person must look: blocked for 1h0m0s, 50m0s left")},
		{"an hour after three failed tries", backoff, failed(3, time.Hour), allow("3 failed tries in a row, the last 1h0m0s ago, longer than the rest of 4m0s")},
		{"after a fourth", backoff, failed(4, time.Second), veto("GivenUp", "4 failed tries in a row, a person must look: blocked for 1h0m0s, 59m59s left")},
		{"when the clock was set back", backoff, failed(1, -time.Hour), veto("Backoff", "1 failed try: rest for 1m0s, 1h1m0s left")},

		{"just announced", fresh, nothing, allow("announced 3s ago, within 15m0s")},
		{"announced long ago", fresh, func(in *Input) { in.Announced = noon.Add(-16 * time.Minute) }, veto("Stale", "announced 16m0s ago, longer than 15m0s")},
		{"announced by a clock ahead of ours", fresh, func(in *Input) { in.Announced = noon.Add(time.Minute) }, allow("announced 0s ago, within 15m0s")},

		{"a quiet minute", rate, nothing, allow("0 of 20 decisions to act in the last minute")},
		{"a minute ago does not count", rate, actedAgo(time.Minute, time.Second), allow("1 of 20 decisions to act in the last minute")},
		{"a full minute", rate, actedAgo(full...), veto("RateLimited", "20 decisions to act in the last minute, as many as are allowed")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := typical(t)
			tt.change(&in)
			if diff := cmp.Diff(tt.guard(in), tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestEveryGuardIsAskedAndListed(t *testing.T) {
	in := typical(t)
	in.Failure.Target.Namespace = "kube-system"
	in.State = incident.State{Failed: 1, LastFailed: noon}
	var names []string
	var vetoes []string
	for _, v := range Judge(in) {
		names = append(names, v.Name)
		if !v.Allowed {
			vetoes = append(vetoes, v.Reason)
		}
		if v.Detail == "" {
			t.Errorf("%s gives no detail", v.Name)
		}
	}
	if diff := cmp.Diff(names, []string{"protected", "one_at_a_time", "backoff", "fresh", "rate"}); diff != "" {
		t.Errorf("guards (-got +want)\n%s", diff)
	}
	if diff := cmp.Diff(vetoes, []string{"ProtectedNamespace", "Backoff"}); diff != "" {
		t.Errorf("vetoes (-got +want)\n%s", diff)
	}
}

func TestNobodyVetoesWatching(t *testing.T) {
	in := typical(t)
	in.Strategy = heal.Monitor
	in.Failure.Target.Namespace = "kube-system"
	in.State = incident.State{Failed: 5, LastFailed: noon}
	for _, v := range Judge(in) {
		if !v.Allowed {
			t.Errorf("%s vetoes it: %s", v.Name, v.Detail)
		}
	}
}
