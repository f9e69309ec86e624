package timeline

import (
	"context"
	"fmt"
	"time"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/bus"
)

// Messages are told once no other came for settle, or the first has waited for
// patience: a decision follows its failure within milliseconds, on another
// stream, and the two should be told together and in order.
const (
	settle   = 120 * time.Millisecond
	patience = 400 * time.Millisecond
)

// A Live shows the timeline as it happens. Below it stands what is being
// carried out just now.
type Live struct {
	screen *screen.Screen
	start  time.Time
	aside  chan aside
	state  Timeline
}

// NewLive returns a timeline on a screen, with times relative to start, or
// the time of day if that is zero.
func NewLive(scr *screen.Screen, start time.Time) *Live {
	return &Live{screen: scr, start: start, aside: make(chan aside)}
}

// Run prints what comes in on messages until ctx is done, then what is left.
func (l *Live) Run(ctx context.Context, messages <-chan bus.Raw) {
	defer l.screen.Footer("")
	clock := time.NewTicker(100 * time.Millisecond)
	defer clock.Stop()
	for {
		var b batch
		select {
		case <-ctx.Done():
			l.print(waiting(messages))
			return
		case <-clock.C:
		case m := <-messages:
			b.messages = []bus.Raw{m}
			l.gather(ctx, &b, messages)
		case a := <-l.aside:
			b.after = []string{a.text}
			if !a.waits {
				break
			}
			l.gather(ctx, &b, messages)
		}
		l.print(b)
		l.screen.Footer(l.footer(time.Now()))
	}
}

// A batch is what came in at about the same time.
type batch struct {
	messages []bus.Raw
	after    []string
}

// waiting is what messages holds already.
func waiting(messages <-chan bus.Raw) (b batch) {
	for {
		select {
		case m := <-messages:
			b.messages = append(b.messages, m)
		default:
			return b
		}
	}
}

// gather waits for what belongs to what b holds.
func (l *Live) gather(ctx context.Context, b *batch, messages <-chan bus.Raw) {
	last := time.NewTimer(patience)
	defer last.Stop()
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-last.C:
			return
		case <-quiet.C:
			return
		case m := <-messages:
			b.messages = append(b.messages, m)
		case a := <-l.aside:
			b.after = append(b.after, a.text)
			if !a.waits {
				return
			}
		}
		quiet.Reset(settle)
	}
}

func (l *Live) print(b batch) {
	for _, line := range l.state.Add(b.messages) {
		l.screen.Println(l.style().Format(line))
	}
	for _, text := range b.after {
		l.screen.Println(text)
	}
}

// An aside is a text that is no message.
type aside struct {
	text  string
	waits bool // for messages that are about to come, and belong above it
}

// Println prints text below the messages that have come so far. Run must be
// running, or ctx end.
func (l *Live) Println(ctx context.Context, text string) { l.tell(ctx, aside{text: text}) }

// Say prints a line of the caller's in the same way.
func (l *Live) Say(ctx context.Context, line Line) {
	l.tell(ctx, aside{text: l.style().Format(line)})
}

// SayAfter prints a line below the messages that caused it, and that may come
// a moment after it.
func (l *Live) SayAfter(ctx context.Context, line Line) {
	l.tell(ctx, aside{text: l.style().Format(line), waits: true})
}

func (l *Live) tell(ctx context.Context, a aside) {
	select {
	case l.aside <- a:
	case <-ctx.Done():
	}
}

// Header names the columns.
func (l *Live) Header() string { return l.style().Header() }

func (l *Live) style() Style {
	return Style{Start: l.start, Width: l.screen.Width(), Paint: l.screen.Paint()}
}

// footer says what is under way, shortened to one line of the screen.
func (l *Live) footer(now time.Time) string {
	under := l.state.UnderWay()
	if len(under) == 0 {
		return ""
	}
	paint := l.screen.Paint()
	room := l.screen.Width() - 1
	text := Spinner(now) + " under way: "
	for i, u := range under {
		next := fmt.Sprintf("%s %s of %s for %d s", tag(u.Incident), u.Strategy, u.About, int(now.Sub(u.Since).Seconds()))
		if i > 0 {
			next = " · " + next
		}
		if room > 0 && len([]rune(text+next)) > room {
			if more := fmt.Sprintf(" +%d", len(under)-i); len([]rune(text+more)) <= room {
				text += more
			}
			break
		}
		text += next
	}
	return paint.As(text, screen.Dim)
}

// Spinner is one character that turns with time.
func Spinner(now time.Time) string { return string(spinner[now.UnixMilli()/100%int64(len(spinner))]) }

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
