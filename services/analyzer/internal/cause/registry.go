package cause

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
)

// outageFrom is from how many owners on, whose images cannot be reached at the
// same time, it is the registry and not the image.
const outageFrom = 3

// registry is the cause when an image cannot be fetched. One that is not there
// is the fault of whoever named it, and often of a roll-out; one that cannot
// be reached, of the registry or the way to it.
func registry(f Facts) heal.Cause {
	why := f.Failure.Metadata["pull_error"]
	if why == "" {
		return heal.Cause{}
	}
	others := map[string]bool{f.Failure.Affected().String(): true}
	for _, e := range f.Around.Registry.Going(f.Now) {
		if e.Detail == why {
			others[e.Object] = true
		}
	}
	c := heal.Cause{Kind: heal.CauseRegistry}
	n := len(others)
	switch why {
	case "registry_unreachable", "rate_limited":
		c.Confidence = 0.96 // a roll-back would only pull another image from there
		c.Evidence = []string{map[string]string{
			"registry_unreachable": "the registry cannot be reached",
			"rate_limited":         "the registry takes no more pulls for now",
		}[why]}
		if n >= outageFrom {
			c.Confidence = 0.98
			c.Evidence = append(c.Evidence, fmt.Sprintf("so it is for %d owners at once: an outage, and nothing about this image", n))
		}
	case "unauthorized":
		c.Confidence = 0.96
		c.Evidence = []string{"the registry does not let us have the image (unauthorized): its pull secret must be looked at"}
	case "not_found":
		c.Confidence = 0.7
		c.Evidence = []string{"there is no such image in its registry (not_found)"}
	default:
		c.Confidence = 0.4
		c.Evidence = []string{"the image cannot be pulled, for a reason that is not known"}
	}
	return c
}
