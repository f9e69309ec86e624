package episode

import (
	"container/heap"
	"iter"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Config says how a Book keeps its episodes.
type Config struct {
	Cluster  string        // part of every episode's id
	Schedule Schedule      // of announcements
	Recheck  time.Duration // a suspect is looked at again this often even if nothing happens
	Max      int           // suspects kept at once; further ones are passed over until there is room
}

// A Book holds everything that is failing, was failing a moment ago, or might
// be: never what is well.
type Book struct {
	cfg     Config
	entries map[Key]*entry
	objects map[string][]*entry // by UID
	queue   queue               // by due time
	skipped bool
}

// NewBook returns an empty book.
func NewBook(cfg Config) *Book {
	return &Book{cfg: cfg, entries: map[Key]*entry{}, objects: map[string][]*entry{}}
}

// entry is one suspect. Its since and wellSince keep the monotonic clock, so
// that a jump of the wall clock neither ends nor skips a hold.
type entry struct {
	key     Key
	target  heal.Target
	state   State
	since   time.Time // first seen failing; zero while it does not count
	hold    time.Duration
	clear   time.Duration
	failure heal.Failure // as last seen failing

	wellSince time.Time // zero unless state is Well
	gone      bool      // the object is

	warmed bool    // Warm was handed out
	tried  bool    // a record may be stored without our knowing
	record *Record // as stored, if it is known to be
	rev    uint64

	due   time.Time // when to look again
	index int       // in the queue
}

func (e *entry) over(now time.Time) bool {
	return e.gone ||
		e.record != nil && !e.record.ResolvedAt.IsZero() ||
		e.state == Well && now.Sub(e.wellSince) >= e.clear
}

// A Step is what is to be done about an episode.
type Step int

// The steps.
const (
	Nothing  Step = iota
	Warm          // fetch ahead what Open will need: it may come at once
	Open          // store the record, or take over the one that somebody else stored
	Announce      // publish an occurrence, and note it in the record
	Resolve       // publish the end, and remove the record
)

func (b *Book) step(e *entry, now time.Time) Step {
	switch {
	case e.over(now):
		if e.record != nil || e.tried {
			return Resolve
		}
	case e.state != Failing: // nothing begins and nothing is said in a moment of calm
	case e.record == nil:
		if now.Sub(e.since) >= e.hold {
			return Open
		}
		if !e.warmed && e.hold <= haste {
			return Warm
		}
	default:
		if n, _ := b.occurrence(e, now); n > e.record.Announced {
			return Announce
		}
	}
	return Nothing
}

// haste is the longest hold whose Open is prepared. What must last longer is
// usual for a while, such as a pod that is being created, and mostly passes.
const haste = 2 * time.Minute

func (b *Book) occurrence(e *entry, now time.Time) (n int, next time.Time) {
	n, age := b.cfg.Schedule.At(now.Sub(e.record.Opened))
	return n, e.record.Opened.Add(age)
}

// Tracked is every key that the book holds of an object. A Sighting of each
// belongs into the next call of See.
func (b *Book) Tracked(uid string) []Key {
	list := b.objects[uid]
	if len(list) == 0 {
		return nil
	}
	keys := make([]Key, len(list))
	for i, e := range list {
		keys[i] = e.key
	}
	return keys
}

// See takes in how an object was seen to be, and returns the keys for which
// something is to be done. A tracked key without a sighting is Unclear.
func (b *Book) See(now time.Time, target heal.Target, sightings []Sighting) (work []Key) {
	for _, e := range slices.Clone(b.objects[target.UID]) {
		if !slices.ContainsFunc(sightings, func(s Sighting) bool { return s.Key == e.key }) {
			e.see(now, target, Sighting{Key: e.key, Clear: e.clear})
			work = b.after(e, now, work)
		}
	}
	for _, s := range sightings {
		e := b.entries[s.Key]
		if e == nil {
			if s.State != Failing && s.State != Excused {
				continue
			}
			if len(b.entries) >= b.cfg.Max {
				b.skipped = true
				continue
			}
			e = b.add(&entry{key: s.Key, target: target})
		}
		e.see(now, target, s)
		work = b.after(e, now, work)
	}
	return work
}

func (e *entry) see(now time.Time, target heal.Target, s Sighting) {
	e.target = target
	e.gone = false
	e.state = s.State
	e.clear = s.Clear
	if s.State != Well {
		e.wellSince = time.Time{}
	} else if e.wellSince.IsZero() {
		e.wellSince = now
	}
	switch s.State {
	case Failing:
		e.hold = s.Hold
		e.failure = s.Failure
		if e.since.IsZero() {
			e.since = now
		}
	case Excused:
		if e.record == nil && !e.tried {
			e.since = time.Time{} // what did not count was not seen
		}
	}
}

// after settles what follows from a change of e: whether it stays, when to
// look again, and whether something is to be done.
func (b *Book) after(e *entry, now time.Time, work []Key) []Key {
	step := b.step(e, now)
	if step == Nothing && e.over(now) {
		b.remove(e)
		return work
	}
	b.schedule(e, now)
	if step != Nothing {
		work = append(work, e.key)
	}
	return work
}

func (b *Book) schedule(e *entry, now time.Time) {
	due := now.Add(b.cfg.Recheck)
	sooner := func(t time.Time) {
		if t.Before(due) && t.After(now) {
			due = t
		}
	}
	switch {
	case e.over(now): // whoever does the work tries again by himself
	case e.state == Well:
		sooner(e.wellSince.Add(e.clear))
	case e.state == Failing && e.record == nil:
		sooner(e.since.Add(e.hold))
	case e.state == Failing:
		_, next := b.occurrence(e, now)
		sooner(next)
	}
	e.due = due
	heap.Fix(&b.queue, e.index)
}

// Gone takes in that an object does not exist any more.
func (b *Book) Gone(now time.Time, uid string) (work []Key) {
	for _, e := range slices.Clone(b.objects[uid]) {
		e.gone = true
		work = b.after(e, now, work)
	}
	return work
}

// Restore takes in a record found in the store: after a restart, or left by
// another watcher. Its object is looked at after delay, which gives our own
// view of it time to arrive. It reports whether the record is news.
func (b *Book) Restore(now time.Time, rec Record, rev uint64, delay time.Duration) bool {
	e := b.entries[rec.Key]
	if e != nil && e.record != nil {
		return false
	}
	if e == nil {
		target := rec.Failure.Target
		target.UID = rec.Key.UID
		e = b.add(&entry{key: rec.Key, target: target, state: Unclear})
	}
	e.adopt(rec, rev)
	e.due = now.Add(delay)
	heap.Fix(&b.queue, e.index)
	return true
}

func (e *entry) adopt(rec Record, rev uint64) {
	e.record, e.rev, e.tried = &rec, rev, true
	e.since = rec.FirstSeen
}

// Failing is every failure that has been announced, or is about to be, and
// that is not seen to be over or to count no more.
func (b *Book) Failing() iter.Seq[heal.Failure] {
	return func(yield func(heal.Failure) bool) {
		for _, e := range b.entries {
			if e.record != nil && e.record.ResolvedAt.IsZero() && !e.gone && (e.state == Failing || e.state == Unclear) && !yield(e.record.Failure) {
				return
			}
		}
	}
}

// Due is every object that is to be looked at again now.
func (b *Book) Due(now time.Time) []heal.Target {
	var targets []heal.Target
	seen := map[string]bool{}
	for len(b.queue) > 0 && !b.queue[0].due.After(now) {
		e := b.queue[0]
		if !seen[e.key.UID] {
			seen[e.key.UID] = true
			targets = append(targets, e.target)
		}
		// The look sets the real time; this one keeps it from being forgotten.
		e.due = now.Add(b.cfg.Recheck)
		heap.Fix(&b.queue, 0)
	}
	return targets
}

// Next is when something is due; false when nothing is tracked.
func (b *Book) Next() (time.Time, bool) {
	if len(b.queue) == 0 {
		return time.Time{}, false
	}
	return b.queue[0].due, true
}

// Work is what is to be done about one episode.
type Work struct {
	Step     Step
	Key      Key
	Record   Record // Open: to be stored; Announce: as stored; Resolve: as stored, zero if that is not known
	Revision uint64 // of Record in the store; 0 if it is not known
	Failure  heal.Failure
	Gone     bool // Resolve: the object is, and nothing of the kind will happen to it again
}

// Work says what is to be done about key now. The answer is current: what
// was to be done a moment ago may be moot. Each step ends with Stored or
// Ended, or with another attempt.
func (b *Book) Work(now time.Time, key Key) Work {
	e := b.entries[key]
	if e == nil {
		return Work{}
	}
	w := Work{Step: b.step(e, now), Key: key, Revision: e.rev, Gone: e.gone}
	if e.record != nil {
		w.Record = *e.record
	}
	switch w.Step {
	case Warm:
		e.warmed = true
		w.Failure = e.failure
	case Open:
		e.tried = true
		w.Record = Record{Key: key, FirstSeen: moment(e.since), Opened: moment(now)}
		w.Record.Failure = b.occur(e.failure, w.Record, 1, now)
		w.Failure = w.Record.Failure
	case Announce:
		n, _ := b.occurrence(e, now)
		w.Failure = b.occur(e.failure, w.Record, n, now)
	}
	return w
}

// occur makes f the nth occurrence of the episode that rec describes.
func (b *Book) occur(f heal.Failure, rec Record, n int, now time.Time) heal.Failure {
	f.FirstSeen = rec.FirstSeen
	f.EpisodeID = heal.MakeEpisodeID(b.cfg.Cluster, rec.Key.UID, rec.Key.Detector, rec.Key.Part, rec.FirstSeen)
	f.Occurrence = n
	f.Timestamp = heal.Unix{Time: moment(now)}
	return rec.mark(f, now)
}

// Stored takes in that the store holds rec.
func (b *Book) Stored(now time.Time, rec Record, rev uint64) {
	if e := b.entries[rec.Key]; e != nil {
		e.adopt(rec, rev)
		b.schedule(e, now)
	}
}

// Ended takes in that the store holds no record of key any more: the episode
// is over. If it is failing still or again, that is the first sight of a new one.
func (b *Book) Ended(now time.Time, key Key) {
	e := b.entries[key]
	if e == nil {
		return
	}
	e.record, e.rev, e.tried = nil, 0, false
	e.since = time.Time{}
	if e.over(now) {
		b.remove(e)
		return
	}
	if e.state == Failing {
		e.since = now
	}
	b.schedule(e, now)
}

// Skipped reports whether objects were passed over for want of room and there
// is room again; it says so once.
func (b *Book) Skipped() bool {
	if !b.skipped || len(b.entries) > b.cfg.Max*9/10 {
		return false
	}
	b.skipped = false
	return true
}

func (b *Book) add(e *entry) *entry {
	b.entries[e.key] = e
	b.objects[e.key.UID] = append(b.objects[e.key.UID], e)
	heap.Push(&b.queue, e)
	return e
}

func (b *Book) remove(e *entry) {
	delete(b.entries, e.key)
	heap.Remove(&b.queue, e.index)
	list := slices.DeleteFunc(b.objects[e.key.UID], func(other *entry) bool { return other == e })
	if len(list) == 0 {
		delete(b.objects, e.key.UID)
		return
	}
	b.objects[e.key.UID] = list
}

// queue is a min-heap of entries by due time (container/heap).
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { e := x.(*entry); e.index = len(*q); *q = append(*q, e) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}
