package route

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

// A Policy is what an operator may change about who hears what, and when. The
// zero value of each part is the default.
type Policy struct {
	Routes []Rule `json:"routes,omitempty"` // the first that fits decides, unless it says continue; without any, the contract's routes
	Mute   []Mute `json:"mute,omitempty"`
	Group  Group  `json:"group,omitempty"`
	Storm  Storm  `json:"storm,omitempty"`
	Daily  *Daily `json:"daily,omitempty"`
	Weekly Weekly `json:"weekly,omitempty"`
	Links  Links  `json:"links,omitempty"`

	Templates story.Templates `json:"templates,omitempty"`
}

// A Rule sends what fits to places.
type Rule struct {
	Match    heal.Match `json:"match,omitempty"`
	During   *Window    `json:"during,omitempty"`
	To       []string   `json:"to"` // "slack:#shop", "email:a@example.com", "pagerduty"; none is nobody
	Continue bool       `json:"continue,omitempty"`
}

// A Mute is a silence that comes again.
type Mute struct {
	Match  heal.Match `json:"match,omitempty"`
	During Window     `json:"during"`
	Reason string     `json:"reason"`
}

// A Window is a part of the week. One whose end is not after its beginning goes
// past midnight, and belongs to the day on which it begins.
type Window struct {
	Days  []string `json:"days,omitempty"`  // mon … sun; none is every day
	From  string   `json:"from,omitempty"`  // 09:00; none is midnight
	Until string   `json:"until,omitempty"` // 17:30; none is midnight
	Zone  string   `json:"zone,omitempty"`  // Europe/Berlin; none is UTC
}

// Group is how news of one incident is held together.
type Group struct {
	Wait     Span  `json:"wait,omitempty"`     // how long a new incident waits for further news; default 0
	Interval Span  `json:"interval,omitempty"` // those whose messages cannot be changed hear again of what they know, when there is news of it, after; default 0 is never
	Repeat   *Span `json:"repeat,omitempty"`   // a person must still look: say so again after; 0 is never; default 4h
	Settle   Span  `json:"settle,omitempty"`   // after a try that did not help, it is over when nothing failed for so long; default 5m
}

// Storm is when messages become one digest.
type Storm struct {
	Above  int  `json:"above,omitempty"`  // messages to a place within the time; default 10
	Within Span `json:"within,omitempty"` // default 1m
	Quiet  Span `json:"quiet,omitempty"`  // the storm is over when nothing new came for so long; default 5m
}

// Daily keeps low severities for one message a day.
type Daily struct {
	Severities []heal.Severity `json:"severity,omitempty"` // default low
	At         string          `json:"at,omitempty"`       // default 09:00
	Zone       string          `json:"zone,omitempty"`
}

// Weekly tells what fails again and again.
type Weekly struct {
	Disable bool   `json:"disable,omitempty"`
	Day     string `json:"day,omitempty"` // default mon
	At      string `json:"at,omitempty"`  // default 09:00
	Zone    string `json:"zone,omitempty"`
	AtLeast int    `json:"at_least,omitempty"` // incidents of one thing within 7 days; default 3
}

// Links is where messages may lead. Annotations are anybody's to write.
type Links struct {
	RunbookHosts []string `json:"runbook_hosts,omitempty"` // hosts that a runbook annotation may name
	Dashboard    string   `json:"dashboard,omitempty"`     // with {namespace}, {kind}, {name}, {incident}
	Report       string   `json:"report,omitempty"`        // likewise
}

// A Span is a duration as people write it.
type Span time.Duration

// UnmarshalJSON reads "5m" and 300.
func (s *Span) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 || d > 31*24*time.Hour {
		return fmt.Errorf("want a duration from 0 to 744h such as 5m, got %s", heal.Clean(string(data), 32))
	}
	*s = Span(d)
	return nil
}

// Parse reads a policy and puts the defaults in. It refuses what it does not know.
func Parse(data []byte) (Policy, error) {
	var p Policy
	if err := yaml.UnmarshalStrict(data, &p); err != nil {
		return p, errors.New(heal.Clean(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: "), 512))
	}
	repeat := Span(4 * time.Hour)
	p.Group.Settle = or(p.Group.Settle, Span(5*time.Minute))
	p.Group.Repeat = or(p.Group.Repeat, &repeat)
	p.Storm.Above = or(p.Storm.Above, 10)
	p.Storm.Within = or(p.Storm.Within, Span(time.Minute))
	p.Storm.Quiet = or(p.Storm.Quiet, Span(5*time.Minute))
	if d := p.Daily; d != nil {
		d.At = or(d.At, "09:00")
		if len(d.Severities) == 0 {
			d.Severities = []heal.Severity{heal.Low}
		}
	}
	p.Weekly.Day, p.Weekly.At, p.Weekly.AtLeast = or(p.Weekly.Day, "mon"), or(p.Weekly.At, "09:00"), or(p.Weekly.AtLeast, 3)
	return p, p.check()
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (p Policy) check() error {
	var errs []error
	at := func(where string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
	}
	for i, r := range p.Routes {
		where := fmt.Sprintf("routes[%d]", i)
		at(where, r.Match.Validate())
		if r.During != nil {
			at(where+".during", r.During.check())
		}
		for j, to := range r.To {
			if channel, _ := SplitPlace(to); channel == "" {
				at(fmt.Sprintf("%s.to[%d]", where, j), fmt.Errorf("%q is not a place; want channel or channel:place such as slack:#shop", heal.Clean(to, 64)))
			}
		}
	}
	for i, m := range p.Mute {
		where := fmt.Sprintf("mute[%d]", i)
		at(where, m.Match.Validate())
		at(where+".during", m.During.check())
		if m.Reason == "" {
			at(where, errors.New("reason: is empty; say why nobody is to be told"))
		}
	}
	if p.Storm.Above < 1 || p.Storm.Above > 1000 {
		at("storm", fmt.Errorf("above: want 1 to 1000, got %d", p.Storm.Above))
	}
	if d := p.Daily; d != nil {
		at("daily", Window{From: d.At, Zone: d.Zone}.check())
		if slices.Contains(d.Severities, heal.Critical) {
			at("daily", errors.New("severity: critical cannot wait for a day"))
		}
		at("daily", heal.Match{Severities: d.Severities}.Validate())
	}
	if err := p.Templates.Check(); err != nil {
		errs = append(errs, err)
	}
	at("weekly", Window{Days: []string{p.Weekly.Day}, From: p.Weekly.At, Zone: p.Weekly.Zone}.check())
	for name, link := range map[string]string{"dashboard": p.Links.Dashboard, "report": p.Links.Report} {
		if u, err := url.Parse(link); link != "" && (err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil) {
			at("links", fmt.Errorf("%s: %q is not a URL with https:// and a host, without credentials", name, heal.Clean(link, 64)))
		}
	}
	return errors.Join(errs...)
}

// SplitPlace parts "slack:#shop" into the channel and the place on it.
func SplitPlace(text string) (channel, to string) {
	channel, to, _ = strings.Cut(text, ":")
	return channel, to
}

// Places are all places that the routes name, by channel.
func (p Policy) Places() map[string][]string {
	all := map[string][]string{}
	for _, r := range p.Routes {
		for _, text := range r.To {
			if channel, to := SplitPlace(text); !slices.Contains(all[channel], to) {
				all[channel] = append(all[channel], to)
			}
		}
	}
	return all
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (w Window) check() error {
	for _, d := range w.Days {
		if !slices.Contains(weekdays, d) {
			return fmt.Errorf("days: %q is not one of %v", heal.Clean(d, 32), weekdays)
		}
	}
	for _, text := range []string{w.From, w.Until} {
		if _, err := minutes(text, 0); err != nil {
			return err
		}
	}
	if _, err := time.LoadLocation(w.Zone); err != nil {
		return fmt.Errorf("zone: %q is not a time zone such as Europe/Berlin", heal.Clean(w.Zone, 64))
	}
	return nil
}

// minutes reads 09:30 as minutes since midnight.
func minutes(text string, def int) (int, error) {
	if text == "" {
		return def, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of day such as 09:30", heal.Clean(text, 32))
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Holds reports whether now is within the window, by the clock on the wall in
// its zone: when the clocks change, so does the window.
func (w Window) Holds(now time.Time) bool {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return false
	}
	now = now.In(zone)
	from, _ := minutes(w.From, 0)
	until, _ := minutes(w.Until, 24*60)
	at := now.Hour()*60 + now.Minute()
	on := func(day time.Weekday) bool {
		return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[(day+7)%7])
	}
	if from < until {
		return on(now.Weekday()) && at >= from && at < until
	}
	return on(now.Weekday()) && at >= from || on(now.Weekday()-1) && at < until
}

// Last is the latest time, not after now, at which the clock in the zone showed
// that time, on that day if one is given.
func Last(now time.Time, day, at, zone string) time.Time {
	place, err := time.LoadLocation(zone)
	if err != nil {
		place = time.UTC
	}
	now = now.In(place)
	m, _ := minutes(at, 0)
	for back := range 8 {
		t := time.Date(now.Year(), now.Month(), now.Day()-back, m/60, m%60, 0, 0, place)
		if !t.After(now) && (day == "" || weekdays[t.Weekday()] == day) {
			return t
		}
	}
	return time.Time{} // there is one within 8 days
}

// For fills in a link with the names of the failure's owner.
func (l Links) For(incident string, f heal.Failure) map[string]string {
	owner := f.Affected()
	fill := func(link string) string {
		return strings.NewReplacer("{namespace}", url.QueryEscape(owner.Namespace), "{kind}", url.QueryEscape(owner.Kind),
			"{name}", url.QueryEscape(owner.Name), "{incident}", url.QueryEscape(incident)).Replace(link)
	}
	all := map[string]string{}
	for name, link := range map[string]string{"dashboard": l.Dashboard, "report": l.Report} {
		if link != "" {
			all[name] = fill(link)
		}
	}
	if u, err := url.Parse(f.Metadata[heal.MetadataRunbook]); err == nil && u.Scheme == "https" && u.User == nil && slices.Contains(l.RunbookHosts, u.Host) {
		all["runbook"] = u.String()
	}
	if team := f.Metadata[heal.MetadataTeam]; team != "" {
		all["team"] = heal.Clean(team, 64)
	}
	return all
}
