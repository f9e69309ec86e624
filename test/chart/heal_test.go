package chart

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/analyzer"
	"github.com/selfheal/selfheal/services/notifier"
	"github.com/selfheal/selfheal/services/watcher"
	"github.com/selfheal/selfheal/test/harness"
)

// An installation is the chart installed, and what its pods would run running
// here: NATS and what keeps its streams, and the four services, each with
// exactly the settings, keys and token that its pod has.
type installation struct {
	*kubelet
	nats     *bustest.Server
	url      atomic.Pointer[string] // of NATS, once it is there
	root     string
	operator *bus.Bus
	begin    time.Time // before helm install
	log      *os.File

	services map[string]*service
}

// A service is one of the four, in this process.
type service struct {
	addr string
	stop context.CancelFunc
	done chan struct{}
	err  error // read after done
}

const home = "self-healing" // namespace and release

// impatient are settings for a test; production waits longer.
var impatient = []string{
	"--set", "settings.health_check_interval=1", "--set", "settings.pod_restart_threshold=1", "--set", "settings.recovery_timeout=60",
	"--set", "settings.verify_window=3s", "--set", "settings.settle_time=1", "--set", "settings.mode=auto", "--set", "settings.cluster=default",
}

// installed installs the chart and runs it.
func installed(t *testing.T, args ...string) *installation {
	t.Helper()
	root := t.TempDir()
	in := &installation{root: root, services: map[string]*service{}, begin: time.Now()}
	in.kubelet = startKubelet(t, home, func(text string) string {
		url := in.url.Load()
		if url == nil {
			return text
		}
		return strings.NewReplacer("nats://self-healing-nats.self-healing.svc:4222", *url, "nats://127.0.0.1:4222", *url).Replace(text)
	})
	var err error
	if in.log, err = os.Create(filepath.Join(root, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			data, _ := os.ReadFile(in.log.Name()) // it is only for reading along
			t.Logf("log:\n%s", data[max(0, len(data)-12000):])
		}
	})
	installOnly(t, helmBinary, home, slices.Concat(args, impatient)...)
	in.startNATS(t)
	for _, s := range in.all() {
		in.start(t, s)
	}
	in.ready(t)
	return in
}

func (in *installation) all() []daemon.Service {
	return []daemon.Service{watcher.Service(), analyzer.Service(), actuator.Service(), notifier.Service()}
}

// startNATS runs a server with the configuration and keys of the chart's, and
// what makes its streams.
func (in *installation) startNATS(t *testing.T) {
	t.Helper()
	set, err := in.client.AppsV1().StatefulSets(home).Get(t.Context(), "self-healing-nats", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := set.Spec.Template.Spec
	secret, err := in.client.CoreV1().Secrets(home).Get(t.Context(), "self-healing-nats", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("POD_NAME", "self-healing-nats-0")
	for _, e := range spec.Containers[0].Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			t.Setenv(e.Name, string(secret.Data[e.ValueFrom.SecretKeyRef.Key]))
		}
	}
	conf, err := in.client.CoreV1().ConfigMaps(home).Get(t.Context(), "self-healing-nats", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(in.root, "nats.conf")
	if err := os.WriteFile(file, []byte(conf.Data["nats.conf"]), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
	in.nats = bustest.Configure(t, *opts)
	url := in.nats.URL()
	in.url.Store(&url)

	beside := filepath.Join(in.root, "beside-nats")
	i := slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == "streams" })
	if i < 0 {
		t.Fatal("nothing makes the streams")
	}
	spec.Containers = spec.Containers[i : i+1]
	if err := in.mount(t.Context(), spec, beside); err != nil {
		t.Fatal(err)
	}
	keeper := exec.CommandContext(t.Context(), filepath.Join(harness.RepositoryRoot(t), "bin", "selfheal"), in.arguments(spec, beside)...)
	keeper.Stderr = in.log
	keeper.Env = []string{"HOME=" + beside}
	if err := keeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = keeper.Process.Kill() // it has ended by itself if that fails
		_ = keeper.Wait()         // it was killed
	})

	people, err := in.client.CoreV1().Secrets(home).Get(t.Context(), "self-healing-people", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(in.root, "operator.seed")
	if err := os.WriteFile(seed, people.Data["operator.seed"], 0o600); err != nil {
		t.Fatal(err)
	}
	in.operator = in.nats.Connect(t, bus.Options{URL: in.nats.URL(), Service: "selfheal", Cluster: "default", NKeyFile: seed})
}

// start runs a service as its Deployment says.
func (in *installation) start(t *testing.T, s daemon.Service) {
	t.Helper()
	d, err := in.client.AppsV1().Deployments(home).Get(t.Context(), "self-healing-"+s.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := d.Spec.Template.Spec
	root := t.TempDir()
	if err := in.mount(t.Context(), corev1.PodSpec{Volumes: spec.Volumes, Containers: spec.Containers}, root); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run := &service{addr: l.Addr().String(), done: make(chan struct{})}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	environ := []string{"SELFHEAL_HTTP_ADDR=" + run.addr}
	for _, e := range spec.Containers[0].Env {
		if e.ValueFrom == nil {
			environ = append(environ, e.Name+"="+strings.ReplaceAll(e.Value, "/etc/self-healing", root+"/etc/self-healing"))
		}
	}
	if *spec.AutomountServiceAccountToken {
		kubeconfig, err := in.kubeconfig(t.Context(), spec.ServiceAccountName, root)
		if err != nil {
			t.Fatal(err)
		}
		environ = append(environ, "KUBECONFIG="+kubeconfig)
	}
	loaded, _, err := config.Load(config.Loader{Service: s.Name, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	run.stop = stop
	go func() {
		defer close(run.done)
		run.err = daemon.Run(ctx, s, loaded, slog.New(slog.NewTextHandler(in.log, nil)).With("service", s.Name))
	}()
	t.Cleanup(func() { in.end(t, s.Name, run) })
	in.services[s.Name] = run
}

// end stops a run of a service, once.
func (in *installation) end(t *testing.T, name string, run *service) {
	t.Helper()
	run.stop()
	<-run.done
	if run.err != nil {
		t.Errorf("%s: %v", name, run.err)
		run.err = nil
	}
}

// ready waits until all services are.
func (in *installation) ready(t *testing.T) {
	t.Helper()
	for name, s := range in.services {
		harness.WaitFor(t, 60*time.Second, name+" to be ready", func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }() // only its status counts
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
}

// healed waits until a recovery of what the owner owns is verified.
func (in *installation) healed(t *testing.T, owner string) heal.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var said []string
	var found heal.Result
	done := errors.New("healed")
	err := in.operator.Tail(ctx, in.begin, func(r bus.Raw) error {
		if r.Stream != bus.Results.Stream {
			return nil
		}
		e, err := heal.Decode[heal.Result](r.Data)
		if err != nil {
			return err
		}
		said = append(said, fmt.Sprintf("%s: %s %s: %s", e.Data.Decision.Target, e.Data.Outcome, e.Data.Reason, e.Data.Message))
		if d := e.Data.Decision; e.Data.Outcome == heal.Succeeded && (d.Failure.Owner.Name == owner || d.Target.Name == owner) {
			found = e.Data
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatalf("%s was not healed: %v; results:\n%s", owner, err, strings.Join(said, "\n"))
	}
	return found
}

// The services run as the chart would have them: with its service accounts'
// tokens, its NATS accounts and keys, its settings, its signing key and its
// admission policies, and no other right. Before that the hook has made the
// keys, and what runs beside NATS the streams.
func TestTheServicesHealWithTheChartsRightsAlone(t *testing.T) {
	for _, tt := range []struct {
		name, values string
	}{
		{"in the whole cluster", "small"},
		{"in two namespaces", "namespaced"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := kubetest.Get(t)
			k := c.Client(t)
			for _, ns := range []string{"shop", "billing"} {
				namespace(t, ns, nil)
			}
			crashing, broken := "checkout-"+tt.values, "cart-"+tt.values
			harness.Deploy(t, k, "shop", harness.Deployment(crashing, "shop/checkout:1", 3), harness.Deployment(broken, "shop/cart:1", 2))
			in := installed(t, "-f", ciFiles(t)[tt.values])
			if err := c.SetBehaviour(t.Context(), "shop", harness.Pods(t, k, "shop", crashing)[0].Name, "crash"); err != nil {
				t.Fatal(err)
			}
			in.healed(t, crashing)
			t.Logf("from helm install to the first failure healed and verified: %s, of which 3 s are the verification", time.Since(in.begin).Round(100*time.Millisecond))

			roll(t, "shop", broken, "shop/cart:broken")
			if r := in.healed(t, broken); r.Decision.Strategy != heal.Rollback {
				t.Errorf("%s was healed by %s", broken, r.Decision.Strategy)
			}
			harness.WaitAvailable(t, k, "shop", broken, 2)

			out, err := helm(t, "test", home, "--namespace", home, "--kubeconfig", c.Kubeconfig, "--timeout", "100s")
			said, failed := in.last("test")
			if err != nil || failed != nil || !strings.Contains(said, "a failure passes all four stages; nothing was changed") {
				t.Errorf("helm test: %v; %v; %s\n%s", err, failed, out, said)
			}
			t.Logf("helm test:\n%s", said)

			if status := in.status(t, actuator.Name); !strings.Contains(status, `"unsigned_decisions_accepted":false`) {
				t.Errorf("the actuator takes unsigned decisions: %s", status)
			}
			for _, e := range kubetest.Mutations(c.Audit(t), "selfheal-actuator/") {
				if e.Code == http.StatusForbidden || e.User != "system:serviceaccount:self-healing:self-healing-actuator" {
					t.Errorf("%s by %s", e, e.User)
				}
			}
		})
	}
}

func (in *installation) status(t *testing.T, name string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+in.services[name].addr+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(b.String(), `": `, `":`)
}

// roll gives a Deployment another image.
func roll(t *testing.T, namespace, name, image string) {
	t.Helper()
	deployments := kubetest.Get(t).Client(t).AppsV1().Deployments(namespace)
	harness.WaitFor(t, 10*time.Second, name+" to take "+image, func() error {
		d, err := deployments.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Spec.Template.Spec.Containers[0].Image = image
		_, err = deployments.Update(t.Context(), d, metav1.UpdateOptions{})
		return err
	})
}

// While one workload after another breaks, the chart is upgraded and rolled
// back, and each time every service is replaced by one with the new settings.
// Every failure still ends in one decision, every decision in one result, and
// every workload whole.
func TestAnUpgradeAndARollbackUnderTrafficLoseNothing(t *testing.T) {
	c := kubetest.Get(t)
	k := c.Client(t)
	namespace(t, "shop", nil)
	const workloads = 8
	app := func(i int) string { return fmt.Sprintf("traffic-%d", i) }
	var all []*appsv1.Deployment
	for i := range workloads {
		all = append(all, harness.Deployment(app(i), "shop/traffic:1", 2))
	}
	harness.Deploy(t, k, "shop", all...)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: quick\nguards:\n  actions_per_minute: 3000\n  backoff: {first: 2, longest: 4}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	values := []string{"-f", ciFiles(t)["small"], "--set-file", "policy=" + policy}
	in := installed(t, values...)
	on := []string{"--namespace", home, "--kubeconfig", c.Kubeconfig}
	before := keysOf(t)

	// A workload breaks before and after each service is replaced.
	victims := map[string]bool{}
	breakOne := func() {
		t.Helper()
		if len(victims) == workloads {
			return
		}
		victim := harness.Pods(t, k, "shop", app(len(victims)))[0].Name
		if err := c.SetBehaviour(t.Context(), "shop", victim, "crash"); err != nil {
			t.Fatal(err)
		}
		victims[victim] = true
	}
	replace := func() {
		for _, s := range in.all() {
			breakOne()
			in.end(t, s.Name, in.services[s.Name])
			in.start(t, s)
		}
		in.ready(t)
	}
	if _, err := helm(t, slices.Concat([]string{"upgrade", home, chartFolder(t)}, on, values, impatient, []string{"--set", "settings.max_pod_actions_namespace=60", "--set", "defaults.podLabels.round=two"})...); err != nil {
		t.Fatal(err)
	}
	replace()
	if _, err := helm(t, slices.Concat([]string{"rollback", home, "1"}, on)...); err != nil {
		t.Fatal(err)
	}
	replace()
	if keysOf(t) != before {
		t.Error("the keys are not those of before")
	}
	harness.WaitFor(t, 120*time.Second, "every broken pod to be replaced", func() error {
		for i := range workloads {
			for _, p := range harness.Pods(t, k, "shop", app(i)) {
				if victims[p.Name] {
					return fmt.Errorf("%s still crashes", p.Name)
				}
			}
			d, err := k.AppsV1().Deployments("shop").Get(t.Context(), app(i), metav1.GetOptions{})
			if err == nil && d.Status.AvailableReplicas != 2 {
				err = fmt.Errorf("%s has %d available", d.Name, d.Status.AvailableReplicas)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	in.accounted(t)
	t.Logf("%d workloads broken during an upgrade and a rollback, all whole", len(victims))
}

// keysOf is all that the Secrets of the release hold.
func keysOf(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"self-healing-nats", "self-healing-people", "self-healing-signing"} {
		s, err := kubetest.Get(t).Client(t).CoreV1().Secrets(home).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(&b, name, s.Data)
	}
	return b.String()
}

// accounted waits until every failure has one decision, and every decision one result.
func (in *installation) accounted(t *testing.T) {
	t.Helper()
	harness.WaitFor(t, 60*time.Second, "every failure to be accounted for", func() error {
		decided, ended := map[string]int{}, map[string]int{}
		var told []string
		_, err := in.operator.Read(t.Context(), bus.Journals, in.begin, func(r bus.Raw) error {
			switch {
			case r.Stream == bus.Failures.Stream:
				if e, err := heal.Decode[heal.Failure](r.Data); err == nil && !e.Data.Resolved() {
					told = append(told, heal.MakeDecisionID(e.Data))
				}
			case r.Stream == bus.Decisions.Stream && strings.Contains(r.Subject, ".decisions."):
				if e, err := heal.Decode[heal.Decision](r.Data); err == nil {
					decided[e.Data.ID]++
				}
			case r.Stream == bus.Results.Stream:
				if e, err := heal.Decode[heal.Result](r.Data); err == nil {
					ended[e.Data.Decision.ID]++
				}
			case r.Stream == bus.DeadLetters.Stream:
				return fmt.Errorf("a dead letter: %s", r.Data)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range told {
			if decided[id] != 1 || ended[id] != 1 {
				return fmt.Errorf("of %d failures, that of decision %s has %d decisions and %d results", len(told), id, decided[id], ended[id])
			}
		}
		t.Logf("%d failures, %d decisions, %d results", len(told), len(decided), len(ended))
		return nil
	})
}
