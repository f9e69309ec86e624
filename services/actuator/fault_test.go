package actuator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// A fault stands between an actuator and the API server.
type fault func(next http.RoundTripper, r *http.Request) (*http.Response, error)

func (f fault) between(c *rest.Config) {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) { return f(next, r) })
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// isEviction and isDelete tell an action's two requests: the dry run comes first.
func isEviction(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/eviction")
}

// isTry reports whether a delete or an eviction is a dry run, which its body says.
func isTry(r *http.Request) bool {
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	text, err := io.ReadAll(body)
	return err == nil && bytes.Contains(text, []byte(metav1.DryRunAll))
}

func isDelete(r *http.Request) bool { return r.Method == http.MethodDelete }

func TestAWriteWhoseAnswerIsLostIsSeenToBeDoneAndNotMadeAgain(t *testing.T) {
	t.Parallel()
	for strategy, is := range map[heal.Strategy]func(*http.Request) bool{heal.Restart: isEviction, heal.Recreate: isDelete} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var sent atomic.Int64
			r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
				resp, err := next.RoundTrip(req)
				if err == nil && resp.StatusCode < 300 && is(req) && !isTry(req) && sent.Add(1) == 1 { // a pod that crashed just then is refused
					_ = resp.Body.Close()
					return nil, syscall.ECONNRESET
				}
				return resp, err
			}).between)
			sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
			res := r.carryOut(decide(podTarget(sick), heal.PodFailure, strategy))
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if got := sent.Load(); got != 1 {
				t.Errorf("the write was sent %d times, want once", got)
			}
			if got := r.writes(); len(got) != 1 {
				t.Errorf("writes %v, want 1", got)
			}
		})
	}
}

func TestAWriteThatNeverArrivedIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var sent atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		if isEviction(req) && sent.Add(1) == 2 {
			return nil, syscall.ECONNREFUSED
		}
		return next.RoundTrip(req)
	}).between)
	res := r.carryOut(restartOf(r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if res.Attempt != 2 {
		t.Errorf("attempt %d, want 2", res.Attempt)
	}
	if got := r.writes(); len(got) != 1 {
		t.Errorf("writes %v, want 1", got)
	}
}

func TestABusyAPIServerIsLeftInPeaceForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var sent atomic.Int64
	var first, second atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		if !isEviction(req) {
			return next.RoundTrip(req)
		}
		switch sent.Add(1) {
		case 1:
			first.Store(time.Now().UnixMilli())
			return &http.Response{
				StatusCode: http.StatusTooManyRequests, Status: "429 Too Many Requests", Request: req,
				Header: http.Header{"Retry-After": {"1"}, "Content-Type": {"text/plain"}}, Body: http.NoBody,
			}, nil
		case 2:
			second.Store(time.Now().UnixMilli())
		}
		return next.RoundTrip(req)
	}).between)
	res := r.carryOut(restartOf(r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if pause := second.Load() - first.Load(); pause < 1000 {
		t.Errorf("asked again after %d ms", pause)
	}
}

func TestADecisionWaitsForAnAPIServerThatIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var away atomic.Bool
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		if away.Load() {
			return nil, syscall.ECONNREFUSED
		}
		return next.RoundTrip(req)
	}).between)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	away.Store(true)
	waits, tooLate := restartOf(sick), restartOf(sick)
	tooLate.Expires = time.Now().Add(2 * time.Second)
	res := r.carryOut(tooLate)
	if got, want := end(res), (ended{heal.Rejected, "Expired"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "connection refused") {
		t.Errorf("message %q does not say what kept it from being carried out", res.Message)
	}
	r.publish(waits)
	away.Store(false)
	res = r.result(waits, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
}

func TestATargetThatIsReplacedBetweenAnyTwoStepsIsNotTouched(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app": "db"}
	for _, tt := range []struct {
		name     string
		strategy heal.Strategy
		is       func(*http.Request) bool
		nth      int64 // which request the replacement comes before
	}{
		{"before the dry run of an eviction", heal.Restart, isEviction, 1},
		{"before an eviction", heal.Restart, isEviction, 2},
		{"before the dry run of a delete", heal.Recreate, isDelete, 1},
		{"before a delete", heal.Recreate, isDelete, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			replicas := int32(1)
			if _, err := r.admin.AppsV1().StatefulSets(r.ns).Create(t.Context(), &appsv1.StatefulSet{
				ObjectMeta: metav1.ObjectMeta{Name: "db"},
				Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/db:broken"}}},
				}},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			sick := r.until(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "db-0"}}, "in a crash loop", crashLoops)
			replace := func() error {
				if err := r.admin.CoreV1().Pods(r.ns).Delete(t.Context(), "db-0", metav1.DeleteOptions{}); err != nil {
					return err
				}
				for t.Context().Err() == nil {
					now, err := r.admin.CoreV1().Pods(r.ns).Get(t.Context(), "db-0", metav1.GetOptions{})
					if err == nil && now.UID != sick.UID {
						return nil
					}
					if err != nil && !apierrors.IsNotFound(err) {
						return err
					}
				}
				return t.Context().Err()
			}
			var sent atomic.Int64
			failed := make(chan error, 1)
			r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
				if tt.is(req) && sent.Add(1) == tt.nth {
					if err := replace(); err != nil {
						failed <- err
					}
				}
				return next.RoundTrip(req)
			}).between)

			res := r.carryOut(decide(podTarget(sick), heal.PodFailure, tt.strategy))

			select {
			case err := <-failed:
				t.Fatal(err)
			default:
			}
			if got, want := end(res), (ended{heal.Skipped, "TargetReplaced"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if got := r.writes(); len(got) > 0 {
				t.Errorf("writes %v", got)
			}
		})
	}
}

func TestWithoutTheRightItSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick(), func(c *rest.Config) { c.Impersonate = rest.ImpersonationConfig{UserName: "nobody"} })
	res := r.carryOut(restartOf(r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)))
	if got, want := end(res), (ended{heal.Rejected, "Forbidden"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, `cannot get resource "namespaces"`) {
		t.Errorf("message %q does not say which right is missing", res.Message)
	}
}

func TestALostBusIsWaitedForAndTheResultToldOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.VerifyWindow = 4 * time.Second
	r.start(cfg)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	d := restartOf(sick)
	r.publish(d)
	kubetest.Eventually(t, 20*time.Second, r.gone(sick))
	r.server.Stop()
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(list.Items) != 2 || !isReady(&list.Items[0]) || !isReady(&list.Items[1]) {
			return errors.New("the pods are not both Ready")
		}
		return nil
	})
	r.server.Restart(t)
	res := r.result(d, 2*time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	if got := r.told(d); got != 1 {
		t.Errorf("%d results, want 1", got)
	}
	if got := r.writes(); len(got) != 1 {
		t.Errorf("writes %v, want 1", got)
	}
}

func TestAStuckPodIsReportedWithWhatHoldsIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 4 * time.Second
	r.start(cfg)
	labels := map[string]string{"app": "db"}
	replicas := int32(1)
	if _, err := r.admin.AppsV1().StatefulSets(r.ns).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Finalizers: []string{"example.com/held"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/db:broken"}}},
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	sick := r.until(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "db-0"}}, "in a crash loop", crashLoops)
	res := r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.TimedOut, "VerificationTimedOut"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	for _, part := range []string{sick.Name + " is still terminating", "finalizers example.com/held"} {
		if !strings.Contains(res.Message, part) {
			t.Errorf("message %q does not say %q", res.Message, part)
		}
	}
	if got := r.writes(); len(got) != 1 {
		t.Errorf("writes %v, want 1", got)
	}
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := r.admin.CoreV1().Pods(r.ns).Patch(t.Context(), sick.Name, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

func TestABudgetThatRefusedAnEvictionAfterItsDryRunIsLeftInPeace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pods := r.ready(r.deploy("web", "shop/api:good", 3))
	r.budget("web", intstr.FromInt32(2))
	var sent atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		if isEviction(req) && sent.Add(1) == 2 {
			// Between the dry run and the write, the workload gets worse.
			r.crash(pods[1])
			kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
				b, err := r.admin.PolicyV1().PodDisruptionBudgets(r.ns).Get(ctx, "web", metav1.GetOptions{})
				if err == nil && b.Status.CurrentHealthy > 1 {
					err = errors.New("the budget has not noticed yet")
				}
				return err
			})
		}
		return next.RoundTrip(req)
	}).between)
	res := r.carryOut(restartOf(r.crash(pods[0])))
	if got, want := end(res), (ended{heal.Rejected, "PDB"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	second := restartOf(&pods[1])
	second.Expires = time.Now().Add(20 * time.Second)
	res = r.carryOut(second)
	if got, want := end(res), (ended{heal.Rejected, "PDB"}); got != want || !strings.Contains(res.Message, "it rests for 2m10s") {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := r.attempts(); len(got) != 2 || !got[0].DryRun || got[1].Code != http.StatusTooManyRequests {
		t.Errorf("sent %v, want a dry run and one write that is refused", got)
	}
}
