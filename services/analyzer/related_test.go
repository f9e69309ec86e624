package analyzer

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// workloadFailure is a failure of the deployment shop/<app>.
func workloadFailure(app, reason string, at time.Time) heal.Failure {
	f := podFailure(app, "x", 1, at)
	f.Type, f.Severity, f.Reason, f.Target, f.Owner, f.Node = heal.DeploymentFailure, heal.High, reason, f.Owner, heal.Target{}, ""
	f.ResourceName, f.EpisodeID = f.Target.Name, "w-"+app+"-"+reason
	f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, f.Owner, "", reason)
	return f
}

// serviceFailure is one of the service shop/<name>, whose pods are labelled app=<name>.
func serviceFailure(name string, at time.Time) heal.Failure {
	s := heal.Target{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: name, UID: "uid-svc-" + name}
	return heal.Failure{
		Type: heal.ServiceFailure, Reason: "NoReadyEndpoints", Severity: heal.High, ResourceName: name, Namespace: "shop",
		Target: s, Detector: "service_unavailable", Fingerprint: heal.MakeFingerprint(heal.ServiceFailure, s, heal.Target{}, "", "NoReadyEndpoints"),
		EpisodeID: "s-" + name, Occurrence: 1, FirstSeen: at, Timestamp: heal.Unix{Time: at},
		Evidence: []heal.Evidence{{Path: "spec.selector", Value: "app=" + name}},
	}
}

func over(f heal.Failure) heal.Failure {
	f.ResolvedAt = time.Now()
	return f
}

// TestTheSameSymptomOfFiveCausesIsFiveDecisions is about one pod in
// CrashLoopBackOff, which is all that a restart looks at.
func TestTheSameSymptomOfFiveCausesIsFiveDecisions(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	type want struct {
		Strategy   heal.Strategy
		Type       heal.FailureType
		Target     string
		Reason     string
		Cause      heal.CauseKind
		Parameters map[string]string
		Acts       bool
	}
	none := map[string]string{}
	noted := func(failures ...heal.Failure) incident.Board {
		var b incident.Board
		for _, f := range failures {
			b, _ = b.Note(f, "i", noon)
		}
		return b
	}
	others := []heal.Failure{podFailure("cart", "o1", 1, noon), podFailure("search", "o2", 1, noon)}
	tests := []struct {
		name   string
		change func(*heal.Failure, *occasion)
		want   want
	}{
		{"a roll-out", func(f *heal.Failure, _ *occasion) {
			f.Metadata = map[string]string{"pod_template_hash": "new", "revision": "4", "newest_revision": "4", "workload_available": "3", "workload_updated": "1"}
		}, want{heal.Rollback, heal.DeploymentFailure, "shop/Deployment/checkout", "NewRevisionFails", heal.CauseRollout, none, true}},
		{"a node", func(_ *heal.Failure, o *occasion) {
			o.around.OnNode = noted(others...)
		}, want{heal.Recreate, heal.PodFailure, "shop/Pod/checkout-e0", "NodeSuspected", heal.CauseNode, map[string]string{"suspect_node": "n1"}, true}},
		{"a dependency", func(f *heal.Failure, o *occasion) {
			f.Description += ": cannot reach db:5432"
			o.around.Namespace = noted(serviceFailure("db", noon))
		}, want{heal.Monitor, heal.PodFailure, "shop/Pod/checkout-e0", "WaitsForDependency", heal.CauseDependency, map[string]string{"dependency": "shop/Service/db"}, false}},
		{"a missing object", func(f *heal.Failure, _ *occasion) {
			f.Metadata = map[string]string{"missing": "Secret payments"}
		}, want{heal.Monitor, heal.PodFailure, "shop/Pod/checkout-e0", "ObjectMissing", heal.CauseConfig, map[string]string{"missing": "Secret payments"}, false}},
		{"a quota", func(f *heal.Failure, _ *occasion) {
			f.Description += ": exceeded quota: small"
		}, want{heal.Monitor, heal.PodFailure, "shop/Pod/checkout-e0", "NoCapacity", heal.CauseCapacity, none, false}},
		{"nothing that is known", func(*heal.Failure, *occasion) {},
			want{heal.Restart, heal.PodFailure, "shop/Pod/checkout-e0", "SeverityTable", heal.CauseUnknown, none, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := podFailure("checkout", "e0", 1, noon)
			o := at(f, noon.Add(time.Second))
			tt.change(&f, &o)
			o.failure = f
			_, made := j.decideIn(incident.Group{}, o)
			d := made.decision
			got := want{d.Strategy, d.Type, d.Target.String(), d.Reason, d.Cause.Kind, d.Parameters, d.Acts()}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
			if err := d.Validate(); err != nil {
				t.Error(err)
			}
			if d.Type == heal.DeploymentFailure && (d.Policy.Rule != "deployment_failure/high" || d.BaseSeverity != heal.High || d.ActionType != "deployment_recovery") {
				t.Errorf("the owner's failure is judged by %s, base %s", d.Policy.Rule, d.BaseSeverity)
			}
			t.Log(d.Explanation.Steps)
		})
	}
}

func TestAPodThatWaitedIsRestartedOnceItsDependencyIsBack(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	f := podFailure("checkout", "e0", 1, noon)
	f.Description += ": cannot reach db:5432"
	o := at(f, noon)
	o.around.Namespace, _ = incident.Board{}.Note(serviceFailure("db", noon), "i", noon)
	g, waits := j.decideIn(incident.Group{}, o)
	if waits.decision.Reason != "WaitsForDependency" || g.Waits.For != "shop/Service/db" {
		t.Fatalf("%s, waits for %q", waits.decision.Reason, g.Waits.For)
	}
	again := f
	again.Occurrence = 2
	later := at(again, noon.Add(time.Minute))
	later.around = o.around
	g, waits = j.decideIn(g, later)
	if waits.decision.Reason != "WaitsForDependency" {
		t.Errorf("while it is away: %s", waits.decision.Reason)
	}
	again.Occurrence = 3
	there := at(again, noon.Add(2*time.Minute))
	there.around.Namespace, _ = later.around.Namespace.Note(over(serviceFailure("db", noon)), "", noon.Add(90*time.Second))
	g, woken := j.decideIn(g, there)
	if d := woken.decision; d.Reason != "DependencyIsBack" || d.Strategy != heal.Restart || !d.Acts() {
		t.Errorf("once it is back: %s, %s", d.Strategy, d.Reason)
	}
	if g.Waits.For != "" {
		t.Errorf("still waits for %s", g.Waits.For)
	}
}

// stormSize is as large as the with STORM=10000.
func stormSize(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("STORM"))
	if err != nil {
		return 1000
	}
	t.Logf("%d pods", n)
	return n
}

func TestAStormOfOneOwnerIsOneIncidentAndOneDecisionThatActs(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	p.analyzer(t, auto, Deps{})
	n := stormSize(t)
	want := map[string]bool{}
	began := time.Now()
	for i := range n {
		f := podFailure("checkout", fmt.Sprint("e", i), 1, time.Now())
		// Two containers and two reasons: four fingerprints.
		part, reason := []string{"api", "sidecar"}[i%2], []string{"CrashLoopBackOff", "OOMKilled"}[i/2%2]
		f.Reason, f.Fingerprint = reason, heal.MakeFingerprint(f.Type, f.Target, f.Owner, part, reason)
		f.Node = fmt.Sprint("n", i%50)
		want[heal.MakeDecisionID(f)] = true
		p.announce(t, f)
	}
	acting, incidents, reasons := 0, map[string]bool{}, map[string]int{}
	for _, d := range p.awaitFor(t, want, max(patience, time.Duration(n)*30*time.Millisecond)) {
		incidents[d.IncidentID] = true
		reasons[string(d.Strategy)+", "+d.Reason]++
		if d.Acts() {
			acting++
		}
	}
	t.Logf("%d decisions in %s: %v", n, time.Since(began).Round(time.Millisecond), reasons)
	if acting != 1 || len(incidents) != 1 {
		t.Errorf("%d decisions act, in %d incidents; want 1 of each", acting, len(incidents))
	}
}

func TestWhatFollowsIsAttachedToItsRootAndJudgedByItselfAfterwards(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})

	node := nodeFailure("n1", time.Now())
	p.announce(t, node)
	root := p.next(t)
	pod := podFailure("checkout", "e0", 1, time.Now())
	p.announce(t, pod)
	follower := p.next(t)
	want := map[string]string{"root": "Node/n1", "root_incident": root.IncidentID}
	if follower.Strategy != heal.Monitor || follower.Reason != heal.ReasonFollowsIncident || follower.IncidentID != root.IncidentID {
		t.Errorf("a pod of a dead node: %s, %s, incident %s; want to be attached to %s", follower.Strategy, follower.Reason, follower.IncidentID, root.IncidentID)
	}
	if diff := cmp.Diff(follower.Parameters, want); diff != "" {
		t.Errorf("parameters (-got +want)\n%s", diff)
	}
	t.Log(follower.Explanation.Steps)

	p.announce(t, serviceFailure("checkout", time.Now()))
	if svc := p.next(t); svc.Reason != heal.ReasonFollowsIncident || svc.IncidentID != root.IncidentID || svc.Acts() {
		t.Errorf("a service because of both: %s, %s, incident %s", svc.Strategy, svc.Reason, svc.IncidentID)
	}

	p.announce(t, over(node))
	p.quiet(t)
	again := pod
	again.Occurrence, again.Timestamp = 2, heal.Unix{Time: time.Now()}
	p.announce(t, again)
	if d := p.next(t); !d.Acts() || d.Strategy != heal.Restart || d.IncidentID != root.IncidentID {
		t.Errorf("once the node is well again: %s, %s, acts %v, incident %s", d.Strategy, d.Reason, d.Acts(), d.IncidentID)
	}
}

func TestPodsOfAStalledRolloutAreLeftToIt(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	p.announce(t, workloadFailure("checkout", "ProgressDeadlineExceeded", time.Now()))
	root := p.next(t)
	if root.Strategy != heal.Rollback || !root.Acts() {
		t.Fatalf("the roll-out: %s, %s", root.Strategy, root.Reason)
	}
	p.announce(t, podFailure("checkout", "e0", 1, time.Now()))
	if d := p.next(t); d.Reason != heal.ReasonFollowsIncident || d.IncidentID != root.IncidentID {
		t.Errorf("its pod: %s, %s", d.Strategy, d.Reason)
	}
	p.announce(t, workloadFailure("checkout", "MinimumReplicasUnavailable", time.Now()))
	if d := p.next(t); d.Reason != heal.ReasonFollowsIncident || d.IncidentID != root.IncidentID {
		t.Errorf("that nothing of it is available: %s, %s", d.Strategy, d.Reason)
	}
}

func TestWhatOneAnalyzerSawIsEvidenceForAnother(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	stop := p.analyzer(t, auto, Deps{})
	p.announce(t, serviceFailure("db", time.Now()))
	p.next(t)
	board := func() bool {
		_, err := p.srv.JetStream(t).KeyValue(t.Context(), "SELFHEAL_INCIDENTS")
		if err != nil {
			return false
		}
		kv, _ := p.srv.JetStream(t).KeyValue(t.Context(), "SELFHEAL_INCIDENTS")
		_, err = kv.Get(t.Context(), incident.Surroundings(podFailure("checkout", "e0", 1, noon)).Namespace)
		return err == nil
	}
	eventually(t, "the namespace's board is written", board)
	stop()
	p.analyzer(t, auto, Deps{})
	f := podFailure("checkout", "e0", 1, time.Now())
	f.Description += ": cannot reach db:5432"
	p.announce(t, f)
	d := p.next(t)
	if d.Reason != "WaitsForDependency" || d.Acts() {
		t.Errorf("%s, %s", d.Strategy, d.Reason)
	}
	if diff := cmp.Diff(maps.Clone(d.Parameters), map[string]string{"dependency": "shop/Service/db"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestAChangedPolicyIsTakenAndABadOneIsNot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("name: first\n")
	p := newPipeline(t)
	reloads := make(chan bool, 10)
	p.analyzer(t, Config{Mode: heal.ModeAuto, PolicyFile: file}, Deps{Reloaded: func(ok bool) { reloads <- ok }})
	reloaded := func() bool {
		t.Helper()
		select {
		case ok := <-reloads:
			return ok
		case <-time.After(patience):
			t.Fatal("nobody noticed")
			return false
		}
	}
	decided := func(app string) heal.Decision {
		t.Helper()
		p.announce(t, podFailure(app, app+"-e", 1, time.Now()))
		return p.next(t)
	}
	first := decided("a")
	if first.Policy.Name != "first" || !first.Acts() {
		t.Fatalf("%+v, acts %v", first.Policy, first.Acts())
	}

	write("name: second\nrules: [{name: look only, match: failure.owner_name.startsWith(\"b\"), mode: observe}]\n")
	if !reloaded() {
		t.Fatal("a good policy was refused")
	}
	second := decided("b")
	if second.Policy.Name != "second" || second.Policy.Revision == first.Policy.Revision || second.Acts() || second.Mode != heal.ModeObserve || second.Reason != "ModeObserve" {
		t.Errorf("%+v, %s, %s, acts %v", second.Policy, second.Mode, second.Reason, second.Acts())
	}
	if steps := fmt.Sprint(second.Explanation.Steps); !strings.Contains(steps, `rule "look only": mode observe`) {
		t.Errorf("steps: %s", steps)
	}

	write("name: third\nrules: [{nam: x}]\n")
	if reloaded() {
		t.Fatal("a bad policy was taken")
	}
	if third := decided("c"); third.Policy != (heal.PolicyRef{Name: "second", Revision: second.Policy.Revision, Rule: "pod_failure/medium"}) {
		t.Errorf("%+v, want the one before", third.Policy)
	}
}

func TestARuleDecidesAndIsNamed(t *testing.T) {
	p, err := policy.Parse([]byte(`
rules:
- {name: payments, match: failure.namespace == "shop" && history.similar == 0, severity: critical, strategy: recreate, mode: approve}
`))
	if err != nil {
		t.Fatal(err)
	}
	j := testJudge(t, heal.ModeAuto)
	j.policy = p
	_, made := j.decide(incident.State{}, at(podFailure("checkout", "e0", 1, noon), noon))
	d := made.decision
	if d.Severity != heal.Critical || d.BaseSeverity != heal.Medium || d.Strategy != heal.Recreate || d.Mode != heal.ModeApprove || d.Policy.Rule != "rules/payments" || !d.Acts() {
		t.Errorf("%s (%s), %s, %s, %s", d.Severity, d.BaseSeverity, d.Strategy, d.Mode, d.Policy.Rule)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWhatTheWatcherCallsCriticalIs(t *testing.T) {
	f := serviceFailure("kube-dns", noon)
	f.Metadata = map[string]string{"critical": "true"}
	_, made := testJudge(t, heal.ModeAuto).decide(incident.State{}, at(f, noon))
	if d := made.decision; d.Severity != heal.Critical || d.BaseSeverity != heal.High || d.Policy.Rule != "service_failure/critical" {
		t.Errorf("%s (base %s) by %s", d.Severity, d.BaseSeverity, d.Policy.Rule)
	}
}

func TestAllNodesNotReadyIsAStorm(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	want := map[string]bool{}
	for i := range 100 {
		f := nodeFailure(fmt.Sprint("n", i), time.Now())
		f.Metadata = map[string]string{"nodes": "100", "nodes_not_ready": "100"}
		want[heal.MakeDecisionID(f)] = true
		p.announce(t, f)
	}
	for _, d := range p.await(t, want) {
		if d.Acts() || d.Reason != "Storm" {
			t.Errorf("%s: %s, %s, acts %v", d.Target, d.Strategy, d.Reason, d.Acts())
		}
	}
}
