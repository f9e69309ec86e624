package record

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func raw[T heal.Payload](t *testing.T, minute int, data T) bus.Raw {
	t.Helper()
	body, err := json.Marshal(heal.NewEvent(data, "test", "test", noon.Add(time.Duration(minute)*time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	return bus.Raw{Data: body}
}

func crash(minute, occurrence int) heal.Failure {
	pod := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web-1", UID: "u"}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod.Name, Namespace: pod.Namespace, Description: "it crashes",
		Timestamp: heal.Unix{Time: noon.Add(time.Duration(minute) * time.Minute)}, Target: pod, Detector: "crash_loop", EpisodeID: "e-1", Occurrence: occurrence,
		FirstSeen: noon, Fingerprint: "pod_failure/shop/Pod/web-1/CrashLoopBackOff",
	}
}

func decide(f heal.Failure, mode heal.Mode) heal.Decision {
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type, Severity: heal.High, BaseSeverity: heal.Medium, Strategy: heal.Restart,
		Mode: mode, Reason: heal.ReasonSeverityTable, Expires: noon.Add(time.Hour), Target: f.Target, Cause: heal.Cause{Kind: heal.CauseUnknown}, Failure: f,
	}
}

func result(d heal.Decision, o heal.Outcome, minute int) heal.Result {
	return heal.Result{Decision: d, Outcome: o, Reason: "R", Message: "m", StartedAt: noon.Add(time.Duration(minute) * time.Minute)}
}

func TestWhereAnIncidentStands(t *testing.T) {
	first, second, gone := crash(0, 1), crash(9, 2), crash(0, 1)
	gone.ResolvedAt = noon.Add(5 * time.Minute)
	auto, ask := decide(first, heal.ModeAuto), decide(first, heal.ModeApprove)
	givenUp := decide(second, heal.ModeAuto)
	givenUp.Reason, givenUp.Guards = heal.ReasonGivenUp, []heal.Verdict{{Name: "attempts"}}
	yes := heal.Approval{DecisionID: ask.ID, Approved: true, By: "ann", At: noon}
	for name, tt := range map[string]struct {
		messages []bus.Raw
		after    time.Duration
		want     State
	}{
		"only seen":                         {[]bus.Raw{raw(t, 0, first)}, time.Minute, Open},
		"gone without our doing":            {[]bus.Raw{raw(t, 0, first), raw(t, 5, gone)}, time.Hour, Recovered},
		"decided":                           {[]bus.Raw{raw(t, 0, first), raw(t, 0, auto)}, time.Minute, Acting},
		"decided long ago":                  {[]bus.Raw{raw(t, 0, first), raw(t, 0, auto)}, time.Hour, Open},
		"decided, to be asked for":          {[]bus.Raw{raw(t, 0, first), raw(t, 0, ask)}, time.Minute, Waiting},
		"decided and agreed to":             {[]bus.Raw{raw(t, 0, first), raw(t, 0, ask), raw(t, 1, yes)}, time.Minute, Acting},
		"done and seen to have helped":      {[]bus.Raw{raw(t, 0, first), raw(t, 0, auto), raw(t, 6, result(auto, heal.Succeeded, 6)), raw(t, 5, gone)}, time.Hour, Healed},
		"done in vain":                      {[]bus.Raw{raw(t, 0, first), raw(t, 0, auto), raw(t, 6, result(auto, heal.Failed, 6))}, time.Hour, Open},
		"healed, and it fails again":        {[]bus.Raw{raw(t, 0, first), raw(t, 0, auto), raw(t, 6, result(auto, heal.Succeeded, 6)), raw(t, 9, second)}, time.Hour, Open},
		"tried in vain, and left to people": {[]bus.Raw{raw(t, 0, first), raw(t, 0, auto), raw(t, 6, result(auto, heal.Failed, 6)), raw(t, 9, second), raw(t, 9, givenUp)}, time.Hour, GivenUp},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 { // in any order, and some of them twice
				rand.Shuffle(len(tt.messages), func(i, j int) { tt.messages[i], tt.messages[j] = tt.messages[j], tt.messages[i] })
				var f Folder
				for _, m := range append(tt.messages, tt.messages[0]) {
					f.Add(m)
				}
				r := f.Record(noon.Add(tt.after))
				if len(r.Incidents) != 1 || r.Incidents[0].State != tt.want || r.Unread != 0 {
					t.Fatalf("%d incidents, %+v, %d unread; want one that is %s", len(r.Incidents), r.Incidents, r.Unread, tt.want)
				}
			}
		})
	}
}

func TestAnIncidentTellsWhatBelongsToIt(t *testing.T) {
	first := crash(0, 1)
	d := decide(first, heal.ModeAuto)
	var f Folder
	for _, m := range []bus.Raw{raw(t, 0, first), raw(t, 1, d), raw(t, 6, result(d, heal.Failed, 6)), raw(t, 9, crash(9, 2))} {
		f.Add(m)
	}
	want := []Incident{{
		ID: first.IncidentID(), State: Open, Type: heal.PodFailure, Severity: heal.High, Reason: "CrashLoopBackOff", Cause: heal.CauseUnknown,
		Object: first.Target, Opened: noon, Changed: noon.Add(9 * time.Minute), Failures: 1, Failing: 1, Decisions: 1, Tries: 1,
		Strategy: heal.Restart, DecisionID: d.ID, Outcome: heal.Failed, Message: "m",
	}}
	if diff := cmp.Diff(want, f.Record(noon.Add(time.Hour)).Incidents, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("incidents (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeReadIsCounted(t *testing.T) {
	var f Folder
	for _, data := range []string{"", "{", `{"type":"dev.selfheal.decision.made.v1"}`, `{"type":"dev.selfheal.unheard.of.v9"}`} {
		f.Add(bus.Raw{Data: []byte(data)})
	}
	if r := f.Record(noon); r.Unread != 4 || len(r.Decisions) != 0 {
		t.Errorf("%d unread, %d decisions", r.Unread, len(r.Decisions))
	}
}
