package attack

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/analyzer"
	"github.com/selfheal/selfheal/test/harness"
)

var forgeries = flag.Int("forgeries", 300, "how many forged failures of healthy objects are announced")

// Whoever has the watcher's place can have anything decided. What is done is
// another matter: the actuator looks for itself.
func TestForgedFailuresOfHealthyObjectsChangeNothing(t *testing.T) {
	const agent = "actuator-under-forgery"
	c := kubetest.Get(t)
	k, ns := c.Client(t), c.Namespace(t)
	const apps, replicas = 10, 3
	for i := range apps {
		harness.Deploy(t, k, ns, harness.Deployment(fmt.Sprintf("app-%d", i), "shop/app:good", replicas))
	}
	nodes, err := k.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		t.Fatalf("no nodes: %v", err)
	}
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: wide\nguards: {actions_per_minute: 3000}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.UserAgent = agent
	client, err := kube.Client(config)
	if err != nil {
		t.Fatal(err)
	}
	server := bustest.Start(t)
	watcher, judge, hand, ear := server.Bus(t, "watcher"), server.Bus(t, "analyzer"), server.Bus(t, "actuator"), server.Bus(t, "notifier")

	var mu sync.Mutex
	ends := map[string]int{} // guarded by mu, as is asked
	asked := map[heal.Strategy]int{}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { stop(); running.Wait() })
	run(func(ctx context.Context) error { return see(ctx, watcher) })
	run(func(ctx context.Context) error {
		return analyzer.Run(ctx, analyzer.Config{Mode: heal.ModeAuto, PolicyFile: policy}, analyzer.Deps{Bus: judge})
	})
	run(func(ctx context.Context) error {
		return actuator.Run(ctx, actuator.Config{
			Mode: heal.ModeAuto, RecoveryTimeout: 30 * time.Second, VerifyWindow: 2 * time.Second, MaxPodActionsNamespace: 600, MaxPodActionsCluster: 3000,
		}, actuator.Deps{Bus: hand, Kube: client, Log: slog.New(slog.DiscardHandler)})
	})
	run(func(ctx context.Context) error {
		return bus.Results.Consume(ctx, ear, bus.Consumer{Name: "notifier"}, func(_ context.Context, m bus.Message[heal.Result]) error {
			mu.Lock()
			defer mu.Unlock()
			ends[fmt.Sprintf("%s %s", m.Data.Outcome, m.Data.Reason)]++
			asked[m.Data.Decision.Strategy]++
			if m.Data.Outcome == heal.Succeeded || m.Data.Outcome == heal.Failed {
				t.Errorf("%s of %s ended %s, %s", m.Data.Decision.Strategy, m.Data.Decision.Target, m.Data.Outcome, m.Data.Reason)
			}
			return nil
		})
	})

	// Pods of what is said to be broken itself only follow that; so they are others'.
	down := nodes.Items[0]
	var owners []heal.Target
	var pods []corev1.Pod
	ownerOf := map[string]heal.Target{}
	for i := range apps {
		d, err := k.AppsV1().Deployments(ns).Get(t.Context(), fmt.Sprintf("app-%d", i), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: ns, Name: d.Name, UID: string(d.UID)}
		if i < 3 {
			owners = append(owners, owner)
			continue
		}
		ownerOf[d.Name] = owner
		for _, p := range harness.Pods(t, k, ns, d.Name) {
			if p.Spec.NodeName != down.Name {
				pods = append(pods, p)
			}
		}
	}
	for i := range *forgeries {
		p := pods[i%len(pods)]
		owner := ownerOf[p.Labels["app"]]
		var f heal.Failure
		switch i % 10 {
		case 8:
			f = forged(owners[i%len(owners)], heal.Target{}, heal.DeploymentFailure, "ProgressDeadlineExceeded", "deployment_stalled", i)
		case 9:
			f = forged(heal.Target{APIVersion: "v1", Kind: "Node", Name: down.Name, UID: string(down.UID)}, heal.Target{}, heal.NodeFailure, "NodeStatusUnknown", "node_not_ready", i)
		default:
			target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: ns, Name: p.Name, UID: string(p.UID)}
			f = forged(target, owner, heal.PodFailure, "CrashLoopBackOff", "crash_loop", i)
			f.Node = p.Spec.NodeName
		}
		if err := bus.Failures.Publish(t.Context(), watcher, f); err != nil {
			t.Fatal(err)
		}
	}
	harness.WaitFor(t, 15*time.Minute, "every forged failure to have its result", func() error {
		mu.Lock()
		defer mu.Unlock()
		all := 0
		for _, n := range ends {
			all += n
		}
		if all < *forgeries {
			return fmt.Errorf("%d of %d", all, *forgeries)
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	if ends["skipped Recovered"] == 0 {
		t.Error("nothing came as far as the actuator's own look, so this proves nothing")
	}
	if sent := c.MutationsBy(t, agent); len(sent) > 0 {
		t.Errorf("the API server was sent %v, want nothing, not even a dry run", sent)
	}
	t.Logf("%d forged failures; results: %v; strategies: %v", *forgeries, ends, asked)
}

// forged is a failure that nobody has seen; the container tells one from another.
func forged(target, owner heal.Target, typ heal.FailureType, reason, detector string, i int) heal.Failure {
	now := time.Now()
	container := fmt.Sprintf("c-%d", i)
	return heal.Failure{
		Type: typ, Reason: reason, Severity: typ.BaseSeverity(), ResourceName: target.Name, Namespace: target.Namespace,
		Description: "forged", Timestamp: heal.Unix{Time: now}, Target: target, Owner: owner, Detector: detector,
		Fingerprint: heal.MakeFingerprint(typ, target, owner, container, reason),
		EpisodeID:   heal.ID("e", container, now.String()), Occurrence: 1, FirstSeen: now.Add(-10 * time.Second), Evidence: []heal.Evidence{},
		Metadata: map[string]string{"container": container},
	}
}
