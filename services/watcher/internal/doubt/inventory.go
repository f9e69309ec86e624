package doubt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxFall is the part of a kind's objects that one resync may lose, and
	// minFall how many it may lose anyway: of few objects, a few are many.
	maxFall = 0.20
	minFall = 5

	// A fall is confirmed by reading everything again, not sooner than the first, which
	// gives whatever is broken, or being repaired, its time, and not more
	// often than the second.
	confirmAfter = time.Minute
	confirmEvery = 30 * time.Second
)

// inventory is what is believed about one kind's objects.
type inventory struct {
	count   int // objects; negative if that is not known
	resyncs int
	cliff   *cliff // a fall that is not confirmed
}

// A cliff is that much of a kind was gone after it was read anew.
type cliff struct {
	before, after int
	at            time.Duration // Up
	asked         time.Duration // Up when another reading was wished for
}

// fell reports whether losing so many at once is hard to believe. All of what
// there was, if that was more than one, always is.
func fell(before, after int) bool {
	lost := before - after
	if after == 0 && before > 1 {
		return true
	}
	return lost >= minFall && float64(lost) > maxFall*float64(before)
}

// count takes in how many objects there are.
func (m *Mind) count(f Facts) {
	for _, k := range f.Kinds {
		inv := m.kinds[k.Resource]
		if inv == nil {
			inv = &inventory{count: -1}
			if n, ok := m.stored[k.Resource]; ok {
				inv.count = n
			}
			m.kinds[k.Resource] = inv
		}
		if !k.Synced || k.Count < 0 {
			continue
		}
		if inv.cliff != nil {
			inv.settle(k, f)
		}
		if inv.cliff == nil && k.Resyncs > inv.resyncs && inv.count >= 0 && fell(inv.count, k.Count) {
			inv.cliff = &cliff{before: inv.count, after: k.Count, at: f.Up, asked: -confirmEvery}
		}
		inv.resyncs = k.Resyncs
		if inv.cliff == nil {
			inv.count = k.Count
		}
	}
}

// settle ends a cliff when what was gone is there again, or when everything
// was read again and it is gone indeed.
func (inv *inventory) settle(k Kind, f Facts) {
	c := inv.cliff
	if !fell(c.before, k.Count) {
		inv.cliff = nil
		return
	}
	c.after = k.Count
	if k.Resyncs > inv.resyncs && f.Up-c.at >= confirmAfter {
		inv.cliff = nil
		inv.count = k.Count
	}
}

// inventoryCliff doubts an inventory that has just fallen: a list that is
// empty for want of rights, or read from a broken server, looks like that.
func inventoryCliff(m *Mind, f Facts) string {
	var falls []string
	for _, k := range f.Kinds {
		if c := m.kinds[k.Resource].cliff; c != nil {
			falls = append(falls, fmt.Sprintf("%s fell from %d to %d in one resync", k.Resource, c.before, c.after))
		}
	}
	if len(falls) == 0 {
		return ""
	}
	return strings.Join(falls, "; ") + "; not confirmed yet"
}

// wantAgain is the resources of which everything is to be read again.
func (m *Mind) wantAgain(f Facts) []string {
	var want []string
	for resource, inv := range m.kinds {
		if c := inv.cliff; c != nil && f.Up-c.at >= confirmAfter && f.Up-c.asked >= confirmEvery {
			c.asked = f.Up
			want = append(want, resource)
		}
	}
	slices.SortFunc(want, cmp.Compare[string])
	return want
}

// believed is the inventory to be remembered: without falls that are not
// confirmed, so that a restart does not confirm them.
func (m *Mind) believed(f Facts) map[string]int {
	all := map[string]int{}
	for _, k := range f.Kinds {
		if inv := m.kinds[k.Resource]; inv.count >= 0 && !k.Optional {
			all[k.Resource] = inv.count
		}
	}
	return all
}
