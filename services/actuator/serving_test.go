package actuator_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

func TestARecoveryHasHelpedOnlyIfServicesHaveTheEndpointsThatTheyHad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 3))
	_, err := r.admin.CoreV1().Services(r.ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bad := r.crash(pods[0])
	kubetest.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		list, err := r.admin.DiscoveryV1().EndpointSlices(r.ns).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
		if err != nil {
			return err
		}
		ready := 0
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready {
					ready++
				}
			}
		}
		if ready != 2 {
			return fmt.Errorf("%d ready endpoints", ready)
		}
		return nil
	})
	res := r.carryOut(restartOf(bad))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	var names []string
	for _, c := range res.Verification.Checks {
		if !c.Passed {
			t.Errorf("%s: %s", c.Name, c.Observed)
		}
		names = append(names, c.Name)
	}
	if diff := cmp.Diff([]string{"replacement_ready", "no_restarts", "endpoints_kept", "stable"}, names); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	if got, want := res.Verification.Checks[2].Observed, "Service web has 3 of the 2 ready endpoints that it had"; got != want {
		t.Errorf("seen %q, want %q", got, want)
	}
}
