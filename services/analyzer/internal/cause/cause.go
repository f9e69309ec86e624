// Package cause says what broke the target of a failure, as far as the facts
// tell. It is pure: it touches nothing but its arguments.
//
// To add a cause, write it in a file of its own and list it in causes below;
// nothing else changes, except that Facts grows by what it has to look at.
package cause

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// Facts are all that a cause may know.
type Facts struct {
	Failure heal.Failure
	Group   incident.Group // of the failure's owner, with this announcement in it
	Around  incident.Around
	Now     time.Time
}

// A cause looks for one kind of trouble. It returns what speaks for it, with a
// confidence above 0, or the zero Cause.
type cause func(Facts) heal.Cause

// causes is every cause. The most confident is believed, of equals the first;
// unknown stands first, as the one that always has something to say.
var causes = []cause{
	unknown,
	rollout,
	config,
	registry,
	capacity,
	dependency,
	node,
}

// Find returns the cause that the facts speak for most.
func Find(f Facts) heal.Cause {
	var best heal.Cause
	for _, c := range causes {
		if found := c(f); best.Kind == "" || found.Confidence > best.Confidence {
			best = found
		}
	}
	return best
}

// number is a whole number of the failure's metadata.
func number(f heal.Failure, key string) (int, bool) {
	n, err := strconv.Atoi(f.Metadata[key])
	return n, err == nil && n >= 0
}

// words is all that the failure says in words of others.
func words(f heal.Failure) string {
	all := []string{f.Description}
	for _, e := range f.Evidence {
		all = append(all, e.Value)
	}
	return strings.ToLower(strings.Join(all, "\n"))
}

// rounded is a confidence as people write it.
func rounded(c float64) float64 { return math.Round(min(c, 0.95)*100) / 100 }
