package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// published collects the failures of a bus.
func published(t *testing.T, srv *bustest.Server) (all func() []heal.Failure) {
	t.Helper()
	var mu sync.Mutex
	var list []heal.Failure
	b := srv.Bus(t, "analyzer")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- bus.Failures.Consume(ctx, b, bus.Consumer{Name: "test"}, func(_ context.Context, m bus.Message[heal.Failure]) error {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, m.Data)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return func() []heal.Failure {
		mu.Lock()
		defer mu.Unlock()
		return append([]heal.Failure(nil), list...)
	}
}

// of waits for the nth event about an object.
func of(t *testing.T, all func() []heal.Failure, kind, name string, n int) heal.Failure {
	t.Helper()
	var found []heal.Failure
	kubetest.Eventually(t, 60*time.Second, func(context.Context) error {
		found = nil
		for _, f := range all() {
			if f.Target.Kind == kind && f.Target.Name == name {
				found = append(found, f)
			}
		}
		if len(found) < n {
			return fmt.Errorf("%d events about %s %s, want %d", len(found), kind, name, n)
		}
		return nil
	})
	return found[n-1]
}

const certificates = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"certificates.cert-manager.io"},
"spec":{"group":"cert-manager.io","scope":"Namespaced","names":{"plural":"certificates","singular":"certificate","kind":"Certificate","listKind":"CertificateList"},
"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

func certificate(ns, name, ready string) string {
	return fmt.Sprintf(`{"apiVersion":"cert-manager.io/v1","kind":"Certificate","metadata":{"name":%q,"namespace":%q},
"spec":{"secretName":"web-tls","env":[{"name":"TOKEN","value":"canary"}]},"status":{"conditions":[{"type":"Ready","status":%q,"message":"the order failed"}]}}`, name, ns, ready)
}

// The example of docs/own-detectors.md, on a kind that the cluster does not
// serve yet when the watcher starts.
func TestADetectorOfYourOwnFindsWhatItSays(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	c := kubetest.Get(t)
	ns := c.Namespace(t)
	api := c.Client(t).Discovery().RESTClient()
	send := func(r *rest.Request, body string) error {
		return r.SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error()
	}
	if err := send(api.Post().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions"), certificates); err != nil {
		t.Fatal(err)
	}
	path := "/apis/cert-manager.io/v1/namespaces/" + ns + "/certificates"
	kubetest.Eventually(t, 30*time.Second, func(context.Context) error {
		return send(api.Post().AbsPath(path), certificate(ns, "good", "True"))
	})
	if err := send(api.Post().AbsPath(path), certificate(ns, "bad", "False")); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../../docs/own-detectors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ := strings.Cut(rest, "```\n")
	text = strings.NewReplacer("hold: 10m", "hold: 1s", "clear: 1m", "clear: 0s").Replace(text)
	text += "- {name: never, version: cert-manager.io/v1, kind: Certificate, resource: certificates, type: pod_failure, reason: Never, expression: object.status.missing == 1}\n"
	cfg := config
	cfg.DetectorsFile = filepath.Join(t.TempDir(), "detectors.yaml")
	if err := os.WriteFile(cfg.DetectorsFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kube, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	all := published(t, srv)
	var mu sync.Mutex
	var fields func() map[string]any
	startWith(t, srv, kube, nil, cfg, func(f func() map[string]any) { mu.Lock(); defer mu.Unlock(); fields = f })

	got := of(t, all, "Certificate", "bad", 1)
	type told struct {
		Type                          heal.FailureType
		Reason, Description, Detector string
		Evidence                      []heal.Evidence
	}
	want := told{heal.ResourceExhaustion, "CertificateNotReady", "certificate bad is not ready: the order failed", "own.certificate_not_ready", []heal.Evidence{
		{Path: "spec.secretName", Value: "web-tls"},
		{Path: "status.conditions", Value: `[{"message":"the order failed","status":"False","type":"Ready"}]`},
	}}
	if diff := cmp.Diff(told{got.Type, got.Reason, got.Description, got.Detector, got.Evidence}, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	well := []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
	if err := api.Patch(types.MergePatchType).AbsPath(path + "/bad").Body(well).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	if end := of(t, all, "Certificate", "bad", 2); !end.Resolved() || end.EpisodeID != got.EpisodeID {
		t.Errorf("then came %+v, want its end", end)
	}
	for _, f := range all() {
		if f.Target.Name == "good" || strings.Contains(fmt.Sprint(f), "canary") {
			t.Errorf("published: %+v", f)
		}
	}
	kubetest.Eventually(t, 10*time.Second, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if n := fields()["detector_errors"].(map[string]int)["own.never"]; n < 2 {
			return errors.New("the expression that cannot work is not counted")
		}
		return nil
	})
}
