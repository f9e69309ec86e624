package pace

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// A server answers requests as a function says.
type server func(*http.Request) (code int, body string)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	code, body := s(r)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func request(t *testing.T, method, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://api"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func send(t *testing.T, rt http.RoundTripper, method, path string) int {
	t.Helper()
	resp, err := rt.RoundTrip(request(t, method, path))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

const (
	pod   = "/api/v1/namespaces/shop/pods/web-1"
	evict = pod + "/eviction"
	node  = "/api/v1/nodes/n1"
)

func TestEachRequestHasItsLane(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		want         lane
	}{
		{"GET", pod, reads},
		{"GET", "/api/v1/pods?watch=true", free},
		{"GET", "/version", free},
		{"PATCH", node, cordons},
		{"POST", evict, evictions},
		{"DELETE", pod, writes},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/web", writes},
		{"GET", "/prefix/apis/apps/v1/namespaces/shop/deployments/web", reads},
	} {
		if got := laneOf(request(t, tt.method, tt.path)); got != tt.want {
			t.Errorf("%s %s: lane %d, want %d", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestACordonDoesNotWaitBehindEvictions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		rt := New(slog.New(slog.DiscardHandler)).Wrap(server(func(r *http.Request) (int, string) {
			if laneOf(r) == evictions {
				<-done
			}
			return 200, ""
		}))
		var all sync.WaitGroup
		for range 10 * first {
			all.Go(func() { send(t, rt, "POST", evict) })
		}
		synctest.Wait() // the lane is full
		if got := send(t, rt, "PATCH", node); got != 200 {
			t.Errorf("a cordon: %d", got)
		}
		close(done)
		all.Wait()
	})
}

func TestNoMoreIsUnderWayThanTheLaneHasFoundToGoWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		under, peak, overloaded := 0, 0, true
		p := New(slog.New(slog.DiscardHandler))
		rt := p.Wrap(server(func(*http.Request) (int, string) {
			mu.Lock()
			under++
			peak = max(peak, under)
			code := 200
			if overloaded {
				code = 503
			}
			mu.Unlock()
			time.Sleep(10 * time.Millisecond) // of the bubble's clock: how long the answer takes
			mu.Lock()
			under--
			mu.Unlock()
			return code, ""
		}))
		burst := func(n int) {
			peak = 0
			var all sync.WaitGroup
			for range n {
				all.Go(func() { send(t, rt, "POST", evict) })
			}
			all.Wait()
		}
		burst(4) // four answers that say "too much": 32, 16, 8, 4, 2
		overloaded = false
		burst(50)
		if peak < 2 || peak > 12 {
			t.Errorf("after an overload %d were under way at once, want a few", peak)
		}
		burst(3000)
		burst(200)
		if peak < 60 {
			t.Errorf("when all goes well, %d are under way at once, want many", peak)
		}
	})
}

func TestAfterSomeOverloadedAnswersNothingIsSentForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		code, sent := 429, 0
		rt := New(slog.New(slog.DiscardHandler)).Wrap(server(func(*http.Request) (int, string) {
			sent++
			return code, ""
		}))
		for range 100 {
			if got := send(t, rt, "DELETE", pod); got != 429 {
				t.Fatalf("answered %d", got)
			}
		}
		if sent != inARow {
			t.Errorf("%d of 100 requests were sent, want %d", sent, inARow)
		}
		begin := time.Now()
		for time.Since(begin) < 10*time.Minute {
			send(t, rt, "DELETE", pod)
			send(t, rt, "GET", pod)
			time.Sleep(100 * time.Millisecond)
		}
		if more := sent - inARow; more < 8 || more > 20 {
			t.Errorf("%d requests were sent in 10 minutes, want about one a minute", more)
		}
		code = 200
		time.Sleep(2 * longRest)
		for range 10 {
			if got := send(t, rt, "DELETE", pod); got != 200 {
				t.Errorf("when it is over: answered %d", got)
			}
		}
	})
}

func TestAnAnswerAboutADisruptionBudgetIsNoOverload(t *testing.T) {
	const blocked = `{"kind":"Status","apiVersion":"v1","details":{"causes":[{"reason":"DisruptionBudget"}]}}`
	rt := New(slog.New(slog.DiscardHandler)).Wrap(server(func(*http.Request) (int, string) { return 429, blocked }))
	for range 3 * inARow {
		resp, err := rt.RoundTrip(request(t, "POST", evict))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(blocked, string(body)); diff != "" {
			t.Fatalf("the answer was changed (-want +got):\n%s", diff)
		}
	}
}

func TestWhatIsNotSentIsKnownToHaveHadNoEffect(t *testing.T) {
	config := &rest.Config{Host: "https://api", QPS: -1}
	config.Wrap(New(slog.New(slog.DiscardHandler)).Wrap)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return next })
	config.Transport = server(func(*http.Request) (int, string) { return 503, "{}" })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for range inARow {
		_ = client.CoreV1().Pods("shop").Delete(t.Context(), "web-1", metav1.DeleteOptions{}) // 503
	}
	err = client.CoreV1().Pods("shop").Delete(t.Context(), "web-1", metav1.DeleteOptions{})
	if !apierrors.IsTooManyRequests(err) {
		t.Errorf("got %v, want one of too many requests", err)
	}
	if seconds, ok := apierrors.SuggestsClientDelay(err); !ok || seconds < 1 {
		t.Errorf("it says to wait %d s (%v)", seconds, ok)
	}
}

func TestARequestThatIsGivenUpLeavesItsPlaceInTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		rt := New(slog.New(slog.DiscardHandler)).Wrap(server(func(*http.Request) (int, string) {
			<-done
			return 200, ""
		}))
		var all sync.WaitGroup
		for range first {
			all.Go(func() { send(t, rt, "POST", evict) })
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if resp, err := rt.RoundTrip(request(t, "POST", evict).WithContext(ctx)); err == nil {
				_ = resp.Body.Close()
				t.Error("it was sent")
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(done)
		all.Wait()
		if got := send(t, rt, "POST", evict); got != 200 {
			t.Errorf("afterwards: %d", got)
		}
	})
}
