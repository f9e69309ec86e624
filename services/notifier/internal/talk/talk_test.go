package talk

import (
	"slices"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func failure(occurrence int) heal.Failure {
	pod := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "cart-1", UID: "u1"}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.High, Target: pod, EpisodeID: "e-1", Occurrence: occurrence,
		FirstSeen: noon, Timestamp: heal.Unix{Time: noon}, Detector: "crash_loop",
	}
}

func decision(id string, occurrence int, change ...func(*heal.Decision)) News {
	f := failure(occurrence)
	d := heal.Decision{ID: id, IncidentID: "i-1", Type: f.Type, Severity: heal.High, Strategy: heal.Restart, Mode: heal.ModeAuto,
		Reason: heal.ReasonSeverityTable, Target: f.Target, Failure: f, Expires: noon.Add(5 * time.Minute)}
	for _, c := range change {
		c(&d)
	}
	return News{ID: "m-" + id, At: noon, Decision: &d}
}

func result(of News, outcome heal.Outcome, reason string) News {
	r := heal.Result{Decision: *of.Decision, Outcome: outcome, Reason: reason}
	if outcome == heal.Succeeded {
		r.Verification = &heal.Verification{Passed: true}
	}
	return News{ID: "r-" + of.Decision.ID, At: noon, Result: &r}
}

func over() News {
	f := failure(1)
	f.ResolvedAt = noon.Add(time.Minute)
	return News{ID: "o", At: noon, Over: &f}
}

func givenUp(d *heal.Decision) { d.Strategy, d.Reason = heal.Monitor, heal.ReasonGivenUp }

func TestAnIncidentIsWhereItsNewsSays(t *testing.T) {
	first, second, last := decision("d-1", 1), decision("d-2", 2), decision("d-3", 3, givenUp)
	watch := decision("d-4", 1, func(d *heal.Decision) { d.Strategy = heal.Monitor })
	settled := func(of ...News) News {
		i := Incident{ID: "i-1"}
		for _, n := range of {
			i, _ = i.Hear(n)
		}
		return *i.Settle(noon.Add(time.Hour), time.Minute)
	}
	inVain := []News{first, result(first, heal.Failed, "NotFixed"), over()}
	tests := []struct {
		name string
		news []News
		want heal.Phase
		told int // how much of it was worth telling
	}{
		{"nothing was told of what is over", []News{over()}, "", 0},
		{"acted upon", []News{first}, heal.PhaseActing, 1},
		{"the same again", []News{first, first}, heal.PhaseActing, 2}, // Step finds that it was told
		{"healed", []News{first, result(first, heal.Succeeded, "Verified")}, heal.PhaseVerified, 2},
		{"healed, and then seen to be over", []News{first, result(first, heal.Succeeded, "Verified"), over()}, heal.PhaseVerified, 2},
		{"the decision comes after its result", []News{result(first, heal.Succeeded, "Verified"), first}, heal.PhaseVerified, 1},
		{"failed", []News{first, result(first, heal.Failed, "NotFixed")}, heal.PhaseFailed, 2},
		{"failed, and tried again", []News{first, result(first, heal.Failed, "NotFixed"), second}, heal.PhaseActing, 3},
		{"failed, and then gone, as we took it away", inVain, heal.PhaseFailed, 2},
		{"gone, and then said to have failed", []News{first, over(), result(first, heal.Failed, "NotFixed")}, heal.PhaseFailed, 2},
		{"failed, gone, and nothing came in its place", append(slices.Clone(inVain), settled(inVain...)), heal.PhaseResolved, 3},
		{"gone while it is acted upon", []News{first, over()}, heal.PhaseActing, 1},
		{"gone before anything was done", []News{first, over(), result(first, heal.Skipped, heal.ReasonRecovered)}, heal.PhaseResolved, 2},
		{"watched, and over", []News{watch, result(watch, heal.Skipped, "Monitor"), over()}, heal.PhaseResolved, 2},
		{"to be done, and not done after all", []News{first, result(first, heal.Skipped, "Expired")}, heal.PhaseSeen, 2},
		{"given up", []News{first, result(first, heal.Failed, "NotFixed"), last}, heal.PhaseGivenUp, 3},
		{"given up, with each announcement", []News{last, result(last, heal.Rejected, heal.ReasonGivenUp), decision("d-5", 4, givenUp)}, heal.PhaseGivenUp, 1},
		{"given up, and gone", []News{last, over()}, heal.PhaseGivenUp, 1},
		{"that it was given up is heard after its end", []News{last, over(), settled(last, over()), result(last, heal.Rejected, heal.ReasonGivenUp)}, heal.PhaseResolved, 2},
		{"a decision is heard after the end", []News{watch, over(), decision("d-6", 2, func(d *heal.Decision) { d.Strategy = heal.Monitor })}, heal.PhaseResolved, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i, told := Incident{ID: "i-1"}, 0
			for _, n := range tt.news {
				next, worth := i.Hear(n)
				if i = next; worth {
					told++
				}
			}
			if i.Phase != tt.want || told != tt.told {
				t.Errorf("phase %q after %d told, want %q after %d", i.Phase, told, tt.want, tt.told)
			}
		})
	}
}
