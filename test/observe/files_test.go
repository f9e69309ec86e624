// Package observe holds the dashboards, alerts and runbooks against the four
// real services: nothing is drawn or watched that nobody measures.
package observe

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
	"github.com/selfheal/selfheal/test/observe/dashboard"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, kubetest.Options{Nodes: 3})) }

func folder(t testing.TB, path ...string) string {
	t.Helper()
	return filepath.Join(append([]string{harness.RepositoryRoot(t)}, path...)...)
}

// tool is a program that the Makefile fetches.
func tool(t testing.TB, name string) string {
	t.Helper()
	path := folder(t, ".cache", "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing; run make .cache/bin/prometheus", path)
	}
	return path
}

// A board is what the tests look at of a dashboard, as Grafana reads it.
type board struct {
	UID, Title, Description string
	Tags                    []string
	Panels                  []panel
	Annotations             struct {
		List []struct{ Name, Expr string }
	}
	Templating struct {
		List []struct {
			Name  string
			Query any
		}
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ UID string }
	GridPos                  struct{ X, Y, W, H int }
	Links                    []struct{ URL string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Expr, LegendFormat string
		Instant            bool
		Datasource         struct{ UID string }
	}
}

func boards(t testing.TB) map[string]board {
	t.Helper()
	paths, err := filepath.Glob(folder(t, "deploy", "grafana", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	all := map[string]board{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".json")] = b
	}
	return all
}

type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

func rules(t testing.TB) []rule {
	t.Helper()
	data, err := os.ReadFile(folder(t, "deploy", "prometheus", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// A query is an expression as it is asked of Prometheus.
type query struct {
	where string
	expr  string
	drawn bool // by a panel, which must have data
}

// queries are those of all dashboards and rules, with Grafana's variables
// filled in: span is the range that is shown, rate the one that rates are over.
func queries(t testing.TB, span, rate string) []query {
	t.Helper()
	fill := strings.NewReplacer("$__rate_interval", rate, "$__range", span, "$cluster", ".*")
	var all []query
	for name, b := range boards(t) {
		for _, p := range b.Panels {
			for i, target := range p.Targets {
				all = append(all, query{fmt.Sprintf("%s: %s: %c", name, p.Title, 'A'+i), fill.Replace(target.Expr), true})
			}
		}
		for _, a := range b.Annotations.List {
			if a.Expr != "" {
				all = append(all, query{name + ": annotation " + a.Name, fill.Replace(a.Expr), true})
			}
		}
	}
	for _, r := range rules(t) {
		all = append(all, query{"rules: " + r.Alert + r.Record, r.Expr, false})
	}
	slices.SortFunc(all, func(a, b query) int { return strings.Compare(a.where, b.where) })
	return all
}

func TestDashboardsAndTheChartsCopiesAreWhatTheCodeSays(t *testing.T) {
	files, err := dashboard.Deployed(folder(t, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		got, err := os.ReadFile(folder(t, "deploy", path))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not up to date (%v); run make generate", path, err)
		}
	}
	for _, dir := range []string{"grafana", "helm/self-healing/files/dashboards"} {
		entries, err := os.ReadDir(folder(t, "deploy", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if files[filepath.Join(dir, e.Name())] == nil {
				t.Errorf("%s/%s comes from nowhere", dir, e.Name())
			}
		}
	}
}

func TestDashboardsKeepTheConventions(t *testing.T) {
	const source = "${datasource}"
	pages := runbooks(t)
	rates := regexp.MustCompile(`(?:rate|increase)\([^[]*\[([^]]*)]`)
	for name, b := range boards(t) {
		if b.UID != "self-healing-"+name || b.Description == "" || !slices.Equal(b.Tags, []string{"self-healing"}) {
			t.Errorf("%s: uid %q, description %q, tags %q", name, b.UID, b.Description, b.Tags)
		}
		var variables []string
		for _, v := range b.Templating.List {
			variables = append(variables, v.Name)
		}
		if !slices.Equal(variables, []string{"datasource", "cluster"}) {
			t.Errorf("%s: variables %q", name, variables)
		}
		taken := map[[2]int]string{}
		for _, p := range b.Panels {
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != source || len(p.Targets) == 0 {
				t.Errorf("%s: %s: description %q, unit %q, data source %q, %d queries", name, p.Title, p.Description, p.FieldConfig.Defaults.Unit, p.Datasource.UID, len(p.Targets))
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Fatalf("%s: %s lies over %q at %d, %d", name, p.Title, other, x, y)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			for _, link := range p.Links {
				if page := filepath.Base(link.URL); !slices.Contains(pages, page) {
					t.Errorf("%s: %s: links to %s, which is no runbook", name, p.Title, page)
				}
			}
			for _, q := range p.Targets {
				if q.Datasource.UID != source {
					t.Errorf("%s: %s: asks data source %q", name, p.Title, q.Datasource.UID)
				}
				if n := strings.Count(q.Expr, `cluster=~"$cluster"`); n != strings.Count(q.Expr, "{") || n == 0 {
					t.Errorf("%s: %s: not all of it is of the chosen cluster: %s", name, p.Title, q.Expr)
				}
				for _, r := range rates.FindAllStringSubmatch(q.Expr, -1) {
					if !slices.Contains([]string{"$__rate_interval", "$__range", "1h"}, r[1]) {
						t.Errorf("%s: %s: a rate over %s", name, p.Title, r[1])
					}
				}
			}
		}
	}
}

// declared are the labels of every series that there may be, by its name.
func declared(t testing.TB) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, m := range promised {
		if m.Type == "HISTOGRAM" {
			all[m.Name+"_bucket"] = append([]string{"le"}, m.Labels...)
			all[m.Name+"_count"], all[m.Name+"_sum"] = m.Labels, m.Labels
			continue
		}
		all[m.Name] = m.Labels
	}
	for _, name := range standard {
		all[name] = nil
	}
	for _, r := range rules(t) {
		if r.Record != "" { // its labels are those that its name begins with
			level, _, _ := strings.Cut(r.Record, ":")
			all[r.Record] = strings.Split(level, "_")
		}
	}
	return all
}

// misused says what an expression asks for that nobody declares.
func misused(expr parser.Expr, all map[string][]string) []string {
	var wrong []string
	seen := slices.Clone(given)
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			own, known := all[v.Name]
			if !known {
				wrong = append(wrong, "no service has a metric "+v.Name)
			}
			for _, m := range v.LabelMatchers {
				if m.Name != model.MetricNameLabel && !slices.Contains(given, m.Name) && !slices.Contains(own, m.Name) {
					wrong = append(wrong, v.Name+" has no label "+m.Name)
				}
			}
			seen = append(seen, own...)
		}
		return nil
	})
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		var used []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			used = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				used = n.VectorMatching.MatchingLabels
			}
		}
		for _, label := range used {
			if !slices.Contains(seen, label) {
				wrong = append(wrong, "nothing in it has a label "+label)
			}
		}
		return nil
	})
	return wrong
}

func TestEveryExpressionOfDashboardsAndAlertsParsesAndUsesOnlyWhatIsDeclared(t *testing.T) {
	all := declared(t)
	read := parser.NewParser(parser.Options{})
	for _, q := range queries(t, "6h", "1m") {
		expr, err := read.ParseExpr(q.expr)
		if err != nil {
			t.Errorf("%s: %v", q.where, err)
			continue
		}
		for _, wrong := range misused(expr, all) {
			t.Errorf("%s: %s", q.where, wrong)
		}
	}
	for expr, want := range map[string]string{
		`rate(self_healing_heals_total[1m])`:                        "no service has a metric self_healing_heals_total",
		`self_healing_paused{pod="x"}`:                              "self_healing_paused has no label pod",
		`sum by (channel) (rate(self_healing_decisions_total[1m]))`: "nothing in it has a label channel",
		`self_healing_recovery_duration_seconds`:                    "no service has a metric self_healing_recovery_duration_seconds",
	} {
		parsed, err := read.ParseExpr(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := misused(parsed, all); !slices.Equal(got, []string{want}) {
			t.Errorf("of %s it says %q, want %q", expr, got, want)
		}
	}
}

func TestAlertsAndRulesPassTheChecksAndTestsOfPromtool(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "--lint=all", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.CommandContext(t.Context(), tool(t, "promtool"), args...)
		cmd.Dir = folder(t, "deploy", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tests, err := os.ReadFile(folder(t, "deploy", "prometheus", "rules_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		fires := "- alertname: " + r.Alert + "\n"
		silent := "alertname: " + r.Alert + ", "
		if text := string(tests); !strings.Contains(text, fires) || !strings.Contains(text, silent) {
			t.Errorf("%s: no test has it fire, or none has it silent", r.Alert)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if want := "https://github.com/selfheal/selfheal/blob/main/docs/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s: its runbook is %s, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
}

// runbooks are the names of the pages.
func runbooks(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(folder(t, "docs", "runbooks", "SelfHealing*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

func TestEveryAlertHasARunbookWhoseCommandsExist(t *testing.T) {
	index, err := os.ReadFile(folder(t, "docs", "runbooks", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert != "" {
			want[r.Alert+".md"] = true
		}
	}
	got := runbooks(t)
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		t.Errorf("the pages are %q\nwant %q", got, names)
	}
	command := regexp.MustCompile("selfheal ((?:[a-z]+ ?)+)")
	verbs := map[string]string{}
	for _, name := range append(got, "README.md") {
		data, err := os.ReadFile(folder(t, "docs", "runbooks", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if name != "README.md" {
			for _, section := range []string{"# " + strings.TrimSuffix(name, ".md") + "\n", "\n## What it means\n", "\n## What to look at\n", "\n## What to do\n"} {
				if !strings.Contains(text, section) {
					t.Errorf("%s lacks %q", name, strings.TrimSpace(section))
				}
			}
			if !strings.Contains(string(index), "("+name+")") {
				t.Errorf("README.md does not list %s", name)
			}
		}
		for i, code := range strings.Split(text, "`") {
			if i%2 == 1 && strings.HasPrefix(code, "selfheal ") {
				verbs[strings.TrimSpace(command.FindStringSubmatch(code)[1])] = name
			}
		}
	}
	for verb, page := range verbs {
		args := append(strings.Fields(verb), "--help")
		if out, err := exec.CommandContext(t.Context(), folder(t, "bin", "selfheal"), args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "selfheal "+strings.Fields(verb)[0]) {
			t.Errorf("%s: selfheal %s: %v", page, verb, err)
		}
	}
	t.Logf("%d pages, %d different commands of selfheal in them", len(got), len(verbs))
}
