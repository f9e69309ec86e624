package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/selfheal/selfheal/pkg/sign"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func defaults() Settings {
	return Settings{
		HealthCheckInterval: 30 * time.Second, NodeCheckInterval: 30 * time.Second, PodCheckInterval: 30 * time.Second,
		NodeFailureThreshold: 3, PodRestartThreshold: 5,
		RecoveryTimeout: 5 * time.Minute, VerifyWindow: time.Minute,
		NotificationEnabled: true,
		SlackChannel:        "#monitoring", SlackIncidentChannel: "#incidents", SlackAPIURL: "https://slack.com/api/",
		EmailSMTPPort: 587, EmailUseTLS: true,
		PagerDutyAPIURL: "https://events.pagerduty.com",
		NATSURL:         "nats://127.0.0.1:4222", Cluster: "default", Mode: "auto", HTTPAddr: ":8080",
		MaxPodActionsNamespace: 5, MaxPodActionsCluster: 30, UsageThreshold: 80, SettleTime: 30 * time.Second,
	}
}

// files writes a file for each name and returns their directory.
func filesIn(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutAnythingTheContractsDefaultsHold(t *testing.T) {
	got, _, err := Load(Loader{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, defaults()); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

// samples has a value other than the default for every setting, and what is
// shown of it.
func samples(t *testing.T) map[string]struct{ give, show string } {
	dir := filesIn(t, map[string]string{
		"seed":  "SUAAVVV6LQR4VD7GVGEFDI3UY6T5XPTQ5OTBUMT3U4PYCAPKZ5XQYDUGGM",
		"creds": "-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\ny\n",
	})
	private, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "decisions.key"), string(private))
	write(t, filepath.Join(dir, "decisions.pub"), string(public))
	same := func(v string) struct{ give, show string } { return struct{ give, show string }{v, v} }
	secret := func(v string) struct{ give, show string } { return struct{ give, show string }{v, "***"} }
	return map[string]struct{ give, show string }{
		"health_check_interval": {"45", "45s"}, "node_check_interval": {"1m30s", "1m30s"}, "pod_check_interval": {"1h", "1h"},
		"node_failure_threshold": same("4"), "pod_restart_threshold": same("1000"),
		"recovery_timeout": {"600", "10m"}, "verify_window": {"2m", "2m"},
		"max_pod_actions_namespace": same("600"), "max_pod_actions_cluster": same("3000"),
		"namespaces": {"shop, bank", "shop,bank"}, "detectors_file": same("/etc/detectors.yaml"),
		"usage_threshold": same("90"), "volume_stats": {"yes", "true"}, "settle_time": {"45", "45s"},
		"mode": same("observe"), "dry_run": {"yes", "true"}, "cluster": same("eu-1.prod"),
		"policy_file": same("/etc/policy.yaml"), "kubeconfig": same("/a:/b"),
		"nats_url":   same("tls://a:4222,tls://b:4222"),
		"nats_creds": same(filepath.Join(dir, "creds")), "nats_nkey": same(filepath.Join(dir, "seed")),
		"signing_key_file":     same(filepath.Join(dir, "decisions.key")),
		"trusted_keys_dir":     same(dir),
		"http_addr":            same("127.0.0.1:0"),
		"notification_enabled": {"NO", "false"}, "slack_channel": same("#ops"), "slack_incident_channel": same("C0123456789"),
		"slack_webhook_url":          secret("https://hooks.slack.com/services/T/B/x"),
		"slack_incident_webhook_url": secret("http://127.0.0.1:8099/x"),
		"slack_bot_token":            secret("xoxb-1"),
		"slack_app_token":            secret("xapp-1"), "slack_approvers": {"U012AB3CD, W1234567", "U012AB3CD,W1234567"},
		"notify_policy_file": same("/etc/notify.yaml"),
		"slack_api_url":      {"http://localhost:8099/api", "http://localhost:8099/api/"},
		"email_smtp_server":  same("mail.example.com"), "email_smtp_port": same("465"),
		"email_username": same("bot"), "email_password": secret("p w"), "email_from": same("Bot <bot@example.com>"),
		"email_use_tls": {"0", "false"}, "email_recipients": {"a@example.com, b@example.com", "a@example.com,b@example.com"},
		"pagerduty_enabled": {"1", "true"}, "pagerduty_routing_key": secret("0123456789abcdef0123456789abcdef"),
		"pagerduty_api_url": same("http://[::1]:8099"), "webhook_url": secret("https://example.com/in?token=x"),
		"webhook_secret": secret("whsec"), "alertmanager_url": same("http://alertmanager.monitoring.svc:9093"),
		"shoutrrr_urls":    secret("discord://token@id, teams://a@b/c/d/e?host=x"),
		"node_webhook_url": secret("https://machines.example/hook"), "node_webhook_secret": secret("a-secret-of-16-bytes"),
		"debug_mode": {"True", "true"}, "verbose_logging": {"true", "true"},
	}
}

func TestEveryKeyCanBeSetInEveryLayer(t *testing.T) {
	all := samples(t)
	if diff := cmp.Diff(len(all), len(Rows())); diff != "" {
		t.Fatalf("a setting has no sample: (-got +want)\n%s", diff)
	}
	for _, row := range Rows() {
		sample := all[row.Key]
		dir := filesIn(t, map[string]string{row.Key: sample.give + "\n"})
		secretFile := filepath.Join(dir, row.Key)
		yaml := fmt.Sprintf("# settings\n%s: %q\n", row.Key, sample.give)
		flagValue, envFile := sample.give, ""
		if row.Secret {
			yaml = fmt.Sprintf("# settings\n%s_file: %q\n", row.Key, secretFile)
			flagValue, envFile = secretFile, row.Env+"_FILE="+secretFile
		}
		file := filepath.Join(filesIn(t, map[string]string{"c.yaml": yaml}), "c.yaml")
		prefixed := "SELFHEAL_" + strings.TrimPrefix(row.Env, "SELFHEAL_")

		layers := map[string]struct {
			l    Loader
			from string
		}{
			"the file":             {Loader{Args: []string{"--config", file}}, "file " + file + " line 2"},
			"the directory":        {Loader{Environ: []string{"SELFHEAL_CONFIG_DIR=" + dir}}, "file " + secretFile},
			"the environment":      {Loader{Environ: []string{row.Env + "=" + sample.give}}, "environment " + row.Env},
			"the prefixed name":    {Loader{Environ: []string{prefixed + "=" + sample.give}}, "environment " + prefixed},
			"a flag and its value": {Loader{Args: []string{"--" + row.Flag + "=" + flagValue}}, "flag --" + row.Flag},
		}
		if row.Secret {
			layers["a file that the environment names"] = struct {
				l    Loader
				from string
			}{Loader{Environ: []string{envFile}}, "environment " + row.Env + "_FILE"}
		}
		for layer, tt := range layers {
			t.Run(row.Key+" in "+layer, func(t *testing.T) {
				tt.l.Service = "watcher" // the key alone need not make sense
				_, origins, err := Load(tt.l)
				if err != nil {
					t.Fatal(err)
				}
				want := Origin{Key: row.Key, Value: sample.show, From: tt.from}
				if diff := cmp.Diff(origins.Of(row.Key), want); diff != "" {
					t.Errorf("(-got +want)\n%s", diff)
				}
			})
		}
	}
}

func TestLaterLayerWins(t *testing.T) {
	dir := filesIn(t, map[string]string{"pod_restart_threshold": "12\n", "..data": "no key"})
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "pod_restart_threshold: 11\n"}), "c.yaml")
	inFile := []string{"SELFHEAL_CONFIG=" + file}
	inDir := append(slices.Clone(inFile), "SELFHEAL_CONFIG_DIR="+dir)
	bare := append(slices.Clone(inDir), "POD_RESTART_THRESHOLD=13")
	prefixed := append(slices.Clone(bare), "SELFHEAL_POD_RESTART_THRESHOLD=14")
	tests := map[string]struct {
		l    Loader
		want int
	}{
		"default":                           {Loader{}, 5},
		"default of the caller":             {Loader{Defaults: map[string]string{"pod_restart_threshold": "10"}}, 10},
		"file over default":                 {Loader{Environ: inFile, Defaults: map[string]string{"pod_restart_threshold": "10"}}, 11},
		"directory over file":               {Loader{Environ: inDir}, 12},
		"environment over directory":        {Loader{Environ: bare}, 13},
		"prefixed over bare name":           {Loader{Environ: prefixed}, 14},
		"prefixed first in the environment": {Loader{Environ: []string{"SELFHEAL_POD_RESTART_THRESHOLD=14", "POD_RESTART_THRESHOLD=13"}}, 14},
		"flag over environment":             {Loader{Environ: prefixed, Args: []string{"--pod-restart-threshold", "15"}}, 15},
		"last flag over first":              {Loader{Args: []string{"--pod-restart-threshold=15", "--pod-restart-threshold=16"}}, 16},
		"flag names another file":           {Loader{Environ: []string{"SELFHEAL_CONFIG=/nowhere"}, Args: []string{"--config", file}}, 11},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, _, err := Load(tt.l)
			if err != nil {
				t.Fatal(err)
			}
			if got.PodRestartThreshold != tt.want {
				t.Errorf("got %d, want %d", got.PodRestartThreshold, tt.want)
			}
		})
	}
}

func TestDefaultsFollowOtherSettings(t *testing.T) {
	tests := map[string]struct {
		environ []string
		want    func(*Settings)
	}{
		"both intervals are the health check's": {
			[]string{"HEALTH_CHECK_INTERVAL=10"},
			func(s *Settings) { s.HealthCheckInterval, s.NodeCheckInterval, s.PodCheckInterval = 10e9, 10e9, 10e9 },
		},
		"unless they are given": {
			[]string{"HEALTH_CHECK_INTERVAL=10", "POD_CHECK_INTERVAL=20"},
			func(s *Settings) { s.HealthCheckInterval, s.NodeCheckInterval, s.PodCheckInterval = 10e9, 10e9, 20e9 },
		},
		"a short recovery is verified in a shorter window": {
			[]string{"RECOVERY_TIMEOUT=30"},
			func(s *Settings) { s.RecoveryTimeout, s.VerifyWindow = 30e9, 30e9 },
		},
		"mail is from its user if that is an address": {
			[]string{"EMAIL_USERNAME=bot@example.com"},
			func(s *Settings) { s.EmailUsername, s.EmailFrom = "bot@example.com", "bot@example.com" },
		},
		"and from nobody if it is none": {
			[]string{"EMAIL_USERNAME=bot"},
			func(s *Settings) { s.EmailUsername = "bot" },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := defaults()
			tt.want(&want)
			got, _, err := Load(Loader{Environ: tt.environ})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestSwitchNeedsNoValueOnTheCommandLine(t *testing.T) {
	got, _, err := Load(Loader{Args: []string{"--dry-run", "--debug-mode=no", "--mode", "approve"}, Environ: []string{"DEBUG_MODE=1"}})
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.DryRun, want.Mode = true, "approve"
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestListsMayBeListsInYAML(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "email_recipients:\n- a@example.com\n- b@example.com\nnats_url: [nats://a:4222, nats://b]\n"}), "c.yaml")
	got, _, err := Load(Loader{Args: []string{"--config", file}})
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.EmailRecipients, want.NATSURL = []string{"a@example.com", "b@example.com"}, "nats://a:4222,nats://b"
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestFileWithoutSettingsSetsNothing(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "comments": "# nothing\n", "null": "null\n", "document marker": "---\n", "empty mapping": "{}\n"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(filesIn(t, map[string]string{"c.yaml": text}), "c.yaml")
			got, _, err := Load(Loader{Args: []string{"--config", file}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, defaults()); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestKubernetesServiceLinksAreNoSettings(t *testing.T) {
	_, _, err := Load(Loader{Environ: []string{
		"SELFHEAL_NATS_SERVICE_HOST=10.0.0.1", "SELFHEAL_NATS_SERVICE_PORT=4222", "SELFHEAL_NATS_SERVICE_PORT_CLIENT=4222",
		"SELFHEAL_NATS_PORT=tcp://10.0.0.1:4222", "SELFHEAL_NATS_PORT_4222_TCP=tcp://10.0.0.1:4222",
		"SELFHEAL_NATS_PORT_4222_TCP_PROTO=tcp", "SELFHEAL_NATS_PORT_4222_TCP_PORT=4222", "SELFHEAL_NATS_PORT_4222_TCP_ADDR=10.0.0.1",
		"PATH=/bin", "HOME=/", "=odd", "odd",
	}})
	if err != nil {
		t.Error(err)
	}
}

func TestHelpAndVersionComeBeforeEveryComplaint(t *testing.T) {
	for args, want := range map[string]error{"--help": ErrHelp, "-h": ErrHelp, "--version": ErrVersion} {
		t.Run(args, func(t *testing.T) {
			_, _, err := Load(Loader{Args: []string{"--nonsense", "--mode=ACT", args}, Environ: []string{"DRY_RUN=perhaps"}})
			if !errors.Is(err, want) || errors.Is(err, ErrSettings) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

func TestChangedNamesTheKeysThatDiffer(t *testing.T) {
	a, b := defaults(), defaults()
	if got := Changed(a, b); got != nil {
		t.Errorf("got %v for equal settings", got)
	}
	b.Mode, b.SlackBotToken, b.EmailRecipients = "observe", "x", []string{"a@example.com"}
	if diff := cmp.Diff(Changed(a, b), []string{"mode", "slack_bot_token", "email_recipients"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestEveryFieldOfSettingsHasAKey(t *testing.T) {
	var names []string
	for _, row := range Rows() {
		names = append(names, strings.ReplaceAll(row.Key, "_", ""))
	}
	fields := map[string]bool{}
	for _, f := range strings.Fields(fmt.Sprintf("%+v", Settings{})) {
		name, _, _ := strings.Cut(strings.Trim(f, "{}"), ":")
		fields[strings.ToLower(name)] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), slices.Sorted(slices.Values(names))); diff != "" {
		t.Errorf("(-fields +keys)\n%s", diff)
	}
}

func TestDocumentationHasEverySetting(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "settings.md"), Markdown())
	golden(t, filepath.Join("testdata", "help.txt"), Help())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		write(t, file, got)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, string(want)); diff != "" {
		t.Errorf("%s, to be written by go test -update: (-got +want)\n%s", file, diff)
	}
}
