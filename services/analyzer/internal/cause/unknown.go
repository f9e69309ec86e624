package cause

import "github.com/selfheal/selfheal/pkg/heal"

// unknown is the cause while nothing speaks for another. It says so with no
// confidence, so that anything else wins over it.
func unknown(Facts) heal.Cause { return heal.Cause{Kind: heal.CauseUnknown} }
