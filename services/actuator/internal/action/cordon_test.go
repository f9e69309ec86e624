package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Main(m, kubetest.Options{Nodes: 1})) }

// open is a desk where everybody may do anything, once without effect and then
// in earnest.
type open struct{}

func (open) Do(ctx context.Context, r Request) error {
	if err := r.Send(ctx, []string{metav1.DryRunAll}); err != nil {
		return fmt.Errorf("dry run: %w", err)
	}
	return r.Send(ctx, nil)
}
func (open) Recheck(context.Context, time.Duration) error   { return nil }
func (open) LastWrite() time.Time                           { return time.Now().Add(time.Hour) }
func (open) Note(heal.Step)                                 {}
func (open) Remember(any)                                   {}
func (open) Recall(any) bool                                { return false }
func (open) Add(context.Context, heal.Target, string) error { return nil }
func (open) Remove(context.Context, string) error           { return nil }
func jobOn(k kubernetes.Interface, name, uid string) *Job {
	return &Job{
		Decision: heal.Decision{ID: "d-1", Target: heal.Target{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}},
		Kube:     k, Reader: live.Reader{Kube: k}, Desk: open{}, Cordons: open{},
	}
}

// Not even an administrator's rights make an apply create or hijack a node.
func TestACordonOfANodeThatIsNotTheOneChangesNothing(t *testing.T) {
	c := kubetest.Get(t)
	k := c.Client(t)
	if err := c.AddNode(t.Context(), "there", "z", nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, node, reason string }{
		{"no node has its name", "never-was", "TargetGone"},
		{"another node has its name", "there", "TargetReplaced"},
	} {
		err := cordon(t.Context(), jobOn(k, tt.node, "00000000-0000-4000-8000-000000000000"))
		var refusal *guard.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != tt.reason {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.reason)
		}
	}
	if _, err := k.CoreV1().Nodes().Get(t.Context(), "never-was", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a node was made: %v", err)
	}
	node, err := k.CoreV1().Nodes().Get(t.Context(), "there", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if node.Spec.Unschedulable || node.Annotations[heal.AnnotationOwnedBy] != "" {
		t.Errorf("the other node was changed: %v, %v", node.Spec.Unschedulable, node.Annotations)
	}
	for _, e := range c.Audit(t) {
		if e.Verb == "patch" && e.Name == "never-was" && e.Code < 400 {
			t.Errorf("%s", e)
		}
	}
}

func TestACordonComesAndGoesWithoutATrace(t *testing.T) {
	c := kubetest.Get(t)
	k := c.Client(t)
	if err := c.AddNode(t.Context(), "cordoned", "z", nil); err != nil {
		t.Fatal(err)
	}
	before, err := k.CoreV1().Nodes().Get(t.Context(), "cordoned", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	j := jobOn(k, "cordoned", string(before.UID))
	if err := cordon(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	node, err := k.CoreV1().Nodes().Get(t.Context(), "cordoned", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := guard.NodeState{Name: "cordoned", UID: string(before.UID), Zone: "z", Cordoned: true, Ours: true, Decision: "d-1"}
	got := guard.StateOf(node)
	got.Ready = false // or not yet
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cordoned node (-want +got):\n%s", diff)
	}
	for range 2 { // doing so again does no harm
		if err := uncordon(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	node, err = k.CoreV1().Nodes().Get(t.Context(), "cordoned", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	managers := slices.DeleteFunc(node.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager != heal.FieldManager })
	if node.Spec.Unschedulable || len(managers) > 0 {
		t.Errorf("left behind: unschedulable %v, %v", node.Spec.Unschedulable, managers)
	}
	if diff := cmp.Diff(before.Annotations[heal.AnnotationDecisionID], node.Annotations[heal.AnnotationDecisionID]); diff != "" {
		t.Errorf("annotation (-before +after):\n%s", diff)
	}
}
