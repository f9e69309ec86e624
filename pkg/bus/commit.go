package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A server that syncs always writes to its disk once for each message that it
// accepts, and once for each atomic batch
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md).
// But it makes a store for each batch, which takes as long as many single
// messages; how many depends on the disk. So messages go alone and at once, and
// what piles up goes together when that has been seen to be quicker.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"

	maxAlone = 8    // messages on their way by themselves
	minBatch = 16   // messages that may be worth a batch
	maxBatch = 1000 // the server's limit
)

// A group stores messages in one stream.
type group struct {
	b      *Bus
	stream string

	mu       sync.Mutex // guards what follows
	alone    int        // messages on their way by themselves
	together bool       // a batch is on its way
	waiting  []*storing
	last     time.Time     // when the last message by itself was stored
	each     time.Duration // that one more such message took, lately
	batch    time.Duration // that the quickest batch took, lately
}

// storing is one message that waits its turn.
type storing struct {
	msg  *nats.Msg
	turn chan bool // true: it may go alone; false: it went, and the rest is set
	seq  uint64
	err  error
}

// store stores m, and returns its sequence, when the server has it.
func (g *group) store(ctx context.Context, m *nats.Msg) (seq uint64, err error) {
	s := &storing{msg: m, turn: make(chan bool, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, s)
	g.proceed()
	g.mu.Unlock()
	select {
	case alone := <-s.turn:
		if !alone {
			return s.seq, s.err
		}
		defer g.landed(time.Now())
		return g.b.storeOne(ctx, g.stream, m)
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if i := slices.Index(g.waiting, s); i >= 0 {
			g.waiting = slices.Delete(g.waiting, i, i+1)
		} else if len(s.turn) > 0 && <-s.turn { // given at the same moment
			g.alone--
			g.proceed()
		}
		return 0, ctx.Err() // in a batch it may be stored all the same, as after any answer that is lost
	}
}

// landed takes in that a message that went alone at start is stored.
func (g *group) landed(start time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.last.After(start) {
		start = g.last // until then the server was busy with others
	}
	g.each += (now.Sub(start) - g.each) / 8
	g.last = now
	g.alone--
	g.proceed()
}

// proceed sends what may go now. The caller holds mu.
func (g *group) proceed() {
	crowd := len(g.waiting)
	worth := !g.together && crowd >= minBatch && time.Duration(crowd)*g.each > g.batch
	for !worth && g.alone < maxAlone && len(g.waiting) > 0 {
		g.waiting[0].turn <- true
		g.waiting[0] = nil
		g.waiting = g.waiting[1:]
		g.alone++
	}
	if !worth {
		return
	}
	n := min(len(g.waiting), maxBatch)
	batch := slices.Clone(g.waiting[:n])
	g.waiting = slices.Clone(g.waiting[n:])
	g.together = true
	go func() {
		start := time.Now()
		stored := g.storeBatch(batch)
		took := time.Since(start)
		if !stored {
			g.storeEach(batch)
		}
		for _, s := range batch {
			s.turn <- false
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.together = false
		if g.batch += g.batch / 8; g.batch == 0 || took < g.batch {
			g.batch = took
		}
		g.proceed()
	}()
}

// storeEach stores every message by itself, all at once.
func (g *group) storeEach(batch []*storing) {
	var all sync.WaitGroup
	for _, s := range batch {
		all.Go(func() { s.seq, s.err = g.b.storeOne(context.Background(), g.stream, s.msg) })
	}
	all.Wait()
}

// storeBatch stores all messages, or none and reports false: the server
// refuses the whole batch for one of them that it does not want, and does not
// say which.
func (g *group) storeBatch(batch []*storing) (settled bool) {
	if twice(batch) {
		return false
	}
	id := rand.Text()
	var last uint64
	subjects := func(subject string) bool {
		return slices.ContainsFunc(batch, func(s *storing) bool { return s.msg.Subject == subject })
	}
	err := g.b.request(context.Background(), g.b.pace.answer, g.stream, subjects, func(ctx context.Context) error {
		for i, s := range batch {
			s.msg.Header.Set(headerBatchID, id)
			s.msg.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
			if i < len(batch)-1 {
				if err := g.b.nc.PublishMsg(s.msg); err != nil {
					return err
				}
				continue
			}
			s.msg.Header.Set(headerBatchCommit, "1")
			ack, err := g.b.js.PublishMsg(ctx, s.msg, jetstream.WithRetryAttempts(0))
			if err != nil {
				return err
			}
			if ack.Stream != g.stream {
				return wrongStream(ack.Stream, g.stream)
			}
			last = ack.Sequence
		}
		return nil
	})
	for _, s := range batch {
		for _, h := range []string{headerBatchID, headerBatchSequence, headerBatchCommit} {
			s.msg.Header.Del(h)
		}
	}
	if err != nil && (!isAway(err) || errors.Is(err, nats.ErrMaxPayload)) {
		return false // of these, one by one is told more
	}
	for i, s := range batch {
		s.err = err
		if err == nil {
			s.seq = last - uint64(len(batch)-1-i) // the server stores a batch without a gap
		}
	}
	return true
}

// twice reports whether two of the messages have the same id, or write to the
// same key, which a batch must not hold.
func twice(batch []*storing) bool {
	ids, subjects := map[string]bool{}, map[string]bool{}
	for _, s := range batch {
		if id := s.msg.Header.Get(nats.MsgIdHdr); id != "" {
			if ids[id] {
				return true
			}
			ids[id] = true
		}
		if s.msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader) != "" {
			if subjects[s.msg.Subject] {
				return true
			}
			subjects[s.msg.Subject] = true
		}
	}
	return false
}

// storeOne publishes m and waits until the stream has it.
func (b *Bus) storeOne(ctx context.Context, stream string, m *nats.Msg) (seq uint64, err error) {
	err = b.request(ctx, b.pace.answer, stream, exactly(m.Subject), func(ctx context.Context) error {
		ack, err := b.js.PublishMsg(ctx, m)
		if err == nil && ack.Duplicate && b.planted(ctx, stream, ack.Sequence, m) {
			b.log.Warn("somebody else has stored another message under the id of ours; stored without it", "stream", stream, "id", m.Header.Get(nats.MsgIdHdr), "seq", ack.Sequence)
			m.Header.Del(nats.MsgIdHdr)
			ack, err = b.js.PublishMsg(ctx, m)
		}
		switch {
		case err == nil && ack.Stream != stream:
			return wrongStream(ack.Stream, stream)
		case err == nil:
			seq = ack.Sequence
		case errors.Is(err, nats.ErrMaxPayload):
			return Permanent(fmt.Errorf("too large: %d bytes, the server takes %d", size(m), b.nc.MaxPayload()))
		case codeOf(err) == jetstream.JSErrCodeStreamMessageExceedsMaximum:
			return Permanent(fmt.Errorf("too large: %d bytes, more than stream %s takes: %w", size(m), stream, err))
		}
		return err
	})
	return seq, err
}

// planted reports whether the message that has the id of m is another one, which
// the server cannot tell: whoever may write anything to the stream could have a
// signed message dropped as a double. What cannot be read counts as ours, as it
// nearly always is.
func (b *Bus) planted(ctx context.Context, stream string, seq uint64, m *nats.Msg) bool {
	if m.Header.Get(headerSig) == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // who may not read is told nothing
	defer cancel()
	there, err := b.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil || there.Header.Get(jetstream.SequenceHeader) == "" {
		return false
	}
	return behind(there, jetstream.SubjectHeader) != m.Subject
}

func wrongStream(got, want string) error {
	return awayError{fmt.Errorf("stored by stream %s, want %s: two streams claim its subject", got, want)}
}

// store stores m in stream, together with what else is to be stored there if
// the stream takes batches, and returns when the server has it.
func (b *Bus) store(ctx context.Context, stream string, m *nats.Msg) (seq uint64, err error) {
	if g := b.groups[stream]; g != nil {
		return g.store(ctx, m)
	}
	return b.storeOne(ctx, stream, m)
}
