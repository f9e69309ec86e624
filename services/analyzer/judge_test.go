package analyzer

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/guard"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func mustBuiltin(t testing.TB) policy.Policy {
	t.Helper()
	p, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testJudge(t testing.TB, mode heal.Mode) judge {
	t.Helper()
	return judge{policy: mustBuiltin(t), mode: mode, recoveryTimeout: 5 * time.Minute, protected: []string{heal.Product}}
}

// podFailure is occurrence n of an episode of a pod of the deployment shop/<app>.
func podFailure(app, episode string, n int, at time.Time) heal.Failure {
	pod := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: app + "-" + episode, UID: "uid-" + episode, ResourceVersion: "7"}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: app, UID: "uid-" + app}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod.Name, Namespace: pod.Namespace,
		Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1",
		Target:      pod, Owner: owner, Node: "n1", Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, pod, owner, "api", "CrashLoopBackOff"),
		EpisodeID:   episode, Occurrence: n, FirstSeen: at, Timestamp: heal.Unix{Time: at},
		Evidence: []heal.Evidence{{Path: "status.containerStatuses[0].restartCount", Value: "7"}},
	}
}

func nodeFailure(name string, at time.Time) heal.Failure {
	node := heal.Target{APIVersion: "v1", Kind: "Node", Name: name, UID: "uid-" + name}
	return heal.Failure{
		Type: heal.NodeFailure, Reason: "NotReady", Severity: heal.Critical, ResourceName: name,
		Target: node, Detector: "not_ready", Fingerprint: heal.MakeFingerprint(heal.NodeFailure, node, heal.Target{}, "", "NotReady"),
		EpisodeID: "e-" + name, Occurrence: 1, FirstSeen: at, Timestamp: heal.Unix{Time: at},
	}
}

var clearly = heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"}

func at(f heal.Failure, now time.Time) occasion {
	return occasion{failure: f, announced: now, now: now, sight: clearly}
}

func TestADecisionSaysEverything(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	var s incident.State
	for i := range 2 {
		s, _ = j.decide(s, at(podFailure("checkout", fmt.Sprint("e", i), 1, noon), noon))
		s, _ = s.End(heal.Result{Decision: heal.Decision{ID: s.Recovery.Decision}, Outcome: heal.Skipped}, noon, noon)
	}
	f := podFailure("checkout", "e2", 1, noon.Add(time.Second))
	_, got := j.decide(s, at(f, noon.Add(2*time.Second)))

	first := podFailure("checkout", "e0", 1, noon)
	want := heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: first.IncidentID(), Type: heal.PodFailure,
		Severity: heal.High, BaseSeverity: heal.Medium, SimilarFailures: 2,
		Strategy: heal.Recreate, ActionType: "pod_recovery", Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: noon.Add(2*time.Second + 5*time.Minute), Target: f.Target, Parameters: map[string]string{},
		Cause:  heal.Cause{Kind: heal.CauseUnknown},
		Policy: j.policy.Ref("pod_failure/high"),
		Guards: []heal.Verdict{
			{Name: "protected", Allowed: true, Detail: "namespace shop is none of the 4 protected ones"},
			{Name: "marks", Allowed: true, Detail: "no mark forbids it"},
			{Name: "blind", Allowed: true, Detail: "1 of 1 watchers see clearly"},
			{Name: "maintenance", Allowed: true, Detail: "none of 0 maintenance windows is under way"},
			{Name: "storm", Allowed: true, Detail: "Pod is not a node"},
			{Name: "rollout", Allowed: true, Detail: "no roll-out of it is known"},
			{Name: "gitops", Allowed: true, Detail: "nobody is known to put it back"},
			{Name: "one_at_a_time", Allowed: true, Detail: "no recovery of it is under way"},
			{Name: "one_for_all", Allowed: true, Detail: "3 pods of its owner fail like this one, and nothing was refused for another of them"},
			{Name: "backoff", Allowed: true, Detail: "no try failed"},
			{Name: "flapping", Allowed: true, Detail: "it does not come and go"},
			{Name: "fresh", Allowed: true, Detail: "announced 0s ago, within 15m0s"},
			{Name: "budget", Allowed: true, Detail: "no rule sets a budget for it"},
			{Name: "rate", Allowed: true, Detail: "0 of 20 decisions to act in the last minute"},
		},
		Explanation: heal.Explanation{
			Summary: "Carry out recreate for shop/Pod/checkout-e2 (CrashLoopBackOff, severity high, 2 similar failures).",
			Steps:   []string{"base severity of pod_failure is medium", "2 similar failures in 1h0m0s: high", "pod_failure/high: recreate"},
		},
		Failure: f,
	}
	if diff := cmp.Diff(got.decision, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	if err := got.decision.Validate(); err != nil {
		t.Error(err)
	}
	if !got.fresh || !got.tell || !got.episode {
		t.Errorf("fresh %v, tell %v, episode %v", got.fresh, got.tell, got.episode)
	}
}

func TestWhyADecisionIsAsItIs(t *testing.T) {
	type want struct {
		Strategy heal.Strategy
		Severity heal.Severity
		Reason   string
		Rule     string
		Acts     bool
	}
	pod := podFailure("checkout", "e0", 1, noon)
	decided := func(s incident.State, _ judgement) incident.State { return s }
	underWay := decided(testJudge(t, heal.ModeAuto).decide(incident.State{}, at(pod, noon)))
	protected := pod
	protected.Target.Namespace, protected.Owner.Namespace = "kube-system", "kube-system"
	deployment := podFailure("checkout", "e0", 1, noon)
	deployment.Type, deployment.Target, deployment.Owner = heal.DeploymentFailure, deployment.Owner, heal.Target{}
	rebooted := nodeFailure("n1", noon)
	rebooted.Reason = "NodeRebooted"
	busy := at(pod, noon)
	for range 20 {
		busy.acted = append(busy.acted, noon)
	}
	gone := pod
	gone.ResolvedAt = noon
	over, _ := incident.State{}.Resolve(gone, noon, time.Hour)

	tests := []struct {
		name string
		mode heal.Mode
		s    incident.State
		o    occasion
		want want
	}{
		{"the table's, carried out", heal.ModeAuto, incident.State{}, at(pod, noon), want{heal.Restart, heal.Medium, "SeverityTable", "pod_failure/medium", true}},
		{"carried out once a person agrees", heal.ModeApprove, incident.State{}, at(pod, noon), want{heal.Restart, heal.Medium, "SeverityTable", "pod_failure/medium", true}},
		{"only observed", heal.ModeObserve, incident.State{}, at(pod, noon), want{heal.Restart, heal.Medium, "ModeObserve", "pod_failure/medium", false}},
		{"a deployment is rolled back", heal.ModeAuto, incident.State{}, at(deployment, noon), want{heal.Rollback, heal.High, "SeverityTable", "deployment_failure/high", true}},
		{"a node: whether it is dead is proven by who acts", heal.ModeAuto, incident.State{}, at(nodeFailure("n1", noon), noon), want{heal.EmergencyReplace, heal.Critical, "SeverityTable", "node_failure/critical", true}},
		{"a record wakes nobody", heal.ModeAuto, incident.State{}, at(rebooted, noon), want{heal.Monitor, heal.Low, "SeverityTable", "node_failure/low", false}},
		{"a protected namespace", heal.ModeAuto, incident.State{}, at(protected, noon), want{heal.Restart, heal.Medium, "ProtectedNamespace", "pod_failure/medium", false}},
		{"a protected namespace, observed", heal.ModeObserve, incident.State{}, at(protected, noon), want{heal.Restart, heal.Medium, "ProtectedNamespace", "pod_failure/medium", false}},
		{"a further occurrence during a recovery", heal.ModeAuto, underWay, at(podFailure("checkout", "e0", 2, noon), noon.Add(time.Minute)), want{heal.Monitor, heal.Medium, "RecoveryUnderWay", "pod_failure/medium", false}},
		{"another episode during a recovery", heal.ModeAuto, underWay, at(podFailure("checkout", "e1", 1, noon), noon.Add(time.Minute)), want{heal.Restart, heal.Medium, "RecoveryUnderWay", "pod_failure/medium", false}},
		{"resting after a failed try", heal.ModeAuto, incident.State{Failed: 1, LastFailed: noon}, at(pod, noon.Add(time.Second)), want{heal.Restart, heal.Medium, "Backoff", "pod_failure/medium", false}},
		{"given up", heal.ModeAuto, incident.State{Failed: 3, LastFailed: noon}, at(pod, noon.Add(time.Second)), want{heal.Restart, heal.Medium, "GivenUp", "pod_failure/medium", false}},
		{"too many at once", heal.ModeAuto, incident.State{}, busy, want{heal.Restart, heal.Medium, "RateLimited", "pod_failure/medium", false}},
		{"from a backlog", heal.ModeAuto, incident.State{}, occasion{failure: pod, announced: noon, now: noon.Add(time.Hour), sight: clearly}, want{heal.Restart, heal.Medium, "Stale", "pod_failure/medium", false}},
		{"of what is over", heal.ModeAuto, over, at(pod, noon), want{heal.Monitor, heal.Medium, "Superseded", "pod_failure/medium", false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := testJudge(t, tt.mode).decide(tt.s, tt.o)
			d := got.decision
			if diff := cmp.Diff(want{d.Strategy, d.Severity, d.Reason, d.Policy.Rule, d.Acts()}, tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
			if err := d.Validate(); err != nil {
				t.Error(err)
			}
			if want := len(guard.Names()); len(d.Guards) != want {
				t.Errorf("%d guards are listed, want all %d", len(d.Guards), want)
			}
			t.Log(d.Explanation)
		})
	}
}

func TestTheStepsOfWhatIsHeldBackSayWhy(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	s, first := j.decide(incident.State{}, at(podFailure("checkout", "e0", 1, noon), noon))
	_, second := j.decide(s, at(podFailure("checkout", "e0", 2, noon), noon.Add(time.Second)))
	want := []string{
		"base severity of pod_failure is medium",
		"0 similar failures in 1h0m0s: medium",
		"a recovery is under way (restart by decision " + first.decision.ID + "): monitor",
	}
	if diff := cmp.Diff(second.decision.Explanation.Steps, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestAFailureThatRestartsDoNotCureEscalatesAndIsGivenUp(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	var s incident.State
	var got []string
	now := noon
	for n := 1; n <= 5; n++ {
		now = now.Add(10 * time.Minute)
		var made judgement
		s, made = j.decide(s, at(podFailure("checkout", "e0", n, now), now))
		d := made.decision
		got = append(got, fmt.Sprintf("%d similar, %s: %s, %s", d.SimilarFailures, d.Severity, d.Strategy, d.Reason))
		if d.Acts() {
			now = now.Add(time.Minute)
			s, _ = s.End(heal.Result{Decision: d, Outcome: heal.Failed}, now, now)
		}
	}
	want := []string{
		"0 similar, medium: restart, SeverityTable",
		"1 similar, medium: restart, SeverityTable",
		"2 similar, high: recreate, SeverityTable",
		"3 similar, high: recreate, GivenUp",
		"4 similar, critical: scale_and_replace, GivenUp",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestADecisionThatWasMadeIsFoundAndNotMadeAgain(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	o := at(podFailure("checkout", "e0", 1, noon), noon)
	s, first := j.decide(incident.State{}, o)

	again := o
	again.now = noon.Add(time.Hour)
	next, found := j.decide(s, again)
	if diff := cmp.Diff(found.decision, first.decision); diff != "" || found.fresh || !found.tell {
		t.Errorf("found: fresh %v, tell %v (-got +want)\n%s", found.fresh, found.tell, diff)
	}
	if _, told := j.decide(next.Tell([]string{first.decision.ID}), again); told.tell || told.fresh {
		t.Errorf("after it was told: %+v", told)
	}
	copied := again
	copied.announced = noon.Add(time.Second)
	if _, copy := j.decide(s, copied); copy.tell || copy.fresh {
		t.Errorf("a copy of the announcement: %+v", copy)
	}
}

func TestADecisionOfWhichOnlyTheIDIsLeftIsToldAsOneThatWatches(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	var s incident.State
	s, _ = j.decide(s, at(podFailure("checkout", "first", 1, noon), noon))
	lost := at(podFailure("checkout", "lost", 1, noon), noon)
	s, _ = j.decide(s, lost)
	for i := range 100 {
		s, _ = j.decide(s, at(podFailure("checkout", fmt.Sprint("e", i), 1, noon), noon))
	}
	next, got := j.decide(s, lost)
	d := got.decision
	if !got.tell || got.fresh || d.ID != heal.MakeDecisionID(lost.failure) || d.Strategy != heal.Monitor || d.Reason != "Superseded" {
		t.Errorf("tell %v, fresh %v, %s: %s, %s", got.tell, got.fresh, d.ID, d.Strategy, d.Reason)
	}
	if len(next.Untold) != len(s.Untold) {
		t.Error("it was recorded again")
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
}

// TestJudgementsKeepTheirPromises lets anything be announced, resolved and
// carried out, in any order, twice and late.
func TestJudgementsKeepTheirPromises(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	rapid.Check(t, func(t *rapid.T) {
		var s incident.State
		now := noon
		decided := map[string]heal.Decision{}
		resolved := map[string]bool{}
		newest := map[string]int{}
		underWay := ""
		for range rapid.IntRange(1, 40).Draw(t, "length") {
			now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "pause")) * time.Second)
			episode := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "episode")
			f := podFailure("checkout", episode, rapid.IntRange(1, 5).Draw(t, "occurrence"), now)
			switch rapid.SampledFrom([]string{"announce", "announce", "announce", "resolve", "end"}).Draw(t, "what") {
			case "resolve":
				f.ResolvedAt = now
				s, _ = s.Resolve(f, now, time.Hour)
				resolved[episode] = true
				continue
			case "end":
				if underWay != "" {
					o := rapid.SampledFrom(heal.Outcomes).Draw(t, "outcome")
					s, _ = s.End(heal.Result{Decision: heal.Decision{ID: underWay}, Outcome: o}, now, now)
					underWay = ""
				}
				continue
			}
			next, made := j.decide(s, at(f, now))
			s = next
			d := made.decision
			if _, before := decided[heal.MakeDecisionID(f)]; before {
				if made.fresh {
					t.Fatalf("%s/%d was decided twice", f.EpisodeID, f.Occurrence)
				}
				continue
			}
			if !made.fresh || !made.tell || d.ID != heal.MakeDecisionID(f) {
				t.Fatalf("%s/%d has no decision", f.EpisodeID, f.Occurrence)
			}
			decided[d.ID] = d
			if err := d.Validate(); err != nil {
				t.Fatal(err)
			}
			if d.Severity.AtLeast(d.BaseSeverity) != d.Severity {
				t.Fatalf("severity %s is below the base, %s", d.Severity, d.BaseSeverity)
			}
			if !d.Acts() {
				newest[episode] = max(newest[episode], f.Occurrence)
				continue
			}
			switch {
			case underWay != "" && now.Before(decided[underWay].Expires.Add(j.recoveryTimeout)):
				t.Fatalf("%s acts while %s is under way", d.ID, underWay)
			case resolved[episode]:
				t.Fatalf("%s acts on what is over", d.ID)
			case f.Occurrence < newest[episode]:
				t.Fatalf("%s acts on an occurrence that was overtaken", d.ID)
			}
			newest[episode] = max(newest[episode], f.Occurrence)
			underWay = d.ID
		}
	})
}

func TestAnActingDecisionNeedsAPlaceInTheMinute(t *testing.T) {
	var a acted
	for i := range 3 {
		if got, want := a.take(noon, 2), i < 2; got != want {
			t.Errorf("take %d of 2: %v", i+1, got)
		}
	}
	a.giveBack(noon)
	a.giveBack(time.Time{})
	if !a.take(noon.Add(time.Second), 2) {
		t.Error("the place given back is not free")
	}
	if n := len(a.before(noon.Add(time.Minute))); n != 1 {
		t.Errorf("%d of the minute before are left, want 1", n)
	}
}

// BenchmarkDecide is the judgement of one announcement, with so many failures
// recorded in all, on as many fingerprints, and on one.
func BenchmarkDecide(b *testing.B) {
	j := testJudge(b, heal.ModeAuto)
	for _, recorded := range []int{1e3, 1e4, 1e5} {
		b.Run(fmt.Sprintf("fingerprints=%d", recorded), func(b *testing.B) {
			states := map[string]incident.State{}
			failures := make([]heal.Failure, recorded)
			for i := range recorded {
				f := podFailure(fmt.Sprint("app", i), "e0", 1, noon)
				states[incident.Key(f)], _ = j.decide(incident.State{}, at(f, noon))
				f.EpisodeID = "e1"
				failures[i] = f
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f := failures[i%recorded]
				j.decide(states[incident.Key(f)], at(f, noon.Add(time.Minute)))
			}
		})
		b.Run(fmt.Sprintf("same_fingerprint=%d", recorded), func(b *testing.B) {
			var s incident.State
			for i := range recorded {
				now := noon.Add(time.Duration(i) * time.Millisecond)
				s, _ = j.decide(s, at(podFailure("checkout", fmt.Sprint("e", i), 1, now), now))
			}
			f := podFailure("checkout", "next", 1, noon.Add(2*time.Minute))
			b.ReportAllocs()
			for b.Loop() {
				j.decide(s, at(f, noon.Add(2*time.Minute)))
			}
		})
	}
}

func TestADecisionThatNeedsAPersonWaitsLonger(t *testing.T) {
	for mode, want := range map[heal.Mode]time.Duration{heal.ModeObserve: 5 * time.Minute, heal.ModeApprove: 15 * time.Minute, heal.ModeAuto: 5 * time.Minute} {
		_, made := testJudge(t, mode).decide(incident.State{}, at(podFailure("checkout", "e0", 1, noon), noon))
		if got := made.decision.Expires.Sub(noon); got != want {
			t.Errorf("mode %s: expires after %s, want %s", mode, got, want)
		}
	}
}
