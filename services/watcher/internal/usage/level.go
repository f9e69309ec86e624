package usage

import "github.com/selfheal/selfheal/services/watcher/internal/detect"

const (
	// polls is how often in a row too much must be used before that counts.
	polls = 2
	// calm is how many per cent below the threshold it must be to be over.
	calm = 5
)

// A level is how much is used of one thing, at the last poll, and since when
// that is too much.
type level struct {
	detect.Usage
	above int  // polls in a row at or above the threshold
	high  bool // it counts
}

// after is the level after a poll, and whether it is worth remembering.
func (l level) after(u detect.Usage, threshold int) (level, bool) {
	percent := 0.0
	if u.Of > 0 {
		percent = float64(u.Used) / float64(u.Of) * 100
	}
	next := level{Usage: u}
	switch {
	case percent >= float64(threshold):
		next.above = l.above + 1
		next.high = l.high || next.above >= polls
	case l.high && percent >= float64(threshold-calm):
		next.high = true
	}
	return next, next.above > 0 || next.high
}

// high is what counts.
func (l levels) high() map[string]detect.Usage {
	var all map[string]detect.Usage
	for part, one := range l {
		if one.high {
			if all == nil {
				all = map[string]detect.Usage{}
			}
			all[part] = one.Usage
		}
	}
	return all
}
