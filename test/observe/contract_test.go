package observe

import "github.com/selfheal/selfheal/test/harness"

// A metric is one that the services promise.
type metric struct {
	Name     string
	Type     string
	Labels   []string
	Services []string
}

var (
	watcher   = []string{"watcher"}
	analyzer  = []string{"analyzer"}
	actuator  = []string{"actuator"}
	notifier  = []string{"notifier"}
	consuming = []string{"analyzer", "actuator", "notifier"} // the watcher reads no stream as a consumer
	every     = harness.Services
)

// promised is every metric of ours, with all of its labels.
var promised = []metric{
	{"self_healing_active_failures", "GAUGE", []string{"type"}, analyzer},
	{"self_healing_build_info", "GAUGE", []string{"goversion", "revision", "version"}, every},
	{"self_healing_config_last_reload_successful", "GAUGE", nil, every},
	{"self_healing_consumer_ack_pending", "GAUGE", []string{"consumer", "stream"}, consuming},
	{"self_healing_consumer_pending", "GAUGE", []string{"consumer", "stream"}, consuming},
	{"self_healing_consumer_redelivered", "GAUGE", []string{"consumer", "stream"}, consuming},
	{"self_healing_dead_letters_total", "COUNTER", []string{"reason", "stage"}, consuming},
	{"self_healing_decisions_total", "COUNTER", []string{"reason", "severity", "strategy", "type"}, analyzer},
	{"self_healing_end_to_end_seconds", "HISTOGRAM", []string{"type"}, actuator},
	{"self_healing_events_published_total", "COUNTER", []string{"state", "type"}, watcher},
	{"self_healing_failures_detected_total", "COUNTER", []string{"severity", "type"}, analyzer},
	{"self_healing_guard_vetoes_total", "COUNTER", []string{"guard"}, []string{"analyzer", "actuator"}},
	{"self_healing_message_processing_seconds", "HISTOGRAM", []string{"stream"}, consuming},
	{"self_healing_messages_processed_total", "COUNTER", []string{"outcome", "stream"}, consuming},
	{"self_healing_notification_latency_seconds", "HISTOGRAM", []string{"channel"}, notifier},
	{"self_healing_notifications_total", "COUNTER", []string{"channel", "outcome"}, notifier},
	{"self_healing_observations_total", "COUNTER", []string{"type"}, watcher},
	{"self_healing_paused", "GAUGE", nil, every},
	{"self_healing_recoveries_attempted_total", "COUNTER", []string{"strategy", "type"}, actuator},
	{"self_healing_recoveries_total", "COUNTER", []string{"outcome", "strategy", "type"}, actuator},
	{"self_healing_recovery_duration_seconds", "HISTOGRAM", []string{"type"}, actuator},
	{"self_healing_stage_lag_seconds", "HISTOGRAM", []string{"stream"}, consuming},
}

// Labels that Prometheus gives: by the scrape's target, or to all of a server.
var given = []string{"cluster", "instance", "job", "namespace"}

// standard are the metrics that every Go program with the client library has.
var standard = []string{"process_cpu_seconds_total", "process_resident_memory_bytes"}
