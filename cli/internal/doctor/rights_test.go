package doctor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Main(m, kubetest.Options{Nodes: 1})) }

// rule is the rule that gives one right.
func rule(a authv1.ResourceAttributes) rbacv1.PolicyRule {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	return rbacv1.PolicyRule{APIGroups: []string{a.Group}, Resources: []string{resource}, Verbs: []string{a.Verb}}
}

// The API server itself is asked, about a service account like the chart's from
// which each right to change something is withdrawn in turn.
func TestEachRightThatAStrategyLacksIsNamedAndHowToMendIt(t *testing.T) {
	cluster := kubetest.Get(t)
	k, home := cluster.Client(t), cluster.Namespace(t)
	config, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	var all []authv1.ResourceAttributes
	users := map[string][]string{} // of a right: the checks that fail without it
	for _, d := range Duties() {
		for _, need := range needs(d.Rules) {
			if users[words(need)] == nil {
				all = append(all, need)
			}
			users[words(need)] = append(users[words(need)], "rights: "+d.Service+", "+d.What)
		}
	}
	for _, service := range []string{"watcher", "actuator"} {
		account := metav1.ObjectMeta{Name: "self-healing-" + service, Namespace: home}
		if _, err := k.CoreV1().ServiceAccounts(home).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: account}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: home}}
	if role, err = k.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = k.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: home}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: home},
		Subjects: []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts:" + home}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// holds waits until the account has all rights but one, and the doctor says so.
	holds := func(without string) {
		t.Helper()
		role.Rules = nil
		for _, need := range all {
			if words(need) != without {
				role.Rules = append(role.Rules, rule(need))
			}
		}
		if role, err = k.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		// The API server takes a moment to know of a change of rights.
		kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
			var failed []string
			for _, f := range Examine(ctx, config, Query{Home: home, Duties: Duties()}).judge() {
				switch {
				case f.Level == OK:
				case f.Level != Fail:
					return fmt.Errorf("%s is %s: %s", f.Check, f.Level, f.Says)
				case !strings.HasSuffix(f.Says, "self-healing-"+serviceOf(f.Check)+" may not "+without) || !strings.Contains(f.Mend, "helm upgrade"):
					return fmt.Errorf("%s says %q, and to mend it %q", f.Check, f.Says, f.Mend)
				default:
					failed = append(failed, f.Check)
				}
			}
			if diff := cmp.Diff(users[without], failed); diff != "" {
				return fmt.Errorf("checks that fail (-want +got):\n%s", diff)
			}
			return nil
		})
	}
	holds("")
	tried := 0
	for _, need := range all {
		if !slices.Contains([]string{"get", "list", "watch"}, need.Verb) {
			holds(words(need))
			tried++
		}
	}
	if tried < 10 {
		t.Errorf("only %d rights change something", tried)
	}
	t.Logf("%d of %d rights were withdrawn one by one", tried, len(all))
}

func serviceOf(check string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(check, "rights: "), ",")
	return service
}
