package usage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib, gib = 1 << 20, 1 << 30

func TestHowMuchIsTooMuch(t *testing.T) {
	for _, tt := range []struct {
		name     string
		percents []int64 // of one poll after another
		high     bool
		kept     bool
	}{
		{"never", []int64{10, 20}, false, false},
		{"a peak", []int64{95}, false, true},
		{"a peak that is over", []int64{95, 50}, false, false},
		{"two in a row", []int64{80, 80}, true, true},
		{"two that are not in a row", []int64{90, 79, 90}, false, true},
		{"a little below, after", []int64{90, 90, 75}, true, true},
		{"clearly below, after", []int64{90, 90, 74}, false, false},
		{"high again after a little below", []int64{90, 90, 76, 90}, true, true},
		{"more than there is", []int64{150, 150}, true, true},
	} {
		var l level
		var kept bool
		for _, p := range tt.percents {
			l, kept = l.after(detect.Usage{Used: p, Of: 100}, 80)
			if !kept {
				l = level{}
			}
		}
		if l.high != tt.high || kept != tt.kept {
			t.Errorf("%s: high %v, kept %v; want %v, %v", tt.name, l.high, kept, tt.high, tt.kept)
		}
	}
	if l, kept := (level{}).after(detect.Usage{Used: 5}, 80); l.high || kept {
		t.Error("something of nothing is too much")
	}
}

func TestHowFullAVolumeMayBe(t *testing.T) {
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	type look struct {
		after time.Duration
		used  int64 // of 1000
	}
	every := func(pause time.Duration, from, step int64, n int) []look {
		var all []look
		for i := range n {
			all = append(all, look{time.Duration(i) * pause, from + int64(i)*step})
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		looks []look
		high  bool
		in    time.Duration
	}{
		{"three quarters", every(15*time.Minute, 750, 0, 8), false, 0},
		{"nearly full, and has been for long", every(15*time.Minute, 900, 0, 8), false, 0},
		{"nearly full, and grows", every(15*time.Minute, 870, 2, 8), true, 14*time.Hour + 30*time.Minute},
		{"nearly full, and grew once", every(15*time.Minute, 870, 2, 3), false, 15*time.Hour + 45*time.Minute},
		{"nearly full, and grows slowly", every(time.Hour, 855, 1, 6), false, 140 * time.Hour},
		{"grows fast, with much left", every(15*time.Minute, 750, 10, 8), false, 4*time.Hour + 30*time.Minute},
		{"nearly full, and shrinks", every(15*time.Minute, 960, -5, 8), false, 0},
		{"almost nothing left", every(0, 975, 0, 1), true, 0},
		{"almost nothing left, then a little more", append(every(0, 975, 0, 1), look{15 * time.Minute, 955}), true, 0},
		{"almost nothing left, then clearly more", append(every(0, 975, 0, 1), look{15 * time.Minute, 945}), false, 0},
		{"looks of several nodes at once", every(time.Second, 900, 3, 8), false, 0},
	} {
		var f filling
		for _, l := range tt.looks {
			f.take(begin.Add(l.after), l.used, 1000, 5*time.Minute)
		}
		if got := f.usage.FullIn.Round(time.Minute); f.high != tt.high || got != tt.in {
			t.Errorf("%s: high %v, full in %s; want %v, %s", tt.name, f.high, got, tt.high, tt.in)
		}
	}
}

// site is an API server that serves recorded answers.
type site struct {
	*httptest.Server

	mu      sync.Mutex
	answers map[string]string // by path
	asked   map[string]int
}

func newSite(t *testing.T, files map[string]string) *site {
	t.Helper()
	s := &site{answers: map[string]string{}, asked: map[string]int{}}
	for path, file := range files {
		data, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		s.answers[path] = string(data)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked[r.URL.Path]++
		answer, ok := s.answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.Client().Do(req)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		_ = resp.Body.Close()
		return nil, ErrAbsent
	}
	return resp.Body, nil
}

func (s *site) change(path, old, new string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = strings.ReplaceAll(s.answers[path], old, new)
}

func (s *site) poller(change ...func(*Config)) *Poller {
	c := Config{
		Get: s.get, Log: slog.New(slog.DiscardHandler), Threshold: 80,
		Allocatable: func(string) (int64, int64, bool) { return 4000, 8 * gib, true },
		Limit: func(ns, pod, container string) (int64, string, bool) {
			return 256 * mib, "uid-" + pod, container == "api"
		},
		Nodes:   func() []string { return []string{"node-1"} },
		Changed: func([]Ref) {},
	}
	for _, f := range change {
		f(&c)
	}
	return New(c)
}

func TestTheMetricsAPIIsRead(t *testing.T) {
	s := newSite(t, map[string]string{nodesPath: "nodes.json", containersPath: "pods.json"})
	p := s.poller()
	ctx := t.Context()
	changed, err := p.poll(ctx)
	if err != nil || len(changed) > 0 {
		t.Fatalf("first poll: %v, %v", changed, err)
	}
	if got := p.Node("node-1"); got != nil {
		t.Errorf("after one poll: %v", got)
	}
	if changed, err = p.poll(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed, []Ref{{Kind: "Node", Name: "node-1"}, {Kind: "Pod", Namespace: "shop", Name: "checkout-7d9f6c-x2kpl"}}); diff != "" {
		t.Errorf("changed (-got +want)\n%s", diff)
	}
	for name, tt := range map[string]struct{ got, want map[string]detect.Usage }{
		"a node that is busy": {p.Node("node-1"), map[string]detect.Usage{"cpu": {Used: 3713, Of: 4000}}},
		"one that is not":     {p.Node("node-2"), nil},
		"a container":         {p.Pod("shop", "checkout-7d9f6c-x2kpl", "uid-checkout-7d9f6c-x2kpl"), map[string]detect.Usage{"api": {Used: 245 * mib, Of: 256 * mib}}},
		"another of its name": {p.Pod("shop", "checkout-7d9f6c-x2kpl", "uid-other"), nil},
		"one that has room":   {p.Pod("shop", "cart-5c6f-9zq4d", "uid-cart-5c6f-9zq4d"), nil},
	} {
		if diff := cmp.Diff(tt.got, tt.want); diff != "" {
			t.Errorf("%s (-got +want)\n%s", name, diff)
		}
	}

	s.change(nodesPath, "3712345678n", "1000m")
	s.change(containersPath, "250880Ki", "100Mi")
	if changed, err = p.poll(ctx); err != nil || len(changed) != 2 {
		t.Errorf("calm again: %v, %v", changed, err)
	}
	if p.Node("node-1") != nil || p.Pod("shop", "checkout-7d9f6c-x2kpl", "uid-checkout-7d9f6c-x2kpl") != nil {
		t.Error("it is still too much")
	}
	if changed, err = p.poll(ctx); err != nil || changed != nil {
		t.Errorf("nothing new: %v, %v", changed, err)
	}
}

func TestAnAnswerThatBreaksOffChangesNothing(t *testing.T) {
	s := newSite(t, map[string]string{nodesPath: "nodes.json", containersPath: "pods.json"})
	p := s.poller()
	for range 2 {
		if _, err := p.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	whole := s.answers[nodesPath]
	for _, broken := range []string{"", "{", "[]", `{"items":{}}`, `{"items":[{`, `{"kind":"Status"}`, whole[:len(whole)/2], `{"items":[{"metadata":5}]}`, "\x00\xff"} {
		s.mu.Lock()
		s.answers[nodesPath] = broken
		s.mu.Unlock()
		if _, err := p.poll(t.Context()); err == nil {
			t.Errorf("%.20q is taken for an answer", broken)
		}
		if p.Node("node-1") == nil {
			t.Errorf("%.20q made the usage forgotten", broken)
		}
	}
}

func TestVolumesAreReadFromKubelets(t *testing.T) {
	const path = "/api/v1/nodes/node-1/proxy/stats/summary"
	s := newSite(t, map[string]string{path: "summary.json"})
	p := s.poller(func(c *Config) { c.Round = 15 * time.Minute })
	now := time.Now()
	changed, err := p.askKubelet(t.Context(), "node-1", now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed, []Ref{{Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "data-db-0"}}); diff != "" {
		t.Errorf("changed (-got +want)\n%s", diff)
	}
	if diff := cmp.Diff(p.Claim("shop", "data-db-0"), map[string]detect.Usage{"": {Used: 10522669875, Of: 10737418240}}); diff != "" {
		t.Errorf("full (-got +want)\n%s", diff)
	}
	if got := p.Claim("shop", "data-db-1"); got != nil {
		t.Errorf("one with room: %v", got)
	}
	if changed, err := p.askKubelet(t.Context(), "../etc", now); changed != nil || err != nil {
		t.Errorf("a node of a strange name: %v, %v", changed, err)
	}
	if changed, err := p.askKubelet(t.Context(), "gone", now); changed != nil || err != nil {
		t.Errorf("a node that has gone: %v, %v", changed, err)
	}
	changed = p.forgetClaims(now.Add(time.Hour))
	if len(changed) != 1 || p.Claim("shop", "data-db-0") != nil {
		t.Errorf("not spoken of for an hour: %v", changed)
	}
}

func TestWithoutTheMetricsAPINothingIsSaidAndItIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var mu sync.Mutex
		var asked []time.Duration
		served := false
		begin := time.Now()
		p := New(Config{
			Log: slog.New(slog.NewTextHandler(&log, nil)), Threshold: 80, Changed: func([]Ref) {},
			Allocatable: func(string) (int64, int64, bool) { return 0, 0, false },
			Get: func(_ context.Context, path string) (io.ReadCloser, error) {
				mu.Lock()
				defer mu.Unlock()
				if path == nodesPath {
					asked = append(asked, time.Since(begin))
				}
				if !served {
					return nil, fmt.Errorf("GET: %w", ErrAbsent)
				}
				return io.NopCloser(strings.NewReader(`{"items":[]}`)), nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("it said %s", log.String())
		}
		mu.Lock()
		served = true
		mu.Unlock()
		time.Sleep(45 * time.Minute)
		synctest.Wait()
		cancel()
		<-ended
		want := []time.Duration{0, time.Hour, 2 * time.Hour, 2*time.Hour + 5*time.Minute, 2*time.Hour + 10*time.Minute, 2*time.Hour + 15*time.Minute}
		if diff := cmp.Diff(asked, want); diff != "" {
			t.Errorf("asked (-got +want)\n%s", diff)
		}
		if !strings.Contains(log.String(), "the metrics API is served") {
			t.Errorf("it said %s", log.String())
		}
	})
}

func TestWhatWasHighIsForgottenWhenNobodySaysSoForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var changed []Ref
		broken := false
		p := New(Config{
			Log: slog.New(slog.DiscardHandler), Threshold: 80,
			Changed:     func(refs []Ref) { mu.Lock(); defer mu.Unlock(); changed = append(changed, refs...) },
			Allocatable: func(string) (int64, int64, bool) { return 1000, 1000, true },
			Get: func(_ context.Context, path string) (io.ReadCloser, error) {
				mu.Lock()
				defer mu.Unlock()
				if broken {
					return nil, errors.New("connection refused")
				}
				text := `{"items":[]}`
				if path == nodesPath {
					text = `{"items":[{"metadata":{"name":"n"},"usage":{"cpu":"1","memory":"1"}}]}`
				}
				return io.NopCloser(strings.NewReader(text)), nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if p.Node("n") == nil {
			t.Fatal("it is not high")
		}
		mu.Lock()
		broken, changed = true, nil
		mu.Unlock()
		time.Sleep(50 * time.Minute)
		synctest.Wait()
		if p.Node("n") == nil {
			t.Error("it is forgotten soon")
		}
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		cancel()
		<-ended
		if p.Node("n") != nil || !cmp.Equal(changed, []Ref{{Kind: "Node", Name: "n"}}) {
			t.Errorf("not forgotten: %v", changed)
		}
	})
}

func TestKubeletsAreAskedOneAfterAnotherAtFirstWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := map[time.Duration]string{}
		begin := time.Now()
		p := New(Config{
			Log: slog.New(slog.DiscardHandler), Threshold: 80, Changed: func([]Ref) {}, Volumes: true,
			Nodes: func() []string {
				if time.Since(begin) < 3*time.Second { // none was read yet
					return nil
				}
				return []string{"a", "b", "c"}
			},
			Get: func(_ context.Context, path string) (io.ReadCloser, error) {
				mu.Lock()
				defer mu.Unlock()
				if name, ok := strings.CutPrefix(path, "/api/v1/nodes/"); ok {
					asked[time.Since(begin)], _, _ = strings.Cut(name, "/")
					return io.NopCloser(strings.NewReader(`{"node":{"nodeName":"x"},"pods":[]}`)), nil
				}
				return nil, ErrAbsent
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		time.Sleep(21 * time.Minute)
		cancel()
		<-ended
		want := map[time.Duration]string{
			4 * time.Second: "a", 5 * time.Second: "b", 6 * time.Second: "c",
			306 * time.Second: "a", 606 * time.Second: "b", 906 * time.Second: "c", 1206 * time.Second: "a",
		}
		if diff := cmp.Diff(asked, want); diff != "" {
			t.Errorf("(-got +want)\n%s", diff)
		}
	})
}

func FuzzEntries(f *testing.F) {
	f.Add(`{"items":[{"metadata":{"name":"n"},"usage":{"cpu":"1","memory":"1"}}]}`, "items")
	f.Add(`{"node":{"a":[1,{}]},"pods":[{"volume":[{"availableBytes":1,"capacityBytes":0,"pvcRef":{}}]}]}`, "pods")
	f.Fuzz(func(_ *testing.T, text, list string) {
		_ = entries(strings.NewReader(text), list, func(e entry) error {
			amount(e.Usage.CPU, true)
			amount(e.Usage.Memory, false)
			return nil
		})
	})
}
