package watch

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

func TestAPodsFailureSaysOfWhichRevisionItIsAndHowItsOwnerStands(t *testing.T) {
	at := func(kind, name, uid string) heal.Target {
		return heal.Target{APIVersion: "apps/v1", Kind: kind, Namespace: "shop", Name: name, UID: uid}
	}
	web, set, db, agent := at("Deployment", "web", "u-web"), at("ReplicaSet", "web-7d9", "u-set"), at("StatefulSet", "db", "u-db"), at("DaemonSet", "agent", "u-agent")
	type labels = map[string]string
	for title, tt := range map[string]struct {
		direct, owner heal.Target
		labels        labels
		annotated     string // revision of the ReplicaSet, as the API server says
		stands        standing
		want          labels
	}{
		"of a deployment, and the newest": {set, web, labels{"pod-template-hash": "7d9"}, "4", standing{"4", 2, 3},
			labels{"pod_template_hash": "7d9", "revision": "4", "newest_revision": "4", "workload_available": "3", "workload_updated": "2"}},
		"of a deployment, and older": {set, web, labels{"pod-template-hash": "7d9"}, "3", standing{"4", 2, 3},
			labels{"pod_template_hash": "7d9", "revision": "3", "newest_revision": "4", "workload_available": "3", "workload_updated": "2"}},
		"of a deployment that has not told us of its roll-out yet": {set, web, labels{"pod-template-hash": "7d9"}, "10", standing{"9", 3, 3},
			labels{"pod_template_hash": "7d9", "revision": "10", "newest_revision": "10", "workload_available": "3", "workload_updated": "3"}},
		"of a deployment that is paused": {set, web, labels{"pod-template-hash": "7d9"}, "3", standing{"", 2, 3}, labels{"pod_template_hash": "7d9"}},
		"of a replica set of its own":    {set, set, nil, "", standing{}, labels{}},
		"of a stateful set": {db, db, labels{"controller-revision-hash": "db-5f"}, "", standing{"db-6a", 1, 2},
			labels{"controller_revision_hash": "db-5f", "revision": "db-5f", "newest_revision": "db-6a", "workload_available": "2", "workload_updated": "1"}},
		"of a stateful set that keeps it": {db, db, labels{"controller-revision-hash": "db-5f"}, "", standing{"", 1, 2}, labels{"controller_revision_hash": "db-5f"}},
		"of a daemon set": {agent, agent, labels{"controller-revision-hash": "6c", "pod-template-generation": "2"}, "", standing{"2", 3, 2},
			labels{"controller_revision_hash": "6c", "revision": "2", "newest_revision": "2", "workload_available": "2", "workload_updated": "3"}},
	} {
		t.Run(title, func(t *testing.T) {
			w := &Watcher{owners: newOwners(server{}), sources: map[string]*source{}}
			w.owners.metadata = func(context.Context, kind, name) (metav1.Object, error) {
				m := owned(set.Name, set.UID, web)
				m.Annotations = map[string]string{"deployment.kubernetes.io/revision": tt.annotated}
				return &metav1.PartialObjectMetadata{ObjectMeta: m}, nil
			}
			w.sources["apps/v1/"+tt.owner.Kind] = &source{view: view{standing: func(uid string) (standing, bool) { return tt.stands, uid == tt.owner.UID }}}
			if tt.owner.Kind == "ReplicaSet" {
				w.owners.metadata = nil
			}
			pod := &corev1.Pod{ObjectMeta: owned("p", "u-p", tt.direct)}
			pod.Labels = tt.labels
			found := []episode.Sighting{{Failure: heal.Failure{Target: target(pods, pod), Owner: tt.owner, Metadata: labels{}}}, {State: episode.Well}}
			tellTemplate(found, slimPod(pod).(*corev1.Pod))
			before := len(found[0].Failure.Metadata)
			got := w.revised(t.Context(), found[0].Failure, tt.direct)
			if diff := cmp.Diff(tt.want, got.Metadata); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
			if len(found[0].Failure.Metadata) != before {
				t.Error("the sighting itself was changed")
			}
		})
	}
}

func TestTheRevisionOfAReplicaSetIsAskedForAgainAfterARollout(t *testing.T) {
	set := heal.Target{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "shop", Name: "web-7d9", UID: "u-set"}
	web := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u-web"}
	newest, asked, fails := "3", 0, false
	o := newOwners(server{})
	o.newest = func(heal.Target) string { return newest }
	o.metadata = func(context.Context, kind, name) (metav1.Object, error) {
		asked++
		m := owned(set.Name, set.UID, web)
		m.Annotations = map[string]string{"deployment.kubernetes.io/revision": newest}
		if fails {
			return nil, errors.New("away")
		}
		return &metav1.PartialObjectMetadata{ObjectMeta: m}, nil
	}
	if _, err := o.top(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	var got []string
	say := func() { got = append(got, o.revision(t.Context(), set, newest)) }
	say()
	say()
	newest = "5" // somebody went back to it
	say()
	say()
	newest, fails = "6", true
	say()
	if want := []string{"3", "3", "5", "5", ""}; !slices.Equal(got, want) || asked != 3 {
		t.Errorf("said %q after asking %d times, want %q after 3", got, asked, want)
	}
}

func TestWhereAWorkloadStandsIsWhatItLastSaid(t *testing.T) {
	partition := int32(2)
	for name, tt := range map[string]struct {
		set  *appsv1.StatefulSet
		want bool
	}{
		"replaces its pods":         {&appsv1.StatefulSet{}, false},
		"on deletion":               {&appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: "OnDelete"}}}, true},
		"but for those of its part": {&appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{UpdateStrategy: appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &partition}}}}, true},
	} {
		if got := keepsOld(tt.set); got != tt.want {
			t.Errorf("%s: keeps old pods is %v, want %v", name, got, tt.want)
		}
	}
	c, id := newCourses(midday), makeUID([]byte("u"))
	c.note(id, workload{revision: "1", asked: 3, updated: 3, available: 3}, midday)
	c.note(id, workload{revision: "2", asked: 3, updated: 1, available: 2}, midday)
	if got, known := c.standing(id); !known || got != (standing{"2", 1, 2}) {
		t.Errorf("it stands at %+v (known: %v)", got, known)
	}
	c.note(id, workload{revision: "2", asked: 3, updated: 1, available: 2, still: true}, midday)
	if got, _ := c.standing(id); got.revision != "" {
		t.Errorf("a paused one brings its pods to %q", got.revision)
	}
}

func TestACrashLoopShowsTheLastWordsOfTheContainer(t *testing.T) {
	found := sightingsOf(crashingPod("dial tcp: lookup orders-db.shop.svc: no such host, password=canary"))
	want := heal.Evidence{Path: "status.containerStatuses[0].lastState.terminated.message", Value: "dial tcp: lookup orders-db.shop.svc: no such host, password=***"}
	if len(found) != 1 || !slices.Contains(found[0].Failure.Evidence, want) {
		t.Errorf("found %+v, want %+v in its evidence", found, want)
	}
}
