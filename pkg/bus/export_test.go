package bus

import "time"

// Hurry makes a bus that is not in use yet wait less than in production.
func (b *Bus) Hurry(ackWait, verify time.Duration) {
	b.pace.ackWait = ackWait
	b.pace.retry = 20 * time.Millisecond
	b.pace.refresh = 20 * time.Millisecond
	b.pace.verify = verify
}
