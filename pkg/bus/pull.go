package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// The pulling is written by hand. jetstream's Messages loses count when it
// buffers one message only: it does not ask for the next if the last came
// before the sending of its own request had returned, and hangs until a
// heartbeat is missed. Its Fetch subscribes anew for every request.

// How long a request for a message stands, and how often the server says that
// it still does.
const (
	pullExpires   = 60 * time.Second
	pullHeartbeat = 10 * time.Second
)

// What can come of a request other than a message.
var (
	errAskAgain = errors.New("the request has lapsed")
	errGone     = errors.New("the consumer is no more")
)

// A mailbox receives what one worker asked for.
type mailbox struct {
	line  *line
	sub   *nats.Subscription
	inbox string
	in    chan *nats.Msg
	asked int // requests so far
}

// work handles one message after the other. It asks for the next only when it
// is free: in a buffer, a message's ack wait would run long before its turn
// comes, and other replicas would starve.
func (l *line) work(ctx context.Context) error {
	box := &mailbox{line: l, inbox: l.b.nc.NewInbox(), in: make(chan *nats.Msg, 64)}
	var err error
	if box.sub, err = l.b.nc.ChanSubscribe(box.inbox+".*", box.in); err != nil {
		return err
	}
	defer box.close()
	for ctx.Err() == nil {
		msg, err := box.next(ctx)
		switch {
		case err == nil:
			l.deliver(ctx, msg)
		case ctx.Err() != nil, errors.Is(err, errAskAgain):
		case errors.Is(err, errGone), errors.Is(err, nats.ErrConnectionClosed):
			return err
		default: // a change of leader, a lost connection: soon over
			l.log.Debug("pull ended", "err", err)
			l.b.wait(ctx, l.b.pace.retry)
		}
	}
	return ctx.Err()
}

// next returns the next message. Any error but errGone is overcome by calling
// it again.
func (m *mailbox) next(ctx context.Context) (*nats.Msg, error) {
	// A request is lost with the connection that it was for.
	connected := m.line.b.nextConnect()
	if len(m.in) == 0 {
		if err := m.ask(); err != nil {
			return nil, err
		}
	}
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-connected:
			return nil, errAskAgain
		case <-silence.C:
			return nil, errAskAgain // whether the consumer is there, gauge finds out
		case msg := <-m.in:
			if isMessage(msg) {
				return msg, nil
			}
			if err := m.status(msg); err != nil {
				return nil, err
			}
			silence.Reset(2 * pullHeartbeat)
		}
	}
}

// ask requests one message. Each request has a subject of its own for the
// answers, to tell a late answer to an earlier one.
func (m *mailbox) ask() error {
	m.asked++
	return m.line.b.nc.PublishRequest(
		"$JS.API.CONSUMER.MSG.NEXT."+m.line.stream+"."+m.line.c.Name, m.subject(),
		fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d}`, pullExpires.Nanoseconds(), pullHeartbeat.Nanoseconds()))
}

// subject is where the answers to the last request go.
func (m *mailbox) subject() string { return m.inbox + "." + strconv.Itoa(m.asked) }

// isMessage tells a stored message from what the server says about a request.
// Its own headers do not: anybody may store a message that has such.
func isMessage(m *nats.Msg) bool { return strings.HasPrefix(m.Reply, "$JS.ACK.") }

// status returns how an answer that is no message ends the request, or nil
// when it does not
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-13.md).
func (m *mailbox) status(msg *nats.Msg) error {
	if msg.Subject != m.subject() {
		return nil
	}
	code, text := msg.Header.Get("Status"), msg.Header.Get("Description")
	switch {
	case code == "100": // heartbeat
		return nil
	case code == "404", code == "408":
		return errAskAgain
	case code == "503", code == "409" && strings.EqualFold(text, "Consumer Deleted"):
		return errGone
	}
	return fmt.Errorf("the server ended the request: %s %s", code, text)
}

// close ends the subscription and gives back what came after the worker had
// left, so that it need not wait until its ack wait is over. (What the server
// sends in the instant in which it hears of the end does wait.)
func (m *mailbox) close() {
	if m.line.b.nc.IsConnected() {
		closed := make(chan struct{})
		tell := sync.OnceFunc(func() { close(closed) }) // a connection that ends meanwhile closes it a second time
		m.sub.SetClosedHandler(func(string) { tell() })
		if m.sub.Drain() == nil {
			timer := time.NewTimer(time.Second)
			defer timer.Stop()
			select {
			case <-closed:
			case <-timer.C:
			}
		}
	}
	_ = m.sub.Unsubscribe() // fails if it is closed, as it should be
	for {
		select {
		case msg := <-m.in:
			if isMessage(msg) {
				_ = msg.Nak()
			}
		default:
			return
		}
	}
}
