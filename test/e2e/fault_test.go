package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// A patient is a namespace of single pods, of which each is broken once.
type patient struct {
	*testing.T
	cluster *kubetest.Cluster
	kube    kubernetes.Interface
	ns      string
	victims []corev1.Pod
}

// ill makes the pods, and breaks none of them yet.
func ill(t *testing.T, pods int) *patient {
	t.Helper()
	c := kubetest.Get(t)
	p := &patient{T: t, cluster: c, kube: c.Client(t), ns: c.Namespace(t)}
	var all []*appsv1.Deployment
	for i := range pods {
		all = append(all, harness.Deployment(fmt.Sprintf("app-%03d", i), "shop/app:1", 1))
	}
	harness.Deploy(t, p.kube, p.ns, all...)
	for _, d := range all {
		p.victims = append(p.victims, harness.Pods(t, p.kube, p.ns, d.Name)[0])
	}
	return p
}

// breaks makes some of the pods crash.
func (p *patient) breaks(victims ...corev1.Pod) {
	p.Helper()
	for _, v := range victims {
		if err := p.cluster.SetBehaviour(p.Context(), p.ns, v.Name, "crash"); err != nil {
			p.Fatal(err)
		}
	}
}

// healed waits until every victim has made place for a pod that is Ready, and
// then judges by the audit log: one effective write for each, and none beside.
func (p *patient) healed(within time.Duration) {
	p.Helper()
	harness.WaitFor(p.T, within, "all pods to be replaced", func() error {
		var sick []string
		for _, v := range p.victims {
			app := v.Labels["app"]
			pods := harness.Pods(p.T, p.kube, p.ns, app)
			if len(pods) != 1 || pods[0].UID == v.UID || !isReady(pods[0]) {
				sick = append(sick, app)
			}
		}
		if len(sick) > 0 {
			return fmt.Errorf("%d of %d are not: %v", len(sick), len(p.victims), sick)
		}
		return nil
	})
	p.once()
}

func (p *patient) once() {
	p.Helper()
	writes := map[string]int{}
	for _, e := range effective(p.T, p.cluster, p.ns) {
		writes[e.UID]++
	}
	for _, v := range p.victims {
		if n := writes[string(v.UID)]; n != 1 {
			p.Errorf("%d effective writes on %s (uid %s), want 1", n, v.Name, v.UID)
		}
		delete(writes, string(v.UID))
	}
	for uid, n := range writes {
		p.Errorf("%d effective writes on uid %s, which nobody had broken", n, uid)
	}
}

// manyMay has the budgets allow for all of it.
var manyMay = map[string]string{"MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000"}

// TestWhateverTheAPIServerAnswersEachPodIsReplacedOnce stands between the
// services and the API server. VICTIMS and SEED choose another run.
func TestWhateverTheAPIServerAnswersEachPodIsReplacedOnce(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: -long")
	}
	pods, seed := fromEnv(t, "VICTIMS", 8), uint64(fromEnv(t, "SEED", 1))
	for _, tt := range []struct {
		name  string
		fault func(*dice) fault
	}{
		{"too busy for 30 % of all requests", func(d *dice) fault { return busy(d, 0.3) }},
		{"an error for 30 % of all requests", func(d *dice) fault { return failing(d, 0.3) }},
		{"no answer to half of the changes that it makes", func(d *dice) fault { return dropping(d, 0.5) }},
		{"changes made 15 s after everybody has given up", func(d *dice) fault { return late(d, 0.5, 15*time.Second) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDice(seed)
			p := ill(t, pods)
			pipeline := harness.Prepare(t, between(t, p.cluster, tt.fault(d)), quick(t, manyMay), harness.Services...)
			for _, name := range harness.Services {
				pipeline.Run(t, name)
			}
			p.breaks(p.victims...)
			p.healed(15 * time.Minute) // with an error for every third request most attempts are begun again
			t.Logf("seed %d: %d failures, each healed by one write", seed, pods)
		})
	}
}

func TestAnAPIServerThatIsTooBusyForEverythingIsLeftInPeaceUntilItIsNot(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: -long")
	}
	p := ill(t, 4)
	var away atomic.Bool
	var asked atomic.Int64
	pipeline := harness.Prepare(t, between(t, p.cluster, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if away.Load() {
			asked.Add(1)
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		pass.ServeHTTP(w, r)
	}), quick(t, manyMay), harness.Services...)
	for _, name := range harness.Services {
		pipeline.Run(t, name)
	}
	pipeline.WaitReady(t)
	away.Store(true)
	p.breaks(p.victims...)
	const forSo = 20 * time.Second
	pause(t, forSo)
	during := asked.Load()
	away.Store(false)
	p.healed(4 * time.Minute)
	// Nobody hammers: all services together ask a few times a second, watches and probes included.
	if rate := float64(during) / forSo.Seconds(); rate > 25 {
		t.Errorf("%d requests in %s, %.0f a second", during, forSo, rate)
	}
	t.Logf("%d requests in the %s in which none was answered", during, forSo)
}

func TestAKilledAPIServerLosesNothingAndDoublesNothing(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: -long")
	}
	seed := uint64(fromEnv(t, "SEED", 1))
	d := newDice(seed)
	p := ill(t, fromEnv(t, "VICTIMS", 8))
	harness.Start(t, p.cluster, quick(t, manyMay))
	kills := 0
	for i, v := range p.victims {
		harness.WaitFor(t, time.Minute, "the API server to serve", func() error {
			return p.cluster.SetBehaviour(t.Context(), p.ns, v.Name, "crash")
		})
		pause(t, time.Duration(d.n(2500))*time.Millisecond) // somewhere between seen and verified
		if i%3 == 1 {
			if err := p.cluster.Signal("kube-apiserver", "KILL"); err != nil {
				t.Fatal(err)
			}
			kills++
		}
	}
	harness.WaitFor(t, time.Minute, "the API server to serve", func() error {
		_, err := p.kube.CoreV1().Namespaces().Get(t.Context(), p.ns, metav1.GetOptions{})
		return err
	})
	p.healed(6 * time.Minute)
	t.Logf("seed %d: %d failures, the API server killed %d times", seed, len(p.victims), kills)
}

// TestAStoreThatForgetsTheLastSecondsMakesNothingHappenTwice takes NATS back to
// what it held some time ago, with what was done since.
func TestAStoreThatForgetsTheLastSecondsMakesNothingHappenTwice(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: -long")
	}
	seed := uint64(fromEnv(t, "SEED", 1))
	d := newDice(seed)
	p := ill(t, fromEnv(t, "VICTIMS", 9))
	pipeline := harness.Start(t, p.cluster, quick(t, manyMay))
	third := len(p.victims) / 3

	p.breaks(p.victims[:third]...)
	pause(t, time.Duration(1000+d.n(3000))*time.Millisecond) // some are seen, some decided, some done
	pipeline.NATS.Kill()
	rewind := pipeline.NATS.Keep(t)
	pipeline.NATS.Start(t)
	p.breaks(p.victims[third : 2*third]...)
	harness.WaitFor(t, 2*time.Minute, "something to be done that will be forgotten", func() error {
		if n := len(effective(t, p.cluster, p.ns)); n < 2*third {
			return fmt.Errorf("%d writes", n)
		}
		return nil
	})
	pipeline.NATS.Kill()
	rewind()
	pipeline.NATS.Start(t)
	p.breaks(p.victims[2*third:]...)
	p.healed(6 * time.Minute)
	pause(t, 20*time.Second) // what was forgotten is delivered again, and must come to nothing
	p.once()
	t.Logf("seed %d: %d failures, a third before the rewind, a third forgotten by it, a third after it", seed, len(p.victims))
}

// TestMessagesThatComeFiveTimesDoNothingMoreThanOnce sends each failure,
// decision and result four times more, under other ids.
func TestMessagesThatComeFiveTimesDoNothingMoreThanOnce(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: -long")
	}
	p := ill(t, fromEnv(t, "VICTIMS", 8))
	pipeline := harness.Start(t, p.cluster, quick(t, manyMay))
	nc, err := nats.Connect(pipeline.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	const again = "Test-Again"
	ours := pipeline.Bus(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var sent atomic.Int64
	go func() {
		ended <- ours.Tail(ctx, time.Time{}, func(m bus.Raw) error {
			if len(m.Header[again]) > 0 || !strings.HasPrefix(m.Subject, "selfheal.v1.test.") || strings.Contains(m.Subject, ".dlq.") {
				return nil
			}
			for i := range 4 {
				msg := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{}}
				for key, values := range m.Header {
					if !strings.HasPrefix(key, "Nats-") {
						msg.Header[key] = values
					}
				}
				msg.Header.Set(again, fmt.Sprint(i))
				msg.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s-again-%d", nats.NewInbox(), i))
				if err := nc.PublishMsg(msg); err != nil {
					return err
				}
				sent.Add(1)
			}
			return nil
		})
	}()
	p.breaks(p.victims...)
	p.healed(4 * time.Minute)
	pause(t, 20*time.Second)
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p.once()
	if n := sent.Load(); n < int64(4*3*len(p.victims)) {
		t.Errorf("%d messages were sent again, want at least 4 of each failure, decision and result", n)
	}
	t.Logf("%d failures; %d messages sent again", len(p.victims), sent.Load())
}

// TestAnAPIServerThatIsBehindHasNobodyActOnWhatIsGone shows the actuator, and
// it alone, a pod for ever as it was, while another has taken its name.
func TestAnAPIServerThatIsBehindHasNobodyActOnWhatIsGone(t *testing.T) {
	if !*long {
		t.Skip("takes minutes: -long")
	}
	first := ill(t, 1)
	c, kube, ns := first.cluster, first.kube, first.ns
	one := int32(1)
	labels := map[string]string{"app": "db"}
	if _, err := kube.AppsV1().StatefulSets(ns).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/db:1"}}}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	read := func() (*corev1.Pod, error) {
		return kube.CoreV1().Pods(ns).Get(t.Context(), "db-0", metav1.GetOptions{})
	}
	var old *corev1.Pod
	harness.WaitFor(t, time.Minute, "the pod", func() (err error) {
		if old, err = read(); err == nil && !isReady(*old) {
			err = errors.New("it is not Ready")
		}
		return err
	})
	replaced := make(chan error, 1)
	kubeconfig := between(t, c, stale(func() string { return "/api/v1/namespaces/" + ns + "/pods/db-0" }, func() {
		err := kube.CoreV1().Pods(ns).Delete(context.Background(), "db-0", metav1.DeleteOptions{})
		for err == nil {
			var now *corev1.Pod
			if now, err = read(); err == nil && now.UID != old.UID && isReady(*now) {
				break
			}
			if apierrors.IsNotFound(err) {
				err = nil
			}
		}
		replaced <- err
	}))
	p := harness.Prepare(t, kubeconfig, quick(t, nil), harness.Services...)
	for _, name := range harness.Services {
		p.Run(t, name)
	}
	p.WaitReady(t)
	record := harness.Listen(t, p.Bus(t))
	first.breaks(first.victims...)
	first.healed(2 * time.Minute) // so acting is allowed by now
	if err := c.SetBehaviour(t.Context(), ns, "db-0", "crash"); err != nil {
		t.Fatal(err)
	}
	var result heal.Result
	harness.WaitFor(t, 2*time.Minute, "the decision's result", func() error {
		for _, e := range record.Results() {
			if e.Data.Decision.Target.UID == string(old.UID) && e.Data.Decision.Strategy != heal.Monitor {
				result = e.Data
				return nil
			}
		}
		return fmt.Errorf("%d results", len(record.Results()))
	})
	if err := <-replaced; err != nil {
		t.Fatal(err)
	}
	if result.Outcome != heal.Skipped {
		t.Errorf("ended %s %s, want skipped: %s", result.Outcome, result.Reason, result.Message)
	}
	first.once() // and nothing since
}
