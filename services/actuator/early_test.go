package actuator_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// early is a Deployment whose next image does not work, long before its
// deadline, and the decision to take that back.
func (r *rig) early(change ...func(*appsv1.Deployment)) heal.Decision {
	r.t.Helper()
	r.ready(r.deploy("web", "shop/api:good", 2, change...))
	r.whole()
	return r.badRollout()
}

// badRollout gives the Deployment an image that does not work, and decides to
// take it back.
func (r *rig) badRollout() heal.Decision {
	r.t.Helper()
	r.patch(types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/api:broken"}]}}}}`))
	var bad *corev1.Pod
	kubetest.Eventually(r.t, 40*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if crashLoops(&list.Items[i]) {
				bad = &list.Items[i]
				return nil
			}
		}
		return fmt.Errorf("none of %d pods crashes", len(list.Items))
	})
	d := decide(podTarget(bad), heal.DeploymentFailure, heal.Rollback)
	d.Target = deploymentTarget(r.deployment())
	d.Failure.Owner = d.Target
	d.Cause = heal.Cause{Kind: heal.CauseRollout, Confidence: 0.95}
	return d
}

func TestARolloutThatIsSurelyToBlameIsTakenBackBeforeItsDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	res := r.carryOut(r.early())
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := image(r.whole()); got != "shop/api:good" {
		t.Errorf("image %s", got)
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	res = r.carryOut(r.badRollout())
	if got, want := end(res), (ended{heal.Rejected, "RolledBackBefore"}); got != want {
		t.Errorf("the second time ended %v, want %v: %s", got, want, res.Message)
	}
}

func TestARolloutThatIsSurelyToBlameIsLeftAloneWherePeopleDecide(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*appsv1.Deployment)
		later  func(*rig)
		reason string
	}{
		"in Git": {annotated("argocd.argoproj.io/tracking-id", "shop"), func(*rig) {}, "ManagedByGitOps"},
		"paused": {func(*appsv1.Deployment) {}, func(r *rig) { r.patch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`)) }, "Paused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			d := r.early(tt.change)
			tt.later(r)
			res := r.carryOut(d)
			if got, want := end(res), (ended{heal.Rejected, tt.reason}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if w := r.writes(); len(w) > 0 {
				t.Errorf("writes %v, want none", w)
			}
		})
	}
}
