// Package channel tells people, and machines, what happened.
//
// To add a channel, write it in a file of its own and list it in kinds below;
// nothing else changes. A channel that speaks HTTP sends by the poster of
// http.go, and passes the conformance kit of conformance_test.go.
package channel

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
)

// A Channel delivers notifications to one audience. Send is called by one
// goroutine at a time and returns nil once the other side has taken the
// message, or else a *SendError. Its errors never hold a secret.
//
// A notification comes again when we die between the other side's taking it
// and our noting so. What a channel can do about the double it does (a key in
// a header, a name for the message); a Slack webhook offers nothing.
type Channel interface {
	Send(ctx context.Context, n heal.Notification) error
}

// A talker is a Channel that can add to what it said before of an incident.
// Tell gets what its last call for the conversation at that place returned,
// nothing at first; or what During said of a call of which nobody knows what
// became of it.
type talker interface {
	Tell(ctx context.Context, n heal.Notification, before Ref) (Ref, error)
	During(n heal.Notification, before Ref) Ref
}

// A Ref is what a channel remembers of a conversation: the id of its message.
type Ref string

// A Press is a person's pressing one of the buttons of a message.
type Press struct {
	User     string // the id, which its bearer cannot change
	Action   string // approve, reject, pause, explain
	Incident string
	Decision string
}

// The buttons.
const (
	Approve = "approve"
	Reject  = "reject"
	PauseIt = "pause"
	Explain = "explain"
)

// A kind is one sort of channel. open returns nil when the settings do not ask
// for it, and an error when they ask for what cannot work.
type kind struct {
	name string
	open func(o options) (*Line, error)
}

// kinds is every channel, in the order in which they are started.
var kinds = []kind{
	{"slack", openSlack},
	{"pagerduty", openPagerDuty},
	{"email", openEmail},
	{"alertmanager", openAlertmanager},
	{"webhook", openWebhook},
	{"shoutrrr", openShoutrrr},
}

// options are what a channel is opened with.
type options struct {
	config.Settings               // each channel takes what it needs
	timeout         time.Duration // for one attempt to hand over a message
	routed          []string      // further places on the channel that the policy's routes name
}

// A Line is a channel that is configured.
type Line struct {
	Name      string
	Listeners []route.Listener
	Warnings  []string // what the operator should know about its settings

	// Answers listens for people who press a button, until ctx is done, and
	// shows them what press says. It tells hears when it can be reached by them
	// (nil), and why it cannot. It is nil where there are no buttons.
	Answers func(ctx context.Context, press func(context.Context, Press) string, hears func(error)) error

	Channel
}

// Talks reports whether the line can add to what it said before.
func (l *Line) Talks() bool { _, ok := l.Channel.(talker); return ok }

// Tell hands n over; a line that cannot talk says each thing for itself.
func (l *Line) Tell(ctx context.Context, n heal.Notification, before Ref) (Ref, error) {
	if t, ok := l.Channel.(talker); ok {
		return t.Tell(ctx, n, before)
	}
	return before, l.Send(ctx, n)
}

// During is what to remember while Tell is under way.
func (l *Line) During(n heal.Notification, before Ref) Ref {
	if t, ok := l.Channel.(talker); ok {
		return t.During(n, before)
	}
	return before
}

// Open opens every channel that the settings ask for. timeout is for one
// attempt to hand over a message. All that is wrong is reported at once.
func Open(s config.Settings, timeout time.Duration) ([]*Line, error) {
	return OpenFor(s, timeout, nil)
}

// OpenFor is Open for a policy whose routes name places, by channel.
func OpenFor(s config.Settings, timeout time.Duration, routed map[string][]string) ([]*Line, error) {
	var lines []*Line
	var errs []error
	for _, k := range kinds {
		line, err := k.open(options{s, timeout, routed[k.name]})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if line == nil {
			continue
		}
		line.Name = k.name
		for i := range line.Listeners {
			line.Listeners[i].Channel = k.name
		}
		lines = append(lines, line)
	}
	return lines, errors.Join(errs...)
}

// A SendError is why a notification was not taken, and what may help.
type SendError struct {
	Reason    string
	Permanent bool          // no attempt can help
	After     time.Duration // the other side asked to be left alone so long; 0 if it did not
}

// Error implements error.
func (e *SendError) Error() string { return e.Reason }

// redacted stands where a secret would have.
const redacted = "***"

// unlink breaks the web addresses in foreign text, for places that make links
// of all that looks like one: whoever may name a pod could send the person on
// call anywhere.
func unlink(text string) string { return strings.ReplaceAll(text, "://", "[:]//") }

// keyForm is what any system takes as a key: PagerDuty's may have 255 characters.
var keyForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)

// incidentKey is the incident's id, or one derived from it when another writer
// gave it one that not every system would take as it is.
func incidentKey(incident string) string {
	if keyForm.MatchString(incident) {
		return incident
	}
	return heal.ID("i", incident)
}

func permanent(format string, args ...any) *SendError {
	return &SendError{Reason: fmt.Sprintf(format, args...), Permanent: true}
}
