// Package rights writes down what each service may do, on the API server and
// on NATS, in the files that the chart reads. What the API server is to allow
// comes from the services' own rules; what NATS is to allow is the table in
// nats.go, which the tests hold against the bus that the services use.
package rights

import (
	"bytes"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/watcher"
)

// Files is every generated file by its path in the chart.
func Files() (map[string][]byte, error) {
	rbac, err := rbacFile()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"files/rbac.yaml": rbac, "files/nats-accounts.conf": NATS()}, nil
}

// scoped are rules of a service.
type scoped struct {
	Cluster   []rbacv1.PolicyRule `json:"cluster,omitempty"`   // if it looks after the whole cluster
	Namespace []rbacv1.PolicyRule `json:"namespace,omitempty"` // else, in each namespace that it looks after
	Nodes     []rbacv1.PolicyRule `json:"nodes,omitempty"`     // and what of the cluster it has to see for that
}

// acting are the actuator's rules: those that it needs whatever it may do, and
// those of each strategy.
type acting struct {
	Always     scoped                   `json:"always"`
	Strategies map[heal.Strategy]scoped `json:"strategies"`
	Bare       []rbacv1.PolicyRule      `json:"bare"` // to make pods without a controller anew, where a person permits it
}

func rbacFile() ([]byte, error) {
	a := acting{Always: scope(always()), Strategies: map[heal.Strategy]scoped{}, Bare: actuator.BarePodRules()}
	for strategy, rules := range actuator.StrategyRules() {
		if strategy != heal.Monitor {
			a.Strategies[strategy] = scope(rules)
		}
	}
	out, err := yaml.Marshal(map[string]any{
		"watcher":  scoped{Cluster: watcher.Rules(), Namespace: watcher.NamespaceRules()},
		"actuator": a,
	})
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var b bytes.Buffer
	b.WriteString("# Written by `make generate` from the services' own rules; do not edit.\n")
	b.Write(out)
	return b.Bytes(), nil
}

// Actuator is what the actuator may do in a cluster of which the chart enables
// these strategies.
func Actuator(strategies ...heal.Strategy) []rbacv1.PolicyRule {
	rules := always()
	for _, s := range strategies {
		rules = append(rules, actuator.StrategyRules()[s]...)
	}
	return rules
}

// always is what the actuator needs to look, and whatever no strategy asks for:
// to record events and to keep evidence.
func always() []rbacv1.PolicyRule {
	of := actuator.StrategyRules()
	type right struct{ group, resource, verb string }
	known := map[right]bool{}
	for _, rules := range of {
		for _, r := range rules {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					known[right{r.APIGroups[0], resource, verb}] = true
				}
			}
		}
	}
	rules := of[heal.Monitor]
	for _, r := range actuator.Rules() {
		for _, resource := range r.Resources {
			verbs := slices.DeleteFunc(slices.Clone(r.Verbs), func(verb string) bool { return known[right{r.APIGroups[0], resource, verb}] })
			if len(verbs) > 0 {
				rules = append(rules, rbacv1.PolicyRule{APIGroups: r.APIGroups, Resources: []string{resource}, Verbs: verbs})
			}
		}
	}
	return rules
}

func scope(rules []rbacv1.PolicyRule) scoped {
	s := scoped{Cluster: rules}
	s.Namespace, s.Nodes = split(rules)
	return s
}

// clusterScoped is what has no namespace, among what the actuator asks for.
// A namespace itself is both: in a Role, it is that namespace.
var clusterScoped = map[string]bool{"nodes": true, "nodeclaims": true}

// split parts rules into those that can stand in a Role, and the reading half
// of those that cannot: without the cluster, no node is changed.
func split(rules []rbacv1.PolicyRule) (namespaced, nodes []rbacv1.PolicyRule) {
	for _, r := range rules {
		var in, out []string
		for _, name := range r.Resources {
			if clusterScoped[name] {
				out = append(out, name)
			} else {
				in = append(in, name)
			}
		}
		if len(in) > 0 {
			part := r
			part.Resources = in
			namespaced = append(namespaced, part)
		}
		if verbs := reading(r.Verbs); len(out) > 0 && len(verbs) > 0 {
			nodes = append(nodes, rbacv1.PolicyRule{APIGroups: r.APIGroups, Resources: out, Verbs: verbs})
		}
	}
	return namespaced, nodes
}

func reading(verbs []string) []string {
	var only []string
	for _, v := range verbs {
		if v == "get" || v == "list" || v == "watch" {
			only = append(only, v)
		}
	}
	return only
}
