package bus

import "sync"

// A message is given up at the delivery after so many failures, or after so
// many deliveries that this process knows nothing of.
const (
	maxFailures = 8
	maxUnknown  = 64
)

// A tally counts, by sequence in the stream, what became of the deliveries of
// messages that are not settled. The server's own count holds waits and
// failures alike.
type tally struct {
	mu    sync.Mutex // guards all below
	of    map[uint64]*count
	order []uint64 // sequences as they came, some settled since
	limit int
}

type count struct {
	failures uint64
	waits    uint64
	last     string // error
}

func newTally(limit int) *tally { return &tally{of: map[uint64]*count{}, limit: limit} }

// spent reports whether a message that is delivered for the given time has had
// all its chances, and the last error known.
func (t *tally) spent(seq, delivered uint64) (last string, spent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var c count
	if known := t.of[seq]; known != nil {
		c = *known
	}
	if c.last == "" {
		c.last = "unknown, to another process"
	}
	before := max(delivered, 1) - 1
	unknown := before - min(before, c.failures+c.waits)
	return c.last, c.failures >= maxFailures || unknown > maxUnknown
}

// failed counts a failure, and returns how many there were.
func (t *tally) failed(seq uint64, err error) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.at(seq)
	c.failures++
	c.last = err.Error()
	return c.failures
}

// waited counts a delivery that ended in waiting.
func (t *tally) waited(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(seq).waits++
}

// forget drops a message that is settled.
func (t *tally) forget(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, seq)
}

// at returns the count of seq. Beyond the limit the oldest is forgotten: that
// many messages cannot be under way, so another replica settled it.
func (t *tally) at(seq uint64) *count {
	if c := t.of[seq]; c != nil {
		return c
	}
	for len(t.order) >= t.limit {
		delete(t.of, t.order[0])
		t.order = t.order[1:]
	}
	c := &count{}
	t.of[seq] = c
	t.order = append(t.order, seq)
	return c
}
