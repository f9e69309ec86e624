package actuator_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// control sends what a person would by the command line.
func (r *rig) control(c heal.Control) {
	r.t.Helper()
	c.By, c.At = "ann@laptop", time.Now().UTC()
	if err := bus.Controls.Publish(r.t.Context(), r.bus, c); err != nil {
		r.t.Fatal(err)
	}
}

// annotate puts an annotation on a namespace or node; the empty value takes it away.
func (r *rig) annotate(kind, name, key, value string) {
	r.t.Helper()
	v := "null"
	if value != "" {
		v = fmt.Sprintf("%q", value)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, key, v)
	var err error
	if kind == "Node" {
		_, err = r.admin.CoreV1().Nodes().Patch(r.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = r.admin.CoreV1().Namespaces().Patch(r.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestAPauseIsObeyedByEveryReplicaAndOutlivesRestartsAndLostStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	_, first := r.startShown(quick())
	stop, second := r.startShown(quick())
	first(false)
	second(false)

	r.control(heal.Control{Verb: heal.Pause, Reason: "the database moves"})
	first(true)
	second(true)
	stop()
	_, third := r.startShown(quick())
	third(true)

	res := r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.Rejected, "Paused"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	for _, part := range []string{"ann@laptop", "the database moves", "selfheal resume"} {
		if !strings.Contains(res.Message, part) {
			t.Errorf("message %q does not say %q", res.Message, part)
		}
	}
	stream, err := r.server.JetStream(t).Stream(t.Context(), bus.Decisions.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, fourth := r.startShown(quick())
	fourth(true)
	r.noWrites()

	r.control(heal.Control{Verb: heal.Resume})
	for _, shows := range []func(bool){first, third, fourth} {
		shows(false)
	}
	res = r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
}

func TestAPauseWithAnEndEndsByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, shows := r.startShown(quick())
	shows(false)
	r.control(heal.Control{Verb: heal.Pause, Until: time.Now().Add(2 * time.Second)})
	shows(true)
	shows(false)
}

func TestAMarkOnOurNamespaceForbidsEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.Home = []string{r.cluster.Namespace(t), "is-not-there"}
	_, shows := r.startShown(cfg)
	shows(false)
	sick := r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)
	for _, tt := range []struct{ key, value, want string }{
		{heal.AnnotationMode, "off", "Disarmed"},
		{heal.AnnotationMode, "observe", "Disarmed"},
		{heal.AnnotationMode, "stop!", "Disarmed"},
		{heal.AnnotationHoldUntil, time.Now().Add(time.Hour).Format(time.RFC3339), "Disarmed"},
	} {
		r.annotate("Namespace", cfg.Home[0], tt.key, tt.value)
		shows(true) // by the watch, though nothing was to be done
		res := r.carryOut(restartOf(sick))
		if got, want := end(res), (ended{heal.Rejected, tt.want}); got != want {
			t.Errorf("%s=%s: ended %v, want %v: %s", tt.key, tt.value, got, want, res.Message)
		}
		if !strings.Contains(res.Message, "Namespace/"+cfg.Home[0]) {
			t.Errorf("message %q does not say what forbids it", res.Message)
		}
		r.annotate("Namespace", cfg.Home[0], tt.key, "")
		shows(false)
	}
	r.noWrites()
}

// slow makes every eviction take a while, so that a drain can be stopped.
func slow(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	if isEviction(req) {
		timer := time.NewTimer(150 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
	}
	return next.RoundTrip(req)
}

func TestADrainStopsWithinTwoSecondsOfAPersonSayingSo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		stop   func(r *rig, node, home string)
		resume func(r *rig, node, home string)
		want   string
		leaves bool // the cordon, until it may be taken back
	}{
		{"by a pause", func(r *rig, _, _ string) { r.control(heal.Control{Verb: heal.Pause}) },
			func(r *rig, _, _ string) { r.control(heal.Control{Verb: heal.Resume}) }, "Paused", true},
		{"by a mark on our namespace", func(r *rig, _, home string) { r.annotate("Namespace", home, heal.AnnotationMode, "off") },
			func(r *rig, _, home string) { r.annotate("Namespace", home, heal.AnnotationMode, "") }, "Disarmed", true},
		{"by a hold on the node", func(r *rig, node, _ string) {
			r.annotate("Node", node, heal.AnnotationHoldUntil, time.Now().Add(time.Hour).Format(time.RFC3339))
		}, func(r *rig, node, _ string) { r.annotate("Node", node, heal.AnnotationHoldUntil, "") }, "Held", false},
		{"by a mark on the node", func(r *rig, node, _ string) { r.annotate("Node", node, heal.AnnotationMode, "off") },
			func(r *rig, node, _ string) { r.annotate("Node", node, heal.AnnotationMode, "") }, "MarkedOff", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := nodeRig(t)
			cfg := quick()
			cfg.Home = []string{r.cluster.Namespace(t)}
			r.start(cfg, fault(slow).between)
			a, b := r.nodes()
			cordon(t, r, b, true) // all pods start on a
			const pods = 16
			r.ready(r.deploy("web", "shop/api:good", pods, r.here))
			cordon(t, r, b, false)
			d := drainOf(r.down(a))
			r.publish(d)
			kubetest.Eventually(t, 30*time.Second, func(context.Context) error {
				if n := len(r.writes()); n < 3 {
					return fmt.Errorf("%d writes so far", n)
				}
				return nil
			})

			tt.stop(r, a, cfg.Home[0])
			said := time.Now()
			res := r.result(d, time.Minute)

			if got, want := end(res), (ended{heal.Rejected, tt.want}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			evicted := 0
			for _, e := range r.writes() {
				if e.Subresource == "eviction" {
					evicted++
				}
				// A mark on the node lets our cordon be taken back, which has no
				// deadline; what stops everything lets nothing through.
				undo := !tt.leaves && e.Resource == "nodes"
				if late := e.Time.Sub(said); late > 2*time.Second && !undo {
					t.Errorf("%s was sent %s after it was stopped", e, late)
				}
			}
			if evicted < 2 || evicted >= pods {
				t.Errorf("%d of %d pods were evicted", evicted, pods)
			}
			steps := map[string]heal.Step{}
			for _, s := range res.Steps {
				steps[s.Name] = s
			}
			if s := steps["drain"]; s.Status != heal.StepFailed || !strings.Contains(s.Detail, fmt.Sprintf("%d pods evicted", evicted)) {
				t.Errorf("step %+v does not say how far the drain got", s)
			}
			if got := r.node(a).Spec.Unschedulable; got != tt.leaves {
				t.Errorf("the cordon is there: %v, want %v", got, tt.leaves)
			}
			if err := r.cluster.StartNode(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			tt.resume(r, a, cfg.Home[0])
			r.untilNode(a, "as if we had never been there", func(n *corev1.Node) bool { return untouched(n) })
		})
	}
}

func TestAPauseComesInTimeForARequestThatIsAboutToBeMade(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var shows func(bool)
	_, shows = r.startShown(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if isEviction(req) { // the dry run has passed, and the write comes next
			r.control(heal.Control{Verb: heal.Pause})
			shows(true)
		}
		return resp, err
	}).between)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	shows(false)
	res := r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.Rejected, "Paused"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := r.writes(); len(got) > 0 || len(r.attempts()) != 1 {
		t.Errorf("sent %v, want one dry run", r.attempts())
	}
}
