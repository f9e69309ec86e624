package guard

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
)

// flapping leaves alone what comes and goes: it would be well for a moment
// without us too, and nobody could tell what helped.
func flapping(in Input) heal.Verdict {
	if n := in.Failure.Metadata[heal.MetadataFlapping]; n != "" {
		return veto("Flapping", fmt.Sprintf("it ended and began again %s times of late", heal.Clean(n, 16)))
	}
	return allow("it does not come and go")
}
