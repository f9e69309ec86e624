package real

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/usage"
	"github.com/selfheal/selfheal/services/watcher/internal/watch"
)

// The control plane has no metrics server and no kubelets: what those would
// say is put in on the way, about objects that are there.
func TestWhatIsUsedIsToldOfObjectsThatAreThere(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	c := kubetest.Get(t)
	ns := c.Namespace(t)
	admin := c.Client(t)
	pod, err := admin.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "hungry", Namespace: ns},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "shop/api:good",
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		p, err := admin.CoreV1().Pods(ns).Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil && (len(p.Status.ContainerStatuses) == 0 || !p.Status.ContainerStatuses[0].Ready) {
			err = fmt.Errorf("pod is %s", p.Status.Phase)
		}
		return err
	})
	if _, err := admin.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: ns},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	nodes, err := admin.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := nodes.Items[0].Name

	var mu sync.Mutex
	memory, cpu := "250Mi", "1000"
	kube, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	kube.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return trip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			var text string
			switch {
			case r.URL.Path == "/apis/metrics.k8s.io/v1beta1/nodes":
				text = fmt.Sprintf(`{"kind":"NodeMetricsList","items":[{"metadata":{"name":%q},"usage":{"cpu":%q,"memory":"1Mi"}}]}`, node, cpu)
			case r.URL.Path == "/apis/metrics.k8s.io/v1beta1/pods":
				text = fmt.Sprintf(`{"kind":"PodMetricsList","items":[{"metadata":{"name":"hungry","namespace":%q},"containers":[{"name":"app","usage":{"cpu":"1m","memory":%q}}]}]}`, ns, memory)
			case strings.HasSuffix(r.URL.Path, "/proxy/stats/summary"):
				text = fmt.Sprintf(`{"pods":[{"volume":[{"availableBytes":10,"capacityBytes":1000,"pvcRef":{"name":"data","namespace":%q}}]}]}`, ns)
			default:
				return rt.RoundTrip(r)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
		})
	})
	w, err := watch.New(watch.Config{
		Thresholds: detect.Thresholds{PodCheckInterval: time.Hour, PodRestartThreshold: 5, NodeCheckInterval: time.Hour, NodeFailureThreshold: 3},
		Schedule:   episode.Schedule{First: time.Hour, Limit: time.Hour},
		Recheck:    time.Minute,
	}, kube, srv.Bus(t, "watcher"), slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	used := w.Usage(usage.Config{Threshold: 80, Volumes: true, Every: 300 * time.Millisecond, Round: 300 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { used.Run(ctx) })
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })

	all := published(t, srv)
	for _, tt := range []struct{ kind, name, reason string }{
		{"Node", node, "NodeCPUHigh"}, {"Pod", "hungry", "ContainerMemoryNearLimit"}, {"PersistentVolumeClaim", "data", "VolumeNearlyFull"},
	} {
		f := of(t, all, tt.kind, tt.name, 1)
		if f.Reason != tt.reason || f.Type != heal.ResourceExhaustion {
			t.Errorf("%s %s: %s (%s), want %s", tt.kind, tt.name, f.Reason, f.Type, tt.reason)
		}
		t.Log(f.Description)
	}
	mu.Lock()
	memory, cpu = "20Mi", "1m"
	mu.Unlock()
	for kind, name := range map[string]string{"Node": node, "Pod": "hungry"} {
		if f := of(t, all, kind, name, 2); !f.Resolved() {
			t.Errorf("%s: then came %s, want its end", name, f.Reason)
		}
	}
}
