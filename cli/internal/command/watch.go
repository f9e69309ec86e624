package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/selfheal/selfheal/cli/internal/board"
	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func watchCommand() *cobra.Command {
	w := viewer{}
	c := &cobra.Command{
		Use:   "watch",
		Short: "Watch it live; approve and pause by key",
		Long: `watch shows the stages and the incidents as they change. In a terminal:

  ↑ ↓ (or k j)  select an incident
  a, r          approve or reject the decision that it waits for
  p, u          pause all acting, and let it go on
  q             quit

Each of a, r, p and u asks once more before it does anything.

Without a terminal, or with --plain, it prints a line for each thing that happens,
until interrupted. NO_COLOR takes the colours out of both.
` + operatorHelp,
		Example: `  selfheal watch                           # until q or Ctrl-C
  selfheal watch --plain | grep DECIDED    # until Ctrl-C`,
		Args: noArgs,
	}
	w.flags(c)
	w.since.flag(c, "1h", "how far back to begin")
	c.Flags().BoolVar(&w.plain, "plain", false, "print lines, whatever the terminal can do")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		from, err := w.since.from(time.Now())
		if err != nil {
			return err
		}
		return w.connected(cmd, func(ctx context.Context) error {
			out, isFile := cmd.OutOrStdout().(*os.File)
			if w.plain || !isFile || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
				return w.lines(cmd.Context(), cmd.OutOrStdout(), from)
			}
			return w.live(ctx, cmd.Context(), out, from)
		})
	}
	return c
}

// A viewer is one call of watch.
type viewer struct {
	operator
	since since
	plain bool
}

// lines prints what happens, until ctx is done.
func (w *viewer) lines(ctx context.Context, out io.Writer, from time.Time) error {
	live := timeline.NewLive(screen.To(out), time.Time{})
	if _, err := fmt.Fprintln(out, live.Header()); err != nil {
		return err
	}
	messages := make(chan bus.Raw)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { live.Run(ctx, messages); return nil })
	g.Go(func() error {
		return w.bus.Tail(ctx, from, func(raw bus.Raw) error {
			select {
			case messages <- raw:
			case <-ctx.Done():
			}
			return nil
		})
	})
	return g.Wait()
}

// The terminal's own words (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html):
// another page for us, without a cursor; and back.
const (
	enterPage = "\x1b[?1049h\x1b[?25l"
	leavePage = "\x1b[?25h\x1b[?1049l"
	home      = "\x1b[H"
	clearLine = "\x1b[K"
)

// live draws the board until a person quits or lasting is done.
func (w *viewer) live(ctx, lasting context.Context, out *os.File, from time.Time) (err error) {
	var f record.Folder
	mark, err := w.bus.Read(ctx, bus.Journals, from, func(raw bus.Raw) error {
		f.Add(raw)
		return nil
	})
	if err != nil {
		return err
	}
	facts, err := overview.Look(ctx, w.bus)
	if err != nil {
		return err
	}
	facts.Since = from
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal: %w; --plain does without", err)
	}
	if _, err := io.WriteString(out, enterPage); err != nil {
		return err
	}
	defer func() {
		_, _ = io.WriteString(out, leavePage)
		_ = term.Restore(int(os.Stdin.Fd()), before)
	}()
	lasting, stop := context.WithCancel(lasting)
	d := drawing{out: out, paint: screen.For(out, w.plain).Paint(), folder: &f, facts: facts}
	events := make(chan func())
	do := func(fn func()) {
		select {
		case events <- fn:
		case <-lasting.Done():
		}
	}
	var g errgroup.Group
	g.Go(func() error {
		return follow(lasting, w.bus, mark, func(raw bus.Raw) { do(func() { f.Add(raw) }) }, func() error {
			do(d.update)
			return nil
		})
	})
	g.Go(func() error { w.look(lasting, do, &d); return nil })
	go readKeys(os.Stdin, func(key string) { do(func() { w.key(lasting, stop, do, &d, key) }) }) // ends with the process: a read of a terminal cannot be called off
	d.update()
	for {
		if err := d.draw(); err != nil {
			stop()
			return err
		}
		select {
		case fn := <-events:
			fn()
		case <-lasting.Done():
			return g.Wait()
		}
	}
}

// look asks now and then how far behind the stages are.
func (w *viewer) look(ctx context.Context, do func(func()), d *drawing) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, w.timeout)
		facts, err := overview.Look(limited, w.bus)
		cancel()
		do(func() {
			d.problem = ""
			if err != nil {
				d.problem = err.Error()
				return
			}
			facts.Since = d.facts.Since
			d.facts = facts
			d.update()
		})
	}
}

// key does what a person has asked for and confirmed.
func (w *viewer) key(ctx context.Context, stop func(), do func(func()), d *drawing, key string) {
	wish := d.board.Key(key)
	switch wish.Verb {
	case board.Nothing:
		return
	case board.Quit:
		stop()
		return
	}
	d.board.Say(string(wish.Verb) + " …")
	go func() { // NATS may be slow; the view must not be
		ctx, cancel := context.WithTimeout(ctx, w.timeout)
		defer cancel()
		said := string(wish.Verb) + ": sent"
		if err := w.carryOut(ctx, wish); err != nil {
			said = err.Error()
		}
		do(func() { d.board.Say(said) })
	}()
}

func (w *viewer) carryOut(ctx context.Context, wish board.Wish) error {
	const reason = "by key, in selfheal watch"
	switch wish.Verb {
	case board.Pause:
		return w.control(ctx, heal.Control{Verb: heal.Pause, Reason: reason})
	case board.Resume:
		return w.control(ctx, heal.Control{Verb: heal.Resume, Reason: reason})
	}
	a := heal.Approval{DecisionID: wish.Decision, Approved: wish.Verb == board.Approve, By: w.by, Reason: reason, At: time.Now().UTC()}
	return bus.Approvals.Publish(ctx, w.bus, a)
}

// readKeys hands over keys until in ends. An arrow comes as one key.
func readKeys(in io.Reader, key func(string)) {
	buf := make([]byte, 16)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		if strings.HasPrefix(text, "\x1b") {
			key(text)
			continue
		}
		for _, r := range text {
			key(string(r))
		}
	}
}

// A drawing is the board on a terminal. One goroutine at a time uses it.
type drawing struct {
	out     *os.File
	paint   screen.Paint
	folder  *record.Folder
	facts   overview.Facts
	problem string
	board   board.Board
}

func (d *drawing) update() {
	d.facts.At = time.Now()
	d.facts.Record = d.folder.Record(d.facts.At)
	r := d.facts.Record
	d.board.Show(board.View{
		Status: d.facts.Status(), Incidents: r.Incidents, Problem: d.problem,
		Counts: board.Counts{Seen: len(r.Failures), Decided: len(r.Decisions), Ended: len(r.Results)},
	})
}

// draw writes all lines in one piece, so that nothing flickers.
func (d *drawing) draw() error {
	width, height, err := term.GetSize(int(d.out.Fd()))
	if err != nil {
		return err
	}
	lines := d.board.Lines(width, height, d.paint, time.Now())
	_, err = io.WriteString(d.out, home+strings.Join(lines, clearLine+"\r\n")+clearLine)
	return err
}
