package actuator

import (
	"cmp"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// merge puts rules together, one per API group and set of verbs, sorted, so
// that what is generated from them only changes when they do.
func merge(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	type resource struct{ group, name string }
	verbs := map[resource][]string{}
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, name := range r.Resources {
				at := resource{group, name}
				verbs[at] = append(verbs[at], r.Verbs...)
			}
		}
	}
	type line struct{ group, verbs string }
	resources := map[line][]string{}
	for at, v := range verbs {
		slices.Sort(v)
		l := line{at.group, strings.Join(slices.Compact(v), ",")}
		resources[l] = append(resources[l], at.name)
	}
	var merged []rbacv1.PolicyRule
	for l, names := range resources {
		slices.Sort(names)
		merged = append(merged, rbacv1.PolicyRule{APIGroups: []string{l.group}, Resources: names, Verbs: strings.Split(l.verbs, ",")})
	}
	slices.SortFunc(merged, func(a, b rbacv1.PolicyRule) int {
		return cmp.Or(cmp.Compare(a.APIGroups[0], b.APIGroups[0]), cmp.Compare(a.Resources[0], b.Resources[0]))
	})
	return merged
}
