package bus

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Replay stores the message of a dead letter again where it came from, as it
// was, so that all who listen there get it once more. Only its Nats-Msg-Id is
// another, as the stream would take the old one for a double; sequence is the
// letter's own, so that replaying a letter twice is replaying it once.
func Replay(ctx context.Context, b *Bus, l heal.DeadLetter, sequence uint64) error {
	if l.Truncated {
		return Permanent(fmt.Errorf("dead letter %d: its message was too long to be kept whole", sequence))
	}
	rest, ours := strings.CutPrefix(l.Subject, heal.SubjectRoot+"."+heal.Token(b.cluster)+".")
	root, _, _ := strings.Cut(rest, ".")
	stream, known := streamOf[root]
	if !ours || !known {
		return Permanent(fmt.Errorf("dead letter %d: %q is no subject of cluster %s that a stream takes", sequence, heal.Clean(l.Subject, 128), b.cluster))
	}
	m := nats.NewMsg(l.Subject)
	for key, values := range l.Headers {
		if !strings.HasPrefix(key, "Nats-") { // those are orders to the server, and were obeyed
			m.Header[key] = values
		}
	}
	m.Header.Set(nats.MsgIdHdr, heal.ID(replayed, l.Stream, fmt.Sprint(l.Sequence), fmt.Sprint(sequence)))
	m.Data = l.Body
	if _, err := b.store(ctx, stream, m); err != nil {
		return fmt.Errorf("dead letter %d: replay to %s: %w", sequence, l.Subject, err)
	}
	return nil
}

// replayed begins the ids under which messages are stored again; no event's own
// id does.
const replayed = "y"

// streamOf is which stream takes the subjects of a root.
var streamOf = map[string]string{
	Failures.Root: Failures.Stream, Decisions.Root: Decisions.Stream, Approvals.Root: Approvals.Stream,
	Controls.Root: Controls.Stream, Results.Root: Results.Stream, Notifications.Root: Notifications.Stream,
}

// Drop takes a dead letter out of its stream, for good.
func Drop(ctx context.Context, b *Bus, sequence uint64) error {
	err := b.request(ctx, b.pace.answer, dlqStream, mentions(dlqStream), func(ctx context.Context) error {
		s, err := b.js.Stream(ctx, dlqStream)
		if err != nil {
			return err
		}
		return s.DeleteMsg(ctx, sequence)
	})
	if err != nil {
		return fmt.Errorf("dead letter %d: drop: %w", sequence, err)
	}
	return nil
}
