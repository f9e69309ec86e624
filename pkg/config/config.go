// Package config reads the settings: defaults, a YAML file, a mounted
// ConfigMap directory, the environment, flags; later wins.
package config

import "time"

// A Secret is a string that prints as ***.
type Secret string

// Settings are what an operator can choose, for all services; each uses what
// it needs, so that one ConfigMap can serve all four.
type Settings struct {
	HealthCheckInterval  time.Duration
	NodeCheckInterval    time.Duration // default HealthCheckInterval
	PodCheckInterval     time.Duration // default HealthCheckInterval
	NodeFailureThreshold int           // intervals a node must be unhealthy
	PodRestartThreshold  int           // restarts within the window
	RecoveryTimeout      time.Duration
	VerifyWindow         time.Duration // how long a symptom must stay away; key verify_window, default 60 s

	NotificationEnabled     bool
	SlackChannel            string
	SlackIncidentChannel    string
	SlackWebhookURL         Secret
	SlackIncidentWebhookURL Secret
	SlackBotToken           Secret
	SlackAPIURL             string
	EmailSMTPServer         string
	EmailSMTPPort           int
	EmailUsername           string
	EmailPassword           Secret
	EmailFrom               string
	EmailUseTLS             bool
	EmailRecipients         []string
	PagerDutyEnabled        bool
	PagerDutyRoutingKey     Secret
	PagerDutyAPIURL         string
	WebhookURL              Secret // key webhook_url: receives every result as its CloudEvent

	DebugMode      bool
	VerboseLogging bool

	NATSURL    string
	NATSCreds  string
	NATSNKey   string
	Cluster    string
	Mode       string // observe, approve, auto
	DryRun     bool
	Kubeconfig string
	PolicyFile string
	HTTPAddr   string // SELFHEAL_HTTP_ADDR, :8080

	MaxPodActionsNamespace int // key max_pod_actions_namespace: per minute, default 5, 1…600
	MaxPodActionsCluster   int // key max_pod_actions_cluster: per minute, default 30, 1…3000
}
