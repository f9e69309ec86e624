package notifier

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/channel"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// A Trial is what came of a test message at one place.
type Trial struct {
	Channel, To string
	Err         error // nil: it was taken
}

// Try sends one message that says that it is a test to every place of the
// channels that the settings configure, and to those of the only channel if
// that is not empty. It needs no bus, and remembers nothing.
func Try(ctx context.Context, s config.Settings, only string) ([]Trial, error) {
	policy, err := readPolicy(s.NotifyPolicyFile)
	if err != nil {
		return nil, config.Invalid(err)
	}
	lines, err := channel.OpenFor(s, 10*time.Second, policy.Places())
	if err == nil {
		err = reachable(policy, lines)
	}
	if err != nil {
		return nil, config.Invalid(err)
	}
	now := time.Now().UTC()
	var all []Trial
	for _, line := range lines {
		for _, l := range line.Listeners {
			if only == "" || only == l.Channel {
				all = append(all, Trial{l.Channel, l.To, line.Send(ctx, trial(l, now))})
			}
		}
	}
	return all, nil
}

// trial is a test message. People get one that nobody can take for an incident,
// and that calls nobody; a machine gets a dry run.
func trial(l route.Listener, now time.Time) heal.Notification {
	n := sample.Notification(l.Channel, l.To, sample.Tried())
	n.Result.Decision.IncidentID = heal.ID("i", "test", now.Format(time.RFC3339Nano))
	n.Result.Decision.Failure.Description = "this is a test of the channel; nothing is wrong"
	n.Result.Message = "selfheal notify test"
	n.Severity, n.Result.Decision.Severity = heal.Low, heal.Low
	if l.Audience == route.Record || l.Audience == route.Changes || l.Audience == route.OnCall {
		return n
	}
	n.Result = heal.Result{}
	n.Digest = &heal.Digest{ID: heal.ID("g", "test", now.Format(time.RFC3339Nano)), Kind: "test", Title: "this is a test of the channel; nothing is wrong", Lines: []string{"selfheal notify test"}, Over: true}
	return n
}

// samples are what Render can show, by name.
func samples() map[string]heal.Result {
	return map[string]heal.Result{
		"healed": sample.Healed(), "failed": sample.Drained(), "unproven": sample.Unproven(), "refused": sample.Refused(),
		"proposed": sample.Proposed(), "watched": sample.Watched(), "dry-run": sample.Tried(),
	}
}

// Samples are the names that Render knows.
func Samples() []string { return slices.Sorted(maps.Keys(samples())) }

// Render writes what a message about a sample, or about the result in the JSON,
// says to people, as text: in the words, and with the links, of the policy that
// the settings name.
func Render(s config.Settings, name string, result []byte) (string, error) {
	policy, err := readPolicy(s.NotifyPolicyFile)
	if err != nil {
		return "", config.Invalid(err)
	}
	r, ok := samples()[name]
	if result != nil {
		e, err := heal.Decode[heal.Result](result)
		if err == nil {
			r = e.Data
		} else if bare := json.Unmarshal(result, &r); bare != nil || r.Validate() != nil {
			return "", fmt.Errorf("the file holds no result: %w", err)
		}
	} else if !ok {
		return "", fmt.Errorf("sample %q is not known; want one of %s", heal.Clean(name, 64), strings.Join(Samples(), ", "))
	}
	news := talk.News{ID: r.Head().ID, At: r.StartedAt, Result: &r, Origin: sample.Notification("text", "", r).Origin}
	i, _ := talk.Incident{ID: r.Decision.IncidentID}.Hear(news)
	told := story.Of(compose(policy, route.Listener{Channel: "text", Audience: route.Incident}, i, news, i.Seq))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\n%s\n%s\n\n", told.Mark, told.Headline, told.Happened, told.Ended)
	for _, f := range told.Facts {
		fmt.Fprintf(&b, "%-14s%s\n", f.Name, f.Value)
	}
	for _, l := range told.Links {
		fmt.Fprintf(&b, "%-14s%s\n", l.Name, l.URL)
	}
	for _, c := range told.Chapters {
		fmt.Fprintf(&b, "\n%s\n  %s\n", c.Title, strings.Join(c.Lines, "\n  "))
	}
	return b.String(), nil
}
