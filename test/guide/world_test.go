package guide

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.MainWithoutCluster(m)) }

// A world is what the pages' commands find: a cluster with a shop of which
// some is broken, the four services that look after it, and a user's home with
// kubectl, nats and helm set up for them.
type world struct {
	root, home string
	cluster    *kubetest.Cluster
	kube       kubernetes.Interface
	nats       *nats.Conn
	slack      string // the URL of somebody who takes messages

	sick   string // the pod of checkout that crashed
	rolled int    // how many roll-outs were made to fail
}

// name is what the cluster is called, everywhere.
const name = "production"

// hurry makes the services believe within seconds what should take minutes.
var hurry = map[string]string{
	"SELFHEAL_CLUSTER": name, "HEALTH_CHECK_INTERVAL": "1s", "SELFHEAL_SETTLE_TIME": "1s", "VERIFY_WINDOW": "2s", "RECOVERY_TIMEOUT": "10s",
	"MAX_POD_ACTIONS_NAMESPACE": "60",
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{root: harness.RepositoryRoot(t), home: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var err error
	if w.cluster, err = kubetest.Start(ctx, kubetest.Options{Nodes: 3}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Stop)
	w.kube = w.cluster.Client(t)
	w.kubeconfig(t)

	policy := filepath.Join(w.home, "policy.yaml")
	write(t, policy, `
guards:
  backoff: {first: 2s, longest: 3s}
  give_up: {after: 10, for: 1h}
rules:
- name: some need a person
  match: failure.owner_name in ["cart", "search"]
  mode: approve
`)
	settings := map[string]string{"SELFHEAL_POLICY_FILE": policy, "SLACK_WEBHOOK_URL": w.double(t)}
	for k, v := range hurry {
		settings[k] = v
	}
	p := harness.Start(t, w.cluster, settings)
	if w.nats, err = nats.Connect(p.NATS.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nats.Close)
	w.tools(t)
	write(t, filepath.Join(w.home, ".config", "nats", "context", name+".json"), fmt.Sprintf("{\"url\": %q}\n", p.NATS.URL))
	w.hooks(t)
	w.shop(t)
	return w
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// kubeconfig gives the cluster's only context the name of the cluster.
func (w *world) kubeconfig(t *testing.T) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(w.cluster.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Contexts[name] = config.Contexts[config.CurrentContext]
	delete(config.Contexts, config.CurrentContext)
	config.CurrentContext = name
	for _, path := range []string{w.cluster.Kubeconfig, filepath.Join(w.home, ".kube", "config")} {
		if err := clientcmd.WriteToFile(*config, path); err != nil {
			t.Fatal(err)
		}
	}
}

// double takes what is sent to Slack.
func (w *world) double(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(rw, `{"ok":true,"channel":"C1","ts":"1.2"}`)
	}))
	t.Cleanup(s.Close)
	w.slack = s.URL
	return s.URL
}

// tools puts the programs that the pages speak of on the PATH.
func (w *world) tools(t *testing.T) {
	t.Helper()
	bin := filepath.Join(w.home, "bin")
	write(t, filepath.Join(bin, "kubectl"), fmt.Sprintf("#!/bin/sh\nexec %s kubectl --dir %s \"$@\"\n", filepath.Join(w.root, "bin", "devcluster"), w.cluster.Dir))
	if err := os.Chmod(filepath.Join(bin, "kubectl"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"selfheal": "bin/selfheal", "kubectl-selfheal": "bin/kubectl-selfheal", "nats": ".cache/bin/nats-v0.4.0", "helm": ".cache/bin/helm-v3.22.0",
	} {
		to = filepath.Join(w.root, to)
		if _, err := os.Stat(to); err != nil {
			t.Fatalf("%v; make test builds it", err)
		}
		if err := os.Symlink(to, filepath.Join(bin, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(w.home, ".config", "fish", "completions", "selfheal.fish"), "")
}

// env is the environment of somebody who has these tools, and nothing of ours.
func (w *world) env() []string {
	return []string{
		"HOME=" + w.home, "XDG_CONFIG_HOME=" + filepath.Join(w.home, ".config"), "USER=ann", "LANG=C.UTF-8", "PATH=" + filepath.Join(w.home, "bin") + ":" + os.Getenv("PATH"),
		"NATS_CONTEXT=" + name, "SELFHEAL_CLUSTER=" + name,
	}
}

func (w *world) command(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.home, "bin", program), args...)
	cmd.Dir, cmd.Env = w.home, w.env()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) must(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := w.command(t, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// namespace of the shop.
const namespace = "shop"

// shop deploys it, and breaks it: a pod of checkout crashes and is healed,
// cart and search never worked, and nothing is done to them before a person agrees.
func (w *world) shop(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := w.kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, time.Minute, func(ctx context.Context) error {
		_, err := w.kube.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	harness.Deploy(t, w.kube, namespace, harness.Deployment("checkout", "shop/checkout:good", 2))
	for _, app := range []string{"cart", "search"} {
		if _, err := w.kube.AppsV1().Deployments(namespace).Create(t.Context(), harness.Deployment(app, "shop/"+app+":broken", 1), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.sick = harness.Pods(t, w.kube, namespace, "checkout")[0].Name
	if err := w.cluster.SetBehaviour(t.Context(), namespace, w.sick, "broken"); err != nil {
		t.Fatal(err)
	}
}

// rolledBack is a decision that has put back an older revision, as the newest
// did not work. It can be undone once.
func (w *world) rolledBack(t *testing.T) string {
	t.Helper()
	w.rolled++
	app := fmt.Sprintf("catalog-%d", w.rolled)
	harness.Deploy(t, w.kube, namespace, harness.Deployment(app, "shop/catalog:good", 2))
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/catalog:broken"}]}}}}`)
	if _, err := w.kube.AppsV1().Deployments(namespace).Patch(t.Context(), app, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return w.healed(t, app).ID
}

// healed waits for a recovery of a workload that succeeded.
func (w *world) healed(t *testing.T, app string) heal.Decision {
	t.Helper()
	var found heal.Decision
	harness.WaitFor(t, time.Minute, app+" to be healed", func() error {
		var list struct{ Items []struct{ Data heal.Result } }
		if err := json.Unmarshal([]byte(w.must(t, "selfheal", "get", "results", "-n", namespace, "-o", "json")), &list); err != nil {
			return err
		}
		for _, r := range list.Items {
			if d := r.Data.Decision; r.Data.Outcome == heal.Succeeded && d.Failure.Affected().Name == app {
				found = d
				return nil
			}
		}
		return fmt.Errorf("%d results", len(list.Items))
	})
	return found
}

// waiting is a decision that waits for a person.
func (w *world) waiting(t *testing.T, app string) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^(d-\w+)  .* of shop/Pod/` + app + `-`)
	var found []string
	harness.WaitFor(t, time.Minute, "a decision about "+app+" to wait", func() error {
		said := w.must(t, "selfheal", "approve")
		if found = line.FindStringSubmatch(said); found == nil {
			return fmt.Errorf("it says %s", said)
		}
		return nil
	})
	return found[1]
}

// letters makes sure that there are two dead letters, and returns their numbers.
func (w *world) letters(t *testing.T) (first, second string) {
	t.Helper()
	subject := "selfheal.v1." + name + ".failures.pod_failure.shop.pod.evil"
	js, err := w.nats.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []struct{ Sequence uint64 } }
	harness.WaitFor(t, time.Minute, "two dead letters", func() error {
		if err := json.Unmarshal([]byte(w.must(t, "selfheal", "dlq", "list", "-o", "json")), &list); err != nil {
			return err
		}
		if len(list.Items) >= 2 {
			return nil
		}
		_, err := js.Publish(subject, []byte(`{"data":{"reason":"none"}}`))
		if err == nil {
			err = fmt.Errorf("%d so far", len(list.Items))
		}
		return err
	})
	return fmt.Sprint(list.Items[0].Sequence), fmt.Sprint(list.Items[1].Sequence)
}

// hooks runs what the chart's jobs would, as the simulated nodes run nothing:
// the same command, and then the pod has ended.
func (w *world) hooks(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	of := metav1.ListOptions{LabelSelector: "app.kubernetes.io/component in (provision,remove)"}
	pods, err := w.kube.CoreV1().Pods("").Watch(ctx, of)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		defer pods.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case e, open := <-pods.ResultChan():
				pod, ok := e.Object.(*corev1.Pod)
				if !open || e.Type == watch.Added && !ok {
					t.Errorf("the watch of the hooks' pods ended: %v", e.Object)
					return
				}
				if e.Type != watch.Added {
					continue
				}
				cmd := exec.CommandContext(ctx, filepath.Join(w.root, "bin", "selfheal"), pod.Spec.Containers[0].Args...)
				cmd.Env = w.env()
				if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v\n%s", cmd, err, out)
				}
				if err := w.cluster.SetBehaviour(ctx, pod.Namespace, pod.Name, "complete"); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		}
	}()
}

// uninstall takes away what would stand in the way of the next page's chart.
func (w *world) uninstall(t *testing.T) {
	t.Helper()
	w.must(t, "helm", "uninstall", "self-healing", "-n", "self-healing", "--ignore-not-found", "--no-hooks", "--wait")
	if out, err := w.command(t, "kubectl", "-n", "self-healing", "delete", "secret", "--all"); err != nil && !strings.Contains(out, "not found") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := w.command(t, "kubectl", "annotate", "namespace", "self-healing", "selfheal.dev/mode-"); err != nil && !strings.Contains(out, "not found") {
		t.Fatalf("%v: %s", err, out)
	}
}
