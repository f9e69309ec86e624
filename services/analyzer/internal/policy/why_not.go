package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// WhyNot says, as a clause, why a strategy is not the one that was chosen for a
// case, of a failure that is judged as of a type.
func (p Policy) WhyNot(c Case, t heal.FailureType, severity heal.Severity, chosen Choice, s heal.Strategy) string {
	if s == chosen.Strategy {
		if len(chosen.Steps) > 0 {
			return "it is chosen: " + strings.Join(chosen.Steps, "; ")
		}
		return fmt.Sprintf("it is chosen: what the policy asks for at severity %s", severity)
	}
	if !slices.Contains(choices(t), s) && !slices.Contains(remedies[symptom{t, c.Failure.Reason}].may, s) {
		return fmt.Sprintf("it is no strategy for a %s, and no number of failures leads from one kind to another", t)
	}
	if c.Failure.Type == t { // else the case is about what its owner's pods suffer from
		for _, refine := range refinements {
			if better, _, why, applies := refine(c, s); applies && better != s {
				return why
			}
		}
	}
	if len(chosen.Steps) > 0 && chosen.Reason != heal.ReasonSeverityTable {
		return strings.Join(chosen.Steps, "; ")
	}
	var at []string
	for _, row := range heal.Severities {
		if p.doc.Strategy[t][row] == s {
			at = append(at, string(row))
		}
	}
	switch {
	case c.Ruled:
		return "a rule of the policy asks for another"
	case len(at) == 0:
		return fmt.Sprintf("the policy asks for it at no severity of %s", t)
	}
	return fmt.Sprintf("the policy asks for it at severity %s; this is %s", strings.Join(at, " or "), severity)
}

// Ladder is every strategy that fits failures of a type, mildest first.
func Ladder(t heal.FailureType) []heal.Strategy { return choices(t) }
