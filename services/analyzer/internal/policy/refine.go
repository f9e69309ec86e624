package policy

import (
	"fmt"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Case is all that a refinement may know.
type Case struct {
	Failure  heal.Failure
	Severity heal.Severity
	Similar  int // failures in the window, this one not counted
	Cause    heal.Cause
	Back     string          // the dependency that it waited for, and that is back; "" for none
	Ruled    bool            // the strategy is that of a rule, which knows better than any cause
	InVain   []heal.Strategy // tried often enough against this cause, and never helped
}

// A refinement is a reason to depart from what the table says. It returns the
// better strategy, the decision's reason if it applies (CamelCase, stable) and
// a clause that says why; or false.
type refinement func(Case, heal.Strategy) (better heal.Strategy, reason, why string, applies bool)

// refinements is every refinement, in the order in which they are asked. Each
// sees what the ones before it made of the strategy. What the cause asks for
// is asked first, and what it chose is not judged by the symptom any more:
// a roll-back cures what no restart does.
var refinements = []refinement{
	outOfMemory,
	byRemedy,
	badCommand,
	inVain,
}

// A Choice is a strategy and how it came about.
type Choice struct {
	Strategy heal.Strategy
	Reason   string // of the last refinement, or ReasonSeverityTable
	Steps    []string
	OnOwner  bool // it is carried out on the failure's owner, and not on its target
}

// Refine returns what becomes of the table's strategy in this case.
func Refine(c Case, table heal.Strategy) Choice {
	choice := Choice{Strategy: table, Reason: heal.ReasonSeverityTable}
	if table != heal.Monitor && !slices.Contains(choices(c.Failure.Type), table) && c.Ruled {
		return Choice{Strategy: heal.Monitor, Reason: "RuleDoesNotFit", Steps: []string{
			fmt.Sprintf("%s is no strategy for a %s: monitor instead of %s", table, c.Failure.Type, table)}}
	}
	if table != heal.Monitor && !c.Ruled { // what is not acted upon whatever its cause, stays so
		if cured, ok := byCause(c, table); ok {
			return cured
		}
	}
	for _, refine := range refinements {
		better, reason, why, applies := refine(c, choice.Strategy)
		if !applies {
			continue
		}
		choice.Steps = append(choice.Steps, why+": "+string(better)+" instead of "+string(choice.Strategy))
		choice.Strategy, choice.Reason = better, reason
	}
	return choice
}

// inVain leaves out a strategy that was tried against the same cause and never
// helped: the next one of the ladder is taken, or none.
func inVain(c Case, s heal.Strategy) (heal.Strategy, string, string, bool) {
	if s == heal.Monitor || !slices.Contains(c.InVain, s) {
		return s, "", "", false
	}
	why := "it was tried against this cause before, and never helped"
	var harder []heal.Strategy
	if ladder := ladders[c.Failure.Type]; slices.Contains(ladder, s) {
		harder = ladder[slices.Index(ladder, s)+1:]
	}
	for _, next := range harder {
		if slices.Contains(c.InVain, next) {
			continue
		}
		if better, _, _, refused := byRemedy(c, next); refused {
			next = better
		}
		if next != heal.Monitor {
			return next, reasonNeverHelped, why, true
		}
	}
	return heal.Monitor, reasonNeverHelped, why + ", and nothing else is left to try: a person must look", true
}

const reasonNeverHelped = "NeverHelped"

// ladders are the strategies of each type, mildest first.
var ladders = map[heal.FailureType][]heal.Strategy{
	heal.PodFailure:         podStrategies,
	heal.NodeFailure:        nodeStrategies,
	heal.DeploymentFailure:  workloadStrategies,
	heal.ServiceFailure:     serviceStrategies,
	heal.ResourceExhaustion: {heal.Resize, heal.Relieve},
}
