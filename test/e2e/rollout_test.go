package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestBrokenImageIsTakenBackLongBeforeItsDeadline(t *testing.T) {
	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	harness.Deploy(t, kube, ns, harness.Deployment("cart", "shop/cart:1", 2))
	p := harness.Start(t, c, quick(t, nil))
	record := harness.Listen(t, p.Bus(t))

	d, err := kube.AppsV1().Deployments(ns).Get(t.Context(), "cart", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.Spec.Template.Spec.Containers[0].Image = "shop/cart:broken"
	if _, err := kube.AppsV1().Deployments(ns).Update(t.Context(), d, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The deadline, which nobody set, is ten minutes.
	harness.WaitFor(t, 60*time.Second, "a verified roll-back", func() error {
		for _, e := range record.Results() {
			if r := e.Data; r.Decision.Strategy == heal.Rollback && r.Decision.Target.Name == "cart" && r.Outcome == heal.Succeeded {
				if got := r.Decision.Cause.Kind; got != heal.CauseRollout {
					t.Errorf("cause %s, want rollout", got)
				}
				return nil
			}
		}
		var said []string
		for _, e := range record.Results() {
			said = append(said, fmt.Sprintf("%s of %s for %s: %s %s", e.Data.Decision.Strategy, e.Data.Decision.Target.Kind, e.Data.Decision.Cause.Kind, e.Data.Outcome, e.Data.Reason))
		}
		return fmt.Errorf("%d results: %s", len(said), strings.Join(said, ", "))
	})
	harness.WaitAvailable(t, kube, ns, "cart", 2)
	if d, err = kube.AppsV1().Deployments(ns).Get(t.Context(), "cart", metav1.GetOptions{}); err != nil || d.Spec.Template.Spec.Containers[0].Image != "shop/cart:1" {
		t.Errorf("image %s (%v), want shop/cart:1", d.Spec.Template.Spec.Containers[0].Image, err)
	}
	if w := effective(t, c, ns); len(w) != 1 || w[0].Resource != "deployments" {
		t.Errorf("effective writes %v, want one, of the Deployment", w)
	}
}
