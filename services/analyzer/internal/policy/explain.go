package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An Account is how a decision came about.
type Account struct {
	Decision heal.Decision // all of it but the explanation
	Window   time.Duration
	AtLeast  bool          // there are more similar failures than could be counted
	Instead  heal.Severity // the severity of its type, if it is only a record; "" otherwise
	Critical bool          // the watcher says that it should wake somebody
	Ruled    []string      // what the rules say
	Woken    string        // what it waited for and is back, if that is why it is judged before it is announced; "" otherwise
	Tried    string        // what was tried before against the same cause; "" if nothing was
	Held     string        // why the table was not asked; "" if it was
	Table    heal.Strategy // what it said
	Refined  []string      // how that was refined
}

// Explain puts an account into words that a person can follow without the code.
func Explain(a Account) heal.Explanation {
	d := a.Decision
	steps := []string{
		fmt.Sprintf("base severity of %s is %s", d.Type, d.BaseSeverity),
		fmt.Sprintf("%s in %s: %s", a.similar(), a.Window, d.Severity),
	}
	if a.Instead != "" {
		steps[0] = fmt.Sprintf("base severity of %s is %s, but %s is only a record of what is not broken: %s, however often it comes",
			d.Type, a.Instead, heal.Clean(d.Failure.Reason, 64), d.BaseSeverity)
	}
	if a.Critical {
		steps = append(steps, "the watcher calls it critical")
	}
	if a.Woken != "" {
		steps = append(steps, a.Woken+" is well again: judged at once, and not only at the next announcement")
	}
	if d.Cause.Kind != heal.CauseUnknown {
		cause := fmt.Sprintf("cause is %s (confidence %.2f)", d.Cause.Kind, d.Cause.Confidence)
		evidence := strings.Join(d.Cause.Evidence, "; ")
		if evidence != "" && !strings.Contains(strings.Join(a.Refined, "\n"), evidence) {
			cause += ": " + evidence
		}
		steps = append(steps, cause)
	}
	steps = append(steps, a.Ruled...)
	if a.Tried != "" {
		steps = append(steps, "tried before: "+a.Tried)
	}
	if a.Held != "" {
		steps = append(steps, fmt.Sprintf("%s: %s", a.Held, d.Strategy))
	} else {
		steps = append(steps, fmt.Sprintf("%s: %s", d.Policy.Rule, a.Table))
		steps = append(steps, a.Refined...)
	}
	veto := ""
	for _, v := range d.Guards {
		if v.Allowed {
			continue
		}
		steps = append(steps, fmt.Sprintf("guard %s vetoes %s (%s): %s", v.Name, d.Strategy, v.Reason, v.Detail))
		if veto == "" {
			veto = v.Detail
		}
	}
	if d.Strategy != heal.Monitor {
		switch d.Mode {
		case heal.ModeObserve, heal.ModeOff:
			steps = append(steps, fmt.Sprintf("mode is %s: nothing is done", d.Mode))
		case heal.ModeApprove:
			if veto == "" {
				steps = append(steps, "mode is approve: done once a person agrees")
			}
		}
	}
	return heal.Explanation{Summary: a.summary(veto), Steps: steps}
}

// similar counts in words.
func (a Account) similar() string {
	n := a.Decision.SimilarFailures
	text := fmt.Sprintf("%d similar failures", n)
	if n == 1 {
		text = "1 similar failure"
	}
	if a.AtLeast {
		text = "at least " + text
	}
	return text
}

func (a Account) summary(veto string) string {
	d := a.Decision
	what := fmt.Sprintf("%s (%s, severity %s, %s)", d.Target, heal.Clean(d.Failure.Reason, 64), d.Severity, a.similar())
	switch {
	case a.Held != "":
		return fmt.Sprintf("Only watch %s: %s.", what, a.Held)
	case d.Strategy == heal.Monitor && len(a.Refined) > 0:
		return fmt.Sprintf("Only watch %s: %s.", what, a.Refined[len(a.Refined)-1])
	case d.Strategy == heal.Monitor:
		return fmt.Sprintf("Only watch %s: the policy asks for no more.", what)
	case veto != "":
		return fmt.Sprintf("Do not carry out %s for %s: %s.", d.Strategy, what, veto)
	case d.Mode == heal.ModeApprove:
		return fmt.Sprintf("Carry out %s for %s once a person agrees.", d.Strategy, what)
	case d.Mode != heal.ModeAuto:
		return fmt.Sprintf("Would carry out %s for %s, but the mode is %s.", d.Strategy, what, d.Mode)
	}
	return fmt.Sprintf("Carry out %s for %s.", d.Strategy, what)
}
