package dashboard

var actions = board{
	name: "actions", title: "Actions and guards",
	description: "What is decided and done, by strategy, and what holds it back: guards, budgets, breaker, approvals.",
	rows: []row{
		{"Decisions", []panel{
			{kind: bars, width: 12, title: "Decided, by strategy", unit: perSecond,
				description: "One decision for each announcement of a failure; monitor changes nothing.",
				queries:     []query{{`sum by (strategy) (rate(self_healing_decisions_total{@}[$__rate_interval]))`, "{{strategy}}"}}},
			{kind: bars, width: 12, title: "Decided, by reason", unit: perSecond,
				description: "SeverityTable: to be carried out as the table says. The others say why something else is done, or nothing.",
				queries:     []query{{`sum by (reason) (rate(self_healing_decisions_total{@}[$__rate_interval]))`, "{{reason}}"}}},
		}},
		{"Actions", []panel{
			{kind: bars, width: 12, title: "Begun, by strategy", unit: count, alert: "SelfHealingActionStorm",
				description: "Decisions that came to a first change of the cluster.",
				queries:     []query{{`sum by (strategy) (increase(self_healing_recoveries_attempted_total{@}[$__rate_interval]))`, "{{strategy}}"}}},
			{kind: graph, width: 12, title: "Success, by strategy", unit: share, alert: "SelfHealingRecoveriesFail",
				description: "Of the recoveries that changed something, the share that was verified to have helped, over an hour.",
				queries: []query{{`sum by (strategy) (increase(self_healing_recoveries_total{@,outcome="succeeded"}[1h]))` +
					` / (sum by (strategy) (increase(self_healing_recoveries_total{@,outcome=~"succeeded|failed|timed_out"}[1h])) > 0)`, "{{strategy}}"}}},
			{kind: graph, width: 12, title: "Time that a recovery takes", unit: seconds,
				description: "From taking up a decision that changed the cluster to its result.",
				queries:     quantiles("self_healing_recovery_duration_seconds", "type")},
			{kind: list, width: 12, title: "How they ended", unit: count,
				description: "By type, strategy and outcome, in the range shown.",
				queries:     []query{{`sum by (type, strategy, outcome) (increase(self_healing_recoveries_total{@}[$__range])) > 0`, ""}}},
		}},
		{"What holds back", []panel{
			{kind: bars, width: 24, title: "Vetoes, by guard", unit: count,
				description: "Each guard's name is that of its page in docs/policy.md; a decision's own record says the numbers that decided: `selfheal explain`.",
				queries:     []query{{`sum by (guard) (increase(self_healing_guard_vetoes_total{@}[$__rate_interval])) > 0`, "{{guard}}"}}},
			{kind: graph, width: 6, title: "Budgets", unit: count,
				description: "Vetoes because as much as may be disrupted already is: the budgets of rules, and actions per minute.",
				queries:     []query{{`sum by (guard) (increase(self_healing_guard_vetoes_total{@,guard=~"budget|rate"}[$__rate_interval]))`, "{{guard}}"}}},
			{kind: graph, width: 6, title: "Breaker", unit: count, alert: "SelfHealingBreakerOpen",
				description: "Vetoes because trying did not help: resting after a try, and open after several. It lets one more through by itself.",
				queries:     []query{{`sum by (guard) (increase(self_healing_guard_vetoes_total{@,guard="backoff"}[$__rate_interval]))`, "{{guard}}"}}},
			{kind: graph, width: 6, title: "Storms", unit: count, alert: "SelfHealingHeldBack",
				description: "Vetoes because too much fails at once, or because the watcher does not see clearly: then what is broken is shared, and nodes are left alone.",
				queries:     []query{{`sum by (guard) (increase(self_healing_guard_vetoes_total{@,guard=~"storm|blind"}[$__rate_interval]))`, "{{guard}}"}}},
			{kind: graph, width: 6, title: "Approvals", unit: count,
				description: "Decisions that a person did not approve in time, or rejected, and answers of people that wait to be read.",
				queries: []query{
					{`sum by (guard) (increase(self_healing_guard_vetoes_total{@,guard="approval"}[$__rate_interval]))`, "not approved"},
					{`max by (consumer) (self_healing_consumer_pending{@,consumer="actuator-approvals"})`, "answers waiting"},
				}},
		}},
	},
}
