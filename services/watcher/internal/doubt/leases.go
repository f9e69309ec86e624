package doubt

import (
	"fmt"
	"time"
)

const (
	// leasesEvery is how often leases may be read: they are many.
	leasesEvery = 30 * time.Second
	// someNodes is the part of the nodes from which on it is worth it.
	someNodes = 0.20
)

// LeaseLate is the age from which a node's heartbeat is stale: the API
// server's own measure for a node that is not heard of any more.
const LeaseLate = 40 * time.Second

// leasesTogether doubts what is seen when most nodes' heartbeats are stale: it
// shows before the nodes do, which the control plane declares silent one after
// another.
func leasesTogether(_ *Mind, f Facts) string {
	l := f.Leases
	if l.All < 2 || 2*l.Stale <= l.All || f.Up-l.Up > 2*leasesEvery {
		return ""
	}
	return fmt.Sprintf("%s have not renewed their leases for %s, together", share(l.Stale, l.All, "nodes"), LeaseLate)
}

// wantLeases reports whether the leases are to be read: when some nodes look
// unwell, and not too often.
func (m *Mind) wantLeases(f Facts) bool {
	all, sick := m.nodes(f)
	if f.Leases.Up > 0 && f.Up-f.Leases.Up < leasesEvery {
		return false
	}
	return sick >= 2 && float64(sick) >= someNodes*float64(all)
}
