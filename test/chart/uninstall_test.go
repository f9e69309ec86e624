package chart

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

func storageClass(name string, expand *bool) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "example.com/none", AllowVolumeExpansion: expand}
}

func TestAnUninstallLeavesNoCordonBehindAndSaysWhatStays(t *testing.T) {
	c := kubetest.Get(t)
	k := c.Client(t)
	nodes, err := k.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ours, shared := nodes.Items[0].Name, nodes.Items[1].Name
	untouched := nodes.Items[2]
	t.Cleanup(func() {
		for _, name := range []string{ours, shared} {
			_, _ = k.CoreV1().Nodes().Patch(context.Background(), name, types.MergePatchType, []byte(`{"spec":{"unschedulable":null,"taints":null}}`), metav1.PatchOptions{}) // the cluster ends with the package
		}
	})
	var notes string
	t.Run("installed", func(t *testing.T) {
		startKubelet(t, "parting", nil)
		notes = installOnly(t, helms[1], "parting", "-f", filepath.Join(chartFolder(t), "ci", "default-values.yaml"))
		// As the actuator leaves them in the middle of a drain.
		for _, name := range []string{ours, shared} {
			config := corev1ac.Node(name).WithAnnotations(map[string]string{heal.AnnotationDecisionID: "d-1", heal.AnnotationOwnedBy: heal.FieldManager}).WithSpec(corev1ac.NodeSpec().WithUnschedulable(true))
			if _, err := k.CoreV1().Nodes().Apply(t.Context(), config, metav1.ApplyOptions{FieldManager: heal.FieldManager}); err != nil {
				t.Fatal(err)
			}
		}
		cordon := corev1ac.Node(shared).WithSpec(corev1ac.NodeSpec().WithUnschedulable(true))
		if _, err := k.CoreV1().Nodes().Apply(t.Context(), cordon, metav1.ApplyOptions{FieldManager: "anna"}); err != nil {
			t.Fatal(err)
		}
		body := []byte(`{"spec":{"taints":[{"key":"selfheal.dev/suspect-d-2","effect":"PreferNoSchedule"},{"key":"example.com/theirs","effect":"PreferNoSchedule"}]}}`)
		if _, err := k.CoreV1().Nodes().Patch(t.Context(), ours, types.StrategicMergePatchType, body, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}) // and uninstalled

	for name, cordoned := range map[string]bool{ours: false, shared: true} {
		n, err := k.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n.Spec.Unschedulable != cordoned {
			t.Errorf("%s is cordoned: %v, want %v", name, n.Spec.Unschedulable, cordoned)
		}
		for key := range n.Annotations {
			if strings.HasPrefix(key, heal.Domain) {
				t.Errorf("%s still has %s", name, key)
			}
		}
		for _, taint := range n.Spec.Taints {
			if strings.HasPrefix(taint.Key, heal.Domain) {
				t.Errorf("%s still has the taint %s", name, taint.Key)
			}
		}
		if name == ours && !hasTaint(n, "example.com/theirs") {
			t.Errorf("%s has lost a taint of others", name)
		}
	}
	n, err := k.CoreV1().Nodes().Get(t.Context(), untouched.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range n.ManagedFields {
		if m.Manager == heal.FieldManager {
			t.Errorf("%s was written", n.Name)
		}
	}

	for _, want := range []string{"data-parting-self-healing-nats-*", "Secrets parting-self-healing-nats, parting-self-healing-people, parting-self-healing-signing"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say that %q stays:\n%s", want, notes)
		}
	}
	for _, name := range []string{"parting-self-healing-nats", "parting-self-healing-people", "parting-self-healing-signing"} {
		if _, err := k.CoreV1().Secrets("parting").Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Errorf("secret %s: %v", name, err)
		}
	}
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		for _, what := range []string{"pods", "serviceaccounts", "roles", "jobs"} {
			if err := gone(ctx, k, "parting", what); err != nil {
				return err
			}
		}
		return nil
	})
}

func hasTaint(n *corev1.Node, key string) bool {
	for _, taint := range n.Spec.Taints {
		if taint.Key == key {
			return true
		}
	}
	return false
}

// gone is an error if anything of the release is left of a kind.
func gone(ctx context.Context, k kubernetes.Interface, namespace, kind string) error {
	ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + namespace}
	var n int
	var err error
	switch kind {
	case "pods":
		list, e := k.CoreV1().Pods(namespace).List(ctx, ours)
		n, err = len(list.Items), e
	case "serviceaccounts":
		list, e := k.CoreV1().ServiceAccounts(namespace).List(ctx, ours)
		n, err = len(list.Items), e
	case "roles":
		list, e := k.RbacV1().Roles(namespace).List(ctx, ours)
		n, err = len(list.Items), e
	case "jobs":
		list, e := k.BatchV1().Jobs(namespace).List(ctx, ours)
		n, err = len(list.Items), e
	}
	if err == nil && n > 0 {
		err = fmt.Errorf("%d %s are left", n, kind)
	}
	return err
}
