package dashboard

var notifications = board{
	name: "notifications", title: "Notifications",
	description: "Whether people are told, by channel, and how soon.",
	rows: []row{
		{"Now", []panel{
			{kind: number, width: 8, title: "Sent", unit: count,
				description: "Notifications that a channel took, in the range shown.",
				queries:     []query{{`sum(increase(self_healing_notifications_total{@,outcome="sent"}[$__range]))`, ""}}},
			{kind: number, width: 8, title: "Given up", unit: count, alarm: 1, alert: "SelfHealingNotificationsFail",
				description: "Notifications that no try delivered, in the range shown; they are in the dead-letter stream.",
				queries:     []query{{`sum(increase(self_healing_notifications_total{@,outcome="failed"}[$__range]))`, ""}}},
			{kind: number, width: 8, title: "Waiting", unit: count, alarm: 100,
				description: "Notifications that no channel has taken yet.",
				queries: []query{{`sum(max by (cluster, consumer) (self_healing_consumer_pending{@,stream="SELFHEAL_NOTIFICATIONS"}` +
					` + self_healing_consumer_ack_pending{@,stream="SELFHEAL_NOTIFICATIONS"}))`, ""}}},
		}},
		{"By channel", []panel{
			{kind: bars, width: 12, title: "Sent", unit: perSecond,
				description: "Notifications that the channel took.",
				queries:     []query{{`sum by (channel) (rate(self_healing_notifications_total{@,outcome="sent"}[$__rate_interval]))`, "{{channel}}"}}},
			{kind: graph, width: 12, title: "Trouble", unit: count, alert: "SelfHealingNotificationsFail",
				description: "retried: one attempt failed, there will be another. failed: given up.",
				queries:     []query{{`sum by (channel, outcome) (increase(self_healing_notifications_total{@,outcome=~"retried|failed"}[$__rate_interval]))`, "{{channel}}: {{outcome}}"}}},
			{kind: graph, width: 12, title: "How soon people are told", unit: seconds,
				description: "From a result being stored to the channel having taken it.",
				queries:     quantiles("self_healing_notification_latency_seconds", "channel")},
			{kind: graph, width: 12, title: "Not told on purpose", unit: perSecond,
				description: "Not worth telling by the routes, grouped, silenced, or notifications are off.",
				queries:     []query{{`sum by (channel) (rate(self_healing_notifications_total{@,outcome="suppressed"}[$__rate_interval]))`, "{{channel}}"}}},
			{kind: graph, width: 24, title: "Waiting", unit: count,
				description: "Notifications stored that the channel was not given yet.",
				queries:     []query{{`max by (consumer) (self_healing_consumer_pending{@,stream="SELFHEAL_NOTIFICATIONS"})`, "{{consumer}}"}}},
		}},
	},
}
