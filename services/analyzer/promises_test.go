package analyzer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// TestWhatWasGivenUpIsTriedOnceMoreByItself follows one failure through the
// breaker: open after three tries in vain, half-open for one more after an
// hour, open again when that fails, closed when one helps.
func TestWhatWasGivenUpIsTriedOnceMoreByItself(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	var s incident.State
	var got []string
	n := 0
	announce := func(now time.Time, outcome heal.Outcome) {
		n++
		var made judgement
		s, made = j.decide(s, at(podFailure("checkout", "e0", n, now), now))
		says := made.decision.Reason
		if made.decision.Acts() {
			says = "tried"
			s, _ = s.End(heal.Result{Decision: made.decision, Outcome: outcome}, now, now)
		}
		got = append(got, fmt.Sprintf("%s %s", now.Sub(noon), says))
	}
	for _, minute := range []int{0, 10, 20, 30, 60, 79} {
		announce(noon.Add(time.Duration(minute)*time.Minute), heal.Failed)
	}
	for _, minute := range []int{81, 82, 140} {
		announce(noon.Add(time.Duration(minute)*time.Minute), heal.Failed)
	}
	for _, minute := range []int{142, 143} {
		announce(noon.Add(time.Duration(minute)*time.Minute), heal.Succeeded)
	}
	want := []string{
		"0s tried", "10m0s tried", "20m0s tried", "30m0s GivenUp", "1h0m0s GivenUp", "1h19m0s GivenUp",
		"1h21m0s tried", "1h22m0s GivenUp", "2h20m0s GivenUp",
		"2h22m0s tried", "2h23m0s tried",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

// TestNoNumberOfFailuresLeadsFromOneKindToAnother lets failures of every type
// go on however much is tried against them.
func TestNoNumberOfFailuresLeadsFromOneKindToAnother(t *testing.T) {
	j := testJudge(t, heal.ModeAuto)
	samples := map[heal.FailureType]heal.Failure{
		heal.PodFailure:        podFailure("checkout", "e0", 1, noon),
		heal.NodeFailure:       nodeFailure("n1", noon),
		heal.ServiceFailure:    serviceFailure("db", noon),
		heal.DeploymentFailure: workloadFailure("checkout", "RolloutStalled", noon),
	}
	pressed := nodeFailure("n1", noon)
	pressed.Type, pressed.Reason = heal.ResourceExhaustion, "MemoryPressure"
	pressed.Fingerprint = heal.MakeFingerprint(pressed.Type, pressed.Target, pressed.Owner, "", pressed.Reason)
	samples[heal.ResourceExhaustion] = pressed
	for _, of := range heal.FailureTypes {
		f, g, acted := samples[of], incident.Group{}, 0
		now := noon
		for n := 1; n <= 40; n++ {
			now = now.Add(20 * time.Minute)
			f.Occurrence, f.Timestamp = n, heal.Unix{Time: now}
			var made judgement
			g, made = j.decideIn(g, at(f, now))
			d := made.decision
			if d.Type != of || d.Target.Kind != f.Target.Kind || !slices.Contains(policy.Ladder(of), d.Strategy) {
				t.Fatalf("%s, announcement %d: %s of a %s as a %s", of, n, d.Strategy, d.Target.Kind, d.Type)
			}
			if d.Acts() {
				acted++
				s, _ := g.States[incident.Key(f)].End(heal.Result{Decision: d, Outcome: heal.Failed}, now, now)
				g = g.With(f, s).Learn(heal.Result{Decision: d, Outcome: heal.Failed}, now)
			}
		}
		if acted == 0 && of != heal.ServiceFailure && of != heal.ResourceExhaustion {
			t.Errorf("nothing was ever done about %s", of)
		}
	}
}
