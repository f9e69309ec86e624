// Package chart holds the Helm chart against Helm itself and a real control
// plane: what it renders is taken by the API server as it is, and each service
// may do there what its rules say and nothing else.
package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, kubetest.Options{Nodes: 3})) }

const (
	helmBinary = "helm-v3.22.0"
	docsBinary = "helm-docs-v1.14.2"
)

// helms are the versions of Helm that people have.
var helms = []string{helmBinary, "helm-v4.3.1"}

func chartFolder(t testing.TB) string {
	t.Helper()
	return filepath.Join(harness.RepositoryRoot(t), "deploy", "helm", "self-healing")
}

// tool is a program that the Makefile builds.
func tool(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(harness.RepositoryRoot(t), ".cache", "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing; run make .cache/bin/%s", path, name)
	}
	return path
}

// helm runs helm on its own, without what the machine's user has set up.
func helm(t testing.TB, args ...string) (stdout string, err error) {
	t.Helper()
	return runHelm(t.Context(), tool(t, helmBinary), t.TempDir(), args...)
}

func runHelm(ctx context.Context, binary, home string, args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s", args[0], err, strings.TrimSpace(messages.String()))
	}
	return out.String(), nil
}

// ciFiles are the values that people are expected to choose, by name.
func ciFiles(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(chartFolder(t), "ci", "*-values.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no values files: %v", err)
	}
	files := map[string]string{}
	for _, p := range paths {
		files[strings.TrimSuffix(filepath.Base(p), "-values.yaml")] = p
	}
	return files
}

func render(t testing.TB, args ...string) string {
	t.Helper()
	out, err := helm(t, append([]string{"template", "self-healing", chartFolder(t), "--namespace", "self-healing"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// objects are a rendering's, by kind and name; of the same name in several
// namespaces, by these too.
func objects(t testing.TB, rendering string) map[string]unstructured.Unstructured {
	t.Helper()
	all := map[string]unstructured.Unstructured{}
	for _, doc := range strings.Split(rendering, "\n---\n") {
		var o unstructured.Unstructured
		if err := yaml.UnmarshalStrict([]byte(doc), &o.Object); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		if len(o.Object) == 0 {
			continue
		}
		key := o.GetKind() + " " + o.GetName()
		if ns := o.GetNamespace(); ns != "" && ns != "self-healing" {
			key = o.GetKind() + " " + ns + "/" + o.GetName()
		}
		if _, twice := all[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		all[key] = o
	}
	return all
}

func TestTheChartIsFreeOfLint(t *testing.T) {
	for _, version := range helms {
		for name, file := range ciFiles(t) {
			if out, err := runHelm(t.Context(), tool(t, version), t.TempDir(), "lint", "--strict", chartFolder(t), "--namespace", home, "-f", file); err != nil {
				t.Errorf("%s: %s: %v\n%s", version, name, err, out)
			}
		}
	}
}

func TestEveryRenderingIsTheSameTwiceUnderEachHelm(t *testing.T) {
	for name, file := range ciFiles(t) {
		var first map[string]unstructured.Unstructured
		for _, version := range helms {
			args := []string{"template", home, chartFolder(t), "--namespace", home, "-f", file}
			var before string
			for range 2 {
				out, err := runHelm(t.Context(), tool(t, version), t.TempDir(), args...)
				if err != nil {
					t.Fatalf("%s: %s: %v", version, name, err)
				}
				if before != "" && out != before {
					t.Errorf("%s: %s: two renderings differ", version, name)
				}
				before = out
			}
			all := objects(t, before)
			if first == nil {
				first = all
			}
			if diff := cmp.Diff(first, all); diff != "" {
				t.Errorf("%s: not as of %s under %s (-, +):\n%s", name, helms[0], version, diff)
			}
		}
	}
}

func TestTheReadmeIsWhatTheValuesSay(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(chartFolder(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool(t, docsBinary), "--chart-search-root", chartFolder(t), "--dry-run", "--log-level", "error").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(out)) != strings.TrimSpace(string(readme)) {
		t.Error("README.md is not up to date; run make generate")
	}
}

// Every setting of the services that is not the chart's own business can be
// given in values, and no other.
func TestTheSchemaKnowsEverySetting(t *testing.T) {
	table, err := os.ReadFile(filepath.Join(harness.RepositoryRoot(t), "docs", "settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	chartsOwn := map[string]bool{
		"kubeconfig": true, "http_addr": true, "namespaces": true, "policy_file": true, "detectors_file": true,
		"nats_url": true, "nats_creds": true, "nats_nkey": true, "signing_key_file": true, "trusted_keys_dir": true,
	}
	want := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		key := strings.Trim(cells[1], " `")
		if secret := strings.Contains(cells[2], "_FILE"); !secret && !chartsOwn[key] {
			want[key] = true
		}
	}
	data, err := os.ReadFile(filepath.Join(chartFolder(t), "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Settings struct {
				AdditionalProperties *bool
				Properties           map[string]any
			}
		}
	}
	if err := yaml.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	if open := schema.Properties.Settings.AdditionalProperties; open == nil || *open {
		t.Error("settings are open to anything")
	}
	for key := range want {
		if _, ok := schema.Properties.Settings.Properties[key]; !ok {
			t.Errorf("setting %s cannot be given", key)
		}
	}
	for key := range schema.Properties.Settings.Properties {
		if !want[key] {
			t.Errorf("no service has a setting %s", key)
		}
	}
}

func TestBadValuesAreRefusedWithTheReason(t *testing.T) {
	tests := []struct{ name, values, want string }{
		{"a misspelt section", `notifer: {replicas: 2}`, `additional properties 'notifer' not allowed`},
		{"a misspelt setting", `settings: {recovery_timout: 300}`, `additional properties 'recovery_timout' not allowed`},
		{"an unknown mode", `settings: {mode: everything}`, `'/settings/mode': value must be one of 'observe', 'approve', 'auto'`},
		{"a cap without a limit", `settings: {max_pod_actions_cluster: 100000}`, `'/settings/max_pod_actions_cluster': maximum: got 100,000, want 3,000`},
		{"a duration that is none", `settings: {recovery_timeout: soon}`, `'/settings/recovery_timeout': 'soon' does not match pattern`},
		{"a secret in plain sight", `settings: {slack_webhook_url: https://hooks.slack.com/x}`, `additional properties 'slack_webhook_url' not allowed`},
		{"a verification that outlasts the recovery", `settings: {verify_window: 10m, recovery_timeout: 300}`, `settings.verify_window: 10m is longer than recovery_timeout, which is 300`},
		{"mail to nobody", `settings: {email_smtp_server: smtp.example.com}`, `settings.email_recipients: want at least one address, because email_smtp_server is "smtp.example.com"`},
		{"a cluster whose name is no name", `settings: {cluster: "Prod EU"}`, `'/settings/cluster': 'Prod EU' does not match pattern`},
		{"two NATS servers", `nats: {replicas: 2}`, `'/nats/replicas': value must be one of 1, 3`},
		{"no NATS at all", `nats: {bundled: false}`, `nats.external.url: want the address of your NATS server, because nats.bundled is false`},
		{"two sorts of NATS", `nats: {external: {url: "nats://nats.example.com:4222"}}`, `nats.external.url: is "nats://nats.example.com:4222", but nats.bundled is true`},
		{"a password in an address", `nats: {bundled: false, external: {url: "nats://me:secret@nats.example.com"}}`, `nats.external.url: must not contain credentials`},
		{"websockets", `nats: {bundled: false, external: {url: "wss://nats.example.com"}}`, `'/nats/external/url': 'wss://nats.example.com' does not match pattern`},
		{"too small a disk", `nats: {storage: {size: 1Gi}}`, `nats.storage.size: 1Gi is less than 6Gi, which the streams may grow to`},
		{"a protected namespace", `namespaces: [shop, kube-system]`, `namespaces[1]: "kube-system" is protected`},
		{"pods made in a protected namespace", `actuator: {bareNamespaces: [kube-system]}`, `actuator.bareNamespaces[0]: "kube-system" is protected`},
		{"our own namespace", `namespaces: [self-healing]`, `namespaces[0]: "self-healing" is protected`},
		{"no replicas", `actuator: {replicas: 0}`, `'/actuator/replicas': minimum: got 0, want 1`},
		{"no memory limit", `defaults: {resources: {limits: null}}`, `missing property 'limits'`},
		{"a right to read secrets", `watcher: {extraRules: [{apiGroups: [""], resources: [secrets]}]}`, `'/watcher/extraRules/0/resources/0'`},
		{"a right to all kinds", `watcher: {extraRules: [{apiGroups: ["*"], resources: ["*"]}]}`, `'/watcher/extraRules/0/resources/0': '*' does not match pattern`},
		{"a secret for a setting that is none", `secrets: [{name: x, items: {a: kubeconfig}}]`, `'/secrets/0/items/a'`},
		{"a strategy that there is not", `actuator: {strategies: [delete_all]}`, `'/actuator/strategies/0': value must be one of`},
		{"fewer at most than at least", `actuator: {autoscaling: {kind: hpa, minReplicas: 5, maxReplicas: 3}}`, `actuator.autoscaling.maxReplicas: 3 is less than minReplicas, which is 5`},
		{"KEDA without Prometheus", `analyzer: {autoscaling: {kind: keda}}`, `analyzer.autoscaling.prometheus: want the address of Prometheus`},
		{"a policy misspelt", `admissionPolicy: {enable: true}`, `additional properties 'enable' not allowed`},
		{"every figure twice", `monitoring: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}`, `monitoring: serviceMonitor and podMonitor are both enabled`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(tt.values), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := helm(t, "template", "self-healing", chartFolder(t), "--namespace", "self-healing", "-f", file)
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret@") {
				t.Errorf("the message shows the password: %v", err)
			}
		})
	}
}
