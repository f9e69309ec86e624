// Package rights writes down what each service may do, on the API server and
// on NATS, in the files that the chart reads. What the API server is to allow
// comes from the services' own rules; what NATS is to allow is the table in
// nats.go, which the tests hold against the bus that the services use.
package rights

import (
	"bytes"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

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

// scoped are the rules of one service.
type scoped struct {
	Cluster   []rbacv1.PolicyRule `json:"cluster"`         // if it looks after the whole cluster
	Namespace []rbacv1.PolicyRule `json:"namespace"`       // else, in each namespace that it looks after
	Nodes     []rbacv1.PolicyRule `json:"nodes,omitempty"` // and what of the cluster it has to see for that
}

func rbacFile() ([]byte, error) {
	namespaced, nodes := split(actuator.Rules())
	all := map[string]scoped{
		"watcher":  {Cluster: watcher.Rules(), Namespace: watcher.NamespaceRules()},
		"actuator": {Cluster: actuator.Rules(), Namespace: namespaced, Nodes: nodes},
	}
	out, err := yaml.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var b bytes.Buffer
	b.WriteString("# Written by `make generate` from the services' own rules; do not edit.\n")
	b.Write(out)
	return b.Bytes(), nil
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
