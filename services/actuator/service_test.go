package actuator_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// service makes one with a primary whose pod crashes and, as its standby, a
// Deployment of that many replicas. It is served by nobody when it returns.
func (r *rig) service(standby int32, annotations map[string]string, change ...func(*appsv1.Deployment)) (*corev1.Service, *corev1.Pod) {
	r.t.Helper()
	primary := r.ready(r.deploy("primary", "shop/api:good", 1))[0]
	r.ready(r.deploy("standby", "shop/api:good", standby, change...))
	s, err := r.admin.CoreV1().Services(r.ns).Create(r.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: annotations},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "primary"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.endpoints(1)
	sick := r.crash(primary)
	r.endpoints(0)
	return s, sick
}

// endpoints waits until the service has that many that are ready.
func (r *rig) endpoints(want int) {
	r.t.Helper()
	kubetest.Eventually(r.t, 40*time.Second, func(ctx context.Context) error {
		list, err := r.admin.DiscoveryV1().EndpointSlices(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=shop"})
		if err != nil {
			return err
		}
		ready := 0
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					ready++
				}
			}
		}
		if ready != want {
			return fmt.Errorf("%d endpoints are ready, want %d", ready, want)
		}
		return nil
	})
}

func (r *rig) selects() (selector map[string]string, marks []string) {
	r.t.Helper()
	s, err := r.admin.CoreV1().Services(r.ns).Get(r.t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	for key := range maps.Keys(s.Annotations) {
		if key == heal.AnnotationOwnedBy || key == heal.AnnotationDecisionID || key == heal.AnnotationPrevious {
			marks = append(marks, key)
		}
	}
	return s.Spec.Selector, marks
}

func serviceDecision(s *corev1.Service, strategy heal.Strategy) heal.Decision {
	return decide(heal.Target{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: string(s.UID)}, heal.ServiceFailure, strategy)
}

var standby = map[string]string{"selfheal.dev/standby-selector": "app=standby"}

func TestAServiceFailsOverToItsStandbyAndBackOnceItsPrimaryIsStable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.FailBack = 2 * time.Second
	r.start(cfg)
	s, sick := r.service(2, standby)
	res := r.carryOut(serviceDecision(s, heal.Failover))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if selector, marks := r.selects(); selector["app"] != "standby" || len(marks) != 3 {
		t.Errorf("it selects %v, with the marks %v", selector, marks)
	}
	if res.Undo == nil || !strings.Contains(res.Undo.Command, res.Decision.ID) {
		t.Errorf("undo %+v", res.Undo)
	}
	if err := r.cluster.SetBehaviour(t.Context(), r.ns, sick.Name, ""); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, time.Minute, func(context.Context) error {
		if selector, marks := r.selects(); selector["app"] != "primary" || len(marks) > 0 {
			return fmt.Errorf("it selects %v, with the marks %v", selector, marks)
		}
		return nil
	})
	var sent []string
	for _, e := range r.writes() {
		sent = append(sent, e.Verb+" "+e.Resource)
	}
	if diff := cmp.Diff([]string{"patch services", "patch services"}, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestAFailoverIsRefusedUnlessItWouldHelp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	s, _ := r.service(0, nil)
	annotate := func(key, value string) {
		t.Helper()
		v := "null"
		if value != "" {
			v = fmt.Sprintf("%q", value)
		}
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, key, v)
		if _, err := r.admin.CoreV1().Services(r.ns).Patch(t.Context(), s.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const key = "selfheal.dev/standby-selector"
	for _, tt := range []struct{ key, value, want string }{
		{key, "", "NoStandby"},
		{key, "app in (standby)", "NoStandby"},
		{key, " ", "NoStandby"},
		{key, "app=primary", "StandbyInUse"},
		{key, "app=standby", "StandbyNotReady"},
		{"argocd.argoproj.io/tracking-id", "shop:x", "ManagedByGitOps"},
		{heal.AnnotationMode, "off", "MarkedOff"},
	} {
		annotate(tt.key, tt.value)
		res := r.carryOut(serviceDecision(s, heal.Failover))
		if got, want := end(res), (ended{heal.Rejected, tt.want}); got != want {
			t.Errorf("%s=%q: ended %v, want %v: %s", tt.key, tt.value, got, want, res.Message)
		}
	}
	if got := r.writes(); len(got) > 0 {
		t.Errorf("sent %v, want nothing", got)
	}
}

func TestAnEmergencyFailoverWakesItsStandbyWhateverStepItsActuatorDiesAt(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{"", crash.AfterAPIBeforeRecord, crash.BeforeAPI + ":2", crash.AfterAPIBeforeRecord + ":2"} { // scaled; about to switch; switched
		t.Run("killed "+string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			s, _ := r.service(0, standby, func(d *appsv1.Deployment) {
				d.Annotations = map[string]string{"selfheal.dev/max-replicas": "2"}
			})
			v := &victim{rig: r, decision: serviceDecision(s, heal.EmergencyFailover), first: r.launch(at, "KILL")}
			r.publish(v.decision)
			if at != "" {
				v.killed(v.first)
				v.second = v.launch("", "")
			}
			res := r.result(v.decision, 2*time.Minute)
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			r.settled()
			r.endpoints(2)
			var sent []string
			for _, e := range r.effective() {
				sent = append(sent, e.Verb+" "+e.Resource+" "+e.Name)
			}
			if diff := cmp.Diff([]string{"patch deployments standby", "patch services shop"}, sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatBacksAServiceIsRestarted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	s, _ := r.service(0, nil)
	res := r.carryOut(serviceDecision(s, heal.Restart))
	// The simulated crash is of the pod, not of its template, so a new one works.
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	var sent []string
	for _, e := range r.writes() {
		sent = append(sent, e.Verb+" "+e.Resource+" "+e.Name)
	}
	if diff := cmp.Diff([]string{"patch deployments primary"}, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}
