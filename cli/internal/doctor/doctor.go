// Package doctor judges whether a system can heal: whether everything that it
// needs is there, current, permitted and listening. Each finding that is not
// well says how to mend it. Judging is pure; Examine asks the API server, and
// changes nothing.
package doctor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Unknown Level = "unknown" // it could not be looked at
	Warn    Level = "warn"    // it works, and not as it should
	Fail    Level = "fail"    // something cannot work
)

// A Finding is what one look came to.
type Finding struct {
	Level Level  `json:"level"`
	Check string `json:"check"`
	Says  string `json:"says"`
	Mend  string `json:"mend,omitempty"`
}

// Judge looks at everything, in the order in which one would mend it.
func Judge(f overview.Facts, k *Kube) []Finding {
	var all []Finding
	for _, check := range checks {
		all = append(all, check(f)...)
	}
	if k != nil {
		all = append(all, k.judge()...)
	}
	return all
}

// checks are the looks at NATS and at what the streams hold.
var checks = []func(overview.Facts) []Finding{server, clock, streams, stages, sight, paused, letters, channels}

func one(level Level, check, says, mend string) []Finding {
	return []Finding{{level, check, says, mend}}
}

func server(f overview.Facts) []Finding {
	says := fmt.Sprintf("nats-server %s at %s, %s away", f.NATS.Version, f.NATS.URL, f.NATS.RTT.Round(100*time.Microsecond))
	if f.NATS.TooOld != nil {
		return one(Fail, "nats", f.NATS.TooOld.Error(), "upgrade the NATS server; the streams stay")
	}
	return one(OK, "nats", says, "")
}

// Beyond maxSkew a decision looks as if made in the future and is refused;
// beyond minSkew times in different logs no longer fit.
const minSkew, maxSkew = 2 * time.Second, 30 * time.Second

func clock(f overview.Facts) []Finding {
	return one(skew("nats-clock", "the NATS server's", f.NATS.ClockAhead))
}

func skew(check, whose string, ahead time.Duration) (Level, string, string, string) {
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	says := fmt.Sprintf("%s clock is %s %s this machine's", whose, ahead.Abs().Round(time.Millisecond), way)
	mend := "let NTP set the clocks of both"
	switch {
	case ahead.Abs() > maxSkew:
		return Fail, check, says + "; decisions may be refused", mend
	case ahead.Abs() > minSkew:
		return Warn, check, says, mend
	}
	return OK, check, says, ""
}

func streams(f overview.Facts) []Finding {
	var bad []Finding
	for _, s := range f.NATS.Streams {
		check := "stream " + s.Name
		switch {
		case errors.Is(s.Err, bus.ErrNotFound):
			bad = append(bad, Finding{Fail, check, "does not exist", "start the services: each makes the streams that are missing, as far as its NATS account may"})
			continue
		case errors.Is(s.Err, bus.ErrPermission):
			bad = append(bad, Finding{Unknown, check, s.Err.Error(), "look with an account that may, such as the administrator's (--nats-context)"})
			continue
		case s.Err != nil:
			bad = append(bad, Finding{Fail, check, s.Err.Error(), "see the log of the NATS server"})
			continue
		}
		if len(s.Drift) > 0 {
			bad = append(bad, Finding{Warn, check, strings.Join(s.Drift, "; "), "restart the " + s.Owner + ", which brings it up to date, or ask who changed it"})
		}
		if full := float64(s.Bytes) / float64(max(s.MaxBytes, 1)); s.MaxBytes > 0 && s.Refuses && full > 0.8 {
			level := Warn
			if full > 0.98 {
				level = Fail
			}
			bad = append(bad, Finding{level, check, fmt.Sprintf("%.0f %% of its %d MiB are in use; full, it refuses messages", full*100, s.MaxBytes>>20),
				"raise its MaxBytes (nats stream edit " + s.Name + " --max-bytes), or find out what floods it"})
		}
	}
	if len(bad) == 0 {
		return one(OK, "streams", fmt.Sprintf("%d streams and buckets are as declared", len(f.NATS.Streams)), "")
	}
	return bad
}

// manyPending is a backlog that no burst of a healthy cluster makes.
const manyPending = 1000

func stages(f overview.Facts) []Finding {
	var all []Finding
	for _, s := range f.NATS.Streams {
		if s.Unlisted != nil && slices.ContainsFunc(overview.Places, func(p overview.Place) bool { return p.Stream == s.Name }) {
			all = append(all, Finding{Unknown, "consumers of " + s.Name, s.Unlisted.Error(), "look with an account that may, such as the administrator's (--nats-context)"})
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, s := range f.Stages() {
		if s.Channel != "" {
			continue
		}
		check := "consumer " + s.Consumer
		logs := "see kubectl -n " + heal.Product + " logs deploy/" + heal.Product + "-" + s.Service
		switch {
		case !s.Exists:
			all = append(all, Finding{Fail, check, "the " + s.Service + " has never listened to " + s.Stream, "start the " + s.Service + "; if it runs, " + logs})
		case !s.Listens:
			all = append(all, Finding{Fail, check, fmt.Sprintf("nobody listens; %d messages wait", s.Pending), "start the " + s.Service + "; if it runs, " + logs})
		case s.Pending > manyPending:
			all = append(all, Finding{Warn, check, fmt.Sprintf("is %d messages behind", s.Pending), "start more replicas of the " + s.Service + ", or " + logs})
		default:
			all = append(all, Finding{OK, check, fmt.Sprintf("the %s listens; %d messages wait", s.Service, s.Pending), ""})
		}
	}
	return all
}

func sight(f overview.Facts) []Finding {
	s := f.Sight()
	switch {
	case f.HeardErr != nil:
		return one(Unknown, "watchers", s.Detail, "look with an account that may, such as the administrator's (--nats-context)")
	case len(f.Heard) == 0:
		return one(Fail, "watchers", "no watcher runs", "start the watcher; if it runs, see its log and its /ready")
	case !s.Clear:
		return one(Warn, "watchers", s.Detail, "nothing destructive is done meanwhile; docs/blind.md says what each doubt means")
	}
	return one(OK, "watchers", s.Detail, "")
}

func paused(f overview.Facts) []Finding {
	if p := f.Paused(); p != nil {
		return one(Warn, "acting", overview.Says(*p), "selfheal resume")
	}
	return one(OK, "acting", "is not paused", "")
}

func letters(f overview.Facts) []Finding {
	by := map[string]int{}
	for _, l := range f.Record.Letters {
		by[l.Data.Stage+" "+l.Data.Reason]++
	}
	if len(by) == 0 {
		return one(OK, "dead letters", "none since "+f.Since.UTC().Format(time.RFC3339), "")
	}
	var said []string
	for _, what := range slices.Sorted(maps.Keys(by)) {
		said = append(said, fmt.Sprintf("%d of %s", by[what], what))
	}
	return one(Warn, "dead letters", strings.Join(said, ", ")+" since "+f.Since.UTC().Format(time.RFC3339), "selfheal dlq list, and when the cause is mended selfheal dlq replay")
}

func channels(f overview.Facts) []Finding {
	var all []Finding
	for _, s := range f.Stages() {
		if s.Channel == "" {
			continue
		}
		check := "channel " + s.Channel
		lost := countLetters(f.Record.Letters, s.Consumer)
		switch {
		case lost > 0:
			all = append(all, Finding{Warn, check, fmt.Sprintf("%d notifications were given up", lost), "selfheal dlq list says why; mend the channel's settings, then selfheal dlq replay"})
		case s.Repeated > 0:
			all = append(all, Finding{Warn, check, fmt.Sprintf("%d notifications do not get through", s.Repeated), "see the notifier's log; check the channel's address and key, and the network policy"})
		case !s.Listens:
			all = append(all, Finding{Warn, check, fmt.Sprintf("is not served; %d notifications wait", s.Pending), "if the channel was taken out of the settings: nats consumer rm " + s.Stream + " " + s.Consumer})
		default:
			all = append(all, Finding{OK, check, fmt.Sprintf("%d notifications wait", s.Pending), ""})
		}
	}
	if len(all) == 0 {
		return one(Warn, "channels", "nobody is told of anything", "set slack_webhook_url, pagerduty_routing_key, email_recipients, alertmanager_url or webhook_url")
	}
	return all
}

func countLetters(all []record.Letter, stage string) (n int) {
	for _, l := range all {
		if l.Data.Stage == stage {
			n++
		}
	}
	return n
}
