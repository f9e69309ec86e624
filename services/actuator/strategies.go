package actuator

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// StrategyRules is what the actuator must be allowed to do in the cluster for
// each strategy that it can carry out, and, for Monitor, to look at anything.
func StrategyRules() map[heal.Strategy][]rbacv1.PolicyRule {
	rules := map[heal.Strategy][]rbacv1.PolicyRule{heal.Monitor: live.Needs}
	for k, a := range action.Default {
		rules[k.Strategy] = append(rules[k.Strategy], a.Needs...)
	}
	for strategy, needs := range rules {
		rules[strategy] = merge(needs)
	}
	return rules
}

// BarePodRules is what the actuator must be allowed to do as well, in the
// namespaces where pods without a controller may be made anew. A person gives it
// these rights there: they are no part of Rules.
func BarePodRules() []rbacv1.PolicyRule { return merge(action.MayMakePods) }
