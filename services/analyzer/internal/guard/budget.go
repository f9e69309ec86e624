package guard

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// A Spending is how much of a rule's budget other decisions have used.
type Spending struct {
	Rule string
	policy.Budget
	Used int
}

// budget keeps to what the rule that counts may set off, in the whole cluster.
func budget(in Input) heal.Verdict {
	b := in.Budget
	switch {
	case b.Rule == "":
		return allow("no rule sets a budget for it")
	case b.Used >= b.Actions:
		return veto("RuleBudget", fmt.Sprintf("rule %q may set off %s, and has", b.Rule, b.Budget))
	}
	return allow(fmt.Sprintf("rule %q has set off %d of %s", b.Rule, b.Used, b.Budget))
}

// PaidBy is the rule of whose budget a decision with these verdicts takes;
// empty if there is none.
func PaidBy(verdicts []heal.Verdict) string {
	var rule string
	for _, v := range verdicts {
		if v.Name == "budget" && v.Allowed {
			_, _ = fmt.Sscanf(v.Detail, "rule %q has set off", &rule) // of another detail, nothing
		}
	}
	return rule
}
