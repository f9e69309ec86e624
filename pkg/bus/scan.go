package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

// What Scan asks for at once. The server sends it in one go.
const (
	scanBatch = 1000    // messages
	scanBytes = 4 * mib // of them, about
)

// Scan calls fn with every message of this cluster that the stream of a stage
// has stored since (the zero time: ever), in order, and returns once it has
// read what was stored when it began. Unlike Read it makes no consumer, so that
// nobody's place can be taken or moved, and no right is needed but to ask this
// one stream. It ends early when ctx is done, when fn returns an error, and
// when the stream cannot be read.
func (b *Bus) Scan(ctx context.Context, stream string, since time.Time, fn func(Raw) error) error {
	if err := b.scan(ctx, stream, since, fn); err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	return nil
}

func (b *Bus) scan(ctx context.Context, stream string, since time.Time, fn func(Raw) error) error {
	var until uint64
	err := b.request(ctx, 2*b.pace.answer, stream, mentions(stream), func(ctx context.Context) error {
		s, err := b.js.Stream(ctx, stream)
		if err == nil {
			until = s.CachedInfo().State.LastSeq
		}
		return err
	})
	if err != nil {
		return err
	}
	// A channel with room for one batch, as no more is ever on its way. (A
	// subscription without would take a stored message for a refusal, if its
	// writer has it look like one.)
	inbox, answers := b.nc.NewInbox(), make(chan *nats.Msg, scanBatch+1)
	sub, err := b.nc.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		return b.explain(ctx, stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // or the end of the connection does
	ours := heal.SubjectRoot + "." + heal.Token(b.cluster) + "."
	ask := excerpt{Seq: 1, Batch: scanBatch, MaxBytes: scanBytes}
	if !since.IsZero() {
		ask.Seq, ask.StartTime = 0, &since
	}
	for ask.Seq <= until {
		// A reply of its own for each question: what is left of one that was
		// given up is not taken for the answer to the next.
		batch, err := b.excerpt(ctx, stream, inbox+"."+strconv.FormatUint(ask.Seq, 10), answers, ask)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		for _, r := range batch {
			if r.Seq > until {
				return nil
			}
			if !strings.HasPrefix(r.Subject, ours) {
				continue
			}
			if err := fn(r); err != nil {
				return err
			}
		}
		ask.Seq, ask.StartTime = batch[len(batch)-1].Seq+1, nil
	}
	return nil
}

// An excerpt is a question for some messages of a stream in a row
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md).
// It is of all subjects: the server finds the next of some of a hundred
// thousand far more slowly than we pass over the others.
type excerpt struct {
	Seq       uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	Batch     int        `json:"batch"`
	MaxBytes  int        `json:"max_bytes"`
}

// The statuses of answers that hold no message.
const (
	statusEndOfBatch = "204"
	statusNoMessage  = "404"
	statusNobody     = "503"
)

// excerpt asks for some messages, and returns none when there are none.
func (b *Bus) excerpt(ctx context.Context, stream, reply string, answers <-chan *nats.Msg, ask excerpt) (batch []Raw, err error) {
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	err = b.request(ctx, 2*b.pace.answer, stream, mentions(stream), func(ctx context.Context) error {
		if err := b.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, reply, body); err != nil {
			return err
		}
		last := uint64(0)
		for {
			var m *nats.Msg
			select {
			case m = <-answers:
			case <-ctx.Done():
				return ctx.Err()
			}
			if m.Subject != reply {
				continue
			}
			status := m.Header.Get("Status")
			if m.Header[jetstream.SequenceHeader] != nil {
				status = "" // it is a message, whatever its writer put into its headers
			}
			switch status {
			case "":
			case statusEndOfBatch:
				if sent, _ := number(m, jetstream.LastSequenceHeader); sent != last {
					return fmt.Errorf("message %d of the reading is missing", sent)
				}
				return nil
			case statusNoMessage:
				return nil
			case statusNobody:
				return jetstream.ErrNoStreamResponse
			default:
				return fmt.Errorf("the server answers %s %s", status, heal.Clean(m.Header.Get("Description"), 128))
			}
			r, before, err := stored(stream, m)
			if err != nil {
				return err
			}
			if before != last {
				return fmt.Errorf("message %d of the reading is missing", before)
			}
			batch, last = append(batch, r), r.Seq
		}
	})
	return batch, err
}

// stored is the message that an answer holds, and the sequence of the one
// before it in the same batch. Who stored it may have given it headers by any
// name; those of the server come behind.
func stored(stream string, m *nats.Msg) (r Raw, before uint64, err error) {
	seq, err := number(m, jetstream.SequenceHeader)
	if err != nil {
		return r, 0, err
	}
	before, err = number(m, jetstream.LastSequenceHeader)
	if err != nil {
		return r, 0, err
	}
	at, err := time.Parse(time.RFC3339Nano, behind(m, jetstream.TimeStampHeaer))
	if err != nil {
		return r, 0, fmt.Errorf("when message %d was stored: %w", seq, err)
	}
	r = Raw{Subject: behind(m, jetstream.SubjectHeader), Stream: stream, Seq: seq, Time: at, Header: m.Header, Data: m.Data}
	for _, key := range []string{jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, jetstream.LastSequenceHeader, headerPending} {
		if values := m.Header[key]; len(values) > 1 {
			m.Header[key] = values[:len(values)-1]
		} else {
			delete(m.Header, key)
		}
	}
	return r, before, nil
}

// headerPending says how many messages come after one of a batch.
const headerPending = "Nats-Num-Pending"

// behind is the last of a header's values.
func behind(m *nats.Msg, key string) string {
	if values := m.Header[key]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func number(m *nats.Msg, key string) (uint64, error) {
	n, err := strconv.ParseUint(behind(m, key), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s of an answer: %w", key, errors.Unwrap(err))
	}
	return n, nil
}
