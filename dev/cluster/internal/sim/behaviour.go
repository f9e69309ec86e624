package sim

import (
	"regexp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Behaviour is how a container fares: a word, and for some a number.
type Behaviour struct {
	Kind  string
	Code  int32             // of exit-CODE
	Times int32             // of crash-times-N
	Needs resource.Quantity // of oom-needs-MEMORY and grows-to-MEMORY
}

// The behaviours. Every word is looked for in the image reference, at the start of a word: "api:broken-v2" is
// broken, "room" is not oom.
const (
	Good             = "good"
	Broken           = "broken"
	Crash            = "crash"
	CrashTimes       = "crash-times" // crash-times-3: crashes three times, then is good
	Exit             = "exit"        // exit-127
	OOM              = "oom"
	OOMNeeds         = "oom-needs" // oom-needs-256Mi: good once its memory limit is that high, or gone
	GrowsTo          = "grows-to"  // grows-to-256Mi: the same, but it is good for a while after each start
	Missing          = "missing"
	NotFound         = "notfound"
	InvalidImage     = "invalid-image"
	ConfigError      = "config-error"
	Unready          = "unready"
	Liveness         = "liveness"
	StuckCreating    = "stuck-creating"
	StuckTerminating = "stuck-terminating"
	Complete         = "complete"
	Evicted          = "evicted"
)

// The more particular word comes first where one begins with another.
var behaviourWords = regexp.MustCompile(`(?:^|[^a-zA-Z0-9])(?:` +
	`(crash-times)-(\d+)|(oom-needs|grows-to)-(\d+(?:[KMG]i?)?)|(exit)-(\d+)|` +
	`(invalid-image|config-error|stuck-creating|stuck-terminating|missing|notfound|unready|liveness|broken|crash|oom|complete|evicted))`)

// behaviourOf reads the behaviour from an image reference or from AnnotationBehaviour.
func behaviourOf(text string) Behaviour {
	m := behaviourWords.FindStringSubmatch(text)
	switch {
	case m == nil:
		return Behaviour{Kind: Good}
	case m[1] != "":
		n, _ := strconv.ParseInt(m[2], 10, 32) // out of range: as often as can be
		return Behaviour{Kind: CrashTimes, Times: int32(n)}
	case m[3] != "":
		needs, err := resource.ParseQuantity(m[4])
		if err != nil {
			return Behaviour{Kind: OOM}
		}
		return Behaviour{Kind: m[3], Needs: needs}
	case m[5] != "":
		n, _ := strconv.ParseInt(m[6], 10, 32)
		return Behaviour{Kind: Exit, Code: int32(n)}
	}
	return Behaviour{Kind: m[7]}
}

// fate is what a behaviour means for one container as it is now.
type fate struct {
	ready  bool
	exits  bool
	after  time.Duration // exits: since it was started
	code   int32
	reason string
}

func fateOf(t Timing, b Behaviour, c *corev1.Container, restarts int32) fate {
	crash := func(code int32, reason string) fate {
		// Never ready before it crashes: a roll-out would count the first moment as success.
		return fate{exits: true, after: t.CrashDelay, code: code, reason: reason}
	}
	switch b.Kind {
	case Broken, Crash:
		return crash(1, "Error")
	case Exit:
		if b.Code == 0 {
			return crash(0, "Completed")
		}
		return crash(b.Code, "Error")
	case Complete:
		return crash(0, "Completed")
	case CrashTimes:
		if restarts < b.Times {
			return crash(1, "Error")
		}
	case OOM:
		return crash(137, "OOMKilled")
	case OOMNeeds:
		if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; ok && limit.Cmp(b.Needs) < 0 {
			return crash(137, "OOMKilled")
		}
	case GrowsTo:
		if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; ok && limit.Cmp(b.Needs) < 0 {
			return fate{ready: true, exits: true, after: t.GrowTime, code: 137, reason: "OOMKilled"}
		}
	case Liveness:
		return fate{ready: true, exits: true, after: t.LivenessPeriod, code: 137, reason: "Error"}
	case Unready:
		return fate{}
	}
	return fate{ready: true}
}

// starts reports whether a container of this behaviour can run at all.
func (b Behaviour) starts() bool {
	switch b.Kind {
	case Missing, NotFound, InvalidImage, ConfigError, StuckCreating:
		return false
	}
	return true
}
