package actuator_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/pkg/sign"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
)

var forgeries = flag.Int("forgeries", 300, "how many forged decisions about healthy objects are sent, unsigned and signed each")

// keys makes a key with which decisions are signed, and a folder in which it is
// trusted.
func keys(t testing.TB) (private, trusted string) {
	t.Helper()
	trusted = t.TempDir()
	private = filepath.Join(t.TempDir(), "decisions.key")
	secret, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(private, secret, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(trusted, "decisions.pub"), public, 0o400); err != nil {
		t.Fatal(err)
	}
	return private, trusted
}

// healthy makes something healthy of every kind that decisions are about.
func (r *rig) healthy() map[string][]heal.Target {
	r.t.Helper()
	pods := r.ready(r.deploy("web", "shop/api:good", 5))
	all := map[string][]heal.Target{
		"Deployment":            {deploymentTarget(r.whole())},
		"StatefulSet":           {{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: r.ns, Name: "db", UID: string(r.statefulSet(2).UID)}},
		"PersistentVolumeClaim": {r.claim(nil).Target},
	}
	for i := range pods {
		all["Pod"] = append(all["Pod"], podTarget(&pods[i]))
	}
	s, err := r.admin.CoreV1().Services(r.ns).Create(r.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	all["Service"] = []heal.Target{{APIVersion: "v1", Kind: "Service", Namespace: r.ns, Name: "shop", UID: string(s.UID)}}
	nodes, err := r.admin.CoreV1().Nodes().List(r.t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) == 0 {
		r.t.Fatalf("no nodes: %v", err)
	}
	all["Node"] = []heal.Target{nodeTarget(&nodes.Items[0])}
	r.endpoints(5)
	return all
}

// forge makes n decisions, over all that there are actions for.
func (r *rig) forge(n int) []heal.Decision {
	targets := r.healthy()
	d := r.daemonSet()
	targets["DaemonSet"] = []heal.Target{{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: r.ns, Name: "db", UID: string(d.UID)}}
	known := slices.SortedFunc(maps.Keys(action.Default), func(a, b action.Key) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Strategy, b.Strategy), cmp.Compare(a.Kind, b.Kind))
	})
	var all []heal.Decision
	for i := range n {
		k := known[i%len(known)]
		at := targets[k.Kind]
		f := decide(at[i%len(at)], k.Type, k.Strategy)
		f.Expires = time.Now().Add(10 * time.Minute)
		f.Failure.Metadata = map[string]string{"container": "app", "of": strconv.Itoa(10 << 30), "percent": "97"}
		all = append(all, f)
	}
	return all
}

func TestForgedDecisionsAboutHealthyObjectsChangeNothing(t *testing.T) {
	t.Parallel()
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprintf("signed %v", signed), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			private, trusted := keys(t)
			r.trusted = trusted
			if signed { // whoever has the analyzer's key
				r.bus = r.server.Connect(t, bus.Options{Service: "analyzer", SigningKey: private})
			}
			cfg := quick()
			cfg.Workers = 32
			r.start(cfg)
			forged := r.forge(*forgeries)
			for _, d := range forged {
				r.publish(d)
			}
			if !signed {
				kubetest.Eventually(t, 10*time.Minute, func(context.Context) error {
					if n := len(r.server.DeadLetters(t)); n < len(forged) {
						return fmt.Errorf("%d of %d are dead letters", n, len(forged))
					}
					return nil
				})
				r.noWrites()
				return
			}
			ends := map[ended]int{}
			for _, d := range forged {
				res := r.result(d, 10*time.Minute)
				ends[end(res)]++
				if res.Outcome != heal.Skipped && res.Outcome != heal.Rejected {
					t.Errorf("%s of %s ended %v: %s", d.Strategy, d.Target, end(res), res.Message)
				}
			}
			r.noWrites()
			t.Logf("%d forged decisions: %v", len(forged), ends)
		})
	}
}
