package analyzer

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/guard"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident/book"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// A memory is what the analyzers would remember, made from what the streams
// hold: failures, the decisions about them and the results of those. Nothing
// is judged again, as what was decided is on record. It is pure.
//
// It is what was lost, but for what no stream holds: to the millisecond it
// knows only when something was decided, and of the rest when it was stored.
// What has no decision yet is not in it, as that is still to be judged.
type memory struct {
	judge  judge
	groups map[string]incident.Group
	boards map[string]incident.Board
	purses map[string]incident.Purse

	opened    map[string]time.Time      // incidents
	announced map[string]time.Time      // what has no decision yet, by the id of that
	undecided map[string]int            // the same, counted by episode
	held      map[string][]heal.Failure // ends of episodes of which something is undecided
	ends      map[string]time.Time      // when the streams took those
	told      map[string]bool           // decisions by id
}

func newMemory(j judge) *memory {
	return &memory{
		judge: j, groups: map[string]incident.Group{}, boards: map[string]incident.Board{}, purses: map[string]incident.Purse{},
		opened: map[string]time.Time{}, announced: map[string]time.Time{}, undecided: map[string]int{},
		held: map[string][]heal.Failure{}, ends: map[string]time.Time{}, told: map[string]bool{},
	}
}

func episodeOf(f heal.Failure) string { return incident.Key(f) + "/" + f.EpisodeID }

// failed takes an announcement, or the end of what was announced, that the
// stream took at stored. Messages must come in the order in which they were stored.
func (m *memory) failed(f heal.Failure, stored time.Time) {
	episode := episodeOf(f)
	switch {
	case !f.Resolved():
		id := heal.MakeDecisionID(f)
		if _, twice := m.announced[id]; !twice && !m.told[id] { // as a copy is, and what was judged before it was announced
			m.announced[id] = stored
			m.undecided[episode]++
		}
	case m.undecided[episode] > 0:
		m.held[episode] = append(m.held[episode], f)
		m.ends[episode] = stored
	default:
		m.resolved(f, stored)
	}
}

func (m *memory) resolved(f heal.Failure, at time.Time) {
	key := incident.GroupKey(f)
	if s, news := m.groups[key].States[incident.Key(f)].Resolve(f, at, m.judge.policy.Window()); news {
		m.groups[key] = m.groups[key].With(f, s)
	}
	m.note(f, "", at)
}

// decided takes a decision that was told.
func (m *memory) decided(d heal.Decision) {
	f, window := d.Failure, m.judge.policy.Window()
	key, now := incident.GroupKey(f), d.Expires.Add(-lifetime(d.Mode))
	announced, known := m.announced[d.ID]
	if !known {
		announced = f.Timestamp.Time
	}
	m.told[d.ID] = true
	g := m.groups[key]
	s, seen := g.State(f, now, window).Observe(f, announced, now, window)
	if seen.Standing != incident.Decided {
		if s.Incident.ID != d.IncidentID && seen.Standing != incident.Superseded {
			s = s.Join(incident.Incident{ID: d.IncidentID, Opened: m.openedAt(d.IncidentID, now)}, now)
		}
		m.openedAt(s.Incident.ID, s.Incident.Opened)
		s = s.Decide(d, announced, now, m.judge.recoveryTimeout).Tell([]string{d.ID})
		g = g.With(f, s)
		if d.Reason == policy.ReasonDependency {
			g.Waits = incident.Wait{For: d.Parameters[parameterDependency], Since: now}
		} else if seen.Standing == incident.Current && !heldBack(d) {
			g.Waits = incident.Wait{}
		}
		m.groups[key] = g
		m.note(f, d.IncidentID, now)
		if rule := guard.PaidBy(d.Guards); rule != "" && d.Acts() {
			purse := incident.PurseKey(rule)
			p, _ := m.purses[purse].Spend(d.ID, now, 1<<30, longestBudget)
			p.Spent = p.Spent[max(0, len(p.Spent)-mostActions):]
			m.purses[purse] = p
		}
	}
	m.settled(d.ID, episodeOf(f))
}

// The longest time, and the most actions, of a budget that a policy may set.
const (
	longestBudget = 7 * 24 * time.Hour
	mostActions   = 1000
)

// settled has the end of an episode count once all of it is decided.
func (m *memory) settled(decision, episode string) {
	if _, known := m.announced[decision]; !known {
		return
	}
	delete(m.announced, decision)
	if m.undecided[episode]--; m.undecided[episode] > 0 {
		return
	}
	delete(m.undecided, episode)
	for _, f := range m.held[episode] {
		m.resolved(f, m.ends[episode])
	}
	delete(m.held, episode)
	delete(m.ends, episode)
}

func (m *memory) openedAt(id string, at time.Time) time.Time {
	if _, known := m.opened[id]; !known {
		m.opened[id] = at
	}
	return m.opened[id]
}

// ended takes a result that the stream took at stored.
func (m *memory) ended(r heal.Result, stored time.Time) {
	if !r.Decision.Acts() {
		return
	}
	f := r.Decision.Failure
	key := incident.GroupKey(f)
	if s, ended := m.groups[key].States[incident.Key(f)].End(r, stored, stored); ended {
		m.groups[key] = m.groups[key].With(f, s).Learn(r, stored)
	}
}

func (m *memory) note(f heal.Failure, incidentID string, at time.Time) {
	for _, key := range incident.BoardsOf(f) {
		if b, news := m.boards[key].Note(f, incidentID, at); news {
			m.boards[key] = b
		}
	}
}

// contents are what is worth keeping of it.
func (m *memory) contents(now time.Time) book.Contents {
	for episode, held := range m.held {
		for _, f := range held {
			m.resolved(f, m.ends[episode])
		}
	}
	c := book.Contents{Groups: map[string]incident.Group{}, Boards: map[string]incident.Board{}, Purses: map[string]incident.Purse{}}
	for key, g := range m.groups {
		if !g.Forgettable(now, m.judge.policy.Window()) {
			c.Groups[key] = g
		}
	}
	for key, b := range m.boards {
		if !b.Idle(now) {
			c.Boards[key] = b
		}
	}
	for key, p := range m.purses {
		if !p.Idle(now) {
			c.Purses[key] = p
		}
	}
	return c
}
