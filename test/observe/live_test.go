package observe

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

// A server is a real Prometheus that scrapes the four services.
type server struct{ url string }

// scrape starts one, with the alerts that are checked in.
func scrape(t testing.TB, p *harness.Pipeline) server {
	t.Helper()
	dir := t.TempDir()
	config := "global: {scrape_interval: 1s, evaluation_interval: 2s}\n" +
		"rule_files: [" + folder(t, "deploy", "prometheus", "rules.yaml") + "]\nscrape_configs:\n"
	for _, name := range harness.Services {
		config += fmt.Sprintf("  - {job_name: self-healing-%s, static_configs: [{targets: [%q], labels: {cluster: test, namespace: self-healing}}]}\n", name, p.Addr(name))
	}
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "prometheus"), "--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := harness.StartChild(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // its status is "killed", which is what we did
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("Prometheus said:\n%s", text)
		}
		_ = log.Close()
	})
	s := server{"http://" + addr}
	harness.WaitFor(t, 30*time.Second, "Prometheus to have scraped every service", func() error {
		found, err := s.ask(t, "/api/v1/query", url.Values{"query": {"self_healing_build_info"}})
		if err == nil && len(found) != len(harness.Services) {
			err = fmt.Errorf("%d of %d", len(found), len(harness.Services))
		}
		return err
	})
	return s
}

func (s server) get(t testing.TB, path string, into any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return json.Unmarshal(body, into)
}

// ask returns every number of an answer that is one, by series.
func (s server) ask(t testing.TB, path string, q url.Values) (map[string][]float64, error) {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Metric model.Metric
				Value  []any
				Values [][]any
			}
		}
	}
	if err := s.get(t, path+"?"+q.Encode(), &answer); err != nil {
		return nil, err
	}
	found := map[string][]float64{}
	for _, r := range answer.Data.Result {
		for _, v := range append(r.Values, r.Value) {
			if len(v) != 2 {
				continue
			}
			n, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			if err != nil {
				return nil, err
			}
			if !math.IsNaN(n) && !math.IsInf(n, 0) {
				found[r.Metric.String()] = append(found[r.Metric.String()], n)
			}
		}
	}
	return found, nil
}

// since asks for an expression over the time from begin on, as a panel does.
func (s server) since(t testing.TB, begin time.Time, expr string) (map[string][]float64, error) {
	t.Helper()
	return s.ask(t, "/api/v1/query_range", url.Values{
		"query": {expr}, "step": {"1"},
		"start": {strconv.FormatInt(begin.Unix(), 10)}, "end": {strconv.FormatInt(time.Now().Unix(), 10)},
	})
}

// trouble is failures of several sorts: a pod that a restart heals, an image
// that nothing heals until the breaker opens, a channel that refuses at first,
// a message that nobody understands, and a pause.
func trouble(t testing.TB, c *kubetest.Cluster) (*harness.Pipeline, server) {
	t.Helper()
	var refused atomic.Int32
	inbox := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if refused.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(inbox.Close)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: quick\nguards:\n  actions_per_minute: 3000\n  backoff: {first: 2, longest: 4}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, c, map[string]string{
		"SELFHEAL_POLICY_FILE": policy, "WEBHOOK_URL": inbox.URL,
		"HEALTH_CHECK_INTERVAL": "1", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "60", "VERIFY_WINDOW": "3",
	})
	s := scrape(t, p)

	kube, ns := c.Client(t), c.Namespace(t)
	harness.Deploy(t, kube, ns, harness.Deployment("checkout", "shop/checkout:1", 3))
	if _, err := kube.AppsV1().Deployments(ns).Create(t.Context(), harness.Deployment("cart", "shop/cart:broken", 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetBehaviour(t.Context(), ns, harness.Pods(t, kube, ns, "checkout")[0].Name, "crash"); err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(p.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Publish(heal.SubjectRoot+".test.failures.pod_failure.shop.pod.x", []byte("not an event")); err != nil {
		t.Fatal(err)
	}
	if err := conn.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	return p, s
}

// pause stops all acting and lets it go on once that was measured.
func pause(t testing.TB, p *harness.Pipeline, s server) {
	t.Helper()
	b := p.Bus(t)
	tell := func(verb string) {
		if err := bus.Controls.Publish(t.Context(), b, heal.Control{Verb: verb, By: "test", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	tell(heal.Pause)
	harness.WaitFor(t, 30*time.Second, "the pause to be measured", func() error {
		found, err := s.ask(t, "/api/v1/query", url.Values{"query": {"self_healing_paused == 1"}})
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("nobody says so")
		}
		return err
	})
	tell(heal.Resume)
}

func TestDashboardsAndAlertsAreAnsweredByARealPrometheusWhileThingsFail(t *testing.T) {
	begin := time.Now()
	p, s := trouble(t, kubetest.Get(t))

	// Each asks again for what it had not: the failures take their time.
	var drawn []query
	all := queries(t, "5m", "10s")
	for _, q := range all {
		if q.drawn {
			drawn = append(drawn, q)
		}
	}
	paused := false
	waiting := drawn
	harness.WaitFor(t, 150*time.Second, "every panel to have data", func() error {
		waiting = slices.DeleteFunc(slices.Clone(waiting), func(q query) bool {
			found, err := s.since(t, begin, q.expr)
			if err != nil {
				t.Fatalf("%s: %v", q.where, err)
			}
			return len(found) > 0
		})
		missing := make([]string, 0, len(waiting))
		for _, q := range waiting {
			missing = append(missing, q.where)
		}
		if !paused && !slices.ContainsFunc(missing, func(where string) bool { return !strings.Contains(where, "annotation") }) {
			pause(t, p, s)
			paused = true
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d have none:\n  %s", len(missing), len(drawn), strings.Join(missing, "\n  "))
		}
		return nil
	})

	t.Run("Every rule is evaluated without an error, and what fails sets off its alerts", func(t *testing.T) { evaluated(t, s) })

	answered := 0
	for _, q := range all {
		found, err := s.since(t, begin, q.expr)
		if err != nil {
			t.Errorf("%s: %v", q.where, err)
		}
		if len(found) > 0 {
			answered++
		}
	}
	t.Logf("%d queries executed, %d returned data; of panels and annotations %d of %d", len(all), answered, len(drawn)-len(waiting), len(drawn))

	t.Run("Every value that an expression picks by name is there", func(t *testing.T) { picked(t, s, begin) })
	t.Run("Every service has exactly the promised metrics, free of lint", func(t *testing.T) { keepsPromise(t, p) })
}

// evaluated waits for the alerts that the trouble must set off: the breaker
// opens only after several tries.
func evaluated(t *testing.T, s server) {
	var states map[string]string
	harness.WaitFor(t, 90*time.Second, "the alerts of what fails", func() error {
		var err error
		if states, err = s.states(t); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"SelfHealingBreakerOpen", "SelfHealingMessagesGivenUp"} {
			if states[name] != "firing" {
				return fmt.Errorf("%s is %q", name, states[name])
			}
		}
		return nil
	})
	if len(states) != len(rules(t)) {
		t.Errorf("Prometheus has %d rules, the file %d", len(states), len(rules(t)))
	}
	for _, name := range []string{"SelfHealingServiceAbsent", "SelfHealingSettingsRefused", "SelfHealingPipelineStalled", "SelfHealingFallsBehind"} {
		if states[name] != "inactive" {
			t.Errorf("%s is %q, want inactive", name, states[name])
		}
	}
}

// states are those of all alerts, by name; of a recording rule it is empty.
func (s server) states(t testing.TB) (map[string]string, error) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Health, LastError, State string
				}
			}
		}
	}
	if err := s.get(t, "/api/v1/rules", &answer); err != nil {
		return nil, err
	}
	states := map[string]string{}
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if r.Health == "err" {
				return nil, fmt.Errorf("%s: %s", r.Name, r.LastError)
			}
			states[r.Name] = r.State
		}
	}
	return states, nil
}

// picked looks that every label's value in a matcher is one that a service
// gives: a misspelt one would match nothing for ever.
func picked(t *testing.T, s server, begin time.Time) {
	asked := map[string]bool{}
	for _, q := range queries(t, "5m", "10s") {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.expr)
		if err != nil {
			t.Fatal(err)
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			v, ok := n.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			for _, m := range v.LabelMatchers {
				if m.Name == model.MetricNameLabel || m.Name == "cluster" {
					continue
				}
				for value := range strings.SplitSeq(m.Value, "|") {
					asked[fmt.Sprintf("%s{%s=%q}", v.Name, m.Name, value)] = true
				}
			}
			return nil
		})
	}
	for selector := range asked {
		if found, err := s.since(t, begin, selector); err != nil || len(found) == 0 {
			t.Errorf("no service ever says %s (%v)", selector, err)
		}
	}
	t.Logf("%d values of labels looked for", len(asked))
}

func keepsPromise(t *testing.T, p *harness.Pipeline) {
	got, help := map[string]metric{}, map[string]string{}
	for _, name := range harness.Services {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr(name)+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read to its end
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			t.Errorf("%s: %s: %s", name, problem.Metric, problem.Text)
		}
		reader := expfmt.NewTextParser(model.LegacyValidation)
		families, err := reader.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for family, f := range families {
			if !strings.HasPrefix(family, heal.MetricPrefix) {
				continue
			}
			m := got[family]
			help[family] = f.GetHelp()
			m.Name, m.Type, m.Services = family, f.GetType().String(), append(m.Services, name)
			for i, series := range f.GetMetric() {
				var own []string
				for _, l := range series.GetLabel() {
					own = append(own, l.GetName())
				}
				slices.Sort(own)
				if first := i == 0 && len(m.Services) == 1; !first && !slices.Equal(own, m.Labels) {
					t.Errorf("%s: %s has the labels %q, elsewhere %q", name, family, own, m.Labels)
				}
				m.Labels = own
			}
			got[family] = m
		}
	}
	var have []metric
	for _, name := range slices.Sorted(maps.Keys(got)) {
		have = append(have, got[name])
	}
	if diff := cmp.Diff(promised, have); diff != "" {
		t.Errorf("metrics (-promised +got):\n%s", diff)
	}
	page(t, have, help)
}

// page holds docs/metrics.md to what the services say; -update writes it.
func page(t *testing.T, have []metric, help map[string]string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("# Metrics\n\n" +
		"Every service serves these on `/metrics`, besides those of the Go runtime and of the process. Labels come from closed sets: never a pod, a\n" +
		"namespace or a message. [Dashboards and alerts](runbooks/README.md) are made of them. A test holds this page to what the services serve.\n\n" +
		"| metric | type | labels | by | meaning |\n|---|---|---|---|---|\n")
	for _, m := range have {
		quoted := make([]string, 0, len(m.Labels))
		for _, l := range m.Labels {
			quoted = append(quoted, "`"+l+"`")
		}
		by := strings.Join(m.Services, ", ")
		if slices.Equal(m.Services, every) {
			by = "all"
		}
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s | %s |\n", m.Name, strings.ToLower(m.Type), strings.Join(quoted, ", "), by, help[m.Name])
	}
	path := folder(t, "docs", "metrics.md")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text.String(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md is not up to date; run go test ./observe -update (-want +got):\n%s", diff)
	}
}
