package incident

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
)

// of changes a failure into another one of the same owner.
func of(f heal.Failure, part, reason string) heal.Failure {
	f.Reason = reason
	f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, f.Owner, part, reason)
	return f
}

func workload(reason string, at time.Time) heal.Failure {
	owner := failure("x", 1, at).Owner
	return heal.Failure{
		Type: heal.DeploymentFailure, Reason: reason, Severity: heal.High, Target: owner,
		Fingerprint: heal.MakeFingerprint(heal.DeploymentFailure, owner, heal.Target{}, "", reason),
		EpisodeID:   "w-" + reason, Occurrence: 1, FirstSeen: at, Timestamp: heal.Unix{Time: at}, Detector: "workload",
	}
}

func nodeFails(name string, at time.Time) heal.Failure {
	node := heal.Target{APIVersion: "v1", Kind: "Node", Name: name, UID: "uid-" + name}
	return heal.Failure{
		Type: heal.NodeFailure, Reason: "KubeletNotReady", Severity: heal.Critical, Target: node, Node: name,
		Fingerprint: heal.MakeFingerprint(heal.NodeFailure, node, heal.Target{}, "", "KubeletNotReady"),
		EpisodeID:   "n-" + name, Occurrence: 1, FirstSeen: at, Timestamp: heal.Unix{Time: at}, Detector: "node_not_ready",
	}
}

func service(name, selector string, at time.Time) heal.Failure {
	s := heal.Target{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: name, UID: "uid-" + name}
	return heal.Failure{
		Type: heal.ServiceFailure, Reason: "NoReadyEndpoints", Severity: heal.High, Target: s,
		Fingerprint: heal.MakeFingerprint(heal.ServiceFailure, s, heal.Target{}, "", "NoReadyEndpoints"),
		EpisodeID:   "s-" + name, Occurrence: 1, FirstSeen: at, Timestamp: heal.Unix{Time: at}, Detector: "service_unavailable",
		Evidence: []heal.Evidence{{Path: "spec.selector", Value: selector}},
	}
}

// observe enters an announcement into a group.
func (g Group) observe(f heal.Failure, now time.Time) Group {
	s, _ := g.State(f, now, window).Observe(f, now, now, window)
	return g.With(f, s)
}

func (g Group) resolve(f heal.Failure, now time.Time) Group {
	f.ResolvedAt = now
	s, _ := g.States[Key(f)].Resolve(f, now, window)
	return g.With(f, s)
}

func TestAGroupIsOneOwner(t *testing.T) {
	pod := failure("a", 1, noon)
	same := []heal.Failure{of(pod, "sidecar", "OOMKilled"), failure("b", 3, noon), workload("ProgressDeadlineExceeded", noon)}
	for _, f := range same {
		if GroupKey(f) != GroupKey(pod) {
			t.Errorf("%s is of another group than %s", f.Fingerprint, pod.Fingerprint)
		}
	}
	if GroupKey(pod) != ObjectKey("shop", "Deployment", "checkout") {
		t.Error("a group is not found by its owner's name")
	}
	if GroupKey(nodeFails("n1", noon)) != ObjectKey("", "Node", "n1") {
		t.Error("a node's group is not found by its name")
	}
	foreign := pod
	foreign.Fingerprint = "whatever another writer likes"
	other := foreign
	other.Target, other.Owner = heal.Target{}, heal.Target{}
	if GroupKey(foreign) != GroupKey(other) {
		t.Error("what is similar is parted")
	}
	if GroupKey(foreign) == GroupKey(pod) {
		t.Error("a foreign fingerprint is taken for one of ours")
	}
}

func TestWhatFailsAtTheSameTimeInAGroupIsOneIncident(t *testing.T) {
	pod, sidecar := failure("a", 1, noon), of(failure("b", 1, noon), "sidecar", "OOMKilled")
	g := Group{}.observe(pod, noon)
	g = g.observe(sidecar, noon.Add(time.Minute))
	first, second := g.States[Key(pod)].Incident.ID, g.States[Key(sidecar)].Incident.ID
	if first != pod.IncidentID() || second != first {
		t.Errorf("incidents %s and %s, want %s twice", first, second, pod.IncidentID())
	}
	g = g.resolve(pod, noon.Add(2*time.Minute)).resolve(sidecar, noon.Add(2*time.Minute))
	later := of(failure("c", 1, noon), "sidecar", "OOMKilled")
	g = g.observe(later, noon.Add(3*time.Minute))
	if got := g.States[Key(later)].Incident.ID; got != later.IncidentID() {
		t.Errorf("what fails after all was over is of incident %s, want one of its own, %s", got, later.IncidentID())
	}
}

func TestWhatAFailureFollowsFrom(t *testing.T) {
	pod, stalled, unavailable := failure("a", 1, noon), workload("ProgressDeadlineExceeded", noon), workload("MinimumReplicasUnavailable", noon)
	pod.Node = "n1"
	onNode := Group{}.observe(nodeFails("n1", noon), noon)
	svc := service("checkout", "app=checkout", noon)
	withStandby := svc
	withStandby.Metadata = map[string]string{"standby": "app=checkout,track=standby"}
	behind := map[string]Group{"shop/Deployment/checkout": Group{}.observe(pod, noon)}
	tests := []struct {
		name   string
		group  Group
		around Around
		of     heal.Failure
		want   string // the root's object and reason
	}{
		{"a pod alone follows from nothing", Group{}, Around{}, pod, ""},
		{"a pod of a node that fails", Group{}, Around{Node: onNode}, pod, "Node/n1 KubeletNotReady"},
		{"a pod of a node that failed", Group{}, Around{Node: onNode.resolve(nodeFails("n1", noon), noon)}, pod, ""},
		{"a pod of a workload whose roll-out stalled", Group{}.observe(stalled, noon), Around{}, pod, "shop/Deployment/checkout ProgressDeadlineExceeded"},
		{"a pod of a workload whose roll-out went on", Group{}.observe(stalled, noon).resolve(stalled, noon), Around{}, pod, ""},
		{"a pod of a workload without replicas, which says nothing", Group{}.observe(unavailable, noon), Around{}, pod, ""},
		{"a workload without replicas, of which a pod fails", Group{}.observe(pod, noon), Around{}, unavailable, "shop/Deployment/checkout CrashLoopBackOff"},
		{"a stalled roll-out, of which a pod fails", Group{}.observe(pod, noon), Around{}, stalled, ""},
		{"a service whose pods fail", Group{}, Around{Backing: behind}, svc, "shop/Deployment/checkout CrashLoopBackOff"},
		{"a service whose pods fail, with a standby", Group{}, Around{Backing: behind}, withStandby, ""},
		{"a service of which nobody knows why", Group{}, Around{}, svc, ""},
		{"the node comes before the workload", Group{}.observe(stalled, noon), Around{Node: onNode}, pod, "Node/n1 KubeletNotReady"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, follows := tt.group.observe(tt.of, noon).FindRoot(tt.of, tt.around, noon)
			got := ""
			if follows {
				got = root.Object + " " + root.Reason
				if root.Incident.ID == "" || root.Why == "" {
					t.Errorf("the root is not said: %+v", root)
				}
			}
			if got != tt.want {
				t.Errorf("follows from %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOfManyPodsThatFailAlikeOneFingerprintLeads(t *testing.T) {
	g := Group{}
	var all []heal.Failure
	for i, part := range []string{"api", "sidecar", "api", "sidecar"} {
		f := of(failure(fmt.Sprint("e", i), 1, noon), part, "CrashLoopBackOff")
		all = append(all, f)
		g = g.observe(f, noon.Add(time.Duration(i)*time.Second))
	}
	now := noon.Add(time.Minute)
	for i, f := range all {
		_, follows := g.FindRoot(f, Around{}, now)
		if want := i%2 == 1; follows != want {
			t.Errorf("%s follows: %v, want %v: the first to fail leads", f.Fingerprint, follows, want)
		}
	}
	// Whoever is acted upon leads.
	s := g.States[Key(all[1])].Decide(acting(all[1], now), now, now, timeout)
	g = g.With(all[1], s)
	for i, f := range all {
		_, follows := g.FindRoot(f, Around{}, now)
		if want := i%2 == 0; follows != want {
			t.Errorf("with the sidecar acted upon, %s follows: %v, want %v", f.Fingerprint, follows, want)
		}
	}
}

func TestABoardSaysWhatGoesOnAroundAPlace(t *testing.T) {
	db := service("db", "app=db,tier=back", noon)
	b, news := Board{}.Note(db, "i-1", noon)
	if !news {
		t.Fatal("nothing was noted")
	}
	want := []Entry{{
		Key: Key(db), Type: heal.ServiceFailure, Reason: "NoReadyEndpoints", Object: "shop/Service/db", Incident: "i-1",
		First: noon.UnixMilli(), Heard: noon.UnixMilli(), Episodes: []string{"s-db"}, Selectors: []string{"db", "back"},
		Workloads: []string{"Deployment/db", "StatefulSet/db", "DaemonSet/db", "Deployment/back", "StatefulSet/back", "DaemonSet/back"},
	}}
	if diff := cmp.Diff(b.Going(noon), want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	if _, news := b.Note(db, "i-1", noon.Add(time.Second)); news {
		t.Error("what is known is written again at once")
	}
	if _, news := b.Note(db, "i-1", noon.Add(2*time.Minute)); !news {
		t.Error("what lasts is not renewed")
	}
	over := db
	over.ResolvedAt = noon
	b, _ = b.Note(over, "", noon.Add(time.Minute))
	if going := b.Going(noon.Add(time.Minute)); len(going) != 0 {
		t.Errorf("goes on after its end: %+v", going)
	}
	if b.Idle(noon.Add(time.Minute)) || !b.Idle(noon.Add(2*time.Hour)) {
		t.Error("a board is forgotten too early, or never")
	}
}

// TestABoardIsBoundedAndNeverGoesOnWithoutAnEnd notes anything.
func TestABoardIsBoundedAndNeverGoesOnWithoutAnEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Board
		now := noon
		open := map[string]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "notes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * time.Second)
			episode := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "episode")
			f := of(failure(episode, 1, now), episode, "CrashLoopBackOff")
			open[episode] = rapid.Bool().Draw(t, "fails")
			if !open[episode] {
				f.ResolvedAt = now
			}
			b, _ = b.Note(f, "i", now)
			want := 0
			for _, o := range open {
				if o {
					want++
				}
			}
			if got := len(b.Going(now)); got != want {
				t.Fatalf("%d go on, want %d", got, want)
			}
		}
	})
	var b Board
	for i := range 2000 {
		b, _ = b.Note(of(failure(fmt.Sprint("e", i), 1, noon), fmt.Sprint("c", i), "CrashLoopBackOff"), "i", noon)
	}
	for i := range 100 {
		b, _ = b.Note(failure(fmt.Sprint("e", i), 1, noon), "i", noon)
	}
	if len(b.Entries) != maxEntries {
		t.Errorf("%d entries, want %d", len(b.Entries), maxEntries)
	}
}

func TestAStrategyThatNeverHelpedIsKnownAndForgotten(t *testing.T) {
	result := func(s heal.Strategy, o heal.Outcome) heal.Result {
		return heal.Result{Decision: heal.Decision{Strategy: s, Cause: heal.Cause{Kind: heal.CauseUnknown}}, Outcome: o}
	}
	var g Group
	now := noon
	for range 3 {
		now = now.Add(10 * time.Minute)
		g = g.Learn(result(heal.Restart, heal.Failed), now)
		g = g.Learn(result(heal.Recreate, heal.Failed), now)
		g = g.Learn(result(heal.ScaleAndReplace, heal.Rejected), now) // says nothing of the strategy
	}
	g = g.Learn(result(heal.Recreate, heal.Succeeded), now)
	if diff := cmp.Diff(g.InVain(heal.CauseUnknown, now), []heal.Strategy{heal.Restart}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	if vain := g.InVain(heal.CauseNode, now); vain != nil {
		t.Errorf("against another cause: %v", vain)
	}
	if vain := g.InVain(heal.CauseUnknown, now.Add(2*halfLife)); vain != nil {
		t.Errorf("remembered for ever: %v", vain)
	}
}

func TestAGroupIsBounded(t *testing.T) {
	var g Group
	now := noon
	for i := range 4000 {
		now = now.Add(time.Millisecond)
		f := of(failure(fmt.Sprint("e", i), 1, now), fmt.Sprint("c", i%40), "CrashLoopBackOff")
		f.Node, f.Metadata = fmt.Sprint("n", i), map[string]string{"pod_template_hash": "7d9f6c"}
		s, _ := g.State(f, now, window).Observe(f, now, now, window)
		g = g.With(f, s.Decide(heal.Decision{ID: heal.MakeDecisionID(f), Failure: f}, now, now, timeout))
	}
	episodes, untold, times := 0, 0, 0
	for _, s := range g.States {
		episodes, untold, times = episodes+len(s.Episodes), untold+len(s.Untold), times+len(s.History.times)
	}
	if len(g.States) > maxStates || episodes > maxEpisodes || untold > maxUntold+maxStates || times > maxHistory {
		t.Errorf("%d states, %d episodes, %d untold, %d times", len(g.States), episodes, untold, times)
	}
}
