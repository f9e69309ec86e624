// Package gate keeps a storm of incidents from becoming a storm of messages: of
// more than a few messages to one place in a short time, the rest goes into a
// digest. It is pure: now is a parameter.
package gate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// The sorts of digest.
const (
	Storm  = "storm"
	Start  = "start"  // what was before anybody was told anything
	Daily  = "daily"  // low severities
	Weekly = "weekly" // what fails again and again
)

// A Gate is one place's, and stands in a bucket.
type Gate struct {
	Channel string      `json:"channel"`
	To      string      `json:"to,omitempty"`
	Passed  []time.Time `json:"passed,omitempty"` // messages of late
	Digests []Digest    `json:"digests,omitempty"`
	Weekly  time.Time   `json:"weekly,omitzero"` // when the last one was
}

// A Digest is one that is not over.
type Digest struct {
	ID    string    `json:"id"`
	Kind  string    `json:"kind"`
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"` // when something was added
	Sent  int       `json:"sent"` // messages
	Told  time.Time `json:"told,omitzero"`
	Extra int       `json:"extra,omitempty"`
}

// extra is how many critical messages of a storm stand for themselves beyond
// the limit: a critical incident among a thousand others must not drown.
const extra = 5

// updates are when a storm's digest is told, after it began. With those that
// passed before, the extra ones and the end that makes 20 messages.
var updates = []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute, time.Hour}

// freshness is how old the figures of a digest may be that can be edited. The
// last addition is known no better than to a second.
const freshness = 5 * time.Second

// Admit returns the gate after one more message, and the digest that the
// message goes into; empty if it may pass.
func (g Gate) Admit(s route.Storm, critical bool, now time.Time) (Gate, string) {
	g.Passed = slices.DeleteFunc(slices.Clone(g.Passed), func(t time.Time) bool { return now.Sub(t) >= time.Duration(s.Within) })
	g.Digests = slices.Clone(g.Digests)
	at := slices.IndexFunc(g.Digests, func(d Digest) bool { return d.Kind == Storm && now.Sub(d.Last) < time.Duration(s.Quiet) })
	if at < 0 {
		if len(g.Passed) < s.Above {
			g.Passed = append(g.Passed, now)
			return g, ""
		}
		g.Digests = append(g.Digests, g.digest(Storm, now.UTC().Format(time.RFC3339Nano), now))
		at = len(g.Digests) - 1
	}
	d := &g.Digests[at]
	d.Last = now
	if critical && d.Extra < extra {
		d.Extra++
		return g, ""
	}
	return g, d.ID
}

// Into returns the gate with a digest of a kind, that which is the current one.
func (g Gate) Into(kind, name string, now time.Time) (Gate, string) {
	d := g.digest(kind, name, now)
	if i := slices.IndexFunc(g.Digests, func(o Digest) bool { return o.ID == d.ID }); i >= 0 {
		g.Digests = slices.Clone(g.Digests)
		g.Digests[i].Last = now
		return g, d.ID
	}
	g.Digests = append(slices.Clone(g.Digests), d)
	return g, d.ID
}

func (g Gate) digest(kind, name string, now time.Time) Digest {
	return Digest{ID: heal.ID("g", g.Channel, g.To, kind, name), Kind: kind, Since: now, Last: now}
}

// Due reports whether d is to be told now at a place, given that so many of its
// incidents are not over, and whether for the last time.
func (d Digest) Due(p route.Policy, edits bool, open int, now time.Time) (due, over bool) {
	switch d.Kind {
	case Start:
		return now.Sub(d.Last) >= 20*time.Second || now.Sub(d.Since) >= 2*time.Minute, true
	case Daily:
		return p.Daily == nil || route.Last(now, "", p.Daily.At, p.Daily.Zone).After(d.Since), true
	}
	if d.Sent > 0 && open == 0 && now.Sub(d.Last) >= time.Duration(p.Storm.Quiet) {
		return true, true
	}
	if edits && d.Sent > 0 { // an edit is no further message
		return d.Last.Add(freshness).After(d.Told) && now.Sub(d.Told) >= freshness, false
	}
	return d.Sent < len(updates) && now.Sub(d.Since) >= updates[d.Sent], false
}

// Told returns the gate after a message of the digest.
func (g Gate) Told(id string, over bool, now time.Time) Gate {
	g.Digests = slices.Clone(g.Digests)
	g.Digests = slices.DeleteFunc(g.Digests, func(d Digest) bool { return over && d.ID == id })
	for i := range g.Digests {
		if g.Digests[i].ID == id {
			g.Digests[i].Sent++
			g.Digests[i].Told = now.UTC()
		}
	}
	return g
}

// Write sums the incidents up. Their severity is the highest among them.
func (d Digest) Write(members []talk.Incident, over bool) (heal.Digest, heal.Severity) {
	severity, open := heal.Low, 0
	by := map[string]int{}
	for _, i := range members {
		if slices.Index(heal.Severities, i.Severity) > slices.Index(heal.Severities, severity) {
			severity = i.Severity
		}
		if !i.Phase.Over() {
			open++
		}
		by[fmt.Sprintf("%s: %s in %s", i.Severity, i.Reason, cmp.Or(i.Object.Namespace, "the cluster"))]++
	}
	what := map[string]string{
		Storm: "%d incidents in a storm, %d not over yet", Start: "%d incidents were there before anybody was told, %d not over yet",
		Daily: "%d incidents of low severity since yesterday, %d not over yet",
	}[d.Kind]
	title := fmt.Sprintf(what, len(members), open)
	if over && open == 0 && d.Kind == Storm {
		title = fmt.Sprintf("the storm is over: %d incidents, none is left", len(members))
	}
	return heal.Digest{ID: d.ID, Kind: d.Kind, Title: title, Lines: counts(by, 20), Total: len(members), Open: open, Over: over}, severity
}

// Offenders writes what had at least so many incidents since a time; there are
// none if the digest has no lines.
func Offenders(all []talk.Incident, since time.Time, atLeast int) heal.Digest {
	by, total := map[string]int{}, 0
	for _, i := range all {
		if !i.Began.Before(since) && i.Phase != "" {
			by[fmt.Sprintf("%s: %s", i.Object, i.Reason)]++
		}
	}
	maps.DeleteFunc(by, func(_ string, n int) bool { return n < atLeast })
	for _, n := range by {
		total += n
	}
	return heal.Digest{Kind: Weekly, Title: fmt.Sprintf("%d things failed again and again in the last 7 days", len(by)), Lines: counts(by, 10), Total: total, Over: true}
}

// counts writes the most frequent first.
func counts(by map[string]int, most int) []string {
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(by[b]-by[a], strings.Compare(a, b)) })
	lines := []string{}
	for _, name := range names[:min(most, len(names))] {
		lines = append(lines, fmt.Sprintf("• %d × %s", by[name], name))
	}
	if left := names[min(most, len(names)):]; len(left) > 0 {
		n := 0
		for _, name := range left {
			n += by[name]
		}
		lines = append(lines, fmt.Sprintf("• %d of %d further sorts", n, len(left)))
	}
	return lines
}
