package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/selfheal/selfheal/test/bench/internal/figure"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.MainWithoutCluster(m)) }

// sizes are the clusters that are measured. At rest and in a storm, only the
// one of ten thousand pods is.
var sizes = []Size{{Pods: 1000, Nodes: 50}, {Pods: 10_000, Nodes: 500}, {Pods: 100_000, Nodes: 1000}}

const wholePipelineAt = 10_000

// BenchmarkWatcher measures at every size, or at those whose pods
// $BENCH_PODS lists, and writes the table of docs/benchmarks.md if it has
// measured all. $BENCH_FIGURES names the figures to measure, all by default:
// cold, warm (and how long failures take), event, rest, limits, storm, allocs.
// With $BENCH_CONTINUE it takes what an earlier run has measured before it
// broke off, and measures the rest. Run it with -benchtime=1x.
func BenchmarkWatcher(b *testing.B) {
	var all []Measured
	alone(b)
	for _, s := range choose(b) {
		b.Run(fmt.Sprintf("pods=%d", s.Pods), func(b *testing.B) {
			b.ReportMetric(0, "ns/op") // says nothing here, and is left out for it
			m := earlier(b, s)
			defer func() { all = append(all, m) }() // also what was measured until something failed
			measure(b, &m)
		})
	}
	var allocs []Alloc
	if wanted("allocs") {
		allocs = allocations(b)
	}
	table := machine() + "\n" + figure.Table(Rows(all, allocs))
	fmt.Println(table)
	if b.Failed() || len(all) < len(sizes) || os.Getenv("BENCH_FIGURES") != "" {
		say("docs/benchmarks.md is left as it is: not everything was measured")
		return
	}
	path := filepath.Join(harness.RepositoryRoot(b), "docs", "benchmarks.md")
	document, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	text, err := figure.Replace(string(document), "watcher", table)
	if err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// alone fails when another run measures in this working copy: both would
// disturb each other's figures, and share a folder.
func alone(b *testing.B) {
	dir := filepath.Join(harness.RepositoryRoot(b), ".cache", "bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = lock.Close() })
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		b.Fatalf("%s: %v: another run is measuring", lock.Name(), err)
	}
}

func choose(b *testing.B) []Size {
	list := os.Getenv("BENCH_PODS")
	if list == "" {
		return sizes
	}
	var chosen []Size
	for text := range strings.SplitSeq(list, ",") {
		pods, err := strconv.Atoi(strings.TrimSpace(text))
		i := slices.IndexFunc(sizes, func(s Size) bool { return s.Pods == pods })
		if err != nil || i < 0 {
			b.Fatalf("BENCH_PODS is %q, want some of 1000,10000,100000", list)
		}
		chosen = append(chosen, sizes[i])
	}
	return chosen
}

// wanted reports whether $BENCH_FIGURES asks for a figure.
func wanted(name string) bool {
	list := os.Getenv("BENCH_FIGURES")
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

// say shows how far we are: go test keeps what a benchmark logs until its end.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// settings make a failure count at once and be announced once, so that what
// is measured is the way and not a wait.
var settings = map[string]string{
	"HEALTH_CHECK_INTERVAL": "600", "RECOVERY_TIMEOUT": "3600", "POD_CHECK_INTERVAL": "30", "NODE_CHECK_INTERVAL": "30",
}

// A bench is one size being measured.
type bench struct {
	*testing.B
	*Measured
	cluster *cluster
	stock   string // path of the reference program
	spare   int    // pods that were made to fail and are not used again
}

func measure(t *testing.B, m *Measured) {
	b := &bench{B: t, Measured: m, stock: buildReference(t), cluster: openCluster(t, m.Size)}
	for _, step := range []struct {
		name string
		run  func()
		done bool // by an earlier run
		at   int  // 0: every size
	}{
		{"cold", b.measureCold, m.Cold != nil, 0},
		{"warm", b.measureWarmAndReaction, m.React != nil, 0},
		{"event", b.measureEvents, m.Event != nil, 0},
		{"rest", b.measureRest, m.Rest != nil, wholePipelineAt},
		{"limits", b.measureLimits, m.Limits != nil, wholePipelineAt},
		{"storm", b.measureStorm, m.Storm != nil, wholePipelineAt}, // the last one: it leaves the pods broken
	} {
		if !step.done && wanted(step.name) && (step.at == 0 || step.at == m.Pods) {
			say("%s: %s", m, step.name)
			step.run()
			keep(t, m)
		}
	}
}

// kept is where what was measured at a size outlives the run.
func kept(b *testing.B, s Size) string {
	return filepath.Join(harness.RepositoryRoot(b), ".cache", "bench", fmt.Sprintf("measured-%d.json", s.Pods))
}

func keep(b *testing.B, m *Measured) {
	data, err := json.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(kept(b, m.Size), data, 0o600); err != nil {
		b.Fatal(err)
	}
}

// earlier is what $BENCH_CONTINUE goes on from.
func earlier(b *testing.B, s Size) Measured {
	m := Measured{Size: s}
	if os.Getenv("BENCH_CONTINUE") == "" {
		return m
	}
	data, err := os.ReadFile(kept(b, s))
	if errors.Is(err, fs.ErrNotExist) {
		return m
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		b.Fatalf("BENCH_CONTINUE: %v", err)
	}
	return m
}

// notePeak takes in what a watcher's lives have held at most.
func (b *bench) notePeak(p *harness.Pipeline) { b.Peak = max(b.Peak, p.PeakRSS("watcher")) }

func buildReference(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "reference")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./test/bench/reference")
	cmd.Dir = harness.RepositoryRoot(b)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build the reference: %v\n%s", err, out)
	}
	return path
}

// allocations are those of the watcher's own benchmarks.
func allocations(b *testing.B) []Alloc {
	cmd := exec.CommandContext(b.Context(), "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", "300ms", "./services/watcher/...")
	cmd.Dir = harness.RepositoryRoot(b)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Errorf("benchmarks of the watcher: %v\n%s", err, out)
	}
	return ParseAllocs(string(out))
}

// machine says where the figures were measured.
func machine() string {
	model, memory := "unknown processor", ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if n, _ := fmt.Sscanf(string(b), "MemTotal: %d kB", &kib); n == 1 {
			memory = figure.Number(float64(kib)/(1<<20)) + " GiB, "
		}
	}
	return fmt.Sprintf("On %d cores (%s), %s%s, %s.\n", runtime.NumCPU(), model, memory, runtime.Version(), time.Now().Format("January 2006"))
}

// upTo asks until ok, and reports false when that takes longer than limit.
func upTo(ctx context.Context, limit time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) { upTo(ctx, d, func() bool { return false }) }
