package bus

import (
	"context"
	"maps"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
)

// What a dead letter keeps at most. Base64 makes the body a third longer, JSON
// may make six bytes of one in a header, and the stream takes a mebibyte.
const (
	maxDeadBody    = 512 * kib
	maxDeadHeaders = 32 * kib
	maxDeadError   = 1 * kib
)

// bury stores d in the dead-letter stream.
func (l *line) bury(ctx context.Context, d delivery, f fate) error {
	letter := heal.DeadLetter{
		Stage:     l.c.Name,
		Reason:    f.reason,
		Error:     heal.Clean(f.err.Error(), maxDeadError),
		Stream:    l.stream,
		Subject:   d.Subject,
		Sequence:  d.Sequence.Stream,
		Delivered: d.NumDelivered,
		Body:      d.Data,
	}
	payload := int(l.b.nc.MaxPayload()) // in case the server takes less than the stream
	letter.Headers, letter.Truncated = keepHeaders(d.Header, min(maxDeadHeaders, payload/32))
	if most := min(maxDeadBody, payload/2); len(letter.Body) > most {
		letter.Body, letter.Truncated = letter.Body[:most], true
	}
	if err := DeadLetters.Publish(context.WithoutCancel(ctx), l.b, letter); err != nil {
		return err
	}
	l.b.metrics.dead.WithLabelValues(letter.Stage, letter.Reason).Inc()
	return nil
}

// keepHeaders returns as many of the headers as fit into room bytes, in the
// order of their names, and whether some do not.
func keepHeaders(all map[string][]string, room int) (kept map[string][]string, truncated bool) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		need := len(key)
		for _, v := range all[key] {
			need += len(v)
		}
		if need > room {
			truncated = true
			continue
		}
		room -= need
		if kept == nil {
			kept = map[string][]string{}
		}
		kept[key] = all[key]
	}
	return kept, truncated
}
