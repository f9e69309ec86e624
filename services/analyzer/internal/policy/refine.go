package policy

import "github.com/selfheal/selfheal/pkg/heal"

// A Case is all that a refinement may know.
type Case struct {
	Failure  heal.Failure
	Severity heal.Severity
	Similar  int // failures in the window, this one not counted
	Cause    heal.Cause
}

// A refinement is a reason to depart from what the table says. It returns the
// better strategy and a clause that says why, or false.
type refinement struct {
	reason string // CamelCase, stable: the decision's reason if it applies
	refine func(Case, heal.Strategy) (better heal.Strategy, why string, applies bool)
}

// refinements is every refinement, in the order in which they are asked. Each
// sees what the ones before it made of the strategy.
var refinements = []refinement{
	proofOfDeath,
	restartNeverCures,
	badCommand,
	outOfMemory,
	pressure,
	nothingAvailable,
}

// A Choice is a strategy and how it came about.
type Choice struct {
	Strategy heal.Strategy
	Reason   string // of the last refinement, or ReasonSeverityTable
	Steps    []string
}

// Refine returns what becomes of the table's strategy in this case.
func Refine(c Case, table heal.Strategy) Choice {
	choice := Choice{Strategy: table, Reason: heal.ReasonSeverityTable}
	for _, r := range refinements {
		better, why, applies := r.refine(c, choice.Strategy)
		if !applies {
			continue
		}
		choice.Steps = append(choice.Steps, why+": "+string(better)+" instead of "+string(choice.Strategy))
		choice.Strategy, choice.Reason = better, r.reason
	}
	return choice
}
