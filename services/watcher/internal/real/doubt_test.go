// Package real tries on a real control plane what a watcher makes of itself,
// of detectors that an operator wrote, and of what is used.
package real

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/pkg/sight"
	"github.com/selfheal/selfheal/pkg/sight/sighttest"
	"github.com/selfheal/selfheal/services/watcher"
)

func TestMain(m *testing.M) {
	os.Exit(kubetest.Main(m, kubetest.Options{Args: []string{"--heartbeat=1s", "--node-monitor-grace-period=4s"}}))
}

var config = watcher.Config{
	HealthCheckInterval: time.Hour, RecoveryTimeout: time.Hour,
	PodCheckInterval: time.Hour, PodRestartThreshold: 5,
	NodeCheckInterval: time.Hour, NodeFailureThreshold: 3,
	SettleTime: time.Second,
}

// start runs a watcher whose requests go through wrap, if there is one.
func start(t *testing.T, srv *bustest.Server, wrap func(http.RoundTripper) http.RoundTripper) (stop func()) {
	t.Helper()
	kube, err := kubetest.Get(t).RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	clock := new(watcher.Clock)
	kube.Wrap(clock.Wrap)
	if wrap != nil {
		kube.Wrap(wrap)
	}
	return startWith(t, srv, kube, clock, config, nil)
}

func startWith(t *testing.T, srv *bustest.Server, kube *rest.Config, clock *watcher.Clock, cfg watcher.Config, status func(func() map[string]any)) (stop func()) {
	t.Helper()
	b := srv.Bus(t, "watcher")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- watcher.Run(ctx, cfg, watcher.Deps{
			Bus: b, Kube: kube, Clock: clock, Status: status,
			Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// until waits until the sight is clear, or until its detail has want in it.
func until(t *testing.T, within time.Duration, v *sight.View, clear bool, want string) {
	t.Helper()
	begin := time.Now()
	sighttest.Until(t, within, v, fmt.Sprintf("clear %v and %q", clear, want), func(s heal.Sight) bool {
		return s.Clear == clear && strings.Contains(s.Detail, want)
	})
	t.Logf("%q after %s", want, time.Since(begin).Round(10*time.Millisecond))
}

// A watcher that is cut off sees nothing for a minute, and says so; one that
// sees beside it carries on.
func TestAWatcherThatIsCutOffDoubtsItself(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	v := sighttest.Start(t, srv.Bus(t, "actuator"))
	cable := &cable{}
	start(t, srv, cable.wrap)
	until(t, 30*time.Second, v, true, "1 of 1 watchers")
	cable.cut()
	until(t, 100*time.Second, v, false, "no watch of ")
	start(t, srv, nil)
	until(t, 30*time.Second, v, true, "1 of 2 watchers")
	cable.mend()
	until(t, 60*time.Second, v, true, "2 of 2 watchers")
}

// cable can be cut: then every request fails, and those under way end.
type cable struct {
	mu      sync.Mutex
	broken  bool
	endings []context.CancelFunc
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	for _, end := range c.endings {
		end()
	}
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = false
}

func (c *cable) wrap(rt http.RoundTripper) http.RoundTripper {
	return trip(func(r *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithCancel(r.Context())
		c.mu.Lock()
		broken := c.broken
		c.endings = append(c.endings, cancel)
		c.mu.Unlock()
		if broken {
			cancel()
			return nil, errors.New("the cable is cut")
		}
		return rt.RoundTrip(r.WithContext(ctx))
	})
}

type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// An API server that shows an empty cluster, once, is not believed.
func TestAnEmptyListIsNotBelieved(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	v := sighttest.Start(t, srv.Bus(t, "actuator"))
	c := kubetest.Get(t)
	ns := c.Namespace(t)
	for i := range 8 {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: ns},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/api:good"}}},
		}
		if _, err := c.Client(t).CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var lying atomic.Bool
	cable := &cable{}
	start(t, srv, func(rt http.RoundTripper) http.RoundTripper {
		return cable.wrap(trip(func(r *http.Request) (*http.Response, error) {
			if lying.Load() && r.URL.Path == "/api/v1/pods" {
				r = r.Clone(r.Context())
				if r.URL.Query().Get("resourceVersion") != "" { // it has forgotten, and is asked for everything
					return &http.Response{StatusCode: http.StatusGone, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
				}
				r.URL.Path = "/api/v1/namespaces/nothing-lives-here/pods"
			}
			return rt.RoundTrip(r)
		}))
	})
	until(t, 30*time.Second, v, true, "1 of 1 watchers")
	lying.Store(true)
	cable.cut()
	cable.mend()
	until(t, 60*time.Second, v, false, "to 0 in one resync")
	lying.Store(false)
	until(t, 120*time.Second, v, true, "1 of 1 watchers")
}

// Whoever acts hears of it when all nodes fall silent, as fast as the control
// plane says so.
func TestAllNodesSilentAtOnceAreNotBelieved(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	v := sighttest.Start(t, srv.Bus(t, "actuator"))
	c, err := kubetest.Start(t.Context(), kubetest.Options{Nodes: 3, Args: []string{"--heartbeat=1s", "--node-monitor-grace-period=4s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	kube, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var fields func() map[string]any
	startWith(t, srv, kube, nil, config, func(f func() map[string]any) { mu.Lock(); defer mu.Unlock(); fields = f })
	until(t, 60*time.Second, v, true, "1 of 1 watchers")
	list, err := c.Client(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list.Items {
		if err := c.StopNode(t.Context(), n.Name); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 60*time.Second, v, false, "of 3 nodes are not ready at once")
	mu.Lock()
	state := fields()["observer"].(heal.Observer)
	mu.Unlock()
	var names []string
	for _, d := range state.Doubts {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff(names, []string{"nodes"}); state.State != heal.ObserverBlind || diff != "" {
		t.Errorf("/status shows %s, %s", state.State, diff)
	}
	// The leases tell the same, once they are old enough.
	kubetest.Eventually(t, 100*time.Second, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		for _, d := range fields()["observer"].(heal.Observer).Doubts {
			if d.Name == "leases" {
				return nil
			}
		}
		return errors.New("the leases are not doubted")
	})
}
