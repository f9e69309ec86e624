package incident

import (
	"maps"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// sample is what is kept of an announcement; nil if that is too much.
func sample(f heal.Failure, stored time.Time) *Sample {
	f.Envelope = heal.Envelope{}
	f.Evidence = slices.Clone(f.Evidence[:min(len(f.Evidence), maxEvidence)])
	f.Description, f.Metadata = heal.Clean(f.Description, heal.MaxText), maps.Clone(f.Metadata)
	size := len(f.Fingerprint)
	for i, e := range f.Evidence {
		f.Evidence[i].Value = heal.Clean(e.Value, heal.MaxText)
		size += len(e.Path) + len(f.Evidence[i].Value)
	}
	for key, value := range f.Metadata {
		f.Metadata[key] = heal.Clean(value, heal.MaxText)
		size += len(key) + len(f.Metadata[key])
	}
	if size > maxSample {
		return nil
	}
	return &Sample{Stored: stored, Failure: f}
}

// remember adds a decision to the course. What is decided again and again, and
// does not act, is one entry, and goes before what acted does.
func remember(course []heal.Deed, d heal.Decision, now time.Time) []heal.Deed {
	next := heal.Deed{
		DecisionID: d.ID, At: now.UTC(), Strategy: d.Strategy, Severity: d.Severity, Mode: d.Mode, Reason: d.Reason, Acts: d.Acts(),
	}
	if next.Acts {
		next.Until = d.Expires
	}
	course = slices.Clone(course)
	if n := len(course); n > 0 && !next.Acts && alike(course[n-1], next) {
		next.Times = max(1, course[n-1].Times) + 1
		course[n-1] = next
		return course
	}
	course = append(course, next)
	if len(course) > maxCourse {
		i := max(0, slices.IndexFunc(course, func(d heal.Deed) bool { return !d.Acts }))
		if i == len(course)-1 {
			i = 0
		}
		course = slices.Delete(course, i, i+1)
	}
	return course
}

func alike(a, b heal.Deed) bool {
	return !a.Acts && a.Strategy == b.Strategy && a.Severity == b.Severity && a.Mode == b.Mode && a.Reason == b.Reason
}

// ended is the course with the result of one of its decisions.
func ended(course []heal.Deed, r heal.Result, at time.Time) []heal.Deed {
	course = slices.Clone(course)
	for i := range course {
		if d := &course[i]; d.DecisionID == r.Decision.ID {
			d.Ended, d.Outcome, d.Result, d.Message = at.UTC(), r.Outcome, heal.Clean(r.Reason, 64), heal.Clean(r.Message, heal.MaxText)
		}
	}
	return course
}

// thin keeps the samples of the states that were active last.
func (g Group) thin() {
	var with []string
	for key, s := range g.States {
		if s.Sample != nil {
			with = append(with, key)
		}
	}
	if len(with) <= maxSamples {
		return
	}
	slices.SortFunc(with, func(a, b string) int {
		if c := g.States[b].Sample.Stored.Compare(g.States[a].Sample.Stored); c != 0 {
			return c
		}
		if a < b {
			return -1
		}
		return 1
	})
	for _, key := range with[maxSamples:] {
		s := g.States[key]
		s.Sample = nil
		g.States[key] = s
	}
}
