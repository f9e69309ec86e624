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
	"slices"
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
}

// options are what a channel is opened with.
type options struct {
	config.Settings               // each channel takes what it needs
	timeout         time.Duration // for one attempt to hand over a message
}

// A Line is a channel that is configured.
type Line struct {
	Name      string
	Listeners []route.Listener
	Warnings  []string // what the operator should know about its settings
	Channel
}

// Open opens every channel that the settings ask for. timeout is for one
// attempt to hand over a message. All that is wrong is reported at once.
func Open(s config.Settings, timeout time.Duration) ([]*Line, error) {
	var lines []*Line
	var errs []error
	for _, k := range kinds {
		line, err := k.open(options{s, timeout})
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

// Unserved names the settings that ask for a channel that there is not.
func Unserved(s config.Settings) []string {
	var names []string
	for name, set := range map[string]bool{
		"slack_bot_token": s.SlackBotToken != "",
	} {
		if set {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
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

// proven reports whether the trouble was seen to be over, on the live cluster,
// after what we did.
func proven(r heal.Result) bool {
	return r.Outcome == heal.Succeeded && r.Verification != nil && r.Verification.Passed
}

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
