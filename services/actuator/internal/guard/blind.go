package guard

import "github.com/selfheal/selfheal/pkg/heal"

// blind refuses while the watchers doubt what they see. The target itself was
// read live and is broken; but when most of a cluster looks broken, or the one
// who tells us of it cannot trust his eyes, a recovery adds to the trouble.
// Nobody who says how well he sees is as bad as one who says that he does not.
var blind = Guard{Name: "blind", Judge: func(f Facts) Verdict {
	switch s := f.Sight; {
	case s.Clear:
		return Allow("%s", s.Detail)
	case s.Reason != "":
		return Veto(s.Reason, "%s", s.Detail)
	}
	return Veto(heal.ReasonBlind, "nobody has said how well the watchers see")
}}
