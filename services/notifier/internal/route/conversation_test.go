package route_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// A room is one place whose messages cannot be changed, and what was said
// there of one incident.
type room struct {
	policy   route.Policy
	listener route.Listener
	incident talk.Incident
	now      time.Time
	said     []heal.Phase
}

func newRoom(p route.Policy) *room {
	return &room{
		policy: p, listener: route.Listener{Channel: "slack", To: "#incidents", Audience: route.Incident},
		incident: talk.Incident{ID: "i-1"}, now: noon,
	}
}

// hear takes news in as the service does, and returns the phase before.
func (r *room) hear(n talk.News) (before heal.Phase) {
	before = r.incident.Phase
	if _, again := r.incident.Step(n.ID); again {
		return before
	}
	n.Now = r.now
	next, worth := r.incident.Hear(n)
	c := route.Case{Incident: next, News: n, Worth: worth, Stored: r.now, Now: r.now}
	if r.policy.Decide(r.listener, []route.Listener{r.listener}, c) == route.Tell {
		r.said = append(r.said, next.Phase)
		next.Told = map[string]talk.Told{r.listener.Place(): {Seq: next.Seq, Phase: next.Phase, At: r.now}}
	}
	r.incident = next
	return before
}

// pass lets time go by, and the incident settle if it may.
func (r *room) pass(d time.Duration) (settled bool) {
	r.now = r.now.Add(d)
	n := r.incident.Settle(r.now, time.Duration(r.policy.Group.Settle))
	if n == nil {
		return false
	}
	r.hear(*n)
	if r.incident.Phase.Over() {
		r.incident.Final = nil
	}
	return r.incident.Phase.Over()
}

// A try is one pod that fails, and what is decided about it.
func try(pod, occurrence int, change ...func(*heal.Decision)) talk.News {
	f := sample.At(heal.High, fmt.Sprint(pod)).Decision.Failure
	f.Occurrence = occurrence
	f.Target.UID, f.Target.Name = fmt.Sprintf("u-%d", pod), fmt.Sprintf("cart-%d", pod)
	d := sample.Decision(f, heal.High, heal.Restart)
	d.IncidentID = "i-1"
	for _, c := range change {
		c(&d)
	}
	return talk.News{ID: "decided-" + d.ID, At: noon, Decision: &d}
}

func outcome(of talk.News, o heal.Outcome, reason string) talk.News {
	r := sample.Healed()
	r.Decision, r.Outcome, r.Reason = *of.Decision, o, reason
	if r.Verification = nil; reason == "Verified" {
		r.Verification = &heal.Verification{Passed: true}
	}
	return talk.News{ID: "ended-" + of.Decision.ID, At: noon, Result: &r}
}

func gone(of talk.News) talk.News {
	f := of.Decision.Failure
	f.ResolvedAt = noon.Add(time.Minute)
	return talk.News{ID: "gone-" + f.EpisodeID, At: noon, Over: &f}
}

func givenUp(d *heal.Decision) { d.Strategy, d.Reason = heal.Monitor, heal.ReasonGivenUp }
func asked(d *heal.Decision)   { d.Mode = heal.ModeApprove }

// The image never works: each try takes a pod away, and the next one fails too.
// Whoever cannot be shown each step hears that it began, that a person is
// needed, and the end.
func TestTriesThatDoNotHelpAreOneConversation(t *testing.T) {
	const settle = 5 * time.Minute
	handed := []heal.Phase{heal.PhaseFailed, heal.PhaseGivenUp, heal.PhaseResolved}
	for name, order := range map[string]func(decided, ended, gone talk.News) []talk.News{
		"the pod is gone before the result": func(d, e, g talk.News) []talk.News { return []talk.News{d, g, e} },
		"and after it":                      func(d, e, g talk.News) []talk.News { return []talk.News{d, e, g} },
		"the result before the decision":    func(d, e, g talk.News) []talk.News { return []talk.News{e, d, g} },
		"everything backwards":              func(d, e, g talk.News) []talk.News { return []talk.News{g, e, d} },
		"everything twice":                  func(d, e, g talk.News) []talk.News { return []talk.News{d, d, g, g, e, e} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(policy(t, ""))
			for pod := range 3 {
				d := try(pod, 1)
				for _, n := range order(d, outcome(d, heal.Failed, "NotFixed"), gone(d)) {
					r.hear(n)
					if r.incident.Phase.Over() {
						t.Fatalf("%s after %s", r.incident.Phase, n.ID)
					}
				}
				r.pass(settle - time.Second) // until the next one fails
			}
			last := try(3, 1, givenUp)
			r.hear(last)
			r.hear(outcome(last, heal.Rejected, heal.ReasonGivenUp))
			r.hear(try(3, 2, givenUp))
			r.pass(24 * time.Hour)
			r.hear(gone(last))
			if r.pass(settle-time.Second) || r.incident.Phase != heal.PhaseGivenUp {
				t.Errorf("%s too soon", r.incident.Phase)
			}
			r.pass(time.Second)
			if !slices.Equal(r.said, handed) {
				t.Errorf("said %q, want %q", r.said, handed)
			}
			r.hear(outcome(last, heal.Rejected, heal.ReasonGivenUp)) // late
			if len(r.said) != len(handed) {
				t.Errorf("said %q after the end", r.said[len(handed):])
			}
		})
	}
}

func TestATryThatHelpsEndsWhatOthersDidNot(t *testing.T) {
	r := newRoom(policy(t, ""))
	first, second := try(1, 1), try(2, 1)
	for _, n := range []talk.News{first, gone(first), outcome(first, heal.Failed, "NotFixed"), second, gone(second), outcome(second, heal.Succeeded, "Verified")} {
		r.hear(n)
	}
	if want := []heal.Phase{heal.PhaseFailed, heal.PhaseVerified}; !slices.Equal(r.said, want) || r.pass(time.Hour) {
		t.Errorf("said %q, want %q at once", r.said, want)
	}
}

// A sink of alerts is told of the end of what it knows, and not of each pod's.
func TestASinkOfAlertsHearsOfAnEndWithTheIncidents(t *testing.T) {
	sink := route.Listener{Channel: "alertmanager", Audience: route.Record, Ends: true}
	r := newRoom(policy(t, ""))
	d := try(1, 1)
	hears := func(n talk.News) bool {
		r.hear(n)
		return r.policy.Decide(sink, nil, route.Case{Incident: r.incident, News: n, Stored: r.now, Now: r.now}) == route.Tell
	}
	if !hears(outcome(d, heal.Failed, "NotFixed")) || hears(gone(d)) {
		t.Error("the alert must outlast the pod that a try took away")
	}
	other := gone(try(2, 1))
	other.Over.Fingerprint = "another"
	if !hears(other) {
		t.Error("what failed besides has an alert of its own")
	}
	r.now = r.now.Add(time.Hour)
	if n := r.incident.Settle(r.now, time.Minute); n == nil || !hears(*n) {
		t.Error("the end is not told")
	}
	if alone := newRoom(policy(t, "")); alone.policy.Decide(sink, nil, route.Case{Incident: alone.incident, News: gone(d)}) != route.Tell {
		t.Error("of what nobody decided about the end is told")
	}
}

// A person who approves takes away what is approved of; its end is not the
// incident's.
func TestWhatAPersonApprovedOfEndsWithItsResult(t *testing.T) {
	r := newRoom(policy(t, ""))
	d := try(1, 1, asked)
	for _, n := range []talk.News{d, gone(d)} {
		r.hear(n)
	}
	if r.incident.Phase != heal.PhaseWaiting {
		t.Fatalf("phase %s before the result", r.incident.Phase)
	}
	r.hear(outcome(d, heal.Succeeded, "Verified"))
	if want := []heal.Phase{heal.PhaseWaiting, heal.PhaseVerified}; !slices.Equal(r.said, want) {
		t.Errorf("said %q, want %q", r.said, want)
	}
}

func TestAResultThatNeverComesKeepsNobodyWaitingForEver(t *testing.T) {
	r := newRoom(policy(t, ""))
	d := try(1, 1)
	r.hear(d)
	r.hear(gone(d))
	for range 20 {
		r.pass(5 * time.Minute)
	}
	if r.incident.Phase != heal.PhaseResolved {
		t.Errorf("phase %s after %s", r.incident.Phase, r.now.Sub(noon))
	}
}

// Of a thousand pods not each is remembered; the end waits until nothing is
// heard of any.
func TestTheEndOfVeryManyWaitsUntilNothingIsHeard(t *testing.T) {
	r := newRoom(policy(t, ""))
	watched := func(d *heal.Decision) { d.Strategy = heal.Monitor }
	const pods = 600
	for pod := range pods {
		r.hear(try(pod, 1, watched))
	}
	if n := len(r.incident.Open); n > 256 {
		t.Errorf("%d are remembered", n)
	}
	for pod := range pods - 1 {
		r.hear(gone(try(pod, 1)))
		r.pass(time.Millisecond)
	}
	if r.incident.Phase.Over() {
		t.Fatal("over while one lasts")
	}
	r.hear(try(pods-1, 2, watched)) // which is announced again
	if r.pass(time.Hour) {
		t.Error("settled while one lasts")
	}
	r.hear(gone(try(pods-1, 1)))
	if !r.pass(time.Hour) || r.incident.Phase != heal.PhaseResolved {
		t.Errorf("phase %s at the end", r.incident.Phase)
	}
}

var stories = flag.Int("stories", 1000, "how many made-up incidents are heard; the long run has 1000000")

// Whatever happens, in whatever order it is heard.
func TestNobodyHearsOfAnEndWhileSomethingFails(t *testing.T) {
	p := policy(t, "")
	for seed := range uint64(*stories) {
		story := invent(rand.New(rand.NewPCG(seed, 7)))
		if wrong := play(p, story); wrong != "" {
			t.Fatalf("seed %d: %s\n%s", seed, wrong, storyline(story))
		}
	}
}

func storyline(story []talk.News) (text string) {
	for _, n := range story {
		text += fmt.Sprintf("  %s (%s)\n", n.ID, n.At.Sub(noon))
	}
	return text
}

// invent makes up what happens to an incident: pods fail one after the other or
// together, are tried in vain or not, go away by themselves, are given up. The
// three streams are heard in any order, some of it twice. At says when.
func invent(rng *rand.Rand) []talk.News {
	var story []talk.News
	now := noon
	add := func(n talk.News) {
		n.At = now
		at := len(story)
		for at > 0 && now.Equal(story[at-1].At) && rng.IntN(2) == 0 { // overtakes what came at the same time
			at--
		}
		story = slices.Insert(story, at, n)
		if rng.IntN(10) == 0 {
			story = append(story, n)
		}
	}
	for pod := range 1 + rng.IntN(5) {
		var last talk.News
		for occurrence := range 1 + rng.IntN(2) {
			switch rng.IntN(8) {
			case 0:
				last = try(pod, occurrence+1, givenUp)
				add(last)
				add(outcome(last, heal.Rejected, heal.ReasonGivenUp))
			case 1:
				last = try(pod, occurrence+1, func(d *heal.Decision) { d.Strategy = heal.Monitor })
				add(last)
				add(outcome(last, heal.Skipped, "Monitor"))
			case 2:
				last = try(pod, occurrence+1, func(d *heal.Decision) { d.Strategy, d.Reason = heal.Monitor, heal.ReasonRecoveryUnderWay })
				add(last)
				add(outcome(last, heal.Skipped, heal.ReasonRecoveryUnderWay))
			default:
				if last = try(pod, occurrence+1); rng.IntN(4) == 0 {
					last = try(pod, occurrence+1, asked)
				}
				add(last)
				switch rng.IntN(7) {
				case 0:
					add(outcome(last, heal.Succeeded, "Verified"))
				case 1:
					add(outcome(last, heal.Succeeded, "Done"))
				case 2:
					add(outcome(last, heal.Skipped, heal.ReasonRecovered))
				case 3:
					add(outcome(last, heal.Rejected, "EvictionRefused"))
				case 4:
					add(outcome(last, heal.DryRun, "DryRun"))
				default:
					add(outcome(last, heal.Failed, "NotFixed"))
				}
			}
			if rng.IntN(2) == 0 {
				now = now.Add(time.Duration(rng.IntN(4)) * time.Minute)
			}
		}
		if rng.IntN(3) > 0 {
			add(gone(last))
		}
		if rng.IntN(3) == 0 {
			now = now.Add(time.Duration(rng.IntN(20)) * time.Minute)
		}
	}
	return story
}

// A truth is what is known to fail and to be done, as far as was heard.
type truth struct {
	fails    map[string]bool // by episode; false: it is over
	underWay map[string]bool // by decision; false: it has a result
	doubt    bool            // the last try did not help
}

func (k *truth) hear(n talk.News) {
	f := n.Failure()
	if _, known := k.fails[f.EpisodeID]; !known {
		k.fails[f.EpisodeID] = n.Over == nil
	}
	switch {
	case n.Over != nil:
		k.fails[f.EpisodeID] = false
	case n.Decision != nil:
		if _, known := k.underWay[n.Decision.ID]; !known {
			k.underWay[n.Decision.ID] = n.Decision.Acts()
		}
	case n.Result != nil:
		if ended, known := k.underWay[n.Result.Decision.ID]; known && !ended {
			return // it came before its decision, or twice
		}
		k.underWay[n.Result.Decision.ID] = false
		switch {
		case talk.Proven(*n.Result):
			k.fails[f.EpisodeID], k.doubt = false, false
		case n.Result.Reason == heal.ReasonRecovered:
			k.fails[f.EpisodeID] = false
		case n.Result.Outcome == heal.Failed:
			k.doubt = true
		}
	}
}

func (k *truth) lasts() string {
	for what, all := range map[string]map[string]bool{"fails": k.fails, "is under way": k.underWay} {
		for id, yes := range all {
			if yes {
				return id + " " + what
			}
		}
	}
	return ""
}

// play has the story heard, and returns what was said wrongly.
func play(p route.Policy, story []talk.News) string {
	r := newRoom(p)
	known := truth{fails: map[string]bool{}, underWay: map[string]bool{}}
	chapter := 0 // where in r.said the present one began
	check := func(settled bool) string {
		for chapter < len(r.said) && r.said[len(r.said)-1].Over() {
			said := r.said[chapter:]
			chapter = len(r.said)
			if what := known.lasts(); what != "" {
				return fmt.Sprintf("said %q while %s", said, what)
			}
			if known.doubt && !settled {
				return fmt.Sprintf("said %q right after a try that did not help", said)
			}
			for i, phase := range said {
				if slices.Contains(said[:i], phase) || phase.Over() && i < len(said)-1 {
					return fmt.Sprintf("said %q in one conversation", said)
				}
			}
		}
		return ""
	}
	for i, n := range story {
		if i > 0 {
			if settled := r.pass(n.At.Sub(story[i-1].At)); settled {
				if wrong := check(true); wrong != "" {
					return wrong
				}
				known.doubt = false
			}
		}
		known.hear(n)
		before := r.hear(n)
		if over := r.incident.Phase.Over() && !before.Over(); over {
			if what := known.lasts(); what != "" {
				return fmt.Sprintf("%s after %s while %s", r.incident.Phase, n.ID, what)
			}
			if known.doubt {
				return fmt.Sprintf("%s right after %s, although a try did not help", r.incident.Phase, n.ID)
			}
		}
		if wrong := check(false); wrong != "" {
			return wrong
		}
		if r.incident.Phase.Over() {
			known.doubt = false
		}
	}
	// In the end everything goes away, and everybody who heard of it hears so.
	for episode, lasts := range known.fails {
		if !lasts {
			continue
		}
		for _, n := range story {
			if n.Over == nil && n.Failure().EpisodeID == episode {
				f := n.Failure()
				f.ResolvedAt = r.now
				r.hear(talk.News{ID: "gone-" + episode, At: r.now, Over: &f})
				break
			}
		}
	}
	r.pass(2 * time.Hour)
	r.pass(2 * time.Hour)
	if len(r.said) > 0 && !r.said[len(r.said)-1].Over() {
		return fmt.Sprintf("said %q, and never the end; phase %s", r.said, r.incident.Phase)
	}
	return ""
}
