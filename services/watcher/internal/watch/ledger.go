package watch

import (
	"cmp"
	"slices"
)

// A ledger is a map from hashes to a few bytes, in three fifths of the room
// that Go's map takes: sorted pages, of which a new entry moves half a one.
type ledger struct {
	pages [256][]row // by the upper byte of the key
	len   int
}

type row struct {
	key uint64
	compact
}

func (l *ledger) find(key uint64) (page *[]row, i int, ok bool) {
	page = &l.pages[key>>56]
	i, ok = slices.BinarySearchFunc(*page, key, func(r row, key uint64) int { return cmp.Compare(r.key, key) })
	return page, i, ok
}

func (l *ledger) get(key uint64) (compact, bool) {
	page, i, ok := l.find(key)
	if !ok {
		return compact{}, false
	}
	return (*page)[i].compact, true
}

// put enters c, and returns what was there.
func (l *ledger) put(key uint64, c compact) (before compact, had bool) {
	page, i, ok := l.find(key)
	if ok {
		before, (*page)[i].compact = (*page)[i].compact, c
		return before, true
	}
	l.len++
	if len(*page) == cap(*page) { // append would double it
		larger := make([]row, len(*page), len(*page)+len(*page)/8+2)
		copy(larger, *page)
		*page = larger
	}
	*page = slices.Insert(*page, i, row{key, c})
	return compact{}, false
}

func (l *ledger) remove(key uint64) {
	page, i, ok := l.find(key)
	if !ok {
		return
	}
	l.len--
	*page = slices.Delete(*page, i, i+1)
	if len(*page) < cap(*page)/2 {
		*page = slices.Clip(slices.Clone(*page))
	}
}

// each calls do with every entry; do must not change the ledger.
func (l *ledger) each(do func(key uint64, c compact)) {
	for _, page := range l.pages {
		for _, r := range page {
			do(r.key, r.compact)
		}
	}
}
