package dashboard

var pipeline = board{
	name: "pipeline", title: "Pipeline",
	description: "Rate, errors and duration of each stage, how far it lags, and what it gave up.",
	rows: []row{
		{"Rate", []panel{
			{kind: graph, width: 12, title: "Sightings and announcements", unit: perSecond,
				description: "What the watcher sees, and which of it lasted long enough to be announced, or ended.",
				queries: []query{
					{`sum(rate(self_healing_observations_total{@}[$__rate_interval]))`, "seen"},
					{`sum by (state) (rate(self_healing_events_published_total{@}[$__rate_interval]))`, "{{state}}"},
				}},
			{kind: graph, width: 12, title: "Messages handled, by stream", unit: perSecond,
				description: "Deliveries that were settled for good.", alert: "SelfHealingPipelineStalled",
				queries: []query{{`sum by (stream) (rate(self_healing_messages_processed_total{@,outcome="ok"}[$__rate_interval]))`, "{{stream}}"}}},
		}},
		{"Errors", []panel{
			{kind: graph, width: 12, title: "Deliveries that must come again", unit: share,
				description: "Share of deliveries whose handler failed. Those that wait on purpose, for an approval or a cool-down, are not among them.", alert: "SelfHealingHandlersFail",
				queries: []query{{`sum by (stream) (rate(self_healing_messages_processed_total{@,outcome=~"retry|dead"}[$__rate_interval]))` +
					` / (sum by (stream) (rate(self_healing_messages_processed_total{@}[$__rate_interval])) > 0)`, "{{stream}}"}}},
			{kind: bars, width: 12, title: "Dead letters", unit: count,
				description: "Messages given up and moved to the dead-letter stream: `selfheal dlq list`.", alert: "SelfHealingMessagesGivenUp",
				queries: []query{{`sum by (stage, reason) (increase(self_healing_dead_letters_total{@}[$__rate_interval]))`, "{{stage}}: {{reason}}"}}},
		}},
		{"Duration", []panel{
			{kind: graph, width: 12, title: "Time that a handler takes", unit: seconds,
				description: "For one delivery. The actuator's is the whole recovery with its verification.",
				queries:     quantiles("self_healing_message_processing_seconds", "stream")},
			{kind: graph, width: 12, title: "Time that a message waits", unit: seconds,
				description: "From being stored to its first delivery reaching the handler.",
				queries:     quantiles("self_healing_stage_lag_seconds", "stream")},
		}},
		{"Lag", []panel{
			{kind: graph, width: 12, title: "Not yet delivered", unit: count,
				description: "Messages stored that the consumer was not given yet.", alert: "SelfHealingFallsBehind",
				queries: []query{{`max by (stream, consumer) (self_healing_consumer_pending{@})`, "{{consumer}} of {{stream}}"}}},
			{kind: graph, width: 12, title: "Delivered and not settled", unit: count,
				description: "Under way, or waiting for an approval, a cool-down or another try.",
				queries:     []query{{`max by (stream, consumer) (self_healing_consumer_ack_pending{@})`, "{{consumer}} of {{stream}}"}}},
		}},
		{"The processes", []panel{
			{kind: graph, width: 8, title: "Memory", unit: "bytes",
				description: "Resident memory of each process.",
				queries:     []query{{`process_resident_memory_bytes{@} and on (instance) self_healing_build_info{@}`, "{{instance}}"}}},
			{kind: graph, width: 8, title: "Processor", unit: count,
				description: "Cores that each process uses.",
				queries:     []query{{`rate(process_cpu_seconds_total{@}[$__rate_interval]) and on (instance) self_healing_build_info{@}`, "{{instance}}"}}},
			{kind: list, width: 8, title: "Versions", unit: count,
				description: "What is running, and on how many processes.",
				queries:     []query{{`count by (version, revision, goversion) (self_healing_build_info{@})`, ""}}},
			{kind: number, width: 24, title: "Settings taken", unit: "bool_yes_no", alarm: 1, low: true, alert: "SelfHealingSettingsRefused",
				description: "No while the settings files hold something invalid, and the settings before are kept.",
				queries:     []query{{`min by (instance) (self_healing_config_last_reload_successful{@})`, "{{instance}}"}}},
		}},
	},
}
