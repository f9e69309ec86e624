package chart

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/test/harness"
)

// as reads an object of a rendering into its type.
func as[T any](t testing.TB, all map[string]unstructured.Unstructured, key string) T {
	t.Helper()
	var v T
	o, ok := all[key]
	if !ok {
		t.Fatalf("there is no %s", key)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &v, true); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return v
}

func TestTheServicesTakeTheSettingsThatTheChartGives(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds := "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\nx\n------END USER NKEY SEED------\n"
	for name, file := range ciFiles(t) {
		t.Run(name, func(t *testing.T) {
			all := objects(t, render(t, "-f", file))
			root, settings := t.TempDir(), t.TempDir()
			put := func(path string, data []byte) {
				t.Helper()
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, data, 0o440); err != nil {
					t.Fatal(err)
				}
			}
			put(filepath.Join(root, "nats", "seed"), seed)
			put(filepath.Join(root, "nats", "creds"), []byte(creds))
			if _, ok := all["ConfigMap self-healing-files"]; ok {
				for key, text := range as[corev1.ConfigMap](t, all, "ConfigMap self-healing-files").Data {
					put(filepath.Join(root, "files", key), []byte(text))
				}
			}
			for key, text := range as[corev1.ConfigMap](t, all, "ConfigMap self-healing-settings").Data {
				put(filepath.Join(settings, key), []byte(strings.ReplaceAll(text, "/etc/self-healing", root)))
			}
			for _, service := range harness.Services {
				if service == "notifier" { // as its Secrets are mounted
					put(filepath.Join(settings, "slack_webhook_url"), []byte("https://hooks.slack.com/services/x"))
					put(filepath.Join(settings, "email_password"), []byte("x"))
				}
				got, _, err := config.Load(config.Loader{Service: service, Environ: []string{"SELFHEAL_CONFIG_DIR=" + settings}})
				if err != nil {
					t.Errorf("%s: %v", service, err)
				}
				if name == "namespaced" && cmp.Diff([]string{"shop", "billing"}, got.Namespaces) != "" {
					t.Errorf("%s watches %v", service, got.Namespaces)
				}
			}
		})
	}
}

func TestNATSTakesTheConfigurationThatTheChartGives(t *testing.T) {
	for name, file := range ciFiles(t) {
		if name == "external" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			all := objects(t, render(t, "-f", file))
			set := as[appsv1.StatefulSet](t, all, "StatefulSet self-healing-nats")
			for _, e := range set.Spec.Template.Spec.Containers[0].Env {
				value := strings.ReplaceAll(e.Value, "$(ROUTE_PASSWORD)", "0123")
				switch {
				case e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && strings.HasSuffix(e.Name, "_NKEY"):
					pair, err := nkeys.CreateUser()
					if err != nil {
						t.Fatal(err)
					}
					if value, err = pair.PublicKey(); err != nil {
						t.Fatal(err)
					}
				case e.Name == "POD_NAME":
					value = "self-healing-nats-0"
				}
				t.Setenv(e.Name, value)
			}
			path := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(path, []byte(as[corev1.ConfigMap](t, all, "ConfigMap self-healing-nats").Data["nats.conf"]), 0o600); err != nil {
				t.Fatal(err)
			}
			opts, err := server.ProcessConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			routes := 0
			if name == "cluster" {
				routes = 3
			}
			if !opts.SyncAlways || opts.StoreDir != "/data" || len(opts.Nkeys) != 7 || len(opts.Accounts) != 7 || len(opts.Routes) != routes {
				t.Errorf("sync always %v, store %q, %d users, %d accounts, %d routes", opts.SyncAlways, opts.StoreDir, len(opts.Nkeys), len(opts.Accounts), len(opts.Routes))
			}
			// What nats-server would say only when it starts.
			srv, err := server.NewServer(opts)
			if err != nil {
				t.Fatal(err)
			}
			srv.Shutdown()
		})
	}
}

func TestEveryPodIsAsNarrowAsItCanBe(t *testing.T) {
	for name, file := range ciFiles(t) {
		all := objects(t, render(t, "-f", file))
		for key, o := range all {
			var spec corev1.PodSpec
			switch o.GetKind() {
			case "Deployment":
				spec = as[appsv1.Deployment](t, all, key).Spec.Template.Spec
			case "StatefulSet":
				spec = as[appsv1.StatefulSet](t, all, key).Spec.Template.Spec
			case "Job":
				spec = as[batchv1.Job](t, all, key).Spec.Template.Spec
			case "Pod":
				spec = as[corev1.Pod](t, all, key).Spec
			default:
				continue
			}
			service, _ := strings.CutPrefix(o.GetName(), "self-healing-")
			asks := slices.Contains([]string{"watcher", "actuator", "provision", "remove"}, service)
			if token := spec.AutomountServiceAccountToken; token == nil || *token != asks {
				t.Errorf("%s: %s: has a token: %v, want %v", name, key, token != nil && *token, asks)
			}
			if spec.ServiceAccountName != o.GetName() && service != "test" {
				t.Errorf("%s: %s: runs as %s", name, key, spec.ServiceAccountName)
			}
			for _, c := range spec.Containers {
				s := c.SecurityContext
				if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !*s.RunAsNonRoot || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
					t.Errorf("%s: %s: %v", name, key, s)
				}
				if answers := len(c.Ports) > 0; answers && (c.LivenessProbe == nil || c.ReadinessProbe == nil) || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: %s: %s: no probes or no limits", name, key, c.Name)
				}
			}
			for _, v := range spec.Volumes {
				if v.Projected == nil {
					continue
				}
				for _, source := range v.Projected.Sources {
					if source.Secret != nil && service != "notifier" && service != "test" && (service != "actuator" || source.Secret.Name != "node-webhook-secret") {
						t.Errorf("%s: %s: reads the Secret %s", name, key, source.Secret.Name)
					}
				}
			}
		}
	}
}

func TestTheNotifierIsToldTheSecretsAndTheActuatorThatOfTheMachines(t *testing.T) {
	all := objects(t, render(t))
	for key, o := range all {
		if o.GetKind() == "Secret" {
			t.Errorf("%s: the chart renders a Secret", key)
		}
	}
	for service, want := range map[string]map[string]string{
		"watcher": {}, "analyzer": {},
		"actuator": {"node-webhook-secret/url": "node_webhook_url", "node-webhook-secret/secret": "node_webhook_secret"},
		"notifier": {
			"slack-secret/webhook-url": "slack_webhook_url", "slack-secret/incident-webhook-url": "slack_incident_webhook_url",
			"slack-secret/bot-token": "slack_bot_token", "slack-secret/app-token": "slack_app_token",
			"email-secret/username": "email_username", "email-secret/password": "email_password",
			"pagerduty-secret/routing-key": "pagerduty_routing_key", "webhook-secret/url": "webhook_url", "webhook-secret/secret": "webhook_secret",
			"shoutrrr-secret/urls": "shoutrrr_urls",
		},
	} {
		got := map[string]string{}
		for _, source := range as[appsv1.Deployment](t, all, "Deployment self-healing-"+service).Spec.Template.Spec.Volumes[0].Projected.Sources {
			if source.Secret == nil {
				continue
			}
			if source.Secret.Optional == nil || !*source.Secret.Optional {
				t.Errorf("%s must be there", source.Secret.Name)
			}
			for _, item := range source.Secret.Items {
				got[source.Secret.Name+"/"+item.Key] = item.Path
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("secrets of %s (-want +got):\n%s", service, diff)
		}
	}
}
