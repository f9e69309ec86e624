package actuator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// logs answers for the kubelets, whose logs are not played.
func logs(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	if strings.HasSuffix(req.URL.Path, "/log") {
		text := "starts with DB_PASSWORD=canary-in-log\npanic: nil map\n"
		if req.URL.Query().Get("previous") != "true" {
			text = "starts\n"
		}
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader(text)), Request: req,
		}, nil
	}
	return next.RoundTrip(req)
}

func TestWhatAPodLookedLikeIsKeptBeforeItIsEvicted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick(), fault(logs).between)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2, func(d *appsv1.Deployment) {
		c := &d.Spec.Template.Spec.Containers[0]
		c.Env = []corev1.EnvVar{{Name: "DB_PASSWORD", Value: "canary-in-env"}}
		c.Args = []string{"--token=canary-in-args"}
	}))[0])
	res := r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if res.Evidence == nil {
		t.Fatalf("no evidence was kept: %v", res.Steps)
	}
	data, err := bus.NewObjects(r.bus, bus.EvidenceBucket).Get(t.Context(), res.Evidence.Object)
	if err != nil {
		t.Fatal(err)
	}
	if want := (heal.Kept{Bucket: "SELFHEAL_EVIDENCE", Object: res.Decision.ID, Bytes: len(data)}); *res.Evidence != want {
		t.Errorf("evidence %+v, want %+v", *res.Evidence, want)
	}
	if strings.Contains(string(data), "canary") {
		t.Errorf("a secret is in %s", data)
	}
	var e live.Evidence
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(e.Logs, func(l live.Log) bool { return l.Previous })
	if i < 0 {
		t.Fatalf("no previous log in %s", data)
	}
	want := live.Log{Container: "app", Previous: true, Text: "starts with DB_PASSWORD=***\npanic: nil map\n"}
	if diff := cmp.Diff(want, e.Logs[i]); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if e.Target.UID != string(sick.UID) || e.Object == nil || !strings.Contains(string(data), "CrashLoopBackOff") {
		t.Errorf("kept %s", data)
	}
}

func TestWhatIsUrgentDoesNotWaitForEvidenceThatCannotBeHad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/log") {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return next.RoundTrip(req)
	}).between)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	d := restartOf(sick)
	d.Severity = heal.Critical
	res := r.carryOut(d)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	i := slices.IndexFunc(res.Steps, func(s heal.Step) bool { return s.Name == "evidence" })
	if i < 0 || res.Steps[i].Status != heal.StepFailed || res.Evidence != nil {
		t.Errorf("steps %+v, evidence %v: want the evidence to have failed", res.Steps, res.Evidence)
	}
}
