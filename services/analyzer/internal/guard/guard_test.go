package guard

import (
	"fmt"
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
		Sight:     heal.Sight{Clear: true, Detail: "2 of 2 watchers see clearly"},
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
	says := func(key, value string) func(*Input) {
		return func(in *Input) { in.Failure.Metadata = map[string]string{key: value} }
	}
	inGit := func(s heal.Strategy) func(*Input) {
		return func(in *Input) { says(heal.MetadataManagedBy, "Argo CD")(in); in.Strategy = s }
	}
	sees := func(s heal.Sight) func(*Input) { return func(in *Input) { in.Sight = s } }
	full := make([]time.Duration, 20)
	for i := range full {
		full[i] = time.Duration(i) * time.Second
	}
	nothing := func(*Input) {}
	patchDay := func(namespaces ...string) func(*Input) {
		return func(in *Input) {
			in.Limits.Maintenance = []policy.Maintenance{{
				Name: "patch day", Window: policy.Window{Days: []string{"sun"}, From: "12:30", To: "14:00", Zone: "Europe/Berlin"}, Namespaces: namespaces,
			}}
		}
	}
	nodes := func(failing int, all, notReady string) func(*Input) {
		return func(in *Input) {
			node(in)
			in.NodesFailing = failing
			in.Failure.Metadata = map[string]string{"nodes": all, "nodes_not_ready": notReady}
		}
	}
	revision := func(of, newest string) func(*Input) {
		return func(in *Input) {
			in.Failure.Type, in.Failure.Metadata = heal.PodFailure, map[string]string{"revision": of, "newest_revision": newest}
		}
	}
	groupRecovery := func(kind string) func(*Input) {
		return func(in *Input) {
			in.Group.States = map[string]incident.State{"other": {
				Type: heal.PodFailure, Recovery: incident.Recovery{Decision: "d-2", Strategy: heal.Restart, Until: noon.Add(time.Minute), Kind: kind},
			}}
		}
	}
	alike := func(n int, o heal.Outcome) func(*Input) {
		return func(in *Input) {
			s := incident.State{Type: heal.PodFailure, Last: incident.Ending{Decision: "d-1", Episode: "e0", Outcome: o, Reason: "Floor"}}
			for i := range n {
				s.Episodes = append(s.Episodes, incident.Episode{ID: fmt.Sprint("e", i), Last: 1, Heard: noon.UnixMilli()})
			}
			in.State, in.Failure.EpisodeID, in.Failure.Type = s, "e1", heal.PodFailure
			in.Group.States = map[string]incident.State{incident.Key(in.Failure): s}
		}
	}

	budgeted := func(used int) func(*Input) {
		return func(in *Input) {
			in.Budget = Spending{Rule: "shop", Budget: policy.Budget{Actions: 2, Per: policy.Duration(time.Hour)}, Used: used}
		}
	}

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

		{"watchers that see", blind, nothing, allow("2 of 2 watchers see clearly")},
		{"watchers that doubt", blind, sees(heal.Sight{Reason: heal.ReasonBlind, Detail: "9 of 10 nodes are not ready at once"}), veto("Blind", "9 of 10 nodes are not ready at once")},
		{"watchers that settle", blind, sees(heal.Sight{Reason: heal.ReasonSettling, Detail: "began 4s ago"}), veto("Settling", "began 4s ago")},
		{"nobody asked", blind, sees(heal.Sight{}), veto("Blind", "nobody has said how well the watchers see")},

		{"a node of the control plane", protected, func(in *Input) { node(in); says("control_plane", "true")(in) }, veto("ProtectedNode", "Node/n1 is of the control plane: repair it by hand")},

		{"no mark", marks, nothing, allow("no mark forbids it")},
		{"marked auto", marks, says(heal.MetadataMode, "auto"), allow("no mark forbids it")},
		{"marked approve", marks, says(heal.MetadataMode, "approve"), allow("selfheal.dev/mode is approve: a person is asked")},
		{"marked observe", marks, says(heal.MetadataMode, "observe"), veto("MarkedObserve", "selfheal.dev/mode is observe")},
		{"marked off", marks, says(heal.MetadataMode, "off"), veto("MarkedOff", "selfheal.dev/mode is off")},
		{"marked with what nobody knows", marks, says(heal.MetadataMode, "no\nthanks"), veto("MarkedOff", `selfheal.dev/mode is "no thanks", which is not one of [off observe approve auto] and counts as off`)},
		{"held", marks, says(heal.MetadataHoldUntil, "2026-11-22T12:00:42Z"), veto("Held", "selfheal.dev/hold-until is 2026-11-22T12:00:42Z, which is in 42s")},
		{"held until now", marks, says(heal.MetadataHoldUntil, "2026-11-22T12:00:00Z"), allow("no mark forbids it")},
		{"held for ever", marks, says(heal.MetadataHoldUntil, "later"), veto("Held", `selfheal.dev/hold-until is "later", which is not an RFC 3339 time and counts as for ever`)},

		{"in no Git", gitops, nothing, allow("nobody is known to put it back")},
		{"a restart of what is in Git", gitops, inGit(heal.Restart), allow("restart changes nothing that Argo CD would put back")},
		{"a roll-back of what is in Git", gitops, inGit(heal.Rollback), veto("ManagedByGitOps", "shop/Deployment/checkout is managed by Argo CD, which would put its template back: revert its last change there; until that is synced, this helps: kubectl rollout undo deployment/checkout -n shop")},
		{"more memory for what is in Git", gitops, inGit(heal.Resize), veto("ManagedByGitOps", "shop/Deployment/checkout is managed by Argo CD, which would put its limits back: raise the memory limit there")},
		{"a larger volume that is in Git", gitops, func(in *Input) {
			inGit(heal.Resize)(in)
			in.Failure.Target, in.Failure.Owner = heal.Target{Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "data"}, heal.Target{}
		}, veto("ManagedByGitOps", "shop/PersistentVolumeClaim/data is managed by Argo CD, which would put its size back: raise spec.resources.requests.storage there")},
		{"the failover of a service that is in Git", gitops, func(in *Input) {
			inGit(heal.Failover)(in)
			in.Failure.Target, in.Failure.Owner = heal.Target{Kind: "Service", Namespace: "shop", Name: "web"}, heal.Target{}
			in.Failure.Metadata["standby"] = "app=web,track=standby"
		}, veto("ManagedByGitOps", "shop/Service/web is managed by Argo CD, which would put its selector back: change it there to app=web,track=standby")},

		{"no recovery", oneAtATime, nothing, allow("no recovery of it is under way")},
		{"a recovery under way", oneAtATime, recovery(noon.Add(time.Minute)), veto(heal.ReasonRecoveryUnderWay, "restart by decision d-1 is under way, until 2026-11-22T12:01:00Z at the latest")},
		{"a recovery that nobody waits for any more", oneAtATime, recovery(noon), allow("no recovery of it is under way")},

		{"no budget", budget, nothing, allow("no rule sets a budget for it")},
		{"a budget with something left", budget, budgeted(1), allow(`rule "shop" has set off 1 of 2 actions in 1h0m0s`)},
		{"a budget that is used up", budget, budgeted(2), veto("RuleBudget", `rule "shop" may set off 2 actions in 1h0m0s, and has`)},

		{"no failed try", backoff, nothing, allow("no try failed")},
		{"after one failed try", backoff, failed(1, 18500*time.Millisecond), veto("Backoff", "1 failed try: rest for 1m0s, 42s left")},
		{"after one failed try, rested", backoff, failed(1, time.Minute), allow("1 failed try, the last 1m0s ago, longer than the rest of 1m0s")},
		{"after two failed tries", backoff, failed(2, time.Minute), veto("Backoff", "2 failed tries in a row: rest for 2m0s, 1m0s left")},
		{"after two failed tries, rested", backoff, failed(2, 2*time.Minute), allow("2 failed tries in a row, the last 2m0s ago, longer than the rest of 2m0s")},
		{"after three failed tries", backoff, failed(3, 10*time.Minute), veto("GivenUp", "3 failed tries in a row, a person must look: blocked for 1h0m0s, 50m0s left")},
		{"an hour after three failed tries", backoff, failed(3, time.Hour), allow("3 failed tries in a row, the last 1h0m0s ago, longer than the rest of 4m0s")},
		{"after a fourth", backoff, failed(4, time.Second), veto("GivenUp", "4 failed tries in a row, a person must look: blocked for 1h0m0s, 59m59s left")},
		{"when the clock was set back", backoff, failed(1, -time.Hour), veto("Backoff", "1 failed try: rest for 1m0s, 1h1m0s left")},

		{"no maintenance", maintenance, nothing, allow("none of 0 maintenance windows is under way")},
		{"maintenance everywhere", maintenance, patchDay(), veto("MaintenanceWindow", "patch day is under way (sun 12:30–14:00 Europe/Berlin)")},
		{"maintenance here", maintenance, patchDay("bank", "shop"), veto("MaintenanceWindow", "patch day is under way (sun 12:30–14:00 Europe/Berlin)")},
		{"maintenance elsewhere", maintenance, patchDay("bank"), allow("none of 1 maintenance windows is under way")},
		{"maintenance later", maintenance, func(in *Input) { patchDay()(in); in.Now = noon.Add(-time.Hour) }, allow("none of 1 maintenance windows is under way")},

		{"pods are no storm", storm, nothing, allow("Pod is not a node")},
		{"one node of three", storm, nodes(1, "3", ""), allow("1 of 3 nodes fail")},
		{"two nodes of three", storm, nodes(2, "3", ""), veto("Storm", "2 of 3 nodes fail, or did within 5m0s, more than 1: that is not about Node/n1 alone")},
		{"two nodes of ten", storm, nodes(2, "10", ""), allow("2 of 10 nodes fail")},
		{"three nodes of ten, as the watcher sees", storm, nodes(1, "10", "3"), veto("Storm", "3 of 10 nodes fail, or did within 5m0s, more than 2: that is not about Node/n1 alone")},
		{"all nodes", storm, nodes(1, "10", "10"), veto("Storm", "10 of 10 nodes fail, or did within 5m0s, more than 2: that is not about Node/n1 alone")},
		{"two nodes of who knows how many", storm, nodes(2, "", ""), veto("Storm", "2 nodes fail, or did within 5m0s, and nobody says of how many")},
		{"one node of who knows how many", storm, nodes(1, "", ""), allow("no other node fails")},
		{"a number that is none", storm, nodes(3, "many", ""), veto("Storm", "3 nodes fail, or did within 5m0s, and nobody says of how many")},

		{"no revision is known", rollout, nothing, allow("no roll-out of it is known")},
		{"of the newest revision", rollout, revision("4", "4"), allow("it is of the newest revision (4)")},
		{"of one that is being replaced", rollout, revision("3", "4"), veto("RolloutUnderWay", "it is of revision 3, which a roll-out of revision 4 is replacing")},

		{"steady", flapping, nothing, allow("it does not come and go")},
		{"coming and going", flapping, func(in *Input) { in.Failure.Metadata = map[string]string{heal.MetadataFlapping: "4"} }, veto("Flapping", "it ended and began again 4 times of late")},

		{"another container's recovery under way", oneAtATime, groupRecovery("Pod"), veto(heal.ReasonRecoveryUnderWay, "restart by decision d-2 is under way, until 2026-11-22T12:01:00Z at the latest")},
		{"its owner's recovery under way", oneAtATime, groupRecovery("Deployment"), veto(heal.ReasonRecoveryUnderWay, "restart by decision d-2 is under way, until 2026-11-22T12:01:00Z at the latest")},
		{"the owner need not wait for a pod", oneAtATime, func(in *Input) { groupRecovery("Pod")(in); in.Target = in.Failure.Owner }, allow("no recovery of it is under way")},

		{"two pods alike", oneForAll, alike(2, heal.Rejected), allow("few pods of its owner fail like this one")},
		{"many pods alike, of which one was refused", oneForAll, alike(4, heal.Rejected), veto(heal.ReasonFollowsIncident, "4 pods of its owner fail like this one, and for another of them decision d-1 ended as rejected (Floor)")},
		{"many pods alike, of which one was only tried", oneForAll, alike(4, heal.DryRun), veto(heal.ReasonFollowsIncident, "4 pods of its owner fail like this one, and for another of them decision d-1 ended as dry_run (Floor)")},
		{"many pods alike, of which one was healed", oneForAll, alike(4, heal.Succeeded), allow("4 pods of its owner fail like this one, and nothing was refused for another of them")},
		{"the one that was refused", oneForAll, func(in *Input) { alike(4, heal.Rejected)(in); in.Failure.EpisodeID = "e0" }, allow("it is the one of them that is acted upon")},

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
	if diff := cmp.Diff(names, []string{
		"protected", "marks", "blind", "maintenance", "storm", "rollout", "gitops", "one_at_a_time", "one_for_all", "backoff", "flapping", "fresh", "budget", "rate",
	}); diff != "" {
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

func TestADecisionsVerdictsSayWhoseBudgetItTakes(t *testing.T) {
	for rule, in := range map[string]Input{
		"":                 {},
		"shop \"by\" hand": {Budget: Spending{Rule: "shop \"by\" hand", Budget: policy.Budget{Actions: 2}, Used: 1}},
	} {
		if got := PaidBy([]heal.Verdict{{Name: "protected", Allowed: true}, func() heal.Verdict { v := budget(in); v.Name = "budget"; return v }()}); got != rule {
			t.Errorf("paid by %q, want %q", got, rule)
		}
	}
}
