package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Remark is about something that a policy may say, but that hardly anybody
// means.
type Remark struct {
	Field string
	Line  int // 0: it is not in the document
	Text  string
}

// String is the remark with its place.
func (r Remark) String() string {
	if r.Line == 0 {
		return r.Field + ": " + r.Text
	}
	return fmt.Sprintf("%s: %s (line %d)", r.Field, r.Text, r.Line)
}

// Lint reads a policy and says what in it cannot be meant so.
func Lint(data []byte) (Policy, []Remark, error) {
	p, err := Parse(data)
	if err != nil {
		return p, nil, err
	}
	at := linesOf(data)
	var remarks []Remark
	remark := func(field, format string, args ...any) {
		remarks = append(remarks, Remark{field, at.line(field), fmt.Sprintf(format, args...)})
	}
	d := p.doc
	for i, t := range d.Similar.Thresholds {
		for _, earlier := range d.Similar.Thresholds[:i] {
			switch {
			case earlier.MoreThan <= t.MoreThan && earlier.AtLeast.AtLeast(t.AtLeast) == earlier.AtLeast:
				remark(fmt.Sprintf("similar.thresholds[%d]", i), "never matters: more than %d similar failures make it at least %s already", earlier.MoreThan, earlier.AtLeast)
			case earlier.MoreThan >= t.MoreThan && t.AtLeast.AtLeast(earlier.AtLeast) == t.AtLeast:
				remark(fmt.Sprintf("similar.thresholds[%d]", i), "the threshold of more than %d never matters beside it", earlier.MoreThan)
			}
		}
	}
	for i, m := range d.Guards.Maintenance {
		if m.always() && len(m.Namespaces) == 0 {
			remark(fmt.Sprintf("guards.maintenance[%d]", i), "%q is always under way, and everywhere: nothing is ever done", m.Name)
		}
	}
	names, every := map[string]bool{}, ""
	for i, r := range d.Rules {
		field := fmt.Sprintf("rules[%d]", i)
		if every != "" {
			remark(field, "never counts: rule %q before it matches everything", every)
		}
		if names[r.Name] {
			remark(field+".name", "%q is the name of another rule too: decisions do not tell them apart, and they share their budget", r.Name)
		}
		names[r.Name] = true
		if r.Window != nil && r.Window.always() {
			remark(field+".window", "is always")
		}
		if r.Mode == heal.ModeAuto {
			remark(field+".mode", "auto changes nothing: a rule's mode only ever tightens")
		}
		if r.Budget != nil && (r.Strategy == heal.Monitor || r.Mode == heal.ModeOff || r.Mode == heal.ModeObserve) {
			remark(field+".budget", "is never touched: the rule lets nothing be done")
		}
		if r.matchesAll() && r.Strategy != "" && r.Strategy != heal.Monitor {
			var not []string
			for _, t := range heal.FailureTypes {
				if !slices.Contains(choices(t), r.Strategy) {
					not = append(not, string(t))
				}
			}
			remark(field+".strategy", "%s is no strategy for %s, which the rule matches as well: those are only watched", r.Strategy, strings.Join(not, ", "))
		}
		if r.matchesAll() && (r.Window == nil || r.Window.always()) {
			every = r.Name
		}
	}
	return p, remarks, nil
}

func (r Rule) matchesAll() bool { return r.Match == "" || strings.TrimSpace(r.Match) == "true" }

// always reports whether the window is never over.
func (w Window) always() bool {
	return (len(w.Days) == 0 || len(w.Days) >= len(weekdays)) && clock(w.From, 0) == 0 && clock(w.To, 24*60) == 24*60
}
