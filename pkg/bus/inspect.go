package bus

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// An Inspection is what a server and its streams look like to an operator.
type Inspection struct {
	URL        string
	Server     string        // its name
	Version    string        // of the server
	TooOld     error         // why that version cannot be used, or nil
	RTT        time.Duration // to the server and back
	ClockAhead time.Duration // of the server, before ours; not more exact than RTT
	Streams    []StreamState // every stream and bucket there should be
}

// A StreamState is a stream of the topology as it is.
type StreamState struct {
	Name      string
	Owner     string   // the service that brings it up to date
	Err       error    // why it could not be looked at: ErrNotFound if it does not exist
	Drift     []string // what is not as declared
	Messages  uint64
	Bytes     uint64
	MaxBytes  int64
	Refuses   bool // a full one refuses messages, rather than dropping its oldest
	Last      time.Time
	Consumers []ConsumerState // the durable ones, by name
	Unlisted  error           // why its consumers could not be looked at
}

// A ConsumerState is how far a durable consumer is.
type ConsumerState struct {
	Name        string
	Pending     uint64    // stored, and not delivered yet
	AckPending  int       // delivered, and not settled yet
	Redelivered int       // of those, delivered before
	Waiting     int       // requests for messages: none while nobody listens
	Delivered   time.Time // the last delivery, or zero
}

// Inspect looks at the server, and at all that Provision would look at,
// without changing anything. It fails only without a connection.
func (b *Bus) Inspect(ctx context.Context) (Inspection, error) {
	if !b.nc.IsConnected() {
		return Inspection{}, b.away()
	}
	in := Inspection{
		URL:     b.nc.ConnectedUrlRedacted(),
		Server:  b.nc.ConnectedServerName(),
		Version: b.nc.ConnectedServerVersion(),
		TooOld:  checkVersion(b.nc.ConnectedServerVersion()),
	}
	var err error
	if in.RTT, err = b.nc.RTT(); err != nil {
		return in, b.explain(ctx, "", err)
	}
	for _, s := range topology() {
		state, asked, answered := b.inspect(ctx, s)
		in.Streams = append(in.Streams, state)
		if !answered.IsZero() {
			in.ClockAhead = answered.Sub(asked.Add(time.Since(asked) / 2))
		}
	}
	return in, nil
}

// inspect looks at one stream; asked and answered are when, by our clock and
// by the server's.
func (b *Bus) inspect(ctx context.Context, s stream) (state StreamState, asked, answered time.Time) {
	state = StreamState{Name: s.Name, Owner: s.Owner, MaxBytes: s.MaxBytes}
	var found jetstream.Stream
	asked = time.Now()
	state.Err = b.request(ctx, b.pace.answer, s.Name, mentions(s.Name), func(ctx context.Context) (err error) {
		found, err = b.js.Stream(ctx, s.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return ErrNotFound
		}
		return err
	})
	if state.Err != nil {
		return state, asked, time.Time{}
	}
	info := found.CachedInfo()
	state.Drift = differences(info.Config, s.StreamConfig)
	state.Messages, state.Bytes, state.Last = info.State.Msgs, info.State.Bytes, info.State.LastTime
	state.MaxBytes = info.Config.MaxBytes
	state.Refuses = info.Config.Discard == jetstream.DiscardNew
	state.Unlisted = b.request(ctx, b.pace.answer, s.Name, mentions(s.Name), func(ctx context.Context) error {
		all := found.ListConsumers(ctx)
		for c := range all.Info() {
			if c.Config.Durable != "" {
				state.Consumers = append(state.Consumers, consumerState(c))
			}
		}
		return all.Err()
	})
	slices.SortFunc(state.Consumers, func(a, b ConsumerState) int { return cmp.Compare(a.Name, b.Name) })
	return state, asked, info.TimeStamp
}

func consumerState(c *jetstream.ConsumerInfo) ConsumerState {
	state := ConsumerState{
		Name: c.Name, Pending: c.NumPending, AckPending: c.NumAckPending,
		Redelivered: c.NumRedelivered, Waiting: c.NumWaiting,
	}
	if c.Delivered.Last != nil {
		state.Delivered = *c.Delivered.Last
	}
	return state
}
