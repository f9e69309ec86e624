package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// complaints is what Load says to l, one line each.
func complaints(t *testing.T, l Loader) []string {
	t.Helper()
	_, _, err := Load(l)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrSettings) {
		t.Errorf("errors.Is(%v, ErrSettings) is false", err)
	}
	return strings.Split(err.Error(), "\n")
}

func TestBadValueIsRefusedByNameLayerAndRange(t *testing.T) {
	const (
		interval = `want a duration from 1s to 1h, in seconds (30) or with units (1m30s)`
		day      = `want a duration from 1s to 24h, in seconds (30) or with units (1m30s)`
		boolWant = `want true or false (or yes, no, 1, 0)`
		secret   = ` (the value is a secret and not shown)`
	)
	tests := map[string]struct{ env, want string }{
		"duration below":      {"HEALTH_CHECK_INTERVAL=0", `health_check_interval (environment HEALTH_CHECK_INTERVAL): ` + interval + `, got "0"`},
		"duration above":      {"HEALTH_CHECK_INTERVAL=3601", `health_check_interval (environment HEALTH_CHECK_INTERVAL): ` + interval + `, got "3601"`},
		"duration negative":   {"SELFHEAL_POD_CHECK_INTERVAL=-1s", `pod_check_interval (environment SELFHEAL_POD_CHECK_INTERVAL): ` + interval + `, got "-1s"`},
		"duration half unit":  {"RECOVERY_TIMEOUT=5m5", `recovery_timeout (environment RECOVERY_TIMEOUT): ` + day + `, got "5m5"`},
		"duration exponent":   {"RECOVERY_TIMEOUT=1e9h", `recovery_timeout (environment RECOVERY_TIMEOUT): ` + day + `, got "1e9h"`},
		"duration overflow":   {"RECOVERY_TIMEOUT=99999999999999999", `recovery_timeout (environment RECOVERY_TIMEOUT): ` + day + `, got "99999999999999999"`},
		"duration far beyond": {"RECOVERY_TIMEOUT=99999999999999999999h", `recovery_timeout (environment RECOVERY_TIMEOUT): ` + day + `, got "99999999999999999999h"`},
		"duration empty":      {"RECOVERY_TIMEOUT=", `recovery_timeout (environment RECOVERY_TIMEOUT): ` + day + `, got ""`},
		"duration in words":   {"RECOVERY_TIMEOUT=5 minutes", `recovery_timeout (environment RECOVERY_TIMEOUT): ` + day + `, got "5 minutes"`},
		"number below":        {"POD_RESTART_THRESHOLD=0", `pod_restart_threshold (environment POD_RESTART_THRESHOLD): want a whole number from 1 to 1000, got "0"`},
		"number above":        {"POD_RESTART_THRESHOLD=1001", `pod_restart_threshold (environment POD_RESTART_THRESHOLD): want a whole number from 1 to 1000, got "1001"`},
		"number with sign":    {"NODE_FAILURE_THRESHOLD=+3", `node_failure_threshold (environment NODE_FAILURE_THRESHOLD): want a whole number from 1 to 1000, got "+3"`},
		"number with point":   {"NODE_FAILURE_THRESHOLD=3.5", `node_failure_threshold (environment NODE_FAILURE_THRESHOLD): want a whole number from 1 to 1000, got "3.5"`},
		"number overflow":     {"NODE_FAILURE_THRESHOLD=99999999999999999999", `node_failure_threshold (environment NODE_FAILURE_THRESHOLD): want a whole number from 1 to 1000, got "99999999999999999999"`},
		"cap above the limit": {"MAX_POD_ACTIONS_CLUSTER=3001", `max_pod_actions_cluster (environment MAX_POD_ACTIONS_CLUSTER): want a whole number from 1 to 3000, got "3001"`},
		"port zero":           {"EMAIL_SMTP_PORT=0", `email_smtp_port (environment EMAIL_SMTP_PORT): want a whole number from 1 to 65535, got "0"`},
		"port is a link": {"EMAIL_SMTP_PORT=tcp://10.0.0.1:25", `email_smtp_port (environment EMAIL_SMTP_PORT): want a whole number from 1 to 65535, got "tcp://10.0.0.1:25"` +
			`; that is Kubernetes' link to a service of this name: set enableServiceLinks: false for the pod`},
		"bool in words":      {"DRY_RUN=perhaps", `dry_run (environment DRY_RUN): ` + boolWant + `, got "perhaps"`},
		"bool mistyped":      {"DRY_RUN=ture", `dry_run (environment DRY_RUN): ` + boolWant + `, got "ture"; did you mean "true"?`},
		"bool empty":         {"DRY_RUN=", `dry_run (environment DRY_RUN): ` + boolWant + `, got ""`},
		"mode in capitals":   {"SELFHEAL_MODE=ACT", `mode (environment SELFHEAL_MODE): want one of observe, approve, auto, got "ACT"; did you mean "auto"?`},
		"mode mistyped":      {"SELFHEAL_MODE=observ", `mode (environment SELFHEAL_MODE): want one of observe, approve, auto, got "observ"; did you mean "observe"?`},
		"mode only a policy": {"SELFHEAL_MODE=off", `mode (environment SELFHEAL_MODE): want one of observe, approve, auto, got "off"`},
		"cluster with space": {"SELFHEAL_CLUSTER=My Cluster", `cluster (environment SELFHEAL_CLUSTER): want a DNS-1123 name of at most 63 characters (a-z, 0-9, - and .), got "My Cluster"`},
		"cluster a wildcard": {"SELFHEAL_CLUSTER=>", `cluster (environment SELFHEAL_CLUSTER): want a DNS-1123 name of at most 63 characters (a-z, 0-9, - and .), got ">"`},
		"nats http":          {"NATS_URL=http://nats:4222", `nats_url (environment NATS_URL): want nats:// or tls:// with a host, got "http://nats:4222"`},
		"nats no scheme":     {"NATS_URL=nats:4222", `nats_url (environment NATS_URL): want nats:// or tls:// with a host, got "nats:4222"; did you mean "nats://nats:4222"?`},
		"nats empty":         {"NATS_URL=", `nats_url (environment NATS_URL): want nats:// or tls:// with a host, got ""`},
		"nats port":          {"NATS_URL=nats://nats:0", `nats_url (environment NATS_URL): want nats:// or tls:// with a host and a port from 1 to 65535, got "nats://nats:0"`},
		"nats password":      {"NATS_URL=nats://me:canary@nats:4222", `nats_url (environment NATS_URL): must not contain credentials; use nats_nkey or nats_creds`},
		"nats odd password":  {"NATS_URL=nats://me:can%ary@nats:4222", `nats_url (environment NATS_URL): must not contain credentials; use nats_nkey or nats_creds`},
		"nats list":          {"NATS_URL=nats://a:4222,b,nats://me@c", "nats_url[1] (environment NATS_URL): want nats:// or tls:// with a host, got \"b\"\nnats_url[2] (environment NATS_URL): must not contain credentials; use nats_nkey or nats_creds"},
		"nats list with gap": {"NATS_URL=nats://a,", `nats_url[1] (environment NATS_URL): want nats:// or tls:// with a host, got ""`},
		"address no port":    {"SELFHEAL_HTTP_ADDR=8080", `http_addr (environment SELFHEAL_HTTP_ADDR): want an address to listen on such as :8080 or 127.0.0.1:8080, or nothing, got "8080"`},
		"address bad port":   {"SELFHEAL_HTTP_ADDR=:http", `http_addr (environment SELFHEAL_HTTP_ADDR): want an address to listen on such as :8080 or 127.0.0.1:8080, or nothing, got ":http"`},
		"address high port":  {"SELFHEAL_HTTP_ADDR=:65536", `http_addr (environment SELFHEAL_HTTP_ADDR): want an address to listen on such as :8080 or 127.0.0.1:8080, or nothing, got ":65536"`},
		"channel of words":   {"SLACK_CHANNEL=#a b", `slack_channel (environment SLACK_CHANNEL): want a Slack channel such as "#incidents", or its id, got "#a b"`},
		"channel empty":      {"SLACK_CHANNEL=", `slack_channel (environment SLACK_CHANNEL): want a Slack channel such as "#incidents", or its id, got ""`},
		"webhook http":       {"SLACK_WEBHOOK_URL=http://hooks.slack.com/canary", `slack_webhook_url (environment SLACK_WEBHOOK_URL): want https://; http:// is only for a loopback host` + secret},
		"webhook no URL":     {"WEBHOOK_URL=canary", `webhook_url (environment WEBHOOK_URL): want a URL with https:// and a host` + secret},
		"webhook two lines":  {"WEBHOOK_URL=https://x/canary\n", `webhook_url (environment WEBHOOK_URL): want a URL with https:// and a host` + secret},
		"api with password":  {"SLACK_API_URL=https://me:canary@x/", `slack_api_url (environment SLACK_API_URL): must not contain credentials`},
		"api odd password":   {"SLACK_API_URL=https://me:can%ary@x/", `slack_api_url (environment SLACK_API_URL): want a URL with https:// and a host`},
		"api http":           {"PAGERDUTY_API_URL=http://10.0.0.1/", `pagerduty_api_url (environment PAGERDUTY_API_URL): want https://; http:// is only for a loopback host, got "http://10.0.0.1/"`},
		"api file":           {"PAGERDUTY_API_URL=file:///etc", `pagerduty_api_url (environment PAGERDUTY_API_URL): want a URL with https:// and a host, got "file:///etc"`},
		"secret two lines":   {"WEBHOOK_SECRET=canary\nx", `webhook_secret (environment WEBHOOK_SECRET): contains a line break or a control character` + secret},
		"sink http":          {"ALERTMANAGER_URL=http://alertmanager.example.com:9093", `alertmanager_url (environment ALERTMANAGER_URL): want https://, or http:// to a loopback host or to name.namespace.svc, got "http://alertmanager.example.com:9093"`},
		"sink odd port":      {"ALERTMANAGER_URL=http://a.b.svc:99999", `alertmanager_url (environment ALERTMANAGER_URL): want https://, or http:// to a loopback host or to name.namespace.svc, got "http://a.b.svc:99999"`},
		"sink with password": {"ALERTMANAGER_URL=http://me:canary@a.b.svc", `alertmanager_url (environment ALERTMANAGER_URL): must not contain credentials`},
		"sink odd password":  {"ALERTMANAGER_URL=http://me:can%ary@a.b.svc", `alertmanager_url (environment ALERTMANAGER_URL): want https://, or http:// to a loopback host or to name.namespace.svc`},
		"server with port":   {"EMAIL_SMTP_SERVER=mail:25", `email_smtp_server (environment EMAIL_SMTP_SERVER): want a host name or address without a port (that is email_smtp_port), got "mail:25"`},
		"user of two lines":  {"EMAIL_USERNAME=a\nb", `email_username (environment EMAIL_USERNAME): want one line of at most 256 bytes, got "a b"`},
		"sender no address":  {"EMAIL_FROM=bot", `email_from (environment EMAIL_FROM): want one e-mail address, got "bot"`},
		"password two lines": {"EMAIL_PASSWORD=canary\nRCPT", `email_password (environment EMAIL_PASSWORD): contains a line break or a control character` + secret},
		"recipient CRLF": {"EMAIL_RECIPIENTS=a@example.com\r\nBcc: x@example.com,b@example.com,c",
			"email_recipients[0] (environment EMAIL_RECIPIENTS): \"a@example.com  Bcc: x@example.com\" contains a line break\nemail_recipients[2] (environment EMAIL_RECIPIENTS): \"c\" is not an e-mail address"},
		"empty namespace":    {"SELFHEAL_NAMESPACES=shop,,a/b", "namespaces[1] (environment SELFHEAL_NAMESPACES): \"\" is not the name of a namespace (a-z, 0-9 and -, at most 63)\nnamespaces[2] (environment SELFHEAL_NAMESPACES): \"a/b\" is not the name of a namespace (a-z, 0-9 and -, at most 63)"},
		"long value is cut":  {"DRY_RUN=" + strings.Repeat("x", 1000), `dry_run (environment DRY_RUN): ` + boolWant + `, got "` + strings.Repeat("x", 61) + `…"`},
		"terminal escape":    {"DRY_RUN=\x1b[31mred", `dry_run (environment DRY_RUN): ` + boolWant + `, got "[31mred"`},
		"policy file":        {"SELFHEAL_POLICY_FILE=a\nb", `policy_file (environment SELFHEAL_POLICY_FILE): want the path of a file, got "a b"`},
		"unknown name":       {"SELFHEAL_MOD=auto", `environment SELFHEAL_MOD: unknown name; did you mean "SELFHEAL_MODE"?`},
		"unknown far name":   {"SELFHEAL_FRUIT_BASKET_OF_JOY=canary", `environment SELFHEAL_FRUIT_BASKET_OF_JOY: unknown name`},
		"no link after all":  {"SELFHEAL_SMTP_PORT=25", `environment SELFHEAL_SMTP_PORT: unknown name; did you mean "SELFHEAL_EMAIL_SMTP_PORT"?`},
		"file of no secret":  {"SELFHEAL_MODE_FILE=/x", `environment SELFHEAL_MODE_FILE: unknown name; did you mean "SELFHEAL_MODE"?`},
		"secret file gone":   {"SLACK_BOT_TOKEN_FILE=/nowhere/token", `slack_bot_token (environment SLACK_BOT_TOKEN_FILE): file "/nowhere/token" cannot be read: no such file or directory`},
		"secret file empty":  {"SLACK_BOT_TOKEN_FILE=" + os.DevNull, `slack_bot_token (environment SLACK_BOT_TOKEN_FILE): file "/dev/null" is empty`},
		"config file gone":   {"SELFHEAL_CONFIG=/nowhere/c.yaml", `file /nowhere/c.yaml: cannot be read: no such file or directory`},
		"config folder gone": {"SELFHEAL_CONFIG_DIR=/nowhere", `directory /nowhere: cannot be read: no such file or directory`},
		"nkey gone":          {"NATS_NKEY=/nowhere/seed", `nats_nkey (environment NATS_NKEY): "/nowhere/seed" cannot be read: no such file or directory`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(complaints(t, Loader{Environ: []string{tt.env}}), strings.Split(tt.want, "\n")); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestBadCommandLineIsRefused(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"bad value":         {[]string{"--mode", "ACT"}, []string{`mode (flag --mode): want one of observe, approve, auto, got "ACT"; did you mean "auto"?`}},
		"negative value":    {[]string{"--recovery-timeout", "-1s"}, []string{`recovery_timeout (flag --recovery-timeout): want a duration from 1s to 24h, in seconds (30) or with units (1m30s), got "-1s"`}},
		"unknown flag":      {[]string{"--mod=auto"}, []string{`flag --mod: unknown; did you mean "--mode"?`}},
		"underscores":       {[]string{"--dry_run"}, []string{`flag --dry_run: unknown; did you mean "--dry-run"?`}},
		"one dash":          {[]string{"-mode=auto"}, []string{`argument "-mode=auto": nothing is expected but flags; did you mean "--mode"?`}},
		"stray word":        {[]string{"observe"}, []string{`argument "observe": nothing is expected but flags`}},
		"word for a switch": {[]string{"--dry-run", "yes"}, []string{`argument "yes": nothing is expected but flags`}},
		"two dashes":        {[]string{"--"}, []string{`argument "--": nothing is expected but flags`}},
		"no value":          {[]string{"--mode"}, []string{`flag --mode: needs a value`}},
		"flag for a value":  {[]string{"--mode", "--dry-run"}, []string{`flag --mode: needs a value`}},
		"no config":         {[]string{"--config"}, []string{`flag --config: needs a value`}},
		"secret":            {[]string{"--slack-bot-token=canary"}, []string{`flag --slack-bot-token: a secret must not stand on the command line, where every process can read it; use --slack-bot-token-file or the environment SLACK_BOT_TOKEN`}},
		"secret apart":      {[]string{"--slack-bot-token", "canary"}, []string{`flag --slack-bot-token: a secret must not stand on the command line, where every process can read it; use --slack-bot-token-file or the environment SLACK_BOT_TOKEN`}},
		"perhaps a secret":  {[]string{"--password", "canary"}, []string{`flag --password: unknown`}},
		"secret file gone":  {[]string{"--email-password-file=/nowhere"}, []string{`email_password (flag --email-password-file): file "/nowhere" cannot be read: no such file or directory`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(complaints(t, Loader{Args: tt.args}), tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestBadFileIsRefusedByLine(t *testing.T) {
	tests := map[string]struct {
		yaml string
		want []string // FILE stands for the path
	}{
		"unknown key":     {"mode: auto\nrecoveryTimeut: 5m\n", []string{`file FILE line 2: unknown key "recoveryTimeut"; did you mean "recovery_timeout"?`}},
		"key given twice": {"dry_run: true\n# more\nmode: auto\ndry_run: false\n", []string{`file FILE: key "dry_run" given twice (lines 1 and 4)`}},
		"bad value":       {"\n\npod_restart_threshold: many\n", []string{`pod_restart_threshold (file FILE line 3): want a whole number from 1 to 1000, got "many"`}},
		"no value":        {"pod_restart_threshold:\n", []string{`pod_restart_threshold (file FILE line 1): want a whole number from 1 to 1000, got ""`}},
		"nested value":    {"mode: {default: auto}\n", []string{`mode (file FILE line 1): want one of observe, approve, auto, got a nested value`}},
		"list for a word": {"mode: [auto]\n", []string{`mode (file FILE line 1): want one of observe, approve, auto, got a nested value`}},
		"nested list":     {"email_recipients: [[a@example.com]]\n", []string{`email_recipients[0] (file FILE line 1): want a plain value`}},
		"alias":           {"cluster: &x auto\nmode: *x\n", []string{`mode (file FILE line 2): want one of observe, approve, auto, got a nested value`}},
		"secret":          {"slack_bot_token: canary\n", []string{`slack_bot_token (file FILE line 1): give slack_bot_token_file with the path of a file, or the environment SLACK_BOT_TOKEN, not the secret itself`}},
		"file of a word":  {"mode_file: /x\n", []string{`file FILE line 1: unknown key "mode_file"; did you mean "mode"?`}},
		"a list":          {"- mode\n", []string{"file FILE line 1: want one `key: value` per line"}},
		"a word":          {"mode\n", []string{"file FILE line 1: want one `key: value` per line"}},
		"two documents":   {"mode: auto\n---\nmode: observe\n", []string{`file FILE: want one YAML document, got more`}},
		"no YAML":         {"mode: [\n", []string{`file FILE: is not YAML: line 1: did not find expected node content`}},
		"tabs":            {"mode: auto\n\tdry_run: true\n", []string{`file FILE: is not YAML: line 2: found a tab character that violates indentation`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(filesIn(t, map[string]string{"c.yaml": tt.yaml}), "c.yaml")
			var got []string
			for _, line := range complaints(t, Loader{Args: []string{"--config", file}}) {
				got = append(got, strings.ReplaceAll(line, file, "FILE"))
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestFileLargerThanAConfigMapIsRefused(t *testing.T) {
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": strings.Repeat("# long\n", 200_000)}), "c.yaml")
	if diff := cmp.Diff(complaints(t, Loader{Args: []string{"--config", file}}), []string{"file " + file + ": cannot be read: it is larger than 1 MiB"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestBadDirectoryIsRefusedByFile(t *testing.T) {
	dir := filesIn(t, map[string]string{"mode": "ACT\n", "modee": "auto", ".hidden": "x", "..2026": "x"})
	if err := os.Mkdir(filepath.Join(dir, "cluster"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("cluster (file %s/cluster): cannot be read: is a directory", dir),
		fmt.Sprintf("file %s/modee: unknown key \"modee\"; did you mean \"mode\"?", dir),
		fmt.Sprintf("mode (file %s/mode): want one of observe, approve, auto, got \"ACT\"; did you mean \"auto\"?", dir),
	}
	if diff := cmp.Diff(complaints(t, Loader{Args: []string{"--config-dir", dir}}), want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestKeyFileOfTheWrongSortIsRefused(t *testing.T) {
	tests := map[string]struct {
		key, text string
		mode      os.FileMode
		want      string
	}{
		"public key":        {"nats_nkey", "UAAVVV6LQR4VD7GVGEFDI3UY6T5XPTQ5OTBUMT3U4PYCAPKZ5XQYDUGG\n", 0o400, "is a public key (U…); need the seed (SU…)"},
		"an account's seed": {"nats_nkey", "SAAVVV6LQR4VD7GVGEFDI3UY6T5XPTQ5OTBUMT3U4PYCAPKZ5XQYDUGG\n", 0o400, "is the seed of another kind of key (SA…); need a user's (SU…)"},
		"anything else":     {"nats_nkey", "canary", 0o400, "holds no nkey seed (SU…)"},
		"open to all":       {"nats_nkey", "SUAAVVV6LQR4VD7GVGEFDI3UY6T5XPTQ5OTBUMT3U4PYCAPKZ5XQYDUGGM", 0o644, "has mode 0644 and so can be read by others; want 0400"},
		"no credentials":    {"nats_creds", "canary", 0o440, `holds no "BEGIN NATS USER JWT"; need the file that ` + "`nsc generate creds` writes"},
		"no private key":    {"selfheal_signing_key_file", "canary", 0o400, `holds no PEM block "PRIVATE KEY"`},
		"half credentials":  {"nats_creds", "-----BEGIN NATS USER JWT-----", 0o440, `holds no "BEGIN USER NKEY SEED"; need the file that ` + "`nsc generate creds` writes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(filesIn(t, map[string]string{"key": tt.text}), "key")
			if err := os.Chmod(file, tt.mode); err != nil {
				t.Fatal(err)
			}
			env := strings.ToUpper(tt.key)
			want := []string{fmt.Sprintf("%s (environment %s): %q %s", strings.TrimPrefix(tt.key, "selfheal_"), env, file, tt.want)}
			if diff := cmp.Diff(complaints(t, Loader{Environ: []string{env + "=" + file}}), want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestSettingsThatContradictEachOtherAreRefusedByBothNames(t *testing.T) {
	dir := filesIn(t, map[string]string{
		"seed": "SUAAVVV6LQR4VD7GVGEFDI3UY6T5XPTQ5OTBUMT3U4PYCAPKZ5XQYDUGGM", "creds": "BEGIN NATS USER JWT BEGIN USER NKEY SEED",
	})
	tests := map[string]struct {
		environ []string
		want    []string
	}{
		"window longer than the recovery": {
			[]string{"SELFHEAL_VERIFY_WINDOW=120", "RECOVERY_TIMEOUT=90"},
			[]string{`verify_window (environment SELFHEAL_VERIFY_WINDOW): 2m is longer than recovery_timeout, which is 1m30s (environment RECOVERY_TIMEOUT); no recovery could ever be verified in time`},
		},
		"two identities": {
			[]string{"NATS_NKEY=" + filepath.Join(dir, "seed"), "NATS_CREDS=" + filepath.Join(dir, "creds")},
			[]string{`nats_creds (environment NATS_CREDS) and nats_nkey (environment NATS_NKEY): both are given; give one`},
		},
		"a secret twice": {
			[]string{"SLACK_BOT_TOKEN=canary", "SLACK_BOT_TOKEN_FILE=/x"},
			[]string{`slack_bot_token (environment SLACK_BOT_TOKEN): given twice, as SLACK_BOT_TOKEN_FILE too; give one`},
		},
		"paging without a key": {
			[]string{"PAGERDUTY_ENABLED=true"},
			[]string{`pagerduty_routing_key (default): want 32 characters, got 0; or set pagerduty_enabled to false (it is true by environment PAGERDUTY_ENABLED)`},
		},
		"paging with a short key": {
			[]string{"PAGERDUTY_ENABLED=true", "PAGERDUTY_ROUTING_KEY=canary-canary-canary-canary-canar"},
			[]string{`pagerduty_routing_key (environment PAGERDUTY_ROUTING_KEY): want 32 characters, got 33; or set pagerduty_enabled to false (it is true by environment PAGERDUTY_ENABLED)`},
		},
		"mail to and from nobody, in the clear": {
			[]string{"EMAIL_SMTP_SERVER=mail", "EMAIL_USERNAME=bot", "EMAIL_PASSWORD=canary", "EMAIL_USE_TLS=false"},
			[]string{
				`email_recipients (default): want at least one address, because email_smtp_server is "mail" (environment EMAIL_SMTP_SERVER)`,
				`email_from (default): want an address, because email_smtp_server is "mail" (environment EMAIL_SMTP_SERVER) and email_username is none`,
				`email_use_tls (environment EMAIL_USE_TLS): is false, which would send email_password (environment EMAIL_PASSWORD) in the clear to mail`,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(complaints(t, Loader{Service: "notifier", Environ: tt.environ}), tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestChannelsNeedToBeCompleteOnlyWhereTheyAreUsed(t *testing.T) {
	environ := []string{"PAGERDUTY_ENABLED=true", "EMAIL_SMTP_SERVER=mail"}
	tests := map[string]struct {
		service string
		environ []string
		want    int
	}{
		"the notifier":          {"notifier", environ, 3},
		"all in one":            {"", environ, 3},
		"the watcher":           {"watcher", environ, 0},
		"nobody is told at all": {"notifier", append(environ, "NOTIFICATION_ENABLED=false"), 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := complaints(t, Loader{Service: tt.service, Environ: tt.environ}); len(got) != tt.want {
				t.Errorf("got %d complaints, want %d: %v", len(got), tt.want, got)
			}
		})
	}
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	dir := filesIn(t, map[string]string{"dry_run": "x"})
	file := filepath.Join(filesIn(t, map[string]string{"c.yaml": "mode: x\nmode: y\nnonsense: z\n"}), "c.yaml")
	got := complaints(t, Loader{
		Args:    []string{"--config", file, "--config-dir", dir, "--recovery-timeout=0", "extra"},
		Environ: []string{"POD_RESTART_THRESHOLD=0", "SELFHEAL_NONSENSE=1", "RECOVERY_TIMEOUT=0"},
	})
	if len(got) != 9 {
		t.Errorf("got %d complaints, want 9:\n%s", len(got), strings.Join(got, "\n"))
	}
}

const canary = "canary-7f3a"

func TestSecretPrintsAsStars(t *testing.T) {
	s := defaults()
	s.SlackBotToken = canary
	type holder struct {
		Token  Secret
		Nested map[string]Secret
	}
	h := holder{canary, map[string]Secret{"x": canary}}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", Secret(canary), "settings", s, "pointer", &s)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", Secret(canary), "settings", s, "pointer", &s)
	out := []string{string(asJSON), string(asYAML), log.String(), fmt.Errorf("x: %w", fmt.Errorf("%v", h)).Error(), fmt.Sprint(Secret(canary), &h)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10s", "%U", "%t"} {
		out = append(out, fmt.Sprintf(verb, Secret(canary)), fmt.Sprintf(verb, s), fmt.Sprintf(verb, []any{h}))
	}
	hex := fmt.Sprintf("%x", canary)
	for _, text := range out {
		if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), hex) || strings.Contains(text, "99 97 110") {
			t.Errorf("the secret is in %s", text)
		}
	}
	got := []string{Secret(canary).String(), Secret("").String(), fmt.Sprintf("%q", Secret("")), Secret(canary).Reveal(), string(asJSON)}
	if diff := cmp.Diff(got, []string{"***", "", `""`, canary, `{"Token":"***","Nested":{"x":"***"}}`}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestNoErrorAndNoOriginShowsASecret(t *testing.T) {
	bad := []string{canary, "http://x/" + canary, canary + "\n" + canary, "https://" + canary + ":%zz@x/", "", "xoxb-" + canary, strings.Repeat(canary, 100)}
	for _, row := range Rows() {
		if !row.Secret {
			continue
		}
		for _, value := range bad {
			dir := filesIn(t, map[string]string{row.Key: value, "file": value})
			file := filepath.Join(filesIn(t, map[string]string{"c.yaml": fmt.Sprintf("%s: %q\n", row.Key, value)}), "c.yaml")
			for _, l := range []Loader{
				{Environ: []string{row.Env + "=" + value}},
				{Environ: []string{"PAGERDUTY_ENABLED=1", "EMAIL_SMTP_SERVER=x", "EMAIL_USE_TLS=0", "SELFHEAL_" + row.Env + "=" + value}},
				{Environ: []string{row.Env + "_FILE=" + filepath.Join(dir, "file")}},
				{Environ: []string{"SELFHEAL_X" + row.Env + "=" + value}},
				{Args: []string{"--config", file}},
				{Args: []string{"--config-dir", dir}},
				{Args: []string{"--" + strings.TrimSuffix(row.Flag, "-file"), value}},
				{Args: []string{"--" + strings.TrimSuffix(row.Flag, "-file") + "=" + value}},
				{Args: []string{"--x" + row.Flag, value}},
				{Args: []string{"--" + row.Flag, filepath.Join(dir, "file")}},
			} {
				s, origins, err := Load(l)
				for _, text := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", s), fmt.Sprintf("%+v", origins), fmt.Sprint(origins.All())} {
					if strings.Contains(text, canary) {
						t.Errorf("%s: the secret is in %s", row.Key, text)
					}
				}
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("--mode=auto\x00x", "DRY_RUN=1\x00SELFHEAL_X=y", "mode: auto\n")
	f.Add("--config\x00--", "SELFHEAL_CONFIG=\x00=", "- [{")
	f.Add("--nats-url\x00nats://a,tls://b", "NATS_URL=\x00EMAIL_RECIPIENTS=,", "nats_url: [a, {}]\n? [x]\n: y\n")
	file := filepath.Join(f.TempDir(), "c.yaml")
	f.Fuzz(func(t *testing.T, args, environ, yaml string) {
		write(t, file, yaml)
		l := Loader{Args: append([]string{"--config", file}, strings.Split(args, "\x00")...), Environ: strings.Split(environ, "\x00")}
		s, origins, err := Load(l)
		if err != nil {
			if !errors.Is(err, ErrSettings) && !errors.Is(err, ErrHelp) && !errors.Is(err, ErrVersion) {
				t.Errorf("got %v, want one of the documented errors", err)
			}
			return
		}
		// What is accepted must be accepted again: it is shown and copied.
		var again []string
		for _, o := range origins.All() {
			if row, _ := find(o.Key); !row.kind.secret && o.Value != "" {
				again = append(again, row.env()[len(row.env())-1]+"="+o.Value)
			}
		}
		s2, _, err := Load(Loader{Environ: again, Service: "watcher"})
		if err != nil {
			t.Fatalf("%v does not load again: %v", again, err)
		}
		for _, key := range Changed(s, s2) {
			if row, _ := find(key); !row.kind.secret && key != "http_addr" {
				t.Errorf("%s is another after %v", key, again)
			}
		}
	})
}
