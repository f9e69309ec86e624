package watch

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Rules is what the watcher must be allowed to do in the cluster. It only ever
// reads.
func Rules() []rbacv1.PolicyRule { return rules(kinds, slices.Concat(reads(), leaseRules, usageRules)) }

// NamespaceRules is what it must be allowed to do in each of the namespaces,
// if it watches only these.
func NamespaceRules() []rbacv1.PolicyRule {
	var namespaced []kind
	for _, k := range kinds {
		if k.Namespaced {
			namespaced = append(namespaced, k)
		}
	}
	return rules(namespaced, reads())
}

// reads is what owner chains need.
func reads() []rbacv1.PolicyRule {
	var list []rbacv1.PolicyRule
	for _, c := range climbs {
		list = append(list, rule(c, "get"))
	}
	return list
}

// rules is what watching kinds needs, and what of more that does not cover.
func rules(kinds []kind, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var list []rbacv1.PolicyRule
	watched := map[string]bool{}
	for _, k := range kinds {
		watched[k.Group+"/"+k.Resource] = true
		if k.Passing { // never asked for one by one
			list = append(list, rule(k, "list", "watch"))
			continue
		}
		list = append(list, rule(k, "get", "list", "watch"))
	}
	for _, r := range more {
		if !watched[r.APIGroups[0]+"/"+r.Resources[0]] {
			list = append(list, r)
		}
	}
	return list
}

func rule(k kind, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{k.Group}, Resources: []string{k.Resource}, Verbs: verbs}
}
