package dashboard

var messaging = board{
	name: "nats", title: "NATS",
	description: "The streams and consumers as the services see them. The server itself has more to say on its own monitoring port.",
	rows: []row{
		{"Consumers", []panel{
			{kind: graph, width: 8, title: "Not yet delivered", unit: count, alert: "SelfHealingFallsBehind",
				description: "Messages stored that the consumer was not given yet.",
				queries:     []query{{`max by (stream, consumer) (self_healing_consumer_pending{@})`, "{{consumer}}"}}},
			{kind: graph, width: 8, title: "Delivered and not settled", unit: count,
				description: "Messages that the consumer was given and has not settled: under way, or waiting out a delay.",
				queries:     []query{{`max by (stream, consumer) (self_healing_consumer_ack_pending{@})`, "{{consumer}}"}}},
			{kind: graph, width: 8, title: "Delivered more than once", unit: count,
				description: "Unsettled messages that the consumer was given more than once.",
				queries:     []query{{`max by (stream, consumer) (self_healing_consumer_redelivered{@})`, "{{consumer}}"}}},
			{kind: list, width: 24, title: "Consumers now", unit: count,
				description: "Messages not yet delivered, by stream and consumer: `nats consumer report`.",
				queries:     []query{{`max by (stream, consumer) (self_healing_consumer_pending{@})`, ""}}},
		}},
		{"Deliveries", []panel{
			{kind: bars, width: 12, title: "By outcome", unit: perSecond,
				description: "ok: settled. retry: its handler failed. later: waits on purpose. dead: given up.",
				queries:     []query{{`sum by (outcome) (rate(self_healing_messages_processed_total{@}[$__rate_interval]))`, "{{outcome}}"}}},
			{kind: bars, width: 12, title: "By stream", unit: perSecond,
				description: "All deliveries, also of the same message again.",
				queries:     []query{{`sum by (stream) (rate(self_healing_messages_processed_total{@}[$__rate_interval]))`, "{{stream}}"}}},
			{kind: graph, width: 12, title: "From stored to delivered", unit: seconds,
				description: "The server's and the network's part, and the time that a message stands behind others.",
				queries:     quantiles("self_healing_stage_lag_seconds", "stream")},
			{kind: bars, width: 12, title: "Dead letters", unit: count, alert: "SelfHealingMessagesGivenUp",
				description: "Messages moved to the stream SELFHEAL_DLQ, by who gave them up.",
				queries:     []query{{`sum by (stage, reason) (increase(self_healing_dead_letters_total{@}[$__rate_interval]))`, "{{stage}}: {{reason}}"}}},
		}},
	},
}
