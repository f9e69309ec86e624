package guard

import "github.com/selfheal/selfheal/pkg/heal"

// blind holds everything back while the watchers doubt what they see: what
// looks like a failure then may be none, and what looks like many are often
// the same broken pair of eyes. It fails closed: nobody who says how well he
// sees is as bad as one who says that he does not.
func blind(in Input) heal.Verdict {
	switch s := in.Sight; {
	case s.Clear:
		return allow(s.Detail)
	case s.Reason != "":
		return veto(s.Reason, s.Detail)
	}
	return veto(heal.ReasonBlind, "nobody has said how well the watchers see")
}
