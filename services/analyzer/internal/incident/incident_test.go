package incident

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	window  = time.Hour
	timeout = 5 * time.Minute
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// failure is occurrence n of an episode, observed at a time.
func failure(episode string, n int, at time.Time) heal.Failure {
	pod := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "checkout-" + episode, UID: "uid-" + episode}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "uid"}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, Target: pod, Owner: owner,
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, pod, owner, "api", "CrashLoopBackOff"),
		EpisodeID:   episode, Occurrence: n, FirstSeen: noon, Timestamp: heal.Unix{Time: at}, Detector: "crash_loop",
	}
}

// acting is a decision about f that asks for a change of the cluster.
func acting(f heal.Failure, now time.Time) heal.Decision {
	return heal.Decision{ID: heal.MakeDecisionID(f), Strategy: heal.Restart, Mode: heal.ModeAuto, Expires: now.Add(5 * time.Minute), Failure: f}
}

// watching is a decision about f that does not.
func watching(f heal.Failure) heal.Decision {
	return heal.Decision{ID: heal.MakeDecisionID(f), Strategy: heal.Monitor, Mode: heal.ModeAuto, Failure: f}
}

func result(f heal.Failure, o heal.Outcome) heal.Result {
	return heal.Result{Decision: heal.Decision{ID: heal.MakeDecisionID(f)}, Outcome: o}
}

// A script plays a state through what happens to a fingerprint, a second
// apart, unless it says otherwise.
type script struct {
	s   State
	now time.Time
}

func start() *script { return &script{now: noon} }

func (p *script) wait(d time.Duration) *script { p.now = p.now.Add(d); return p }

// sees observes and decides; the decision acts if the announcement is current
// and no recovery is under way, as the analyzer does it in mode auto.
func (p *script) sees(episode string, n int) Sighting {
	p.wait(time.Second)
	f := failure(episode, n, p.now)
	s, seen := p.s.Observe(f, p.now, p.now, window)
	if seen.Standing != Decided {
		d := watching(f)
		if seen.Standing == Current && !s.UnderWay(p.now) {
			d = acting(f, p.now)
		}
		s = s.Decide(d, p.now, p.now, timeout)
	}
	p.s = s
	return seen
}

func (p *script) resolves(episode string) *script {
	p.wait(time.Second)
	f := failure(episode, 1, p.now)
	f.ResolvedAt = p.now
	p.s, _ = p.s.Resolve(f, p.now, window)
	return p
}

func (p *script) ends(episode string, n int, o heal.Outcome) *script {
	p.wait(time.Second)
	p.s, _ = p.s.End(result(failure(episode, n, p.now), o), p.now, p.now)
	return p
}

func TestEveryEpisodeCountsOnce(t *testing.T) {
	p := start()
	var similar []int
	for i := range 6 {
		similar = append(similar, p.sees(fmt.Sprint("e", i), 1).Similar)
	}
	if diff := cmp.Diff(similar, []int{0, 1, 2, 3, 4, 5}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestAnOccurrenceDuringARecoveryCountsNothing(t *testing.T) {
	p := start()
	p.sees("a", 1)
	for n := 2; n <= 5; n++ {
		if got := p.sees("a", n); got.Standing != UnderWay || got.Similar != 0 {
			t.Errorf("occurrence %d: %+v", n, got)
		}
	}
	if got := p.sees("b", 1); got.Standing != Current || got.Similar != 1 {
		t.Errorf("another episode: %+v; want current, with 1 similar", got)
	}
}

func TestAnOccurrenceAfterATryThatDidNotHelpCounts(t *testing.T) {
	for _, o := range []heal.Outcome{heal.Failed, heal.TimedOut} {
		p := start()
		p.sees("a", 1)
		p.ends("a", 1, o)
		var similar []int
		for n := 2; n <= 4; n++ {
			similar = append(similar, p.sees("a", n).Similar)
			p.ends("a", n, o)
		}
		if diff := cmp.Diff(similar, []int{1, 2, 3}); diff != "" {
			t.Errorf("%s (-got +want)\n%s", o, diff)
		}
		if p.s.Failed != 4 {
			t.Errorf("%s: %d failed tries, want 4", o, p.s.Failed)
		}
	}
}

func TestAnOccurrenceAfterWhatWasNoTryOrDidHelpDoesNotCount(t *testing.T) {
	for _, o := range []heal.Outcome{heal.Rejected, heal.Skipped, heal.DryRun, heal.Succeeded} {
		p := start()
		p.sees("a", 1)
		p.ends("a", 1, o)
		got := p.sees("a", 2)
		if got.Standing != Current || got.Similar != 0 || p.s.Failed != 0 {
			t.Errorf("%s: %+v, %d failed tries; want current, nothing similar, 0", o, got, p.s.Failed)
		}
		if n, _ := p.s.History.Within(p.now, window); n != 1 {
			t.Errorf("%s: %d counted, want 1", o, n)
		}
	}
}

func TestAnOccurrenceThatNobodyTriedToCureDoesNotCount(t *testing.T) {
	p := start()
	f := failure("a", 1, p.now)
	s, _ := p.s.Observe(f, p.now, p.now, window)
	p.s = s.Decide(watching(f), p.now, p.now, timeout)
	for n := 2; n <= 4; n++ {
		f := failure("a", n, p.wait(time.Minute).now)
		s, seen := p.s.Observe(f, p.now, p.now, window)
		p.s = s.Decide(watching(f), p.now, p.now, timeout)
		if seen.Standing != Current || seen.Similar != 0 {
			t.Errorf("occurrence %d: %+v", n, seen)
		}
	}
}

func TestAnOccurrenceFromBeforeTheEndOfARecoveryIsHeldEvenIfItComesLate(t *testing.T) {
	p := start()
	p.sees("a", 1)
	before := p.now.Add(time.Second)
	p.ends("a", 1, heal.Failed).wait(time.Minute)
	_, late := p.s.Observe(failure("a", 2, before), before, p.now, window)
	if late.Standing != UnderWay {
		t.Errorf("announced before the end: %+v", late)
	}
	_, after := p.s.Observe(failure("a", 2, p.now), p.now, p.now, window)
	if after.Standing != Current || after.Similar != 1 {
		t.Errorf("announced after the end: %+v", after)
	}
}

func TestARecoveryThatNobodyReportsEndsByTime(t *testing.T) {
	p := start()
	p.sees("a", 1)
	until := p.s.Recovery.Until
	if want := p.now.Add(5*time.Minute + timeout + time.Minute); !until.Equal(want) {
		t.Fatalf("until %s, want %s", until, want)
	}
	p.now = until.Add(-2 * time.Second)
	if got := p.sees("a", 2); got.Standing != UnderWay {
		t.Errorf("before: %+v", got)
	}
	if got := p.sees("a", 3); got.Standing != Current {
		t.Errorf("after: %+v", got)
	}
}

func TestAnotherDecisionsResultIsIgnored(t *testing.T) {
	p := start()
	p.sees("a", 1)
	for _, f := range []heal.Failure{failure("a", 2, noon), failure("b", 1, noon)} {
		next, changed := p.s.End(result(f, heal.Failed), p.now, p.now)
		if changed || next.Failed != 0 || !next.UnderWay(p.now) {
			t.Errorf("the result about %s/%d changed the state", f.EpisodeID, f.Occurrence)
		}
	}
	p.ends("a", 1, heal.Failed)
	if _, changed := p.s.End(result(failure("a", 1, noon), heal.Failed), p.now, p.now); changed {
		t.Error("the same result counted twice")
	}
}

func TestASuccessEndsTheRowOfFailedTries(t *testing.T) {
	p := start()
	p.sees("a", 1)
	p.ends("a", 1, heal.Failed)
	p.sees("a", 2)
	p.ends("a", 2, heal.Succeeded)
	if p.s.Failed != 0 || !p.s.Uncured.IsZero() {
		t.Errorf("%d failed tries, uncured since %s", p.s.Failed, p.s.Uncured)
	}
}

func TestFailedTriesOfLongAgoAreForgotten(t *testing.T) {
	p := start()
	p.sees("a", 1)
	p.ends("a", 1, heal.Failed).wait(memory + time.Minute)
	p.sees("b", 1)
	p.ends("b", 1, heal.Failed)
	if p.s.Failed != 1 {
		t.Errorf("%d failed tries in a row, want 1", p.s.Failed)
	}
}

func TestOvertakenAnnouncementsAreSuperseded(t *testing.T) {
	p := start()
	p.sees("a", 3)
	if got := p.sees("a", 1); got.Standing != Superseded {
		t.Errorf("an older occurrence: %+v", got)
	}
	p.resolves("a")
	if got := p.sees("a", 4); got.Standing != Superseded {
		t.Errorf("an occurrence of what is over: %+v", got)
	}
	p.resolves("b")
	got := p.sees("b", 1)
	if got.Standing != Superseded || !got.New {
		t.Errorf("an occurrence after the end of an episode that was not known: %+v", got)
	}
	if n, _ := p.s.History.Within(p.now, window); n != 2 {
		t.Errorf("%d counted, want each of the 2 episodes once", n)
	}
}

func TestAnAnnouncementIsDecidedOnce(t *testing.T) {
	p := start()
	p.sees("a", 1)
	p.sees("a", 4)
	p.sees("a", 2)
	for _, n := range []int{1, 2, 4} {
		if got := p.sees("a", n); got.Standing != Decided {
			t.Errorf("occurrence %d: %+v", n, got)
		}
	}
	if got := p.sees("a", 3); got.Standing != Superseded {
		t.Errorf("occurrence 3: %+v", got)
	}
}

func TestWhatIsDecidedIsAsASetOfOccurrences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e Episode
		model := map[int]bool{}
		// Few enough not to leave more gaps than are remembered.
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, 2*maxMissed), 0, 30).Draw(t, "occurrences") {
			if got := e.decided(n); got != model[n] {
				t.Fatalf("occurrence %d decided: %v, want %v", n, got, model[n])
			}
			e, model[n] = e.decide(n), true
		}
	})
}

func TestEpisodesBelongToTheIncidentUntilAllOfItIsGone(t *testing.T) {
	p := start()
	first := p.sees("a", 1)
	if want := failure("a", 1, noon).IncidentID(); first.Incident != want {
		t.Fatalf("incident %q, want %q", first.Incident, want)
	}
	p.ends("a", 1, heal.Failed)
	if got := p.sees("b", 1); got.Incident != first.Incident {
		t.Errorf("a second episode is of %s", got.Incident)
	}
	p.resolves("a").resolves("b")
	if p.s.Incident.Closed {
		t.Error("closed while a recovery is under way")
	}
	p.ends("b", 1, heal.Succeeded)
	if !p.s.Incident.Closed {
		t.Error("not closed after its last episode and recovery")
	}
	next := p.sees("c", 1)
	if next.Incident == first.Incident || next.Incident != failure("c", 1, noon).IncidentID() {
		t.Errorf("the next incident is %s, after %s", next.Incident, first.Incident)
	}
	if got := p.sees("a", 2); got.Incident != first.Incident {
		t.Errorf("a late occurrence is of %s, want %s", got.Incident, first.Incident)
	}
}

func TestWhenTheIncidentIsOverANewOneStartsAfresh(t *testing.T) {
	p := start()
	p.sees("a", 1)
	p.ends("a", 1, heal.Failed)
	p.sees("a", 2)
	p.ends("a", 2, heal.Succeeded).resolves("a")
	p.sees("b", 1)
	p.ends("b", 1, heal.Skipped)
	before, _ := p.s.History.Within(p.now, window)
	p.sees("b", 2)
	if after, _ := p.s.History.Within(p.now, window); after != before {
		t.Error("an occurrence counts for a try of an incident that is over")
	}
}

func TestWhatFailsInPlaceOfWhatWasReplacedInVainIsTheSameIncident(t *testing.T) {
	p := start()
	first := p.sees("a", 1)
	p.resolves("a").ends("a", 1, heal.Failed) // its pod is gone, and the next one fails too
	if got := p.sees("b", 1); got.Incident != first.Incident {
		t.Errorf("the replacement's failure is of incident %s, want %s", got.Incident, first.Incident)
	}
	p.ends("b", 1, heal.Skipped)
	before, _ := p.s.History.Within(p.now, window)
	p.sees("b", 2)
	if after, _ := p.s.History.Within(p.now, window); after != before+1 {
		t.Errorf("%d failures in the window, want %d: the try had ended without curing it", after, before+1)
	}
}

func TestAnEpisodeThatFellSilentIsOver(t *testing.T) {
	p := start()
	first := p.sees("a", 1)
	p.ends("a", 1, heal.Failed)
	if p.s.Open(p.now) != 1 {
		t.Error("not open")
	}
	p.wait(memory + time.Minute)
	if p.s.Open(p.now) != 0 {
		t.Error("still open")
	}
	if got := p.sees("b", 1); got.Incident == first.Incident {
		t.Error("it keeps its incident open")
	}
}

func TestResolvedIsKnownOnce(t *testing.T) {
	f := failure("a", 1, noon)
	f.ResolvedAt = noon
	s, changed := State{}.Resolve(f, noon, window)
	if !changed {
		t.Error("the first is no news")
	}
	if _, changed := s.Resolve(f, noon, window); changed {
		t.Error("the second is news")
	}
}

func TestADecisionIsRememberedUntilItIsTold(t *testing.T) {
	f := failure("a", 1, noon)
	s, _ := State{}.Observe(f, noon, noon, window)
	d := acting(f, noon)
	s = s.Decide(d, noon, noon, timeout)

	if got, how := s.Recall(f, noon); how != Remembered || got.ID != d.ID || got.Failure.EpisodeID != f.EpisodeID {
		t.Errorf("recalled %+v, %v", got, how)
	}
	if _, how := s.Recall(f, noon.Add(time.Second)); how != Told {
		t.Error("a copy of the announcement, stored later, would tell it too")
	}
	if _, how := s.Tell([]string{"d-other", d.ID}).Recall(f, noon); how != Told {
		t.Error("still remembered after it was told")
	}
	if _, how := s.Recall(f, noon); how != Remembered {
		t.Error("telling changed the state before")
	}
}

func TestTheDecisionThatIsToBeActedUponOutlivesAStorm(t *testing.T) {
	p := start()
	p.sees("first", 1)
	for i := range 2 * maxUntold {
		p.sees(fmt.Sprint("e", i), 1)
	}
	if len(p.s.Untold) > maxUntold {
		t.Errorf("%d decisions are kept, want at most %d", len(p.s.Untold), maxUntold)
	}
	if p.s.Untold[0].Decision.ID != p.s.Recovery.Decision {
		t.Error("the decision that acts was forgotten before it was told")
	}
	stored := noon.Add(2 * time.Second)
	e0 := failure("e0", 1, stored)
	if _, how := p.s.Recall(e0, stored); how != Forgotten {
		t.Errorf("the first that did not act is recalled as %v, want forgotten", how)
	}
	if _, how := p.s.Tell([]string{heal.MakeDecisionID(e0)}).Recall(e0, stored); how != Told {
		t.Error("still to be told after it was")
	}
}

func TestALateOrFutureTimestampCountsWhereItBelongs(t *testing.T) {
	now := noon.Add(3 * time.Hour)
	tests := []struct {
		name string
		at   heal.Unix
		want int
	}{
		{"just inside the window", heal.Unix{Time: now.Add(-window + time.Second)}, 1},
		{"just outside the window", heal.Unix{Time: now.Add(-window - time.Second)}, 0},
		{"in the future, as a fast clock has it", heal.Unix{Time: now.Add(10 * time.Minute)}, 1},
		{"none", heal.Unix{}, 1},
		{"1970", heal.Unix{Time: time.Unix(0, 0)}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := failure("a", 1, noon)
			f.Timestamp = tt.at
			s, _ := State{}.Observe(f, now, now, window)
			if _, got := s.Observe(failure("b", 1, now), now, now, window); got.Similar != tt.want {
				t.Errorf("%d similar, want %d", got.Similar, tt.want)
			}
		})
	}
}

func TestTheHistoryCountsAsAScanOfEverythingDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := time.Duration(rapid.IntRange(1, 90).Draw(t, "window")) * time.Minute
		var h History
		var all []time.Time
		clock := noon
		for range rapid.IntRange(0, 200).Draw(t, "failures") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, int(w/10)).Draw(t, "pause")))
			// Late by up to a window.
			at := clock.Add(-time.Duration(rapid.IntRange(0, int(w)).Draw(t, "late"))).Truncate(time.Millisecond)
			want := 0
			for _, other := range all {
				if at.Sub(other).Abs() < w {
					want++
				}
			}
			if got, more := h.Within(at, w); got != want || more {
				t.Fatalf("%d within %s of %s (more: %v), want %d", got, w, at, more, want)
			}
			h, all = h.Add(at, w), append(all, at)
		}
	})
}

// TestACountBeyondTheBoundSaysSo compares with a scan of everything, however
// much there is: the count is exact up to the bound, far above any threshold
// of a policy, and more than that is said to be at least that.
func TestACountBeyondTheBoundSaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h History
		var all []time.Time
		at := noon
		for range rapid.IntRange(1, 4).Draw(t, "bursts") {
			at = at.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "pause")) * time.Minute)
			for range rapid.IntRange(1, 3000).Draw(t, "size") {
				at = at.Add(time.Millisecond)
				h, all = h.Add(at, window), append(all, at)
			}
		}
		want := 0
		for _, other := range all {
			if at.Sub(other).Abs() < window {
				want++
			}
		}
		got, more := h.Within(at, window)
		if got != min(want, maxHistory) || more != (want > maxHistory) {
			t.Fatalf("%d, more: %v; want %d of %d", got, more, min(want, maxHistory), want)
		}
	})
}

func TestAHistoryThatIsFullSaysSo(t *testing.T) {
	var h History
	for i := range maxHistory + 10 {
		h = h.Add(noon.Add(time.Duration(i)*time.Millisecond), window)
	}
	if n, more := h.Within(noon.Add(time.Minute), window); n != maxHistory || !more {
		t.Errorf("%d, more: %v; want %d, true", n, more, maxHistory)
	}
	if n, more := h.Within(noon.Add(2*window), window); n != 0 || more {
		t.Errorf("two windows later %d, more: %v; want 0, false", n, more)
	}
}

func TestTransitionsLeaveTheStateBeforeAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := start()
		for range rapid.IntRange(0, 20).Draw(t, "length") {
			before := p.s
			written, err := json.Marshal(before)
			if err != nil {
				t.Fatal(err)
			}
			step(t, p)
			again, err := json.Marshal(before)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(again), string(written)); diff != "" {
				t.Fatalf("(-now +before)\n%s", diff)
			}
		}
	})
}

// step lets anything happen.
func step(t *rapid.T, p *script) {
	episode := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "episode")
	n := rapid.IntRange(1, 4).Draw(t, "occurrence")
	p.wait(time.Duration(rapid.IntRange(0, 600).Draw(t, "pause")) * time.Second)
	switch rapid.SampledFrom([]string{"see", "see", "see", "resolve", "end", "tell"}).Draw(t, "what") {
	case "see":
		p.sees(episode, n)
	case "resolve":
		p.resolves(episode)
	case "end":
		p.s, _ = p.s.End(heal.Result{
			Decision: heal.Decision{ID: p.s.Recovery.Decision},
			Outcome:  rapid.SampledFrom(heal.Outcomes).Draw(t, "outcome"),
		}, p.now, p.now)
	case "tell":
		if len(p.s.Untold) > 0 {
			p.s = p.s.Tell([]string{p.s.Untold[0].Decision.ID})
		}
	}
}

func TestAStateReadsBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := start()
		for range rapid.IntRange(0, 20).Draw(t, "length") {
			step(t, p)
		}
		written, err := json.Marshal(p.s)
		if err != nil {
			t.Fatal(err)
		}
		var got State
		if err := json.Unmarshal(written, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, p.s, cmp.AllowUnexported(History{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-got +want)\n%s", diff)
		}
	})
}

func TestABrokenHistoryIsAnError(t *testing.T) {
	for _, written := range []string{`{"times":[5,-1]}`, `{"times":"x"}`, `[]`} {
		var h History
		if err := json.Unmarshal([]byte(written), &h); err == nil {
			t.Errorf("%s was read as %v", written, h)
		}
	}
}

// TestAnyOrderOfDeliveryLeavesTheSameMemory: a trace of announcements, with
// each delivered several times, and late, leaves what comes next to be judged
// as after the trace in order.
func TestAnyOrderOfDeliveryLeavesTheSameMemory(t *testing.T) {
	type message struct {
		f      heal.Failure
		stored time.Time
	}
	deliver := func(s State, messages []message, now time.Time) (_ State, decisions, current map[string]int) {
		decisions, current = map[string]int{}, map[string]int{} // by id, by episode
		for _, m := range messages {
			if m.f.Resolved() {
				s, _ = s.Resolve(m.f, now, window)
				continue
			}
			next, seen := s.Observe(m.f, m.stored, now, window)
			if seen.Standing == Current {
				current[m.f.EpisodeID] = m.f.Occurrence
			}
			if seen.Standing != Decided {
				next = next.Decide(watching(m.f), m.stored, now, timeout)
				decisions[heal.MakeDecisionID(m.f)]++
			}
			s = next
		}
		return s, decisions, current
	}
	rapid.Check(t, func(t *rapid.T) {
		var trace []message
		at := noon
		for i := range rapid.IntRange(1, 6).Draw(t, "episodes") {
			for n := range rapid.IntRange(1, 4).Draw(t, "occurrences") {
				at = at.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "pause")) * time.Second)
				trace = append(trace, message{failure(fmt.Sprint("e", i), n+1, at), at})
			}
			if rapid.Bool().Draw(t, "resolved") {
				at = at.Add(time.Second)
				f := failure(fmt.Sprint("e", i), 1, at)
				f.ResolvedAt = at
				trace = append(trace, message{f, at})
			}
		}
		shuffled := slices.Clone(trace)
		for _, m := range trace {
			if rapid.Bool().Draw(t, "twice") {
				shuffled = append(shuffled, m)
			}
		}
		shuffled = rapid.Permutation(shuffled).Draw(t, "order")

		now := at.Add(time.Minute)
		sorted, want, _ := deliver(State{}, trace, now)
		mixed, got, last := deliver(State{}, shuffled, now)
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("decisions by id (-shuffled +sorted)\n%s", diff)
		}
		for id, n := range got {
			if n != 1 {
				t.Fatalf("decision %s was made %d times", id, n)
			}
		}
		newest := map[string]int{}
		for _, m := range trace {
			newest[m.f.EpisodeID] = max(newest[m.f.EpisodeID], m.f.Occurrence)
		}
		for _, e := range mixed.Episodes {
			if !e.Resolved && last[e.ID] != newest[e.ID] {
				t.Fatalf("occurrence %d of %s was judged last, want the newest, %d", last[e.ID], e.ID, newest[e.ID])
			}
		}
		if mixed.Open(now) != sorted.Open(now) {
			t.Fatalf("%d open, want %d", mixed.Open(now), sorted.Open(now))
		}
		// Once more, all of it, in order: nothing is decided again.
		again, more, _ := deliver(mixed, trace, now)
		if len(more) > 0 {
			t.Fatalf("decided again: %v", more)
		}
		_, a := sorted.Observe(failure("probe", 1, now), now, now, window)
		_, b := again.Observe(failure("probe", 1, now), now, now, window)
		if a.Similar != b.Similar || a.Standing != b.Standing {
			t.Fatalf("the next failure is %+v, want %+v", b, a)
		}
	})
}

func TestAStateStaysBelowTheBucketsLimit(t *testing.T) {
	long := func(text string, n int) string { return text + strings.Repeat("x", n-len(text)) }
	var s State
	now := noon
	for i := range maxHistory {
		s.History = s.History.Add(now.Add(time.Duration(700*(i-maxHistory))*time.Millisecond), window)
	}
	for i := range 2 * maxEpisodes {
		now = now.Add(700 * time.Millisecond)
		f := failure(long(fmt.Sprint("e", i, "-"), 40), 1+2*(i%9), now)
		f.Fingerprint = long("f", 4000)
		f.Node, f.Metadata = fmt.Sprint("n", i), map[string]string{"pod_template_hash": fmt.Sprint("h", i)}
		next, _ := s.Observe(f, now, now, window)
		s = next
		d := watching(f)
		d.Target = f.Target
		d.IncidentID = f.IncidentID()
		d.Policy = heal.PolicyRef{Name: long("p", 64), Revision: long("sha256:", 71), Rule: "resource_exhaustion/critical"}
		for range 12 {
			d.Guards = append(d.Guards, heal.Verdict{Name: "one_at_a_time", Reason: "RecoveryUnderWay", Detail: long("d", 100)})
		}
		d.Cause = heal.Cause{Kind: heal.CauseDependency, Confidence: 0.95, Evidence: []string{long("e", 300)}}
		d.Parameters = map[string]string{"root": long("r", 150), "root_incident": long("i", 26)}
		d.Explanation.Summary = long("s", 450)
		for range 8 {
			d.Explanation.Steps = append(d.Explanation.Steps, long("s", 140))
		}
		s = s.Decide(d, now, now, timeout)
		if i%3 == 0 {
			s, _ = s.Resolve(f, now, window)
		}
	}
	written, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes: %d episodes, %d times, %d decisions", len(written), len(s.Episodes), len(s.History.times), len(s.Untold))
	if len(s.Episodes) != maxEpisodes || len(s.History.times) != maxHistory || len(s.Untold) != maxUntold || len(s.Faded) != maxFaded {
		t.Error("the state is not as full as it can be")
	}
	if limit := 250 << 10; len(written) > limit {
		t.Errorf("%d bytes, more than %d", len(written), limit)
	}
}

func TestAStateIsForgottenWhenNothingInItMatters(t *testing.T) {
	p := start()
	p.sees("a", 1)
	p.ends("a", 1, heal.Failed).resolves("a")
	told := p.s.Tell([]string{p.s.Untold[0].Decision.ID})
	if told.Forgettable(p.now, window) {
		t.Error("forgotten at once")
	}
	if later := p.now.Add(memory + time.Minute); !told.Forgettable(later, window) {
		t.Error("remembered for ever")
	} else if p.s.Forgettable(later, window) {
		t.Error("a decision that was not told is forgotten")
	}
	if (State{Episodes: []Episode{{ID: "a", Heard: p.now.UnixMilli(), Resolved: true}}}).Forgettable(p.now, window) {
		t.Error("an end that came before its beginning is forgotten at once")
	}
}
