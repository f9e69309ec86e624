package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/heal"
)

// columnsOf is how wide text is set: as the screen, but no wider than is
// pleasant to read.
func columnsOf(scr *screen.Screen) int {
	const pleasant = 100
	if w := scr.Width(); w > 0 && w < pleasant {
		return w
	}
	return pleasant
}

func paragraph(scr *screen.Screen, text string) string {
	return "  " + screen.Wrap(text, columnsOf(scr), 2, 0)
}

// heading is a line across the screen with a title in it.
func heading(scr *screen.Screen, title string) string {
	line := strings.Repeat("━", max(0, columnsOf(scr)-len([]rune(title))-4))
	p := scr.Paint()
	return p.As("━━ ", screen.Dim) + p.As(title, screen.Bold) + p.As(" "+line, screen.Dim)
}

func intro(scr *screen.Screen, scenarios int) string {
	var quick []string
	for _, h := range hurry {
		quick = append(quick, strings.ToLower(h.env)+" "+h.value)
	}
	ways := "one way"
	if scenarios > 1 {
		ways = fmt.Sprintf("%d ways", scenarios)
	}
	p := scr.Paint()
	return heading(scr, "selfheal demo") + "\n" +
		paragraph(scr, fmt.Sprintf("A small Kubernetes cluster, NATS, the four services and a shop are started on this machine, all of them real "+
			"but the nodes, which only pretend to run containers. Then the shop is broken in %s. You see what is seen, what is "+
			"decided and why, what is done, and the proof that it helped.", ways)) + "\n" +
		p.As(paragraph(scr, "To be short the demo believes things sooner than anybody should: "+strings.Join(quick, ", ")+
			"; and its policy rests less between tries: "+policyInWords), screen.Dim) + "\n"
}

// progress shows that something goes on, until the returned function is called
// with how it went and, for a success, what there is now.
func progress(scr *screen.Screen, what string) func(err error, done ...string) {
	began := time.Now()
	p := scr.Paint()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			scr.Footer(fmt.Sprintf("  %s %s… %s", p.As(timeline.Spinner(time.Now()), screen.Cyan), what,
				p.As(fmt.Sprintf("%.0f s", time.Since(began).Seconds()), screen.Dim)))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func(err error, done ...string) {
		close(stop)
		<-stopped
		scr.Footer("")
		took := p.As("("+timeline.Duration(time.Since(began))+")", screen.Dim)
		switch {
		case err != nil:
			scr.Println("  " + p.As("✗", screen.Bold, screen.Red) + " " + what)
		case len(done) > 0:
			scr.Println("  " + p.As("✓", screen.Bold, screen.Green) + " " + strings.Join(done, " ") + " " + took)
		default:
			scr.Println("  " + p.As("✓", screen.Bold, screen.Green) + " " + what + " " + took)
		}
	}
}

// slack shows the headline of a message as Slack would. The rest of it is what
// the timeline tells anyway.
func (s *stage) slack(ctx context.Context, channel, text string) {
	headline, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	s.live.SayAfter(ctx, timeline.Line{At: time.Now(), Stage: timeline.Told, Word: "SLACK", Head: channel, Text: headline})
}

func shopNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

func shopSizes() string {
	var sizes []string
	for _, w := range workloads {
		sizes = append(sizes, fmt.Sprintf("%s ×%d", w.name, w.replicas))
	}
	return strings.Join(sizes, ", ")
}

// summary is what is left to say after the table.
func (s *stage) summary(scr *screen.Screen, took time.Duration) string {
	t := s.receiver.received()
	s.mu.Lock()
	letters := s.deadLetters
	s.mu.Unlock()
	dim := func(text string) string { return scr.Paint().As(text, screen.Dim) }
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %s%s\n", dim(fmt.Sprintf("%-12s", name)), fmt.Sprintf(format, args...))
	}
	b.WriteString(dim(paragraph(scr, "Seen is when it first showed; it must last a little, here 4 s, before anything is decided. "+
		"Verified is when the replacement had been well for the whole verify_window.")) + "\n\n")
	events := "each with a valid CloudEvent"
	if t.Bad > 0 {
		events = fmt.Sprintf("and %d without a valid CloudEvent", t.Bad)
	}
	row("told", "%d Slack messages, %d webhook calls, %s", t.Slack, t.Webhook, events)
	row("given up", "%d messages in the dead-letter stream", letters)
	if peaks := s.memory(); peaks != "" {
		row("memory", "%s at most", peaks)
	}
	row("took", "%s, starting included", timeline.Duration(took))
	return strings.TrimSuffix(b.String(), "\n")
}

// memory is the peak resident size of each service, where the kernel tells.
func (s *stage) memory() string {
	var peaks []string
	for i, c := range s.services {
		if mb, ok := peakMemory(c.cmd.Process.Pid); ok {
			peaks = append(peaks, fmt.Sprintf("%s %d MiB", serviceNames[i], mb))
		}
	}
	return strings.Join(peaks, ", ")
}

// peakMemory reads a process's high-water mark (proc_pid_status(5)).
func peakMemory(pid int) (mib int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib / 1024, true
		}
	}
	return 0, false
}

// lookAround says how to look at what was left running, and how to end it.
func lookAround(p screen.Paint, s *stage, o Options) string {
	var b strings.Builder
	row := func(name, text string) {
		fmt.Fprintf(&b, "  %s%s\n", p.As(fmt.Sprintf("%-11s", name), screen.Dim), text)
	}
	self := relative(filepath.Join(o.BinDir, "selfheal"))
	b.WriteString("\n" + p.As("Everything is still running. Look around:", screen.Bold) + "\n")
	kubectl := relative(filepath.Join(o.BinDir, "devcluster")) + " kubectl --dir " + relative(o.ClusterDir)
	if relative(o.ClusterDir) == filepath.Join(".dev", "clusters", ClusterName) {
		kubectl = relative(filepath.Join(o.BinDir, "devcluster")) + " kubectl --name " + ClusterName
	}
	row("kubectl", kubectl+" get pods -A")
	row("", "export KUBECONFIG="+s.kubeconfig)
	row("ask", self+" status, watch, get incidents, doctor")
	row("", self+" explain deploy/wishlist -n "+namespace)
	row("decisions", fmt.Sprintf("nats sub '%s.*.decisions.>' -s %s", heal.SubjectRoot, s.nats.URL()))
	row("nats", s.nats.MonitorURL())
	for i, name := range serviceNames {
		row(name, fmt.Sprintf("%s/metrics · /ready · /status", s.pages[i]))
	}
	row("logs", relative(s.dirs.logs()))
	row("break it", fmt.Sprintf("%s -n %s set image deployment/catalog api=%s", kubectl, namespace, image("catalog", "broken-v2")))
	row("stop", self+" demo --stop")
	return b.String()
}

// relative is the path as one would type it here.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if r, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(r, "..") {
		return r
	}
	return path
}
