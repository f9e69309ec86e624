package config

import (
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A setting is one line of the table, bound to a field of some Settings.
type setting struct {
	key  string // in files; the flag and the environment names derive from it
	own  bool   // only SELFHEAL_<KEY> is read, because the bare name is anybody's
	def  string // as one would write it
	note string // the default in words, where it is not one value
	kind kind
	help string
}

// table is every setting, in the order in which people are told of them.
func table(s *Settings) []setting {
	return []setting{
		{key: "health_check_interval", def: "30", kind: duration(&s.HealthCheckInterval, time.Second, time.Hour),
			help: "How often a lasting failure is announced again, doubling up to recovery_timeout."},
		{key: "node_check_interval", note: "health_check_interval", kind: duration(&s.NodeCheckInterval, time.Second, time.Hour),
			help: "How often all nodes are looked at again, whether they changed or not."},
		{key: "pod_check_interval", note: "health_check_interval", kind: duration(&s.PodCheckInterval, time.Second, time.Hour),
			help: "How often all pods are looked at again, whether they changed or not."},
		{key: "node_failure_threshold", def: "3", kind: number(&s.NodeFailureThreshold, 1, 1000),
			help: "How many intervals a node must be unhealthy before that is a failure."},
		{key: "pod_restart_threshold", def: "5", kind: number(&s.PodRestartThreshold, 1, 1000),
			help: "How many restarts of a container within the window are a failure."},
		{key: "recovery_timeout", def: "300", kind: duration(&s.RecoveryTimeout, time.Second, 24*time.Hour),
			help: "How long a recovery may take before it counts as timed out."},
		{key: "verify_window", note: "60, or recovery_timeout if that is shorter", kind: duration(&s.VerifyWindow, time.Second, 24*time.Hour),
			help: "How long a symptom must stay away before a recovery counts as a success; not longer than recovery_timeout."},
		{key: "namespaces", own: true, note: "all", kind: namespaces(&s.Namespaces),
			help: "Which namespaces are watched, a comma list; for an installation without rights to the whole cluster."},
		{key: "detectors_file", own: true, kind: path(&s.DetectorsFile),
			help: "Detectors of your own, as CEL expressions over objects of any kind."},
		{key: "usage_threshold", own: true, def: "80", kind: number(&s.UsageThreshold, 50, 99),
			help: "How many per cent of a node's CPU or memory, or of a container's memory limit, are too much."},
		{key: "volume_stats", own: true, def: "false", kind: boolean(&s.VolumeStats),
			help: "Ask the kubelets how full volumes are; needs the right to nodes/proxy."},
		{key: "settle_time", own: true, def: "30", kind: duration(&s.SettleTime, time.Second, 10*time.Minute),
			help: "How long a watcher that starts cold looks before anything destructive is done on its word."},
		{key: "max_pod_actions_namespace", def: "5", kind: number(&s.MaxPodActionsNamespace, 1, 600),
			help: "How many pods of one namespace may be acted on per minute."},
		{key: "max_pod_actions_cluster", def: "30", kind: number(&s.MaxPodActionsCluster, 1, 3000),
			help: "How many pods of the cluster may be acted on per minute."},

		{key: "mode", own: true, def: string(heal.ModeAuto), kind: oneOf(&s.Mode, string(heal.ModeObserve), string(heal.ModeApprove), string(heal.ModeAuto)),
			help: "How far it may go by itself: observe decides and says, approve asks first, auto acts."},
		{key: "dry_run", def: "false", kind: boolean(&s.DryRun),
			help: "Report what would be done, and change nothing."},
		{key: "cluster", own: true, def: "default", kind: cluster(&s.Cluster),
			help: "Name of the cluster, a part of every NATS subject."},
		{key: "policy_file", own: true, note: "the built-in policy", kind: path(&s.PolicyFile),
			help: "Policy document with severities, strategies and rules."},
		{key: "kubeconfig", note: "the cluster the pod runs in, else ~/.kube/config", kind: path(&s.Kubeconfig),
			help: "How to reach the API server."},

		{key: "nats_url", def: "nats://127.0.0.1:4222", kind: natsURLs(&s.NATSURL),
			help: "NATS servers, a comma list for a cluster; without credentials."},
		{key: "nats_creds", kind: credsFile(&s.NATSCreds),
			help: "File with NATS user credentials (JWT and seed)."},
		{key: "nats_nkey", kind: nkeyFile(&s.NATSNKey),
			help: "File with the seed of a NATS user nkey (SU…)."},
		{key: "signing_key_file", own: true, kind: signingKeyFile(&s.SigningKeyFile),
			help: "Private key (ed25519, PEM) with which the analyzer signs decisions."},
		{key: "trusted_keys_dir", own: true, note: "decisions are taken unsigned", kind: trustedKeysDir(&s.TrustedKeysDir),
			help: "Folder with the public keys (*.pub) of which the actuator takes decisions; all others are refused."},
		{key: "http_addr", own: true, def: ":8080", kind: listenAddr(&s.HTTPAddr),
			help: "Where to serve /health, /ready, /metrics and /status; empty for nowhere."},

		{key: "notification_enabled", def: "true", kind: boolean(&s.NotificationEnabled),
			help: "Tell people at all."},
		{key: "notify_policy_file", own: true, note: "the built-in routes", kind: path(&s.NotifyPolicyFile),
			help: "Who hears of what and when: routes, mute windows, grouping, digests."},
		{key: "slack_channel", def: "#monitoring", kind: slackChannel(&s.SlackChannel),
			help: "Slack channel for low and medium severities."},
		{key: "slack_incident_channel", def: "#incidents", kind: slackChannel(&s.SlackIncidentChannel),
			help: "Slack channel for high and critical severities."},
		{key: "slack_webhook_url", kind: secretURL(&s.SlackWebhookURL),
			help: "Slack incoming webhook of slack_channel."},
		{key: "slack_incident_webhook_url", kind: secretURL(&s.SlackIncidentWebhookURL),
			help: "Slack incoming webhook of slack_incident_channel."},
		{key: "slack_bot_token", kind: secretText(&s.SlackBotToken),
			help: "Slack bot token, which serves both channels and can update a message."},
		{key: "slack_app_token", kind: secretText(&s.SlackAppToken),
			help: "Slack app-level token (xapp-…), with which the buttons of messages work."},
		{key: "slack_approvers", kind: slackUsers(&s.SlackApprovers),
			help: "Slack user ids (U…) of those who may use the buttons, a comma list."},
		{key: "slack_api_url", def: "https://slack.com/api/", kind: publicURL(&s.SlackAPIURL, true),
			help: "Slack's API, for a proxy or a test double."},
		{key: "email_smtp_server", kind: hostName(&s.EmailSMTPServer),
			help: "Mail server; empty for no e-mail."},
		{key: "email_smtp_port", def: "587", kind: number(&s.EmailSMTPPort, 1, 65535),
			help: "Port of the mail server."},
		{key: "email_username", kind: line(&s.EmailUsername),
			help: "User at the mail server."},
		{key: "email_password", kind: secretText(&s.EmailPassword),
			help: "Password at the mail server."},
		{key: "email_from", note: "email_username", kind: address(&s.EmailFrom),
			help: "Sender's address."},
		{key: "email_use_tls", def: "true", kind: boolean(&s.EmailUseTLS),
			help: "Insist on TLS to the mail server."},
		{key: "email_recipients", kind: addresses(&s.EmailRecipients),
			help: "Who gets e-mail, a comma list."},
		{key: "pagerduty_enabled", def: "false", kind: boolean(&s.PagerDutyEnabled),
			help: "Page for critical incidents."},
		{key: "pagerduty_routing_key", kind: secretText(&s.PagerDutyRoutingKey),
			help: "Integration key of an Events API v2 service, 32 characters."},
		{key: "pagerduty_api_url", def: "https://events.pagerduty.com", kind: publicURL(&s.PagerDutyAPIURL, false),
			help: "PagerDuty's events API, for a proxy or a test double."},
		{key: "webhook_url", kind: secretURL(&s.WebhookURL),
			help: "Where every result is posted as its CloudEvent."},
		{key: "webhook_secret", kind: secretText(&s.WebhookSecret),
			help: "Signs what is posted to webhook_url, in the header Selfheal-Signature."},
		{key: "alertmanager_url", kind: serviceURL(&s.AlertmanagerURL),
			help: "Alertmanager that is told of every failure, and of its end."},
		{key: "shoutrrr_urls", kind: secretText(&s.ShoutrrrURLs),
			help: "Teams, Discord, Telegram and others by their shoutrrr URLs, a comma list."},
		{key: "node_webhook_url", own: true, kind: secretURL(&s.NodeWebhookURL),
			help: "Who restarts and replaces the machines of nodes that show no other provider; https only."},
		{key: "node_webhook_secret", own: true, kind: secretText(&s.NodeWebhookSecret),
			help: "Signs what is asked of node_webhook_url, in the header Selfheal-Signature; at least 16 bytes."},

		{key: "debug_mode", def: "false", kind: boolean(&s.DebugMode),
			help: "Log at level debug."},
		{key: "verbose_logging", def: "false", kind: boolean(&s.VerboseLogging),
			help: "Log at level debug."},
	}
}

// env is every name under which the environment is read, the winning one last.
func (t setting) env() []string {
	name := strings.ToUpper(t.key)
	if t.own {
		return []string{heal.EnvPrefix + name}
	}
	return []string{name, heal.EnvPrefix + name}
}

// contractEnv is the name to tell people.
func (t setting) contractEnv() string { return t.env()[0] }

// flag is the name on the command line, without the dashes. A secret cannot
// stand there, where every process of the machine can read it; a file can.
func (t setting) flag() string {
	name := strings.ReplaceAll(t.key, "_", "-")
	if t.kind.secret {
		name += "-file"
	}
	return name
}

// whatDefault is the default as people are told of it.
func (t setting) whatDefault() string {
	if t.note != "" {
		return t.note
	}
	return t.def
}
