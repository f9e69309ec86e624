package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selfheal/selfheal/test/bench/internal/figure"
)

// Rows are all figures, in the order of the design's list.
func Rows(all []Measured, allocs []Alloc) []figure.Row {
	all = slices.SortedFunc(slices.Values(all), func(a, b Measured) int { return cmp.Compare(a.Pods, b.Pods) })
	var rows []figure.Row
	for _, part := range []func(Measured) []figure.Row{published, memory} {
		for _, m := range all {
			rows = append(rows, part(m)...)
		}
	}
	rows = append(rows, growth(all)...)
	for _, part := range []func(Measured) []figure.Row{cold, warm, rest, perEvent} {
		for _, m := range all {
			rows = append(rows, part(m)...)
		}
	}
	rows = append(rows, sameEverywhere(all)...)
	for _, part := range []func(Measured) []figure.Row{storm, limits} {
		for _, m := range all {
			rows = append(rows, part(m)...)
		}
	}
	for _, a := range allocs {
		rows = append(rows, figure.Row{
			What: "allocations: `" + a.Name + "`", Figure: fmt.Sprintf("%d, %d B, %s", a.Allocs, a.Bytes, figure.Duration(a.Time)),
			Reference: "the `Typed` line, where there is one", Reached: figure.Unasked,
		})
	}
	return rows
}

func (s Size) String() string {
	pods := strconv.Itoa(s.Pods)
	if s.Pods%1000 == 0 {
		pods = strconv.Itoa(s.Pods/1000) + "k"
	}
	return pods + " pods"
}

func published(m Measured) []figure.Row {
	if m.React == nil {
		return nil
	}
	r := m.React
	return []figure.Row{{
		What: "P1's share: status seen by a watch of the benchmark's own → failure stored", Size: m.String(),
		Figure:    fmt.Sprintf("median %s, 99 %% %s of %d; %d missed", figure.Duration(r.Published.Median()), figure.Duration(r.Published.Quantile(0.99)), len(r.Published), r.Missed),
		Reference: "the watch itself", Asked: "of P1's 5 and 25 ms", Reached: within(r.Published, 5*time.Millisecond, 25*time.Millisecond, r.Missed),
	}}
}

// within asks a limit of the median and of 99 %, and that nothing is missing.
func within(t figure.Times, median, p99 time.Duration, missed int) figure.Verdict {
	if len(t) == 0 || missed > 0 || t.Median() > median || t.Quantile(0.99) > p99 {
		return figure.No
	}
	return figure.Yes
}

func memory(m Measured) []figure.Row {
	if m.Peak == 0 {
		return nil
	}
	row := figure.Row{
		What: "P7 watcher's peak resident memory, cold start included", Size: m.String(), Figure: figure.MiB(float64(m.Peak)),
		Asked: "≤ 64 MiB", Reached: figure.Within(float64(m.Peak), 64<<20),
	}
	if m.ReferencePeak > 0 {
		row.Reference = fmt.Sprintf("stock informers %s: %s times", figure.MiB(float64(m.ReferencePeak)), figure.Number(float64(m.ReferencePeak)/float64(m.Peak)))
	}
	return []figure.Row{row}
}

func growth(all []Measured) []figure.Row {
	if len(all) < 2 || all[0].Peak == 0 || all[len(all)-1].Peak == 0 {
		return nil
	}
	first, last := all[0], all[len(all)-1]
	return []figure.Row{{
		What: "P8 growth of that", Size: fmt.Sprintf("%s → %s", first, last), Figure: figure.MiB(float64(last.Peak - first.Peak)),
		Reference: "stock informers " + figure.MiB(float64(last.ReferencePeak-first.ReferencePeak)),
		Asked:     "≤ 16 MiB", Reached: figure.Within(float64(last.Peak-first.Peak), 16<<20),
	}}
}

func cold(m Measured) []figure.Row {
	if m.Cold == nil {
		return nil
	}
	c := m.Cold
	ratio := float64(c.Watcher.Median()) / float64(max(1, c.Discarder.Median()))
	verdict := figure.Unasked // of few pods, what is measured is how a process starts
	if m.Pods >= 100_000 {
		verdict = figure.Within(ratio, 1.3)
	}
	return []figure.Row{{
		What: "P9 cold start to ready, median", Size: m.String(), Figure: figure.Duration(c.Watcher.Median()),
		Reference: fmt.Sprintf("reading and discarding the same %s behind %d requests %s: %s times; stock informers (3 kinds) %s",
			figure.MiB(float64(c.Bytes)), c.Requests, figure.Duration(c.Discarder.Median()), figure.Number(ratio), figure.Duration(c.Informer.Median())),
		Asked: "≤ 1.3 times, at 100k", Reached: verdict,
	}}
}

func warm(m Measured) []figure.Row {
	if m.Warm == nil {
		return nil
	}
	w := m.Warm
	verdict := within(w.Decided, 500*time.Millisecond, 500*time.Millisecond, w.Missed)
	if w.Pods > 0 {
		verdict = figure.No
	}
	return []figure.Row{{
		What: "P10 warm restart: process started → first decision stored", Size: m.String(),
		Figure: fmt.Sprintf("median %s, worst %s of %d (failure stored after %s); %d missed; all pods read %d times, all of a smaller kind %s times each",
			figure.Duration(w.Decided.Median()), figure.Duration(w.Decided.Worst()), len(w.Decided), figure.Duration(w.Published.Median()), w.Missed, w.Pods, figure.Number(float64(w.Small)/float64(max(1, len(w.Decided)+w.Missed)))),
		Reference: "stock informers, started then, see it after " + figure.Duration(w.Informer),
		Asked:     "≤ 500 ms, no list of pods, none missed", Reached: verdict,
	}}
}

func rest(m Measured) []figure.Row {
	if m.Rest == nil {
		return nil
	}
	r := m.Rest
	agents := make([]string, 0, len(r.Requests.ByAgent))
	for _, a := range slices.Sorted(keys(r.Requests.ByAgent)) {
		agents = append(agents, strings.TrimPrefix(a, "selfheal-")+" "+figure.Number(r.Requests.ByAgent[a]))
	}
	asked := figure.Within(r.Requests.PerHour, 60)
	if r.Requests.Writes > 0 || r.Requests.Lists > 0 {
		asked = figure.No
	}
	var sum float64
	var cpu []string
	for _, name := range slices.Sorted(keys(r.CPU)) {
		sum += r.CPU[name]
		cpu = append(cpu, name+" "+figure.Percent(r.CPU[name]))
	}
	return []figure.Row{{
		What: "P11 API requests per hour at rest, all binaries, two of each", Size: m.String(),
		Figure: fmt.Sprintf("%s (%s); %d writes, %d lists; extrapolated: seen for %s, the %d open watches by their own timeouts",
			figure.Number(r.Requests.PerHour), strings.Join(agents, ", "), r.Requests.Writes, r.Requests.Lists, r.Asked, r.Requests.Watches),
		Reference: fmt.Sprintf("one stock informer program (3 kinds) %s; a leader-election lease renewed every 2 s: 1,800", figure.Number(r.Stock.PerHour)),
		Asked:     "≤ 60, no writes, no lists", Reached: asked,
	}, {
		What: fmt.Sprintf("P13 CPU at rest over %s, four binaries and NATS, with the heartbeats of %d nodes", r.For, m.Nodes), Size: m.String(),
		Figure:    fmt.Sprintf("%s of a core (%s)", figure.Percent(sum), strings.Join(cpu, ", ")),
		Reference: "one stock informer program " + figure.Percent(r.Informer),
		Asked:     "≤ 2 %", Reached: figure.Within(sum, 0.02),
	}}
}

func keys(m map[string]float64) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func perEvent(m Measured) []figure.Row {
	if m.Event == nil {
		return nil
	}
	e := m.Event
	row := figure.Row{
		What: "P16 watcher's CPU per status update of a healthy pod", Size: m.String(),
		Figure:    fmt.Sprintf("%s over %s updates at %s/s", figure.Duration(e.Watcher), figure.Number(float64(e.Events)), figure.Number(e.Rate)),
		Reference: "stock informers " + figure.Duration(e.Informer), Reached: figure.Unasked,
	}
	if m.React == nil {
		return []figure.Row{row}
	}
	r := m.React
	return []figure.Row{row, {
		What: "P16 status seen → decision stored", Size: m.String(),
		Figure:    fmt.Sprintf("median %s, 99 %% %s of %d", figure.Duration(r.Decided.Median()), figure.Duration(r.Decided.Quantile(0.99)), len(r.Decided)),
		Reference: "the watch itself", Reached: figure.Unasked,
	}}
}

func sameEverywhere(all []Measured) []figure.Row {
	var costs, late []float64
	for _, m := range all {
		if m.Event == nil || m.React == nil {
			return nil
		}
		costs = append(costs, float64(m.Event.Watcher))
		late = append(late, float64(m.React.Decided.Quantile(0.99)))
	}
	if len(all) < 2 {
		return nil
	}
	size := fmt.Sprintf("%s … %s", all[0], all[len(all)-1])
	row := func(what string, numbers []float64) figure.Row {
		return figure.Row{
			What: what, Size: size, Figure: "within ± " + figure.Percent(figure.Apart(numbers...)) + " of their mean",
			Asked: "± 20 %", Reached: figure.Within(figure.Apart(numbers...), 0.2),
		}
	}
	return []figure.Row{row("P16 that CPU per event, from size to size", costs), row("P16 that 99 % of decisions, from size to size", late)}
}

func storm(m Measured) []figure.Row {
	if m.Storm == nil {
		return nil
	}
	s := m.Storm
	verdict := figure.Yes
	if s.Lost > 0 || s.Doubled > 0 {
		verdict = figure.No
	}
	rate := func(d time.Duration) string {
		return figure.Number(float64(s.Pods-s.Lost)/max(d.Seconds(), 1e-9)) + "/s"
	}
	return []figure.Row{{
		What: fmt.Sprintf("storm: %s pods fail within %s", figure.Number(float64(s.Pods)), figure.Duration(s.Broken)), Size: m.String(),
		Figure: fmt.Sprintf("last failure stored %s after the last status, %s from the first one on; %d lost, %d doubled; watcher's peak %s, its CPU for each %s",
			figure.Duration(s.After), rate(s.Published), s.Lost, s.Doubled, figure.MiB(float64(s.Peak)), figure.Duration(s.CPU)),
		Reference: fmt.Sprintf("a bare client storing the same messages %s (%s times)", rate(s.Oracle), figure.Number(float64(s.Published)/float64(max(1, s.Oracle)))),
		Asked:     "none lost, none doubled", Reached: verdict,
	}}
}

// limits says nothing was reached where the limits did not hold anybody.
func limits(m Measured) []figure.Row {
	var rows []figure.Row
	for _, l := range m.Limits {
		var memory int64
		var cores float64
		each := make([]string, 0, len(l.CPU))
		for _, name := range slices.Sorted(keys(l.CPU)) {
			memory += l.Peak[name]
			cores += l.CPU[name]
			each = append(each, fmt.Sprintf("%s %s and %s", name, figure.MiB(float64(l.Peak[name])), figure.Percent(l.CPU[name])))
		}
		who := "each service in 256 MiB and 0.2 of a core"
		if l.Together {
			who = "all four and NATS in 256 MiB and 0.2 of a core together"
		}
		held := fmt.Sprintf("held to it by control groups, waited in %s of the periods of 0.1 s at most, %d killed for want of memory", figure.Percent(most(l.Waited)), l.Killed)
		verdict := within(l.Wrote, 100*time.Millisecond, 100*time.Millisecond, l.Missed+int(l.Killed))
		if l.Free != "" {
			held, verdict = "not held to it ("+l.Free+")", figure.Unasked
		}
		rows = append(rows, figure.Row{
			What: "P21 " + who + ", one failure a second for " + l.For.String() + ": failure seen → eviction seen", Size: m.String(),
			Figure: fmt.Sprintf("median %s, 99 %% %s of %d; %d missed; %s; resident memory at most and processor time: %s; together %s and %s",
				figure.Duration(l.Wrote.Median()), figure.Duration(l.Wrote.Quantile(0.99)), len(l.Wrote), l.Missed, held, strings.Join(each, ", "), figure.MiB(float64(memory)), figure.Percent(cores)),
			Reference: "the watch itself", Asked: "99 % ≤ 100 ms, none missed", Reached: verdict,
		}, figure.Row{
			What: fmt.Sprintf("P21 then %s pods fail at once", figure.Number(float64(l.Storm))), Size: m.String(),
			Figure: fmt.Sprintf("last decision %s after the first status; %d without one after %s; %d evicted by then", figure.Duration(l.Decided), l.Late, stormWithin, l.Acted),
			Asked:  "a decision for each", Reached: figure.Within(float64(l.Late), 0),
		})
	}
	return rows
}

func most(shares map[string]float64) float64 {
	m := 0.0
	for _, s := range shares {
		m = max(m, s)
	}
	return m
}

// ParseAllocs reads the lines of go test -bench -benchmem.
func ParseAllocs(output string) []Alloc {
	var out []Alloc
	for line := range strings.Lines(output) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 { // -GOMAXPROCS
			name = name[:i]
		}
		a, counted := Alloc{Name: name}, false
		for i := 2; i+1 < len(f); i += 2 {
			n, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				break
			}
			switch f[i+1] {
			case "ns/op":
				a.Time = time.Duration(n)
			case "B/op":
				a.Bytes = int64(n)
			case "allocs/op":
				a.Allocs, counted = int64(n), true
			}
		}
		if counted {
			out = append(out, a)
		}
	}
	return out
}
