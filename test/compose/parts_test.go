package compose

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/nats-io/nats-server/v2/server"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/test/harness"
)

// strict reads a YAML file of which every key must be known.
func strict[T any](t *testing.T, path string) (v T) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

func TestNATSTakesItsConfigurationAndKeepsWhatItAcknowledged(t *testing.T) {
	s := service(t, project(t), "nats")
	options, err := server.ProcessConfigFile(mount(t, s, s.Command[slices.Index(s.Command, "--config")+1]))
	if err != nil {
		t.Fatal(err)
	}
	if !options.JetStream || !options.SyncAlways || options.Port != 4222 {
		t.Errorf("JetStream %v, sync always %v, port %d", options.JetStream, options.SyncAlways, options.Port)
	}
	if !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == options.StoreDir && v.Type == "volume" }) {
		t.Errorf("no volume is mounted at %s", options.StoreDir)
	}
}

func TestPrometheusTakesItsConfigurationAndReadsEveryService(t *testing.T) {
	p := project(t)
	s := service(t, p, "prometheus")
	_, config, _ := strings.Cut(s.Command[0], "--config.file=")
	// promtool follows rule_files from where the configuration lies.
	dir := t.TempDir()
	for _, v := range s.Volumes {
		data, err := os.ReadFile(v.Source)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(v.Target)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool := at(t, ".cache", "bin", "promtool")
	out, err := exec.CommandContext(t.Context(), promtool, "check", "config", filepath.Join(dir, filepath.Base(config))).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SUCCESS: 1 rule files found") {
		t.Errorf("promtool (make .cache/bin/prometheus): %v\n%s", err, out)
	}
	scrape := strict[struct {
		Global struct {
			ScrapeInterval     string `json:"scrape_interval"`
			EvaluationInterval string `json:"evaluation_interval"`
		} `json:"global"`
		RuleFiles     []string `json:"rule_files"`
		ScrapeConfigs []struct {
			JobName       string `json:"job_name"`
			StaticConfigs []struct {
				Labels  map[string]string `json:"labels"`
				Targets []string          `json:"targets"`
			} `json:"static_configs"`
			RelabelConfigs []map[string]any `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}](t, mount(t, s, config))
	var targets []string
	for _, c := range scrape.ScrapeConfigs {
		for _, static := range c.StaticConfigs {
			targets = append(targets, static.Targets...)
			cluster := *service(t, p, "watcher").Environment["SELFHEAL_CLUSTER"]
			if static.Labels["cluster"] != cluster {
				t.Errorf("the metrics are those of cluster %q, the services' is %q", static.Labels["cluster"], cluster)
			}
		}
	}
	var want []string
	for _, name := range harness.Services {
		want = append(want, name+":8080")
	}
	if !slices.Equal(targets, want) {
		t.Errorf("it reads %v, want %v", targets, want)
	}
}

func TestGrafanaFindsItsDataAndItsDashboards(t *testing.T) {
	p := project(t)
	s := service(t, p, "grafana")
	const provisioning = "/etc/grafana/provisioning/"
	sources := strict[struct {
		APIVersion  int `json:"apiVersion"`
		Datasources []struct {
			Name, Type, URL string
			IsDefault       bool
			JSONData        map[string]any `json:"jsonData"`
		} `json:"datasources"`
	}](t, mount(t, s, provisioning+"datasources/self-healing.yaml"))
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || !sources.Datasources[0].IsDefault {
		t.Fatalf("data sources: %+v", sources.Datasources)
	}
	to, err := url.Parse(sources.Datasources[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(to.Host)
	if err != nil {
		t.Fatal(err)
	}
	if service(t, p, host); port != "9090" {
		t.Errorf("the data source is at %s", to)
	}
	providers := strict[struct {
		APIVersion int `json:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type string
			AllowUIUpdates     bool `json:"allowUiUpdates"`
			Options            struct{ Path string }
		}
	}](t, mount(t, s, provisioning+"dashboards/self-healing.yaml"))
	folder := providers.Providers[0].Options.Path
	paths, err := filepath.Glob(filepath.Join(mount(t, s, folder), "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no dashboards below %s: %v", folder, err)
	}
	uids := map[string]bool{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			UID, Title string
			Panels     []any
		}
		if err := json.Unmarshal(data, &board); err != nil || board.UID == "" || board.Title == "" || len(board.Panels) == 0 || uids[board.UID] {
			t.Errorf("%s: %v, uid %q, title %q, %d panels", path, err, board.UID, board.Title, len(board.Panels))
		}
		uids[board.UID] = true
	}
	home := *s.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if _, err := os.Stat(mount(t, s, home)); err != nil || filepath.Dir(home) != folder {
		t.Errorf("the first page %s: %v", home, err)
	}
}

func TestMailGoesToTheCatcher(t *testing.T) {
	p := project(t)
	env := service(t, p, "notifier").Environment
	if s := service(t, p, *env["EMAIL_SMTP_SERVER"]); !slices.Contains(listens[s.Name], 1025) || *env["EMAIL_SMTP_PORT"] != "1025" {
		t.Errorf("mail goes to port %s of %s", *env["EMAIL_SMTP_PORT"], s.Name)
	}
}

func TestTheKindClusterHasWhatTheTargetsAskFor(t *testing.T) {
	cluster := strict[struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Name       string `json:"name"`
		Nodes      []struct {
			Role   string            `json:"role"`
			Labels map[string]string `json:"labels"`
		} `json:"nodes"`
	}](t, at(t, "deploy", "compose", "kind.yaml"))
	if cluster.Kind != "Cluster" || cluster.APIVersion != "kind.x-k8s.io/v1alpha4" || cluster.Name != "selfheal" {
		t.Errorf("%s %s %q", cluster.APIVersion, cluster.Kind, cluster.Name)
	}
	roles := map[string]int{}
	zones := map[string]bool{}
	for _, n := range cluster.Nodes {
		roles[n.Role]++
		if n.Role == "worker" {
			zones[n.Labels["topology.kubernetes.io/zone"]] = true
		}
	}
	if roles["control-plane"] != 1 || roles["worker"] != len(zones) || len(roles) != 2 {
		t.Errorf("roles %v, %d zones: a node that fails must leave others", roles, len(zones))
	}
}
