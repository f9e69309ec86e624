package bus

import (
	"context"
	"time"
)

// MakeRooms looks once whether the stages have room, as if a double were told
// by what is younger than window.
func (b *Bus) MakeRooms(ctx context.Context, window time.Duration) {
	b.pace.window = window
	b.makeRooms(ctx, map[string]bool{})
}

// Hurry makes a bus that is not in use yet wait less than in production.
func (b *Bus) Hurry(ackWait, verify time.Duration) {
	b.pace.ackWait = ackWait
	b.pace.retry = 20 * time.Millisecond
	b.pace.refresh = 20 * time.Millisecond
	b.pace.verify = verify
}
