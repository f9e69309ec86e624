package bus

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// An Entry is what became of a key of a Store.
type Entry[V any] struct {
	Key     string
	Value   V
	Deleted bool      // then there is no Value
	Stored  time.Time // by the server's clock
	News    bool      // it was stored while we listened; else we were only told of it now
}

// A Listener is told what a Store holds, one thing at a time.
type Listener[V any] struct {
	Entry func(Entry[V])
	// Complete says whether all that was stored so far has been told: false
	// when the listening breaks off, true when it has caught up again.
	Complete func(bool)
}

// Listen tells l the value of every key, and then every change, until ctx is
// done. When the listening breaks off it begins anew, with every key. It fails
// only when the server refuses it, or the bus is closed. A value that does not
// decode is passed over and logged.
func (s *Store[V]) Listen(ctx context.Context, l Listener[V]) error {
	stream := "KV_" + s.name
	about := "listening to " + s.name
	return s.b.again(ctx, about, func() error {
		defer l.Complete(false)
		return s.listen(ctx, stream, about, l)
	})
}

// listen reads the bucket's stream from the latest value of each key on, until
// something breaks that off.
func (s *Store[V]) listen(ctx context.Context, stream, about string, l Listener[V]) error {
	ctx, done := s.b.waits.add(ctx, s.mentioned, true)
	defer done()
	it, old, err := s.b.latest(ctx, stream, "$KV."+s.name+".>", s.mentioned)
	if err != nil {
		return err
	}
	defer it.Stop()
	s.b.problem(about, nil)
	l.Complete(old == 0)
	return s.b.inOrder(ctx, stream, it, func(msg jetstream.Msg, md *jetstream.MsgMetadata) error {
		order := md.Sequence.Consumer
		s.hand(msg, md, order > old, l)
		if order == old {
			l.Complete(true)
		}
		return nil
	})
}

func (s *Store[V]) hand(msg jetstream.Msg, md *jetstream.MsgMetadata, news bool, l Listener[V]) {
	e := Entry[V]{Key: strings.TrimPrefix(msg.Subject(), "$KV."+s.name+"."), Stored: md.Timestamp, News: news}
	if msg.Headers().Get("KV-Operation") != "" { // DEL or PURGE; a put has none
		e.Deleted = true
	} else if err := json.Unmarshal(msg.Data(), &e.Value); err != nil {
		s.b.log.Warn("a stored value cannot be understood; it is passed over", "bucket", s.name, "err", s.broken(e.Key, err))
		return
	}
	l.Entry(e)
}
