// Package config reads the settings that an operator can choose, for all four
// services: each uses what it needs, so that one ConfigMap can serve them all.
//
// They come in layers, of which a later one wins: built-in defaults, a YAML
// file, a mounted ConfigMap directory with one file per key, the environment,
// and the command line. One table (table.go) describes every setting; flags,
// environment names, --help and the documentation all derive from it, so a new
// setting is one field of Settings and one entry of the table.
//
// Load promises that nothing is guessed: an unknown key, an unknown name or a
// value out of bounds is an error that names the key, the layer and the line
// it came from and what would be right, and all such errors are reported at
// once. A secret is never printed, whatever is wrong with it.
//
// The layers are read here rather than by viper: it folds the case of keys,
// loses the line a value stood on, does not see a key given twice, and turns
// text into numbers before anybody can say what was wrong with the text.
package config

import (
	"errors"
	"time"
)

// Settings are what an operator can choose. Load is the only way to valid
// ones; tests may write them as a literal.
type Settings struct {
	HealthCheckInterval  time.Duration
	NodeCheckInterval    time.Duration // default HealthCheckInterval
	PodCheckInterval     time.Duration // default HealthCheckInterval
	NodeFailureThreshold int           // intervals a node must be unhealthy
	PodRestartThreshold  int           // restarts within the window
	RecoveryTimeout      time.Duration
	VerifyWindow         time.Duration // how long a symptom must stay away; default the shorter of 60 s and RecoveryTimeout

	NotificationEnabled     bool
	NotifyPolicyFile        string
	SlackChannel            string
	SlackIncidentChannel    string
	SlackWebhookURL         Secret
	SlackIncidentWebhookURL Secret
	SlackBotToken           Secret
	SlackAppToken           Secret   // for Socket Mode
	SlackApprovers          []string // user ids
	SlackAPIURL             string   // ends in a slash
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
	WebhookURL              Secret // receives every result as its CloudEvent
	WebhookSecret           Secret // signs what is posted there
	AlertmanagerURL         string // without the path of the API
	ShoutrrrURLs            Secret // a comma list

	NodeWebhookURL    Secret // restarts and replaces machines
	NodeWebhookSecret Secret // signs what is asked of it

	DebugMode      bool
	VerboseLogging bool

	NATSURL   string // a comma list for a cluster
	NATSCreds string // file
	NATSNKey  string // file

	SigningKeyFile string // signs decisions
	TrustedKeysDir string // of whom decisions are taken; empty: of anybody

	Cluster    string
	Mode       string // observe, approve, auto
	DryRun     bool
	Kubeconfig string
	PolicyFile string
	HTTPAddr   string // empty: no HTTP

	Namespaces     []string // to be watched; none means all
	DetectorsFile  string
	UsageThreshold int // per cent
	VolumeStats    bool
	SettleTime     time.Duration // of looking without acting, after a cold start

	MaxPodActionsNamespace int // per minute
	MaxPodActionsCluster   int // per minute
}

// ErrSettings is what every error about settings is, for errors.Is: the ones
// of Load, and those that a service finds in them itself (Invalid).
var ErrSettings = errors.New("invalid settings")

// Invalid marks err as the settings' fault, so that the process ends with the
// exit code for settings instead of being started again.
func Invalid(err error) error { return invalid{err} }

type invalid struct{ error }

func (e invalid) Unwrap() error        { return e.error }
func (e invalid) Is(target error) bool { return target == ErrSettings }

var (
	// ErrHelp is returned by Load when the command line asks for help.
	ErrHelp = errors.New("help is asked for")
	// ErrVersion is returned by Load when the command line asks for the version.
	ErrVersion = errors.New("the version is asked for")
)
