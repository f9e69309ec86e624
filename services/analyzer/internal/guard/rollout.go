package guard

import (
	"cmp"
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
)

// rollout leaves pods of an older revision to the roll-out that is replacing
// them.
func rollout(in Input) heal.Verdict {
	revision, newest := in.Failure.Metadata["revision"], in.Failure.Metadata["newest_revision"]
	switch {
	case in.Failure.Type != heal.PodFailure || revision == "" || newest == "":
		return allow("no roll-out of it is known")
	case revision != newest && cmp.Or(in.Target.Kind, "Pod") == "Pod":
		return veto("RolloutUnderWay", fmt.Sprintf("it is of revision %s, which a roll-out of revision %s is replacing", heal.Clean(revision, 64), heal.Clean(newest, 64)))
	}
	return allow(fmt.Sprintf("it is of the newest revision (%s)", heal.Clean(newest, 64)))
}
