package watch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func shelfOf(k kind, objects ...metav1.Object) shelf {
	s := newShelf(k)
	for _, obj := range objects {
		s.put(nameOf(obj), obj)
	}
	return s
}

func TestWhatIsPackedIsAsItWasAndOnlyTheRightOneIsDropped(t *testing.T) {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api", UID: "u1", ResourceVersion: "7"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "api"}},
	}
	n := nameOf(service)
	for _, k := range []kind{{New: services.New}, {New: services.New, Packed: true}} {
		s := shelfOf(k, service)
		if diff := cmp.Diff(metav1.Object(service), s.get(n)); diff != "" {
			t.Errorf("packed %v (-want +got):\n%s", k.Packed, diff)
		}
		if s.get(name{"shop", "web"}) != nil {
			t.Error("there is something of another name")
		}
		s.drop(n, makeUID([]byte("u2")))
		if id, ok := s.has(n); len(s.items) != 1 || !ok || id.String() != "u1" {
			t.Errorf("%d objects, %v, after another was dropped; want u1", len(s.items), id)
		}
		s.dropAll(map[uid]bool{makeUID([]byte("u1")): true})
		if s.get(n) != nil {
			t.Error("it is still there")
		}
	}
}

func TestPackedPodIsStillAllThatDetectorsReadOfIt(t *testing.T) {
	at := metav1.Unix(1_800_000_000, 0)
	always := corev1.ContainerRestartPolicyAlways
	pod, ok := slimPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "api-1", UID: "u1", ResourceVersion: "7", CreationTimestamp: at, DeletionTimestamp: &at, Finalizers: []string{"x/y"},
			Annotations:     map[string]string{corev1.MirrorPodAnnotationKey: "m"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "api", UID: "u2", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, InitContainers: []corev1.Container{{Name: "side", RestartPolicy: &always}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Reason: "Evicted", Message: "low on memory", StartTime: &at,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: "api", LastTransitionTime: at}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "api", RestartCount: 7, Image: "api:1", Started: new(true),
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s"}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", StartedAt: at, FinishedAt: at}},
			}},
		},
	}).(*corev1.Pod)
	if !ok {
		t.Fatal("no pod is left")
	}
	if diff := cmp.Diff(metav1.Object(pod), shelfOf(pods, pod).get(nameOf(pod)), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
