// Package timeline tells what happens on the bus in plain words: what was
// seen, why what was decided, what was done, whether it helped, and who was
// told. Turning messages into lines is a pure function of the messages before;
// the order of lines follows the times in the messages, as the streams promise
// an order only within each of them.
package timeline

import (
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A Stage is one of the five columns of the timeline.
type Stage int

// The stages of the pipeline as a person follows them, and Aside for what is
// not the pipeline's doing.
const (
	Aside Stage = iota - 1
	Seen
	Decided
	Acted
	Verified
	Told
	stages // how many there are
)

// A Tone says how a line wants to be read.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Quiet      // of use only to whoever looks for it
	Bad
	Good
	Warn
)

// A Line is one thing that happened.
type Line struct {
	At       time.Time
	Stage    Stage
	Word     string // what happened, in one word: SEEN, DECIDED, HEALED…
	Tone     Tone
	Incident int    // groups lines; the first incident is 1, 0 is none
	Head     string // what it is about: an object, a strategy
	Text     string
}

// A Timeline remembers what is needed to tell the next message. The zero
// value is ready for use by one goroutine.
type Timeline struct {
	numbers  map[string]int    // by incident id and by fingerprint, in order of appearance
	joined   map[string]string // incident that a failure opened by itself → the one it was counted to
	idle     map[int]string    // by incident number: why nothing was done the last time
	last     int               // number given to the newest incident
	underWay []UnderWay
}

// recovering reports whether something is being carried out for the incident.
func (t *Timeline) recovering(incident int) bool {
	return slices.ContainsFunc(t.underWay, func(u UnderWay) bool { return u.Incident == incident })
}

// maxNumbers bounds the memory of a timeline that runs for weeks. When it is
// reached all are forgotten, and a later line about an old incident gets a new
// number.
const maxNumbers = 10_000

// UnderWay is a decision that is being carried out.
type UnderWay struct {
	Decision string
	Incident int
	Strategy heal.Strategy
	About    string
	Since    time.Time
}

// UnderWay lists what is being carried out, oldest first.
func (t *Timeline) UnderWay() []UnderWay { return slices.Clone(t.underWay) }

// Add returns what there is to say about messages that arrived together.
// Messages that belong together, such as one notification per channel, are
// told in one line if they come in one batch.
func (t *Timeline) Add(batch []bus.Raw) []Line {
	if t.numbers == nil || len(t.numbers) > maxNumbers {
		t.numbers, t.joined, t.idle = map[string]int{}, map[string]string{}, map[int]string{}
	}
	batch = slices.Clone(batch)
	slices.SortStableFunc(batch, func(a, b bus.Raw) int { return a.Time.Compare(b.Time) })
	said := make([]sayer, 0, len(batch))
	for _, raw := range batch {
		said = append(said, read(raw))
	}
	var lines []Line
	for _, s := range t.together(said) {
		lines = append(lines, s.say(t)...)
	}
	return lines
}

// together makes one of what is better told in one line: the notifications of
// a result, and an announcement that only leads to waiting.
func (t *Timeline) together(said []sayer) []sayer {
	waits := map[string]bool{} // by id of the failure event
	for _, s := range said {
		if d, ok := s.(decision); ok {
			// A failure is told before the decision that counts it to an
			// incident; since both are here, it gets its number at once.
			t.joined[d.Data.Failure.IncidentID()] = d.Data.IncidentID
			waits[d.Data.Failure.EventID()] = d.waits()
		}
	}
	told := map[string]int{} // by decision: index in kept
	var kept []sayer
	for _, s := range said {
		switch s := s.(type) {
		case failure:
			if waits[s.ID] {
				continue
			}
		case notification:
			if i, ok := told[s.Data.Result.Decision.ID]; ok {
				kept[i] = kept[i].(notification).and(s)
				continue
			}
			told[s.Data.Result.Decision.ID] = len(kept)
		}
		kept = append(kept, s)
	}
	return kept
}

// A sayer is a message that can tell itself.
type sayer interface{ say(t *Timeline) []Line }

// read decodes a message by the stream it lies in.
func read(raw bus.Raw) sayer {
	switch raw.Stream {
	case bus.Failures.Stream:
		return decode(raw, func(e heal.Event[heal.Failure]) sayer { return failure{e} })
	case bus.Decisions.Stream:
		return readDecisions(raw)
	case bus.Results.Stream:
		return decode(raw, func(e heal.Event[heal.Result]) sayer { return result{e} })
	case bus.Notifications.Stream:
		return decode(raw, func(e heal.Event[heal.Notification]) sayer {
			return notification{Event: e, places: []string{strings.TrimSpace(e.Data.Channel + " " + e.Data.To)}}
		})
	case heal.StreamPrefix + "DLQ":
		return decode(raw, func(e heal.Event[heal.DeadLetter]) sayer { return deadLetter{e} })
	}
	return silent{}
}

func decode[T heal.Payload](raw bus.Raw, wrap func(heal.Event[T]) sayer) sayer {
	e, err := heal.Decode[T](raw.Data)
	if err != nil {
		return unreadable{raw, err}
	}
	return wrap(e)
}

// number numbers an incident, a new one with the next free number. An incident
// about something that has been in one before keeps that one's number: whoever
// reads wants to see that it is the same thing again.
func (t *Timeline) number(incident string, f heal.Failure) int {
	if other := t.joined[incident]; other != "" {
		incident = other
	}
	n := t.numbers[incident]
	if n == 0 {
		n = t.numbers[f.Fingerprint]
	}
	if n == 0 {
		t.last++
		n = t.last
	}
	t.numbers[incident], t.numbers[f.Fingerprint] = n, n
	return n
}
