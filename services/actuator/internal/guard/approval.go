package guard

import "github.com/selfheal/selfheal/pkg/heal"

// approval refuses what a person has to agree to first, be it by the decision's
// mode or by a mark.
var approval = Guard{Name: "approval", Judge: func(f Facts) Verdict {
	mode, carrier, _ := tightest(f.Mode, marked(f))
	switch {
	case mode != heal.ModeApprove:
		return Allow("nobody has to agree")
	case f.Approved:
		return Allow("a person has agreed")
	case carrier.Annotations != nil:
		return Veto(ApprovalNeeded, "%s carries %s: approve", carrier, heal.AnnotationMode)
	}
	return Veto(ApprovalNeeded, "the mode is approve")
}}

// ApprovalNeeded is the reason of the guard approval. It does not end a
// decision, but makes it wait for a person.
const ApprovalNeeded = "ApprovalNeeded"
