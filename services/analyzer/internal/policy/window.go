package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a container need not have any

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Window is a time of the week, by the clock of a place. From 22:00 to 06:00
// is a night, which belongs to the day that it begins on.
type Window struct {
	Days []string `json:"days,omitempty"` // mon … sun; none: every day
	From string   `json:"from,omitempty"` // 15:04; "": 00:00
	To   string   `json:"to,omitempty"`   // 15:04, not included; "": the end of the day
	Zone string   `json:"zone,omitempty"` // IANA name; "": UTC
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

// Contains reports whether now is in the window. One that says nothing is always.
func (w Window) Contains(now time.Time) bool {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return true // check refuses it; a window that nobody understands makes us careful
	}
	local := now.In(zone)
	minute := local.Hour()*60 + local.Minute()
	from, to := clock(w.From, 0), clock(w.To, 24*60)
	on := func(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[d]) }
	if from < to {
		return from <= minute && minute < to && on(local.Weekday())
	}
	return minute >= from && on(local.Weekday()) || minute < to && on((local.Weekday()+6)%7)
}

// clock is a time of the day in minutes.
func clock(text string, otherwise int) int {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return otherwise
	}
	return t.Hour()*60 + t.Minute()
}

// String is the window as people write it: "mon fri 22:00–06:00 Europe/Berlin".
func (w Window) String() string {
	from, to, zone := w.From, w.To, w.Zone
	if from == "" {
		from = "00:00"
	}
	if to == "" {
		to = "24:00"
	}
	if zone == "" {
		zone = "UTC"
	}
	return strings.TrimSpace(strings.Join(w.Days, " ") + " " + from + "–" + to + " " + zone)
}

func (w Window) check(field string) error {
	var errs []error
	for i, d := range w.Days {
		errs = append(errs, OneOf(fmt.Sprintf("%s.days[%d]", field, i), d, weekdays))
	}
	for _, t := range []struct{ name, text string }{{"from", w.From}, {"to", w.To}} {
		if _, err := time.Parse("15:04", t.text); t.text != "" && err != nil {
			errs = append(errs, fmt.Errorf(`%s.%s: %q is not a time of the day; want one such as "22:30"`, field, t.name, heal.Clean(t.text, 64)))
		}
	}
	if w.From != "" && w.From == w.To {
		errs = append(errs, fmt.Errorf("%s: from and to are both %s, so it would never be", field, w.From))
	}
	if _, err := time.LoadLocation(w.Zone); err != nil {
		errs = append(errs, fmt.Errorf(`%s.zone: %q is not a time zone; want an IANA name such as "Europe/Berlin"`, field, heal.Clean(w.Zone, 64)))
	}
	return errors.Join(errs...)
}

// Maintenance is a window in which nothing is done, as people are at work.
type Maintenance struct {
	Name string `json:"name"`
	Window
	Namespaces []string `json:"namespaces,omitempty"` // none: everywhere
}

// Covers reports whether it is under way for what is in a namespace. What is
// in none, as a node, is covered by those that are everywhere.
func (m Maintenance) Covers(namespace string, now time.Time) bool {
	return (len(m.Namespaces) == 0 || slices.Contains(m.Namespaces, namespace)) && m.Contains(now)
}
