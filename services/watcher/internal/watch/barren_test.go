package watch

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodIsToldWhetherItsWorkloadHasAnyPodThatWorks(t *testing.T) {
	of := func(kind, name string) *corev1.Pod {
		yes := true
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, Controller: &yes}},
		}}
	}
	web := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"}}
	db := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "u2"}}
	var b barren
	b.note(deployments, web, 3, 0)
	b.note(statefulSets, db, 0, 0) // at rest
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"of a deployment without any":     {of("ReplicaSet", "web-7d9f6c"), false},
		"of another deployment":           {of("ReplicaSet", "web-ui-7d9f6c"), true},
		"of a stateful set at rest":       {of("StatefulSet", "db"), true},
		"of nobody":                       {&corev1.Pod{}, true},
		"of what is called as the former": {of("StatefulSet", "web"), true},
	} {
		if got := b.bears(tt.pod); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	b.note(deployments, web, 3, 1)
	if !b.bears(of("ReplicaSet", "web-7d9f6c")) {
		t.Error("barren still with a pod that works")
	}
	b.note(statefulSets, db, 2, 0)
	b.forget("u2")
	if len(b) != 0 {
		t.Errorf("%d workloads remembered after they are gone, want none", len(b))
	}
}
