package watch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/heal"
)

func owned(name, uid string, by heal.Target) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)}
	if by != (heal.Target{}) {
		yes := true
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: by.APIVersion, Kind: by.Kind, Name: by.Name, UID: types.UID(by.UID), Controller: &yes}}
	}
	return m
}

func TestOwnerIsTheTopOfTheChain(t *testing.T) {
	object := func(version, kind, name, uid string) heal.Target {
		return heal.Target{APIVersion: version, Kind: kind, Namespace: "shop", Name: name, UID: uid}
	}
	deployment := object("apps/v1", "Deployment", "api", "u-deploy")
	cron := object("batch/v1", "CronJob", "nightly", "u-cron")
	controllers := map[name]metav1.ObjectMeta{
		{"shop", "api-7d9"}:   owned("api-7d9", "u-rs", deployment),
		{"shop", "bare"}:      owned("bare", "u-bare", heal.Target{}),
		{"shop", "nightly-1"}: owned("nightly-1", "u-job", cron),
	}
	asked := 0
	o := newOwners(server{})
	o.metadata = func(_ context.Context, k kind, n name) (metav1.Object, error) {
		asked++
		m, ok := controllers[n]
		if !ok {
			return nil, apierrors.NewNotFound(schema.GroupResource{Group: k.Group, Resource: k.Resource}, n.Name)
		}
		return &metav1.PartialObjectMetadata{ObjectMeta: m}, nil
	}
	tests := []struct {
		name    string
		direct  heal.Target
		want    heal.Target
		wantErr string
	}{
		{name: "a ReplicaSet of a Deployment", direct: object("apps/v1", "ReplicaSet", "api-7d9", "u-rs"), want: deployment},
		{name: "a ReplicaSet of its own", direct: object("apps/v1", "ReplicaSet", "bare", "u-bare"), want: object("apps/v1", "ReplicaSet", "bare", "u-bare")},
		{name: "a Job of a CronJob", direct: object("batch/v1", "Job", "nightly-1", "u-job"), want: cron},
		{name: "a StatefulSet", direct: object("apps/v1", "StatefulSet", "db", "u-sts"), want: object("apps/v1", "StatefulSet", "db", "u-sts")},
		{name: "a kind that we know nothing about", direct: object("argoproj.io/v1", "ReplicaSet", "x", "u-x"), want: object("argoproj.io/v1", "ReplicaSet", "x", "u-x")},
		{
			name: "a ReplicaSet that is gone", direct: object("apps/v1", "ReplicaSet", "gone", "u-gone"),
			want: object("apps/v1", "ReplicaSet", "gone", "u-gone"), wantErr: "not found",
		},
		{
			name: "somebody else's ReplicaSet, named by a made-up reference", direct: object("apps/v1", "ReplicaSet", "api-7d9", "u-forged"),
			want: object("apps/v1", "ReplicaSet", "api-7d9", "u-forged"), wantErr: "another object has its name",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := o.top(t.Context(), tt.direct)
			if got != tt.want {
				t.Errorf("top = %v, want %v", got, tt.want)
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error = %v, want %q", err, tt.wantErr)
			}
		})
	}

	before := asked
	if _, err := o.top(t.Context(), object("apps/v1", "ReplicaSet", "api-7d9", "u-rs")); err != nil {
		t.Error(err)
	}
	if asked != before {
		t.Error("what is known was asked again")
	}
}

func TestSilentAPIServerDelaysNoMessageForLong(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	kube, err := connect(&rest.Config{Host: silent.URL})
	if err != nil {
		t.Fatal(err)
	}
	direct := heal.Target{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "shop", Name: "api-7d9", UID: "u-rs"}
	start := time.Now()
	got, err := newOwners(kube).top(t.Context(), direct)
	if took := time.Since(start); err == nil || took > 2*ownerTimeout {
		t.Errorf("error %v after %s; want one within about %s", err, took, ownerTimeout)
	}
	if got != direct {
		t.Errorf("top = %v, want what is known, %v", got, direct)
	}
}
