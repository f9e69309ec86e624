package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/test/harness"
)

// What the chart installs is what deploy/prometheus and deploy/grafana hold,
// to the letter: their templates are Prometheus' and Grafana's, not Helm's.
func TestTheChartInstallsTheAlertsAndDashboardsAsTheyAre(t *testing.T) {
	deploy := filepath.Join(harness.RepositoryRoot(t), "deploy")
	all := objects(t, render(t, "-f", ciFiles(t)["cluster"]))

	data, err := os.ReadFile(filepath.Join(deploy, "prometheus", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rules any
	if err := yaml.Unmarshal(data, &rules); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rules, all["PrometheusRule self-healing"].Object["spec"]); diff != "" {
		t.Errorf("rules (-file +chart):\n%s", diff)
	}

	paths, err := filepath.Glob(filepath.Join(deploy, "grafana", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	want := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		want["self-healing-"+filepath.Base(p)] = strings.TrimSpace(string(text))
	}
	board := as[corev1.ConfigMap](t, all, "ConfigMap self-healing-dashboards")
	for name, text := range board.Data {
		board.Data[name] = strings.TrimSpace(text) // the end of the last is lost with the end of its document
	}
	if diff := cmp.Diff(want, board.Data); diff != "" {
		t.Errorf("dashboards (-files +chart):\n%s", diff)
	}
	if board.Labels["grafana_dashboard"] != "1" || board.Annotations["grafana_folder"] != "Operations" {
		t.Errorf("labels %v, annotations %v", board.Labels, board.Annotations)
	}
}
