package dashboard

var overview = board{
	name: "overview", title: "Overview",
	description: "Are we healing? What fails, how much of it is healed, and how fast.",
	rows: []row{
		{"Are we healing?", []panel{
			{kind: number, width: 4, title: "Going on now", unit: count, alarm: 10,
				description: "Failures (episodes) that have begun and not ended, in the whole cluster. `selfheal get failures` names them.",
				queries:     []query{{`sum(max by (cluster, type) (self_healing_active_failures{@}))`, ""}}},
			{kind: number, width: 4, title: "Healed", unit: share, alarm: 0.9, low: true, alert: "SelfHealingRecoveriesFail",
				description: "Of the recoveries that changed something, the share that was verified to have helped.",
				queries: []query{{`sum(increase(self_healing_recoveries_total{@,outcome="succeeded"}[$__range]))` +
					` / sum(increase(self_healing_recoveries_total{@,outcome=~"succeeded|failed|timed_out"}[$__range]))`, ""}}},
			{kind: number, width: 4, title: "Recoveries", unit: count,
				description: "Decisions that changed the cluster, in the range shown.",
				queries:     []query{{`sum(increase(self_healing_recoveries_attempted_total{@}[$__range]))`, ""}}},
			{kind: number, width: 4, title: "Half are healed within", unit: seconds,
				description: "From first seeing a failure to its verified recovery.",
				queries:     []query{{`histogram_quantile(0.5, sum by (le) (increase(self_healing_end_to_end_seconds_bucket{@}[$__range])))`, ""}}},
			{kind: number, width: 4, title: "Paused", unit: "bool_yes_no", alarm: 1, alert: "SelfHealingPaused",
				description: "Whether a person has paused all acting: `selfheal pause`, `selfheal resume`.",
				queries:     []query{{`max(self_healing_paused{@})`, ""}}},
			{kind: number, width: 4, title: "Services there", unit: count,
				description: "Processes that are scraped; at least one of each of the four services is wanted.", alert: "SelfHealingServiceAbsent",
				queries: []query{{`count(self_healing_build_info{@})`, ""}}},
		}},
		{"What fails", []panel{
			{kind: bars, width: 12, title: "Going on, by type", unit: count,
				description: "Failures (episodes) that have begun and not ended.",
				queries:     []query{{`sum by (type) (max by (cluster, type) (self_healing_active_failures{@}))`, "{{type}}"}}},
			{kind: bars, width: 12, title: "New, by severity", unit: perSecond,
				description: "Failures by the severity that they were first given.",
				queries:     []query{{`sum by (severity) (rate(self_healing_failures_detected_total{@}[$__rate_interval]))`, "{{severity}}"}}},
		}},
		{"What is done about it", []panel{
			{kind: bars, width: 12, title: "Decisions, by how they ended", unit: perSecond,
				description: "succeeded: verified. failed, timed_out: tried, and it did not help. rejected: a guard or a person said no. skipped: nothing to do, or no longer.",
				queries:     []query{{`sum by (outcome) (rate(self_healing_recoveries_total{@}[$__rate_interval]))`, "{{outcome}}"}}},
			{kind: graph, width: 12, title: "Time to heal", unit: seconds,
				description: "From first seeing a failure to its verified recovery, by type.",
				queries:     quantiles("self_healing_end_to_end_seconds", "type")},
			{kind: list, width: 24, title: "Last actions", unit: count,
				description: "What was tried in the range shown, and how it ended. Which objects: `selfheal get results` or `selfheal audit --since 1h`.",
				queries:     []query{{`topk(50, sum by (type, strategy, outcome) (increase(self_healing_recoveries_total{@,outcome!="skipped"}[$__range])) > 0)`, ""}}},
		}},
	},
}
