package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DuplicateWindow is for how long a stream of the pipeline knows the ids of
// what it has stored.
const DuplicateWindow = time.Hour

// nothing is the id of no message, as ours are all longer.
const nothing = "-"

// Stored reports whether the stream has stored data within the DuplicateWindow.
// It offers the message again under a condition that never holds: the server
// looks for its id first, and says of one that it knows that it is a double.
// So no right is needed but that to publish.
func (t Topic[T]) Stored(ctx context.Context, b *Bus, data T) (stored bool, err error) {
	head := data.Head()
	m := nats.NewMsg(head.Subject(b.cluster))
	m.Header.Set(nats.MsgIdHdr, head.ID)
	err = b.request(ctx, b.pace.answer, t.Stream, exactly(m.Subject), func(ctx context.Context) error {
		ack, err := b.js.PublishMsg(ctx, m, jetstream.WithExpectLastMsgID(nothing))
		stored = err == nil && ack.Duplicate
		if codeOf(err) == jsErrCodeWrongLastMsgID {
			err = nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("ask whether %s is stored: %w", head.ID, err)
	}
	return stored, nil
}

// jsErrCodeWrongLastMsgID is the server's answer to a condition that does not
// hold; nats.go has no name for it.
const jsErrCodeWrongLastMsgID jetstream.ErrorCode = 10070
