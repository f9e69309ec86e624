package watch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

func marked(uid, team, runbook string, labels map[string]string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{UID: types.UID(uid), Labels: labels, Annotations: map[string]string{"note": "canary"}}
	if team != "" {
		m.Annotations[heal.AnnotationTeam] = team
	}
	if runbook != "" {
		m.Annotations[heal.AnnotationRunbook] = runbook
	}
	return m
}

func TestOnlyWhatRoutesIsTakenFromLabelsAndAnnotations(t *testing.T) {
	type labels = map[string]string
	for title, tt := range map[string]struct {
		obj  metav1.ObjectMeta
		want routing
	}{
		"nothing": {marked("u", "", "", labels{"pod-template-hash": "canary", "example.com/token": "canary"}), routing{}},
		"all": {marked("u", "payments", "https://runbooks.example.com/api?x=1#y", labels{"app": "api", "app.kubernetes.io/name": "api", "tier": "gold", "other": "canary"}),
			routing{"team": "payments", "runbook": "https://runbooks.example.com/api?x=1#y", "label.app": "api", "label.app.kubernetes.io/name": "api", "label.tier": "gold"}},
		"a team of hostile text": {marked("u", " <!channel>\u202e\x00\n"+strings.Repeat("x", 100), "", nil), routing{"team": "<!channel> " + strings.Repeat("x", 49) + "…"}},
		"a team of nothing":      {marked("u", "\u200b \n", "", nil), routing{}},
	} {
		t.Run(title, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, routingOf(&tt.obj)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestARunbookIsALinkThatCanBeShown(t *testing.T) {
	for text, want := range map[string]string{
		"https://wiki.example.com/api":              "https://wiki.example.com/api",
		" http://wiki/a b\n":                        "http://wiki/a%20b",
		"HTTPS://wiki.example.com":                  "https://wiki.example.com",
		"":                                          "",
		"wiki.example.com/api":                      "",
		"javascript:alert(1)":                       "",
		"ftp://wiki.example.com":                    "",
		"https://":                                  "",
		"https://:443/":                             "",
		"https://user:secret@wiki.example.com/":     "",
		"https://wiki.example.com/\x00":             "",
		"https://wiki.example.com/|<b>":             "https://wiki.example.com/%7C%3Cb%3E",
		"https://e/" + strings.Repeat("x", 300):     "",
		"https://e/" + strings.Repeat("\u202e", 80): "", // too long when it is written so that all can be seen
	} {
		if got := runbook(text); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

func TestWhatANamespaceSaysIsKeptAndNothingElse(t *testing.T) {
	m := marked("u", "payments", "https://e/"+strings.Repeat("x", 300), map[string]string{"tier": "canary"})
	want := map[string]string{heal.AnnotationTeam: "payments"}
	if diff := cmp.Diff(want, slimNamespace(&corev1.Namespace{ObjectMeta: m}).(*corev1.Namespace).Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	m = marked("u", "", "", nil)
	if got := slimNamespace(&corev1.Namespace{ObjectMeta: m}).(*corev1.Namespace); got.Annotations != nil {
		t.Errorf("annotations %v of a namespace that says nothing", got.Annotations)
	}
}

// watching is a Watcher of some kinds that asks metadata.
func watching(metadata func(context.Context, kind, name) (metav1.Object, error), all ...kind) *Watcher {
	w := &Watcher{owners: newOwners(server{}), sources: map[string]*source{}, log: slog.New(slog.DiscardHandler)}
	w.owners.metadata = metadata
	for _, k := range all {
		w.sources[k.key()] = &source{kind: k, held: newShelf(k)}
	}
	return w
}

func TestTheNearestObjectSaysWhomToTell(t *testing.T) {
	at := func(version, kind, namespace, name, uid string) heal.Target {
		return heal.Target{APIVersion: version, Kind: kind, Namespace: namespace, Name: name, UID: uid}
	}
	pod, web, node := at("v1", "Pod", "shop", "web-1", "u-pod"), at("apps/v1", "Deployment", "shop", "web", "u-web"), at("v1", "Node", "", "n1", "u-n1")
	app := map[string]string{"app": "web"}
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no rule"))
	gone := apierrors.NewNotFound(schema.GroupResource{}, "")
	for title, tt := range map[string]struct {
		target, owner heal.Target
		objects       map[string]metav1.ObjectMeta // by kind
		errs          map[string]error             // by kind
		space         metav1.ObjectMeta
		earlier       map[string]string
		want          map[string]string
	}{
		"the owner": {
			target: pod, owner: web,
			objects: map[string]metav1.ObjectMeta{"Deployment": marked("u-web", "web", "https://e/web", app), "Pod": marked("u-pod", "nobody", "", nil)},
			space:   marked("u-shop", "shop", "https://e/shop", nil),
			want:    map[string]string{"exit_code": "1", "team": "web", "runbook": "https://e/web", "label.app": "web"},
		},
		"what the owner does not say, the namespace does": {
			target: pod, owner: web,
			objects: map[string]metav1.ObjectMeta{"Deployment": marked("u-web", "", "https://e/web", nil)},
			space:   marked("u-shop", "shop", "https://e/shop", map[string]string{"tier": "gold"}),
			want:    map[string]string{"exit_code": "1", "team": "shop", "runbook": "https://e/web"},
		},
		"the target, where nothing owns it": {
			target: node, objects: map[string]metav1.ObjectMeta{"Node": marked("u-n1", "platform", "", nil)},
			want: map[string]string{"exit_code": "1", "team": "platform"},
		},
		"the target, where its owner is of a kind that nobody watches": {
			target: pod, owner: at("example.com/v1", "Rollout", "shop", "web", "u-r"),
			objects: map[string]metav1.ObjectMeta{"Pod": marked("u-pod", "web", "", app)},
			want:    map[string]string{"exit_code": "1", "team": "web", "label.app": "web"},
		},
		"the target, where its owner is gone": {
			target: pod, owner: web, errs: map[string]error{"Deployment": gone},
			objects: map[string]metav1.ObjectMeta{"Pod": marked("u-pod", "web", "", nil)},
			want:    map[string]string{"exit_code": "1", "team": "web"},
		},
		"nobody else of the same name": {
			target: pod, owner: web, objects: map[string]metav1.ObjectMeta{"Deployment": marked("u-other", "other", "", nil), "Pod": marked("u-pod", "", "", nil)},
			want: map[string]string{"exit_code": "1"},
		},
		"the namespace, where nothing else may be read": {
			target: pod, owner: web, errs: map[string]error{"Deployment": forbidden, "Pod": forbidden},
			space: marked("u-shop", "shop", "", nil), earlier: map[string]string{"team": "earlier"},
			want: map[string]string{"exit_code": "1", "team": "shop"},
		},
		"what was said earlier, while the API server does not answer": {
			target: pod, owner: web, errs: map[string]error{"Deployment": context.DeadlineExceeded},
			space: marked("u-shop", "shop", "", nil), earlier: map[string]string{"team": "web", "label.app": "web", "nodes": "7"},
			want: map[string]string{"exit_code": "1", "team": "web", "label.app": "web"},
		},
	} {
		t.Run(title, func(t *testing.T) {
			asked := 0
			w := watching(func(_ context.Context, k kind, _ name) (metav1.Object, error) {
				asked++
				return &metav1.PartialObjectMetadata{ObjectMeta: tt.objects[k.Kind]}, tt.errs[k.Kind]
			}, pods, deployments, nodes, namespaces)
			space := &corev1.Namespace{ObjectMeta: tt.space}
			space.Name = "shop"
			w.sources[namespaces.key()].held.put(name{"", "shop"}, slimNamespace(space).(*corev1.Namespace))
			f := heal.Failure{Target: tt.target, Owner: tt.owner, Metadata: map[string]string{"exit_code": "1"}}
			for range 2 {
				got := w.routed(t.Context(), f, heal.Failure{Metadata: tt.earlier})
				if diff := cmp.Diff(tt.want, got.Metadata); diff != "" {
					t.Errorf("metadata (-want +got):\n%s", diff)
				}
			}
			if len(f.Metadata) != 1 {
				t.Errorf("the failure itself was changed: %v", f.Metadata)
			}
			if most := 2; asked > most {
				t.Errorf("asked %d times, want at most %d: what is known is not asked again", asked, most)
			}
		})
	}
}

func TestWhomToTellIsAskedForAnewAfterAWhileAndOnceByAllWhoAskAtOnce(t *testing.T) {
	var asked atomic.Int32
	answer := make(chan struct{})
	o := newOwners(server{})
	o.metadata = func(context.Context, kind, name) (metav1.Object, error) {
		asked.Add(1)
		<-answer
		return &metav1.PartialObjectMetadata{ObjectMeta: marked("u", "payments", "", nil)}, nil
	}
	ask := func(now time.Time) {
		r, err := o.routing(t.Context(), deployments, heal.Target{UID: "u"}, now)
		if diff := cmp.Diff(routing{"team": "payments"}, r); diff != "" || err != nil {
			t.Errorf("%v, (-want +got):\n%s", err, diff)
		}
	}
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() { ask(noon) })
	}
	close(answer)
	asking.Wait()
	first := asked.Load()
	ask(noon.Add(routingFresh - time.Second))
	if got := asked.Load(); got != first || got > 20 {
		t.Errorf("asked %d times, and then %d", first, got)
	}
	ask(noon.Add(routingFresh))
	if got := asked.Load(); got != first+1 {
		t.Errorf("asked %d times, want once more than %d: it may have changed", got, first)
	}
}

func TestARoutingDoesNotMakeAMessageTooLong(t *testing.T) {
	w := watching(func(context.Context, kind, name) (metav1.Object, error) {
		return &metav1.PartialObjectMetadata{ObjectMeta: marked("u", "payments", "https://e/"+strings.Repeat("x", 200), nil)}, nil
	}, deployments)
	var full heal.Failure
	for size := heal.MaxText; len(full.Evidence) < maxEvidence; size-- { // as much as a message can hold
		e := heal.Evidence{Path: strings.Repeat("p", heal.MaxText), Value: strings.Repeat("v", size)}
		found := detect.Finding{Reason: "X", Evidence: slices.Repeat([]heal.Evidence{e}, maxEvidence)}
		obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u"}}
		full = draft(deployments, obj, "", "x", heal.DeploymentFailure, found)
	}
	got := w.routed(t.Context(), full, heal.Failure{})
	if got.Metadata["team"] != "payments" || len(got.Evidence) >= len(full.Evidence) {
		t.Errorf("team %q and %d of %d pieces of evidence", got.Metadata["team"], len(got.Evidence), len(full.Evidence))
	}
}
