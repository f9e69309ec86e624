// Package multicluster shows the pipeline larger than one of each: several
// clusters under one hub, with the configuration of deploy/multi-cluster on real
// NATS servers, and several of each service in one cluster.
package multicluster

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, kubetest.Options{Nodes: 3})) }

// replicas are three of each service, by the harness's names for them.
func replicas() []string {
	var names []string
	for _, s := range harness.Services {
		names = append(names, s, s+"#2", s+"#3")
	}
	return names
}

// work is the metric that counts what a service does, of the kind that its
// replicas share.
var work = map[string]string{
	"watcher":  "self_healing_events_published_total",
	"analyzer": `self_healing_messages_processed_total{outcome="ok",stream="SELFHEAL_FAILURES"}`,
	"actuator": `self_healing_messages_processed_total{outcome="ok",stream="SELFHEAL_DECISIONS"}`,
	"notifier": `self_healing_messages_processed_total{outcome="ok",stream="SELFHEAL_RESULTS"}`,
}

// done is what each replica has done so far.
func done(t *testing.T, p *harness.Pipeline, names []string) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, name := range names {
		if p.PID(name) == 0 {
			continue
		}
		service, _, _ := strings.Cut(name, "#")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr(name)+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			series, value, _ := strings.Cut(lines.Text(), " ")
			if series == work[service] || strings.HasPrefix(series, work[service]+"{") {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatal(err)
				}
				all[name] += int(n)
			}
		}
		_ = resp.Body.Close() // all was read
	}
	return all
}

// TestThreeOfEachShareTheWorkAndOneThatDiesOfEachLosesNothing breaks pods; on
// the way the busiest of each service is killed with what it has in hand.
// FAILURES chooses how many; with 400 each must have had a share.
func TestThreeOfEachShareTheWorkAndOneThatDiesOfEachLosesNothing(t *testing.T) {
	n := 12
	if text := os.Getenv("FAILURES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 6 {
			t.Fatalf("FAILURES is %q, want a number of at least 6", text)
		}
	}
	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	for i := range n {
		d := harness.Deployment(fmt.Sprintf("app-%03d", i), "shop/app:1", 1)
		if _, err := kube.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: replicas\nguards: {actions_per_minute: 3000}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	names := replicas()
	p := harness.Prepare(t, c.Kubeconfig, map[string]string{
		"SELFHEAL_POLICY_FILE": policy, "HEALTH_CHECK_INTERVAL": "5", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "60", "VERIFY_WINDOW": "3",
		"MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000",
	}, names...)
	for _, name := range names {
		p.Run(t, name)
	}
	p.WaitReady(t)
	record := harness.Listen(t, p.Bus(t))
	victims := map[string]bool{}
	breakPod := func(i int) {
		app := fmt.Sprintf("app-%03d", i)
		harness.WaitAvailable(t, kube, ns, app, 1)
		pod := harness.Pods(t, kube, ns, app)[0]
		victims[string(pod.UID)] = true
		if err := c.SetBehaviour(t.Context(), ns, pod.Name, "crash"); err != nil {
			t.Fatal(err)
		}
	}
	healed := func() map[string]bool {
		all := map[string]bool{}
		for _, e := range record.Results() {
			if e.Data.Outcome == heal.Succeeded {
				all[e.Data.Decision.Target.UID] = true
			}
		}
		return all
	}
	all := func(what string, limit time.Duration) {
		harness.WaitFor(t, limit, what, func() error {
			if got := healed(); len(got) < len(victims) {
				return fmt.Errorf("%d of %d healed", len(got), len(victims))
			}
			return nil
		})
	}

	for i := range n / 2 {
		breakPod(i)
	}
	all("the first half to be healed", 60*time.Second)
	shares := done(t, p, names)
	busiest := map[string]string{}
	for _, name := range names {
		t.Logf("share of %s: %d", name, shares[name])
		service, _, _ := strings.Cut(name, "#")
		if most, any := busiest[service]; !any || shares[name] > shares[most] {
			busiest[service] = name
		}
		// NATS asks idle workers in turn, and a replica has up to 64 of them:
		// of a few messages one may get all. Which watcher writes first is chance.
		if n >= 400 && service != "watcher" && shares[name] == 0 {
			t.Errorf("%s had no share of the work", name)
		}
	}

	for i := n / 2; i < n; i++ {
		breakPod(i)
		if i == n*3/4 {
			for _, name := range busiest {
				p.Kill(name)
			}
		}
	}
	all("the rest to be healed by who is left", 120*time.Second)
	left := done(t, p, names)
	for service, killed := range busiest {
		grew := 0
		for name, count := range left {
			if of, _, _ := strings.Cut(name, "#"); of == service {
				grew += count - shares[name]
			}
		}
		t.Logf("%s was killed; the others of it did %d since", killed, grew)
		if grew == 0 {
			t.Errorf("nobody took up the work of %s", killed)
		}
	}
	judge(t, c, ns, record, victims)
}

// judge says what was lost, and what was done twice.
func judge(t *testing.T, c *kubetest.Cluster, ns string, record *harness.Record, victims map[string]bool) {
	t.Helper()
	writes := map[string]int{}
	for _, e := range kubetest.Mutations(c.Audit(t), "selfheal-actuator/") {
		if e.Namespace == ns && !e.DryRun && e.Code < 300 {
			writes[e.UID]++
		}
	}
	for uid, times := range writes {
		if !victims[uid] || times != 1 {
			t.Errorf("%d effective writes on %s, broken: %v", times, uid, victims[uid])
		}
	}
	decided, ended := map[string]int{}, map[string]int{}
	for _, e := range record.Decisions() {
		decided[e.Data.Failure.EventID()]++
	}
	for _, e := range record.Results() {
		ended[e.Data.Decision.ID]++
	}
	for _, counts := range []map[string]int{decided, ended} {
		for id, times := range counts {
			if times != 1 {
				t.Errorf("%d decisions or results for %s", times, id)
			}
		}
	}
	for _, e := range record.Failures() {
		if !e.Data.Resolved() && decided[e.ID] == 0 {
			t.Errorf("failure %s of %s has no decision", e.ID, e.Data.Target)
		}
	}
	if letters := record.DeadLetters(); len(letters) > 0 {
		t.Errorf("%d dead letters, the first: %s", len(letters), letters[0])
	}
	t.Logf("%d pods broken, %d written to once; %d decisions, %d results, none twice", len(victims), len(writes), len(decided), len(ended))
}
