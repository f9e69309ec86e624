// Package overview looks at a running system from outside, by what its streams
// and buckets hold, and says how it is. Gather is the only part that asks
// anybody; it changes nothing.
package overview

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// Facts are what was found. What could not be asked has an error instead.
type Facts struct {
	At      time.Time
	Since   time.Time // how far back Record goes
	Cluster string
	NATS    bus.Inspection
	Record  record.Record

	Controls    []heal.Event[heal.Control] // the last pause and the last resume
	ControlsErr error
	Heard       []heal.Heard // what the watchers say about their sight
	HeardErr    error
}

// Look looks at everything but the messages. The error says what can not be
// done without.
func Look(ctx context.Context, b *bus.Bus) (Facts, error) {
	f := Facts{At: time.Now(), Cluster: b.Cluster()}
	var err error
	if f.NATS, err = b.Inspect(ctx); err != nil {
		return f, err
	}
	f.Controls, f.ControlsErr = bus.Controls.Latest(ctx, b)
	f.HeardErr = bus.NewStore[heal.Observer](b, bus.ObserversBucket).All(ctx, func(_ string, o heal.Observer, _ uint64) bool {
		if o.Validate() == nil {
			f.Heard = append(f.Heard, heal.Heard{Observer: o, At: o.SeenAt})
		}
		return true
	})
	return f, nil
}

// Gather looks at everything, and reads the messages since.
func Gather(ctx context.Context, b *bus.Bus, since time.Time) (Facts, error) {
	f, err := Look(ctx, b)
	if err != nil {
		return f, err
	}
	f.Since = since
	var folder record.Folder
	for _, stream := range f.NATS.Streams {
		if !slices.Contains(bus.Journals, stream.Name) || stream.Err != nil {
			continue // that it is not there is a fact as well
		}
		_, err := b.Read(ctx, []string{stream.Name}, since, func(raw bus.Raw) error {
			folder.Add(raw)
			return nil
		})
		if err != nil {
			return f, err
		}
	}
	f.Record = folder.Record(f.At)
	return f, nil
}

// Sight is how well the cluster is seen just now.
func (f Facts) Sight() heal.Sight {
	if f.HeardErr != nil {
		return heal.Sight{Reason: heal.ReasonBlind, Detail: "how well the watchers see cannot be read: " + f.HeardErr.Error()}
	}
	return heal.JudgeSight(f.Heard, f.At.Add(-2*heal.ObserverFresh), f.At)
}

// Paused is the pause that holds just now, or nil. If the latest pause cannot
// be asked for, those of the record must do.
func (f Facts) Paused() *heal.Control {
	controls := f.Controls
	if f.ControlsErr != nil {
		controls = f.Record.Controls
	}
	var last *heal.Control
	for _, c := range controls {
		if last == nil || c.Data.At.After(last.At) {
			last = &c.Data
		}
	}
	if last == nil || last.Verb != heal.Pause || !last.Until.IsZero() && !last.Until.After(f.At) {
		return nil
	}
	return last
}

// A Place is where a service listens.
type Place struct{ Service, Stream, Consumer string }

// Places are where something listens in every system that is whole. The
// channels of the notifier have theirs beside.
var Places = []Place{
	{"analyzer", bus.Failures.Stream, "analyzer"},
	{"actuator", bus.Decisions.Stream, "actuator"},
	{"actuator", bus.Approvals.Stream, "actuator-approvals"},
	{"actuator", bus.Controls.Stream, "actuator-undo"},
	{"analyzer", bus.Results.Stream, "analyzer-feedback"},
	{"notifier", bus.Results.Stream, "notifier"},
	{"notifier", bus.Decisions.Stream, "notifier-decisions"},
	{"notifier", bus.Decisions.Stream, "notifier-critical"},
	{"notifier", bus.Failures.Stream, "notifier-failures"},
}

// channelPrefix begins the names of the consumers of channels.
const channelPrefix = "notifier-"

// A Stage is one place, and how far behind it is.
type Stage struct {
	Service   string    `json:"service"`
	Stream    string    `json:"stream"`
	Consumer  string    `json:"consumer"`
	Channel   string    `json:"channel,omitempty"` // of the notifier
	Exists    bool      `json:"exists"`
	Listens   bool      `json:"listens"`  // somebody asks for messages, or has some
	Pending   uint64    `json:"pending"`  // stored, and not delivered yet
	InHand    int       `json:"in_hand"`  // delivered, and not settled yet
	Repeated  int       `json:"repeated"` // of those, delivered before
	Delivered time.Time `json:"delivered,omitzero"`
}

// Stages are the places, and the channels of the notifier.
func (f Facts) Stages() []Stage {
	var stages []Stage
	stage := func(p Place, c bus.ConsumerState) Stage {
		s := Stage{
			Service: p.Service, Stream: p.Stream, Consumer: p.Consumer, Exists: c.Name != "",
			Listens: c.Waiting > 0 || c.AckPending > 0,
			Pending: c.Pending, InHand: c.AckPending, Repeated: c.Redelivered, Delivered: c.Delivered,
		}
		if rest, ok := strings.CutPrefix(p.Consumer, channelPrefix); ok && p.Stream == bus.Notifications.Stream {
			s.Channel = rest
		}
		return s
	}
	for _, p := range Places {
		var found bus.ConsumerState
		for _, c := range f.consumers(p.Stream) {
			if c.Name == p.Consumer {
				found = c
			}
		}
		stages = append(stages, stage(p, found))
	}
	for _, c := range f.consumers(bus.Notifications.Stream) {
		stages = append(stages, stage(Place{"notifier", bus.Notifications.Stream, c.Name}, c))
	}
	return stages
}

func (f Facts) consumers(stream string) []bus.ConsumerState {
	for _, s := range f.NATS.Streams {
		if s.Name == stream {
			return s.Consumers
		}
	}
	return nil
}

// A Status is the system in a few numbers.
type Status struct {
	Cluster     string               `json:"cluster"`
	NATS        NATS                 `json:"nats"`
	Paused      *heal.Control        `json:"paused"` // null while acting goes on
	Sight       string               `json:"sight"`
	SeesClearly bool                 `json:"sees_clearly"`
	Since       time.Time            `json:"since"` // what is counted below happened since then
	Incidents   map[record.State]int `json:"incidents"`
	Tries       map[heal.Outcome]int `json:"tries"` // results of decisions that asked for a change
	Untried     int                  `json:"decisions_without_change"`
	Waiting     []string             `json:"waiting"` // decisions that wait for a person
	DeadLetters uint64               `json:"dead_letters"`
	Unread      int                  `json:"unreadable_messages"`
	Stages      []Stage              `json:"stages"`
}

// NATS is the server.
type NATS struct {
	URL     string `json:"url"`
	Version string `json:"version"`
}

// Status puts the facts together.
func (f Facts) Status() Status {
	sight := f.Sight()
	s := Status{
		Cluster: f.Cluster, NATS: NATS{f.NATS.URL, f.NATS.Version}, Paused: f.Paused(), Sight: sight.Detail, SeesClearly: sight.Clear,
		Since: f.Since.UTC(), Incidents: map[record.State]int{}, Tries: map[heal.Outcome]int{}, Waiting: []string{},
		Unread: f.Record.Unread, Stages: f.Stages(),
	}
	for _, i := range f.Record.Incidents {
		s.Incidents[i.State]++
		if i.State == record.Waiting {
			s.Waiting = append(s.Waiting, i.DecisionID)
		}
	}
	for _, r := range f.Record.Results {
		if r.Data.Decision.Acts() {
			s.Tries[r.Data.Outcome]++
		} else {
			s.Untried++
		}
	}
	for _, st := range f.NATS.Streams {
		if st.Name == bus.DeadLetters.Stream {
			s.DeadLetters = st.Messages
		}
	}
	return s
}

// Says is one line on who paused, and until when.
func Says(c heal.Control) string {
	text := "paused by " + heal.Clean(c.By, 64) + " at " + c.At.UTC().Format(time.RFC3339)
	if !c.Until.IsZero() {
		text += " until " + c.Until.UTC().Format(time.RFC3339)
	}
	if c.Reason != "" {
		text += fmt.Sprintf(" (%s)", heal.Clean(c.Reason, heal.MaxText))
	}
	return text
}
