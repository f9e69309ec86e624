package timeline

import (
	"fmt"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// readDecisions decodes a message of the stream of decisions, which holds what
// people answer and command as well.
func readDecisions(raw bus.Raw) sayer {
	// selfheal.v1.<cluster>.<root>.…
	tokens := strings.SplitN(raw.Subject, ".", 5)
	root := ""
	if len(tokens) == 5 {
		root = tokens[3]
	}
	switch root {
	case bus.Approvals.Root:
		return decode(raw, func(e heal.Event[heal.Approval]) sayer { return approval{e} })
	case bus.Controls.Root:
		return decode(raw, func(e heal.Event[heal.Control]) sayer { return control{e} })
	}
	return decode(raw, func(e heal.Event[heal.Decision]) sayer { return decision{e} })
}

type approval struct{ heal.Event[heal.Approval] }

func (e approval) say(*Timeline) []Line {
	a := e.Data
	l := Line{At: e.Time, Stage: Aside, Word: "APPROVED", Tone: Good, Head: a.DecisionID, Text: "by " + heal.Clean(a.By, 64)}
	if !a.Approved {
		l.Word, l.Tone = "REJECTED", Warn
	}
	l.Text += why(a.Reason)
	return []Line{l}
}

type control struct{ heal.Event[heal.Control] }

func (e control) say(*Timeline) []Line {
	c := e.Data
	l := Line{At: e.Time, Stage: Aside, Word: "PAUSED", Tone: Warn, Text: "nothing is changed any more, by order of " + heal.Clean(c.By, 64)}
	switch {
	case c.Verb == heal.TakeBack:
		l.Word, l.Head, l.Text = "UNDO", c.DecisionID, "is to be taken back, by order of "+heal.Clean(c.By, 64)
	case c.Verb == heal.TakenBack:
		l.Word, l.Head, l.Text = "UNDO", c.DecisionID, string(c.Outcome)
	case c.Verb == heal.Resume:
		l.Word, l.Tone, l.Text = "RESUMED", Good, "acting goes on, by order of "+heal.Clean(c.By, 64)
	case !c.Until.IsZero():
		l.Text += fmt.Sprintf(", until %s", c.Until.UTC().Format(time.RFC3339))
	}
	l.Text += why(c.Reason)
	return []Line{l}
}

func why(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + heal.Clean(reason, heal.MaxText)
}
