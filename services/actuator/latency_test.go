package actuator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// BenchmarkDecisionToWrite measures, for pods that crash, how long after a
// decision was stored the API server receives the first write, the dry run
// before it not counted, and what that time goes into. Run it with
// -benchtime=30x: it needs as many pods.
func BenchmarkDecisionToWrite(b *testing.B) {
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	r := newRig(b)
	cfg := quick()
	cfg.MaxPodActionsNamespace = 1000
	r.start(cfg)
	var sick []*corev1.Pod
	for i := range b.N {
		sick = append(sick, &r.deploy(fmt.Sprintf("web-%d", i), "shop/api:broken", 1)[0])
	}
	for i := range sick {
		sick[i] = r.until(sick[i], "in a crash loop", crashLoops)
	}
	stored := map[string]time.Time{}
	b.ResetTimer()
	for i, p := range sick {
		d := decide(podTarget(p), heal.PodFailure, []heal.Strategy{heal.Restart, heal.Recreate}[i%2])
		d.Failure.Owner = heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: r.ns, Name: p.Labels["app"], UID: r.uidOf(p.Labels["app"])}
		r.publish(d)
		stored[string(p.UID)] = time.Now()
		r.result(d, time.Minute)
	}
	b.StopTimer()
	var took []time.Duration
	for _, e := range r.writes() {
		if at, ok := stored[e.UID]; ok {
			took = append(took, e.Time.Sub(at))
		}
	}
	slices.Sort(took)
	if len(took) < b.N {
		b.Fatalf("%d of %d were acted on", len(took), b.N)
	}
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(milliseconds(took[len(took)/2]), "median-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
	phases := map[string][]time.Duration{}
	for _, s := range spans.Ended() {
		phases[s.Name()] = append(phases[s.Name()], s.EndTime().Sub(s.StartTime()))
	}
	for name, all := range phases {
		slices.Sort(all)
		b.ReportMetric(milliseconds(all[len(all)/2]), strings.ReplaceAll(name, " ", "_")+"-ms")
	}
}

// uidOf is the UID of a Deployment.
func (r *rig) uidOf(name string) string {
	r.t.Helper()
	d, err := r.admin.AppsV1().Deployments(r.ns).Get(r.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return string(d.UID)
}
