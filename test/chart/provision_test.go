package chart

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// selfheal runs the command line as the administrator of the cluster.
func selfheal(t *testing.T, args ...string) (string, error) {
	t.Helper()
	args = append(args, "--kubeconfig", kubetest.Get(t).Kubeconfig)
	out, err := exec.CommandContext(t.Context(), filepath.Join(harness.RepositoryRoot(t), "bin", "selfheal"), args...).CombinedOutput()
	return string(out), err
}

func TestTheKeysAreMadeOnceByAnAccountThatMayDoNothingElse(t *testing.T) {
	k := kubetest.Get(t).Client(t)
	hooks := objects(t, render(t))
	role := as[rbacv1.Role](t, hooks, "Role self-healing-provision")
	names := []string{"self-healing-nats", "self-healing-people", "self-healing-signing"}
	if len(role.Rules) != 1 || !slices.Equal(role.Rules[0].ResourceNames, names) {
		t.Fatalf("rules %v", role.Rules)
	}

	// The hook's own account, which is deleted when it is done, once more.
	const ns = "provisioned"
	namespace(t, ns, nil)
	role.Namespace, role.ResourceVersion = ns, ""
	account := as[corev1.ServiceAccount](t, hooks, "ServiceAccount self-healing-provision")
	binding := as[rbacv1.RoleBinding](t, hooks, "RoleBinding self-healing-provision")
	account.Namespace, binding.Namespace, binding.Subjects[0].Namespace = ns, ns, ns
	if _, err := k.CoreV1().ServiceAccounts(ns).Create(t.Context(), &account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RbacV1().Roles(ns).Create(t.Context(), &role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RbacV1().RoleBindings(ns).Create(t.Context(), &binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	own := asAccount(t, ns, account.Name)
	apply := func(name string) error {
		_, err := own.CoreV1().Secrets(ns).Apply(t.Context(), corev1ac.Secret(name, ns).WithStringData(map[string]string{"a": "b"}), metav1.ApplyOptions{FieldManager: "x", DryRun: dry})
		return err
	}
	if err := apply(names[0]); err != nil {
		t.Errorf("it may not make its own Secret: %v", err)
	}
	if err := apply("slack-secret"); !apierrors.IsForbidden(err) {
		t.Errorf("it may make another: %v", err)
	}
	if _, err := own.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("it may list Secrets: %v", err)
	}

	yaml, err := selfheal(t, "provision", "-n", ns, "--dry-run", "-o", "yaml")
	if err != nil || strings.Count(yaml, "kind: Secret") != 3 {
		t.Fatalf("%v\n%s", err, yaml)
	}
	if _, err := k.CoreV1().Secrets(ns).Get(t.Context(), names[0], metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a dry run made it: %v", err)
	}
	out, err := selfheal(t, "provision", "-n", ns)
	if err != nil || strings.Count(out, "has got") != 3 || strings.Contains(out, "SU") {
		t.Fatalf("%v\n%s", err, out)
	}
	first := map[string]map[string][]byte{}
	for _, name := range names {
		s, err := k.CoreV1().Secrets(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		first[name] = s.Data
	}
	if out, err = selfheal(t, "provision", "-n", ns); err != nil || !strings.Contains(out, "every key of self-healing in namespace provisioned is there already") {
		t.Errorf("again: %v\n%s", err, out)
	}

	// Of a service, both halves make room for both; one half does not.
	s, err := k.CoreV1().Secrets(ns).Get(t.Context(), names[0], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	delete(s.Data, "notifier.seed")
	if s, err = k.CoreV1().Secrets(ns).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, err = selfheal(t, "provision", "-n", ns); err == nil || !strings.Contains(out, "of nats/notifier.seed and nats/notifier.pub only one is there") {
		t.Errorf("half a pair: %v\n%s", err, out)
	}
	delete(s.Data, "notifier.pub")
	if _, err = k.CoreV1().Secrets(ns).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// What people have taken away is theirs.
	if err := k.CoreV1().Secrets(ns).Delete(t.Context(), names[1], metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, err = selfheal(t, "provision", "-n", ns); err != nil || !strings.Contains(out, "secret provisioned/self-healing-nats has got notifier.pub notifier.seed\n") || strings.Contains(out, "people") {
		t.Errorf("both halves: %v\n%s", err, out)
	}
	if s, err = k.CoreV1().Secrets(ns).Get(t.Context(), names[0], metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	for key, data := range first[names[0]] {
		if changed := string(s.Data[key]) != string(data); changed != strings.HasPrefix(key, "notifier.") {
			t.Errorf("%s changed: %v", key, changed)
		}
	}
	if out, err = selfheal(t, "provision", "-n", ns, "--rotate"); err != nil || !strings.Contains(out, "kubectl -n provisioned patch secret self-healing-signing") {
		t.Errorf("%v\n%s", err, out)
	}
}
