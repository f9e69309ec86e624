package analyzer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// asked is a pipeline with an analyzer that answers questions.
func asked(t *testing.T, cfg Config) (*pipeline, func(heal.Inquiry) (heal.Insight, error)) {
	t.Helper()
	p := newPipeline(t)
	api, err := p.srv.Bus(t, "analyzer").Serve("v1.0.0", "Decides.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	served := make(chan struct{}, 9)
	p.analyzer(t, cfg, Deps{Answer: func(e bus.Endpoint) {
		if err := api.Add(e); err != nil {
			t.Error(err)
		}
		served <- struct{}{}
	}})
	<-served
	<-served
	return p, func(q heal.Inquiry) (heal.Insight, error) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			in, err := bus.Ask[heal.Insight](t.Context(), p.watcher, "analyzer", "explain", q)
			if err == nil {
				check(t, "inquiry.v1", q)
				check(t, "insight.v1", in)
			}
			if err == nil || !strings.Contains(err.Error(), "is there to answer") || time.Now().After(deadline) {
				return in, err
			}
		}
	}
}

// check holds a value against its schema.
func check(t *testing.T, name string, v any) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(jsonschema.SchemeURLLoader{"file": jsonschema.FileLoader{}, "https": schemasHere{}})
	schema, err := c.Compile("https://selfheal.dev/schemas/v1/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%s: %v in %s", name, err, data)
	}
}

// schemasHere loads a schema of ours from the tree.
type schemasHere struct{}

func (schemasHere) Load(url string) (any, error) {
	data, err := os.ReadFile("../../api/schemas/" + url[strings.LastIndexByte(url, '/')+1:])
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(data))
}

func TestWhatIsKnownOfAnObjectIsExplained(t *testing.T) {
	t.Parallel()
	p, ask := asked(t, auto)
	f := podFailure("checkout", "e0", 1, time.Now())
	f.Target.Name, f.ResourceName = "checkout-7d9f6c-x2kpl", "checkout-7d9f6c-x2kpl"
	f.Metadata = map[string]string{"exit_code": "1"}
	p.announce(t, f)
	first := p.next(t)

	in, err := ask(heal.Inquiry{Kind: "Pod", Namespace: "shop", Name: f.Target.Name, WhyNot: heal.Rollback})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Troubles) != 1 {
		t.Fatalf("%d troubles", len(in.Troubles))
	}
	got := in.Troubles[0]
	if got.UnderWay == nil || got.UnderWay.DecisionID != first.ID || got.Open != 1 || got.Object != "shop/Deployment/checkout" || got.Incident != first.IncidentID {
		t.Errorf("%+v", got)
	}
	if got.Now == nil || got.Now.Reason != heal.ReasonRecoveryUnderWay || got.Last.Metadata["exit_code"] != "1" {
		t.Errorf("now: %+v", got.Now)
	}
	if want := "shop/Deployment/checkout: CrashLoopBackOff; restart is under way."; in.Summary != want {
		t.Errorf("%q, want %q", in.Summary, want)
	}
	if !strings.Contains(got.WhyNot, "a recovery is under way") {
		t.Errorf("why not: %q", got.WhyNot)
	}

	p.report(t, first, heal.Failed)
	p.quiet(t)
	in, err = ask(heal.Inquiry{Kind: "Deployment", Namespace: "shop", Name: "checkout", WhyNot: heal.DrainAndReplace})
	if err != nil {
		t.Fatal(err)
	}
	got = in.Troubles[0]
	if got.FailedTries != 1 || got.UnderWay != nil || len(got.Course) != 1 || got.Course[0].Outcome != heal.Failed || got.Course[0].Result != "Test" {
		t.Errorf("%+v", got.Course)
	}
	if got.Now == nil || got.Now.Reason != "Backoff" || got.NextWhy != "it rests after a try that did not help; the next announcement after that is judged afresh" {
		t.Errorf("now %+v, next %q", got.Now.Reason, got.NextWhy)
	}
	if diff := cmp.Diff([]heal.Try{{Cause: heal.CauseUnknown, Strategy: heal.Restart, Failed: 1}}, got.Tried); diff != "" {
		t.Errorf("tried (-want +got)\n%s", diff)
	}
	var ladder []string
	for _, r := range got.Ladder {
		ladder = append(ladder, fmt.Sprint(r.Strategy, " ", r.Chosen, ": ", r.Why))
	}
	want := []string{
		"monitor false: the policy asks for it at severity low; this is medium",
		"restart true: it is chosen: what the policy asks for at severity medium; but guard backoff is against it: 1 failed try: rest for 1m0s, ",
		"recreate false: the policy asks for it at severity high; this is medium",
		"scale_and_replace false: the policy asks for it at severity critical; this is medium",
	}
	for i := range min(len(want), len(ladder)) {
		if !strings.HasPrefix(ladder[i], want[i]) {
			t.Errorf("rung %d\n%s\nwant\n%s", i, ladder[i], want[i])
		}
	}
	if want := "it is no strategy for a pod_failure, and no number of failures leads from one kind to another"; got.WhyNot != want {
		t.Errorf("why not: %q", got.WhyNot)
	}

	// By its incident, and after its end.
	if byID, err := ask(heal.Inquiry{Incident: first.IncidentID}); err != nil || len(byID.Troubles) != 1 || byID.Troubles[0].Object != got.Object {
		t.Errorf("by its incident: %+v, %v", byID, err)
	}
	p.announce(t, over(f))
	p.quiet(t)
	eventually(t, "its end is known", func() bool {
		in, err = ask(heal.Inquiry{Kind: "Deployment", Namespace: "shop", Name: "checkout"})
		return err == nil && in.Troubles[0].Open == 0
	})
	if in.Troubles[0].Now != nil || in.Summary != "shop/Deployment/checkout: CrashLoopBackOff, which is over." {
		t.Errorf("%q, %+v", in.Summary, in.Troubles[0].Now)
	}
}

func TestAnIncidentIsExplainedFromItsRoot(t *testing.T) {
	t.Parallel()
	p, ask := asked(t, auto)
	node := nodeFailure("n1", time.Now())
	node.Reason = "KubeletNotReady"
	node.Fingerprint = heal.MakeFingerprint(heal.NodeFailure, node.Target, heal.Target{}, "", node.Reason)
	p.announce(t, node)
	root := p.next(t)
	pod := podFailure("checkout", "e0", 1, time.Now())
	p.announce(t, pod)
	if d := p.next(t); d.Reason != heal.ReasonFollowsIncident {
		t.Fatalf("the pod: %s", d.Reason)
	}
	in, err := ask(heal.Inquiry{Incident: root.IncidentID})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Troubles) != 1 || in.Troubles[0].Object != "Node/n1" || len(in.Followers) != 1 || in.Followers[0].Object != "shop/Deployment/checkout" {
		t.Errorf("%+v, followers %+v", in.Troubles, in.Followers)
	}
	of, err := ask(heal.Inquiry{Kind: "Deployment", Namespace: "shop", Name: "checkout", WhyNot: heal.Restart})
	if err != nil {
		t.Fatal(err)
	}
	if r := of.Troubles[0].Root; r == nil || r.Object != "Node/n1" || r.Incident != root.IncidentID {
		t.Errorf("root %+v", r)
	}
	if want := "it follows from Node/n1 (KubeletNotReady, incident " + root.IncidentID + "): its node n1 fails"; of.Troubles[0].WhyNot != want {
		t.Errorf("why not a restart: %q, want %q", of.Troubles[0].WhyNot, want)
	}
}

func TestABadQuestionIsNamedAndWhatIsUnknownIsSaid(t *testing.T) {
	t.Parallel()
	p, ask := asked(t, auto)
	if in, err := ask(heal.Inquiry{Kind: "Deployment", Namespace: "shop", Name: "web"}); err != nil || in.Summary != "Nothing is known to be wrong with shop/Deployment/web." {
		t.Errorf("%+v, %v", in, err)
	}
	for _, tt := range []struct {
		q    heal.Inquiry
		want string
	}{
		{heal.Inquiry{Kind: "deployment x", Name: "web"}, `kind: "deployment x" is not a Kubernetes kind`},
		{heal.Inquiry{Kind: "Deployment", Name: "A_b"}, `name: "A_b" is not a DNS-1123 subdomain`},
		{heal.Inquiry{Incident: "i-1", Kind: "Pod"}, "give one of them"},
		{heal.Inquiry{Incident: "i-1", WhyNot: "pray"}, `why_not: "pray" is not known`},
		{heal.Inquiry{Incident: "i-1"}, "nothing is remembered of incident i-1"},
	} {
		if _, err := ask(tt.q); err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, bus.ErrNotFound) != (tt.q == heal.Inquiry{Incident: "i-1"}) {
			t.Errorf("%+v: %v, want %q", tt.q, err, tt.want)
		}
	}
	force, err := bus.Ask[PolicyInForce](t.Context(), p.watcher, "analyzer", "policy", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePolicy(force.Policy)
	builtin, _ := BuiltinPolicy()
	if err != nil || got.Ref("") != builtin.Ref("") || force.Mode != heal.ModeAuto {
		t.Errorf("the policy in force is %+v, mode %s, %v", got.Ref(""), force.Mode, err)
	}
}
