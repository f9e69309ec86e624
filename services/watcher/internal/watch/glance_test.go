package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// somePod is pods as kubelets, controllers and strangers may write them: most
// of them nearly healthy, with a few things that are not.
func somePod() *rapid.Generator[*corev1.Pod] {
	return rapid.Custom(func(t *rapid.T) *corev1.Pod {
		pod := wellPod(rapid.IntRange(1, 3).Draw(t, "containers"), rapid.IntRange(0, 2).Draw(t, "init containers"))
		for i := range rapid.IntRange(0, 3).Draw(t, "oddities") {
			odd := rapid.IntRange(0, len(oddities)-1).Draw(t, fmt.Sprint("oddity ", i))
			oddities[odd](t, pod)
		}
		return pod
	})
}

// wellPod is a pod that runs.
func wellPod(containers, inits int) *corev1.Pod {
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api-7d9f6c-x2kpl", Namespace: "shop", UID: "5f0f6c9e-3c5b-4d0e-8a3a-2f0a4c1b9d77", ResourceVersion: "1234567", Generation: 1,
			CreationTimestamp: metav1.Time{Time: noon.Add(-time.Hour)},
			Labels:            map[string]string{"app": "api", "pod-template-hash": "7d9f6c"},
			OwnerReferences:   []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "api-7d9f6c", UID: "u2", Controller: &yes}},
			ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat(`{"f:status":{}}`, 60))}},
		},
		Spec: corev1.PodSpec{
			NodeName: "n1.example.internal", RestartPolicy: corev1.RestartPolicyAlways, ServiceAccountName: "default",
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.7", HostIP: "10.1.0.7", QOSClass: corev1.PodQOSBurstable,
			PodIPs: []corev1.PodIP{{IP: "10.0.0.7"}}, HostIPs: []corev1.HostIP{{IP: "10.1.0.7"}},
			StartTime: &metav1.Time{Time: noon.Add(-time.Hour)},
		},
	}
	for _, c := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: noon.Add(-time.Hour)}})
	}
	for i := range containers {
		name := fmt.Sprint("c", i)
		pod.Spec.Containers = append(pod.Spec.Containers, container(name))
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: true, Started: &yes, Image: "shop/api:v1", ImageID: "sha256:0123", ContainerID: "containerd://4567",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: noon.Add(-time.Hour)}}},
		})
	}
	for i := range inits {
		name := fmt.Sprint("i", i)
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, container(name))
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: true, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Time{Time: noon.Add(-time.Hour)}}},
		})
	}
	return pod
}

func container(name string) corev1.Container {
	return corev1.Container{
		Name: name, Image: "shop/api:v1", Command: []string{"canary"}, Env: []corev1.EnvVar{{Name: "TOKEN", Value: "canary"}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
	}
}

// oddities each make a pod less healthy, or only look like it.
var oddities = []func(*rapid.T, *corev1.Pod){
	func(t *rapid.T, p *corev1.Pod) {
		p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{"", corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown, "Odd"}).Draw(t, "phase")
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Status.Reason = rapid.SampledFrom([]string{"", "Evicted", "NodeShutdown", "OutOfcpu", "NodeLost", "Terminated", "UnexpectedAdmissionError"}).Draw(t, "reason")
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Status.Message = rapid.SampledFrom([]string{"", "low on resource: memory"}).Draw(t, "message")
	},
	func(t *rapid.T, p *corev1.Pod) {
		at := metav1.Time{Time: noon.Add(-10 * time.Minute)}
		grace := int64(30)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
		p.Finalizers = []string{"example.com/backup"}
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Annotations = map[string]string{rapid.SampledFrom([]string{corev1.MirrorPodAnnotationKey, "kubernetes.io/config.source", "note"}).Draw(t, "annotation"): "x"}
	},
	func(t *rapid.T, p *corev1.Pod) { p.OwnerReferences = nil },
	func(t *rapid.T, p *corev1.Pod) {
		c := corev1.PodCondition{
			Type: rapid.SampledFrom([]corev1.PodConditionType{
				corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled, corev1.PodInitialized, corev1.PodReadyToStartContainers,
				corev1.DisruptionTarget, "PodResizePending", "PodResizeInProgress", "AllContainersRestarting", "example.com/gate",
			}).Draw(t, "condition"),
			Status:             rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown, ""}).Draw(t, "status"),
			Reason:             rapid.SampledFrom([]string{"", "ContainersNotReady", "Unschedulable", "SchedulingGated", "PodCompleted", "NodeLost", "TerminationByKubelet"}).Draw(t, "why"),
			LastTransitionTime: metav1.Time{Time: noon.Add(-time.Hour)},
		}
		p.Status.Conditions = append(slices.DeleteFunc(p.Status.Conditions, func(o corev1.PodCondition) bool { return o.Type == c.Type }), c)
	},
	func(t *rapid.T, p *corev1.Pod) { p.Status.Conditions = nil },
	func(t *rapid.T, p *corev1.Pod) { aContainer(t, p).State = someState(t, "state") },
	func(t *rapid.T, p *corev1.Pod) { aContainer(t, p).LastTerminationState = someState(t, "last state") },
	func(t *rapid.T, p *corev1.Pod) { aContainer(t, p).Ready = rapid.Bool().Draw(t, "ready") },
	func(t *rapid.T, p *corev1.Pod) {
		started := rapid.Bool().Draw(t, "started")
		aContainer(t, p).Started = &started
	},
	func(t *rapid.T, p *corev1.Pod) {
		aContainer(t, p).RestartCount = rapid.SampledFrom([]int32{0, 1, 5, 300}).Draw(t, "restarts")
	},
	func(t *rapid.T, p *corev1.Pod) { // it is done
		p.Status.Phase, p.Spec.RestartPolicy = corev1.PodSucceeded, corev1.RestartPolicyNever
		for i := range p.Status.ContainerStatuses {
			p.Status.ContainerStatuses[i].Ready = false
			p.Status.ContainerStatuses[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Time{Time: noon}}}
		}
	},
	func(t *rapid.T, p *corev1.Pod) { p.Status.ContainerStatuses = nil },
	func(t *rapid.T, p *corev1.Pod) {
		p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{Name: "debug", State: someState(t, "ephemeral")}}
	},
	func(t *rapid.T, p *corev1.Pod) { p.Status.NominatedNodeName = "n2" },
	func(t *rapid.T, p *corev1.Pod) { p.Status.Resize = corev1.PodResizeStatusInfeasible },
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}})
	},
	func(t *rapid.T, p *corev1.Pod) { p.Spec.NodeName = "" },
	func(t *rapid.T, p *corev1.Pod) {
		p.UID = types.UID(rapid.SampledFrom([]string{"", "odd", "5F0F6C9E-3C5B-4D0E-8A3A-2F0A4C1B9D77"}).Draw(t, "uid"))
	},
}

func aContainer(t *rapid.T, p *corev1.Pod) *corev1.ContainerStatus {
	all := p.Status.ContainerStatuses
	if len(p.Status.InitContainerStatuses) > 0 && (len(all) == 0 || rapid.Bool().Draw(t, "of the init containers")) {
		all = p.Status.InitContainerStatuses
	}
	if len(all) == 0 {
		return &corev1.ContainerStatus{}
	}
	return &all[rapid.IntRange(0, len(all)-1).Draw(t, "which container")]
}

func someState(t *rapid.T, label string) (s corev1.ContainerState) {
	switch rapid.IntRange(0, 4).Draw(t, label) {
	case 0:
		s.Running = &corev1.ContainerStateRunning{}
	case 1:
		s.Waiting = &corev1.ContainerStateWaiting{Reason: rapid.SampledFrom([]string{
			"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName",
			"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError", "Odd",
		}).Draw(t, "waits")}
	case 2, 3:
		s.Terminated = &corev1.ContainerStateTerminated{
			ExitCode:   rapid.SampledFrom([]int32{0, 1, 137, 143}).Draw(t, "exit code"),
			Signal:     rapid.SampledFrom([]int32{0, 9}).Draw(t, "signal"),
			Reason:     rapid.SampledFrom([]string{"", "Completed", "Error", "OOMKilled", "ContainerCannotRun"}).Draw(t, "end"),
			FinishedAt: metav1.Time{Time: noon.Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "ago")) * time.Minute)},
		}
	}
	return s
}

func encode(t testing.TB, pod *corev1.Pod) []byte {
	t.Helper()
	data, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWhatLooksDullIsDull is what keeps glances right while detectors are
// added: for a pod that looks dull, and of which nothing else is known, full
// decoding finds nothing and remembers nothing.
func TestWhatLooksDullIsDull(t *testing.T) {
	g := newGlances()
	dull, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		pod := somePod().Draw(t, "pod")
		data, err := pod.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		seen, ok := g.of(data)
		if !ok {
			t.Fatal("an orderly pod cannot be read")
		}
		total := uint32(0)
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for _, c := range list {
				total += uint32(c.RestartCount)
			}
		}
		if seen.restarts != total {
			t.Errorf("%d restarts, want %d", seen.restarts, total)
		}
		if want := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed; seen.ended != want {
			t.Errorf("ended %v, want %v", seen.ended, want)
		}
		if seen.node.Value() != pod.Spec.NodeName || seen.load.Value() != loadOf(&pod.Spec) {
			t.Errorf("node %q, load %+v; want %q, %+v", seen.node.Value(), seen.load.Value(), pod.Spec.NodeName, loadOf(&pod.Spec))
		}
		all++
		if seen.dull {
			dull++
			wantDull(t, data)
		}
	})
	if dull < all/10 || dull > all*9/10 {
		t.Errorf("%d of %d pods looked dull: the generator shows little", dull, all)
	}
}

// wantDull fails when anything is to be said about a pod of which nothing is
// known but what it says itself.
func wantDull(t rapid.TB, data []byte) {
	var pod corev1.Pod
	if err := pod.Unmarshal(data); err != nil {
		return // nobody else can read it either, and it is passed over
	}
	slim := slimPod(&pod).(*corev1.Pod)
	past := newPodPast()
	past.note(nil, slim, false, noon)
	if past.has([]byte(pod.UID)) {
		t.Fatalf("looks dull, but is remembered: %+v", pod.Status)
	}
	d := detectors[*corev1.Pod]{kind: pods, list: detect.Pods, node: func(p *corev1.Pod) string { return p.Spec.NodeName }}
	for _, failing := range []bool{false, true} {
		facts := detect.Facts{Now: noon, NodeFailing: failing, NoneReady: true}
		for _, s := range d.judge(slim, facts, nil) {
			if s.State == episode.Failing || s.State == episode.Excused {
				t.Fatalf("looks dull, but %s finds %q: %+v", s.Key.Detector, s.Failure.Description, pod.Status)
			}
		}
	}
}

func FuzzGlance(f *testing.F) {
	f.Add([]byte{})
	pod := wellPod(2, 1)
	f.Add(encode(f, pod))
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	f.Add(encode(f, pod))
	pod.Status.Phase = corev1.PodSucceeded
	f.Add(encode(f, pod))
	g := newGlances()
	f.Fuzz(func(t *testing.T, data []byte) {
		before := slices.Clone(data)
		seen, ok := g.of(data)
		if ok && seen.dull {
			wantDull(t, data)
		}
		if !slices.Equal(before, data) {
			t.Error("a glance changed what it looked at")
		}
	})
}

func TestGlanceAtAPodCostsNoMemory(t *testing.T) {
	g := newGlances()
	data := encode(t, wellPod(2, 1))
	if got := testing.AllocsPerRun(100, func() {
		if seen, ok := g.of(data); !ok || !seen.dull {
			t.Error("a healthy pod is not dull")
		}
	}); got > 0 {
		t.Errorf("%v allocations for a glance, want none once its template is known", got)
	}
}

func BenchmarkGlance(b *testing.B) {
	g, data := newGlances(), encode(b, wellPod(2, 1))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if seen, ok := g.of(data); !ok || !seen.dull {
			b.Fatal("a healthy pod is not dull")
		}
	}
}

func BenchmarkFullDecode(b *testing.B) {
	data := encode(b, wellPod(2, 1))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var pod corev1.Pod
		if err := pod.Unmarshal(data); err != nil {
			b.Fatal(err)
		}
		slimPod(&pod)
	}
}
