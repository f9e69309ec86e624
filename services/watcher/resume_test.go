package watcher_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher"
)

// asked counts what a watcher asks the API server for.
type asked struct {
	mu     sync.Mutex // guards what follows
	paths  []string   // with the query
	closed []func() error
}

// counting is c, and what is asked for by it.
func counting(c *rest.Config) (*rest.Config, *asked) {
	a := &asked{}
	c = rest.CopyConfig(c)
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			a.mu.Lock()
			a.paths = append(a.paths, r.URL.String())
			a.mu.Unlock()
			resp, err := next.RoundTrip(r)
			if err == nil {
				a.mu.Lock()
				a.closed = append(a.closed, resp.Body.Close)
				a.mu.Unlock()
			}
			return resp, err
		})
	})
	return c, a
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// everything is how often everything of a resource was asked for.
func (a *asked) everything(resource string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, path := range a.paths {
		path, query, _ := strings.Cut(path, "?")
		if strings.HasSuffix(path, "/"+resource) && (!strings.Contains(query, "watch=true") || strings.Contains(query, "sendInitialEvents")) {
			n++
		}
	}
	return n
}

// breakOff ends every stream.
func (a *asked) breakOff() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, end := range a.closed {
		_ = end()
	}
	a.closed = nil
}

func TestRestartedWatcherGoesOnWithoutReadingEverythingAndMissesNothing(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	failing, ending, going := healthyPod(), healthyPod(), healthyPod()
	ending.Name, going.Name = "checkout-7d9f6c-ending", "checkout-7d9f6c-going"
	c := newCluster(t, replicaSet(), failing, ending, going)
	cfg := slow
	cfg.PodCheckInterval = 300 * time.Millisecond // how long a pod must be well
	config, count := counting(c.rest)
	a := run(t, cfg, config, server.Bus(t, watcher.Name))
	sees(t, a)
	c.update(crashing(ending, 5)) // 5 more than were seen: at once
	c.update(crashing(going, 5))
	events.wait(2)
	a.stop()
	if n := count.everything("pods"); n != 1 {
		t.Errorf("all pods were read %d times at the first start, want once", n)
	}

	c.update(crashing(failing, 3))
	c.update(ending)
	c.delete(going)
	config, count = counting(c.rest)
	began := time.Now()
	run(t, cfg, config, server.Bus(t, watcher.Name))
	var first time.Duration
	want := map[string]bool{"began " + failing.Name: false, "ended " + ending.Name: false, "ended " + going.Name: false}
	c.update(crashing(failing, 4)) // the first restart after the start
	c.update(crashing(failing, 7))
	for _, f := range events.wait(5)[2:] {
		what := "began "
		if f.Resolved() {
			what = "ended "
		}
		want[what+f.Target.Name] = true
		if first == 0 {
			first = time.Since(began)
		}
	}
	for what, seen := range want {
		if !seen {
			t.Errorf("%s is missing of %+v", what, want)
		}
	}
	if n := count.everything("pods"); n != 0 {
		t.Errorf("all pods were read %d times after the restart, want none", n)
	}
	t.Logf("all was said %s after the restart", first)
}

func TestSuspicionOutlivesTheWatcherThatHadIt(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod, waiting := healthyPod(), deployment()
	c := newCluster(t, replicaSet(), pod, waiting)
	cfg := quick
	cfg.PodCheckInterval = 1500 * time.Millisecond // a crash loop must last twice as long
	a := run(t, cfg, c.rest, server.Bus(t, watcher.Name))
	sees(t, a)
	c.update(crashing(pod, 0))
	eventually(t, func() error {
		if got := testutil.ToFloat64(a.counter(t, "self_healing_observations_total", "type", "pod_failure")); got == 0 {
			return errors.New("the crash has not been seen")
		}
		return nil
	})
	a.stop()
	stopped := time.Now()
	run(t, cfg, c.rest, server.Bus(t, watcher.Name))
	got := events.wait(1)[0]
	if !got.FirstSeen.Before(stopped) {
		t.Errorf("first seen %s, want before the restart at %s", got.FirstSeen, stopped)
	}
	if held := got.Timestamp.Sub(got.FirstSeen); held < 2*cfg.PodCheckInterval {
		t.Errorf("announced after %s, want not before %s", held, 2*cfg.PodCheckInterval)
	}
}

// The watcher may itself have been on the node, or be upgraded at that time.
func TestARebootThatWasMeantIsNotToldByTheNextWatcherEither(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	meant, other := node(corev1.ConditionTrue), node(corev1.ConditionTrue)
	meant.Name, other.Name = "meant.example.internal", "other.example.internal" // of which no other test speaks
	c := newCluster(t, meant, other)
	t.Cleanup(func() {
		for _, name := range []string{meant.Name, other.Name} {
			if err := ignoreGone(c.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{})); err != nil {
				t.Error(err)
			}
		}
	})
	cordon := func(is bool) {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, is)
		_, err := c.CoreV1().Nodes().Patch(t.Context(), meant.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		c.must(err)
	}
	reboot := func(name string) {
		_, err := c.CoreV1().Events(metav1.NamespaceDefault).Create(t.Context(), &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{GenerateName: name + "."},
			InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: name, UID: types.UID(name)},
			Type:           corev1.EventTypeWarning, Reason: "Rebooted", Message: "Node " + name + " has been rebooted", LastTimestamp: metav1.Now(),
		}, metav1.CreateOptions{})
		c.must(err)
	}
	cordon(true)
	reboot(meant.Name)
	first := run(t, slow, c.rest, server.Bus(t, watcher.Name))
	sees(t, first)
	first.stop()
	cordon(false) // while nobody looks
	reboot(other.Name)
	sees(t, run(t, slow, c.rest, server.Bus(t, watcher.Name)))

	if got := events.wait(1)[0]; got.Reason != "NodeRebooted" || got.Node != other.Name {
		t.Errorf("event %s of %s, want that of the other node's reboot", got.Reason, got.Node)
	}
	pod := healthyPod() // of which is told later than of anything that was known then
	pod.OwnerReferences = nil
	c.create(pod)
	c.update(crashing(pod, 7))
	if got := events.wait(2)[1]; got.Target.Kind != "Pod" {
		t.Errorf("event %s of %s, want the pod's", got.Reason, got.Target)
	}
}

func TestWatcherOfSomeNamespacesNeedsRightsInTheseAlone(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	const user = "shopkeeper"
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: watcher.NamespaceRules()}
	_, err := c.RbacV1().Roles("shop").Create(t.Context(), role, metav1.CreateOptions{})
	c.must(err)
	_, err = c.RbacV1().RoleBindings("shop").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	}, metav1.CreateOptions{})
	c.must(err)
	config, count := counting(c.rest)
	config.Impersonate.UserName = user
	cfg := quick
	cfg.Namespaces = []string{"shop"}
	r := run(t, cfg, config, server.Bus(t, watcher.Name))
	eventually(t, func() error { return errors.Join(r.check("k8s_connection"), r.check("monitoring_active")) })

	c.update(crashing(pod, 7))
	if got := events.wait(1)[0]; got.Owner.Kind != "Deployment" || got.Target.Name != pod.Name {
		t.Errorf("event = %+v, want the pod's failure with its owner", got)
	}
	if log := r.logs.String(); strings.Contains(log, `"level":"ERROR"`) || strings.Contains(log, `"level":"WARN"`) {
		t.Errorf("something is missing:\n%s", log)
	}
	count.mu.Lock()
	defer count.mu.Unlock()
	for _, path := range count.paths {
		if !strings.Contains(path, "/namespaces/shop/") {
			t.Errorf("asked for %s, want nothing beyond the namespace", path)
		}
	}
}

func TestRightsThatAreTakenAwayAreMissedAndNothingIsLostWhenTheyAreBack(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	const user = "on-probation"
	config, count := counting(c.as(user, watcher.Rules()))
	r := run(t, slow, config, server.Bus(t, watcher.Name))
	sees(t, r)

	c.grant(user, without("pods"))
	eventually(t, func() error { // until the API server knows it
		_, err := c.asUser(user).CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
		if err == nil {
			return errors.New("pods may still be listed")
		}
		return nil
	})
	count.breakOff()
	eventually(t, func() error {
		if log := r.logs.String(); !strings.Contains(log, "the watcher's role lacks a rule") || !strings.Contains(log, `"resource":"pods"`) {
			return fmt.Errorf("the log does not say which rule is missing:\n%s", log)
		}
		return nil
	})
	c.update(crashing(pod, 5))
	c.grant(user, watcher.Rules())
	if got := events.wait(1)[0]; got.Type != heal.PodFailure {
		t.Errorf("event = %+v, want the pod's", got)
	}
	if err := r.check("k8s_connection"); err != nil {
		t.Errorf("with all rights again: %v", err)
	}
}
