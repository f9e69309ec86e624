package watch

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// crashingPod is a pod as an attacker would write it.
func crashingPod(text string) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api-1", Namespace: "shop", UID: "u1", ResourceVersion: "7",
			Labels:          map[string]string{"app": "canary"},
			Annotations:     map[string]string{"note": "canary " + text},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "api", UID: "u2", Controller: &yes}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "canary"}},
		},
		Spec: corev1.PodSpec{
			NodeName: "n1",
			Volumes:  []corev1.Volume{{Name: "canary"}},
			Containers: []corev1.Container{{
				Name: "api", Image: "canary", Command: []string{"canary"}, Args: []string{"canary"},
				Env: []corev1.EnvVar{{Name: "PASSWORD", Value: "canary"}},
			}},
		},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Message:    text,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: text}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "api", RestartCount: 3, Image: "canary",
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: text}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: text, Message: text}},
			}},
		},
	}
}

func sightingsOf(pod *corev1.Pod) []episode.Sighting {
	d := detectors[*corev1.Pod]{kind: pods, list: detect.Pods, node: func(p *corev1.Pod) string { return p.Spec.NodeName }}
	return d.judge(slimPod(pod).(*corev1.Pod), detect.Facts{}, nil)
}

func FuzzNothingThatSomebodyWroteIntoAPodIsCopiedAsItIs(f *testing.F) {
	f.Add("Error")
	f.Add("\x1b[31mred\x07 \u202egnp.exe \u200b <!channel> \r\nBcc: all@example.com")
	f.Add(strings.Repeat("€", 2000))
	f.Add("broken \xff\xfe utf8")
	f.Fuzz(func(t *testing.T, text string) {
		found := sightingsOf(crashingPod(text))
		if len(found) != 1 {
			t.Fatalf("%d sightings, want 1", len(found))
		}
		failure := found[0].Failure
		data, err := json.Marshal(failure)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > maxMessage {
			t.Errorf("message of %d bytes, want at most %d", len(data), maxMessage)
		}
		if strings.Contains(string(data), "canary") && !strings.Contains(text, "canary") {
			t.Errorf("something secret was copied: %s", data)
		}
		copied := []string{failure.Description}
		for _, e := range failure.Evidence {
			copied = append(copied, e.Path, e.Value)
		}
		for k, v := range failure.Metadata {
			copied = append(copied, k, v)
		}
		for _, s := range copied {
			if len(s) > heal.MaxText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
				t.Errorf("copied as it is: %q", s)
			}
		}
	})
}

func TestSlimObjectsHoldNothingThatNoDetectorReads(t *testing.T) {
	yes := true
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api-1", Namespace: "shop", UID: "u1", ResourceVersion: "7",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "api", UID: "u2", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{
			Phase:                 corev1.PodRunning,
			Message:               "why",
			Conditions:            []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "why"}},
			InitContainerStatuses: []corev1.ContainerStatus{},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "api", RestartCount: 3,
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "why"}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "why", Message: "why"}},
			}},
		},
	}
	if diff := cmp.Diff(want, slimPod(crashingPod("why"))); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}

	mirror := crashingPod("why")
	mirror.Annotations[corev1.MirrorPodAnnotationKey] = "hash"
	if got := slimPod(mirror).(*corev1.Pod).Annotations; len(got) != 1 || got[corev1.MirrorPodAnnotationKey] != "hash" {
		t.Errorf("annotations of a mirror pod = %v, want only its mark", got)
	}

	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u3", Annotations: map[string]string{"a": "b"}},
		Spec:       corev1.NodeSpec{Unschedulable: true, ProviderID: "aws:///i-1", Taints: []corev1.Taint{{Key: "t"}}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: strings.Repeat("x", 1000)}},
			Images:     []corev1.ContainerImage{{Names: []string{"canary"}}},
		},
	}
	wantNode := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u3"},
		Spec:       corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{{Key: "t"}}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: strings.Repeat("x", heal.MaxText-len("…")) + "…",
		}}},
	}
	if diff := cmp.Diff(wantNode, slimNode(node)); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
}

func TestSlimPodThatIsToGoKeepsWhatHoldsIt(t *testing.T) {
	grace := int64(30)
	pod := crashingPod("why")
	pod.Finalizers, pod.DeletionGracePeriodSeconds = []string{"example.com/backup"}, &grace
	if got := slimPod(pod).(*corev1.Pod); got.Finalizers != nil || got.DeletionGracePeriodSeconds != nil {
		t.Errorf("finalizers %v of a pod that stays are kept", got.Finalizers)
	}
	pod.DeletionTimestamp = &metav1.Time{Time: noon}
	if got := slimPod(pod).(*corev1.Pod); len(got.Finalizers) != 1 || *got.DeletionGracePeriodSeconds != 30 {
		t.Errorf("finalizers %v, grace %v; want what holds the pod", got.Finalizers, got.DeletionGracePeriodSeconds)
	}
}

func TestSlimVolumesAreOnlyTheClaims(t *testing.T) {
	got := slimVolumes([]corev1.Volume{
		{Name: "canary", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "canary"}}},
		{Name: "canary", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
	})
	want := []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

func TestSlimDeploymentHoldsNoTemplateAndNoAnnotationOfOthers(t *testing.T) {
	three := int32(3)
	full := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api", Namespace: "shop", UID: "u1", ResourceVersion: "7", Generation: 3,
			Labels:      map[string]string{"app": "canary"},
			Annotations: map[string]string{detect.RevisionAnnotation: "2", "kubectl.kubernetes.io/last-applied-configuration": "canary"},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: &three, Paused: true,
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "canary"}}}},
		},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3,
			Conditions: []appsv1.DeploymentCondition{{
				Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: strings.Repeat("x", 1000),
				LastUpdateTime: metav1.Time{Time: noon},
			}},
		},
	}
	want := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api", Namespace: "shop", UID: "u1", ResourceVersion: "7", Generation: 3,
			Annotations: map[string]string{detect.RevisionAnnotation: "2"},
		},
		Spec: appsv1.DeploymentSpec{Replicas: &three, Paused: true, Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3,
			Conditions: []appsv1.DeploymentCondition{{
				Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded",
				Message: strings.Repeat("x", heal.MaxText-len("…")) + "…",
			}},
		},
	}
	if diff := cmp.Diff(want, slimDeployment(full)); diff != "" {
		t.Errorf("deployment (-want +got):\n%s", diff)
	}
}

func TestSlimPassesOnWhatIsNoObject(t *testing.T) {
	if got := slimPod("a tombstone"); got != "a tombstone" {
		t.Errorf("slimPod = %v", got)
	}
	if got := slimNode(nil); got != nil {
		t.Errorf("slimNode = %v", got)
	}
	if got := slimDeployment("a tombstone"); got != "a tombstone" {
		t.Errorf("slimDeployment = %v", got)
	}
}

func TestJudgeTellsFailingFromCalmAndExcused(t *testing.T) {
	key := episode.Key{UID: "u1", Detector: "crash_loop", Part: "api"}
	crashing := crashingPod("Error")
	calm := crashingPod("Error")
	calm.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	well := calm.DeepCopy()
	well.Status.ContainerStatuses[0].Ready = true
	leaving := crashingPod("Error")
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}

	tests := []struct {
		name    string
		pod     *corev1.Pod
		facts   detect.Facts
		tracked []episode.Key
		want    []episode.State
	}{
		{name: "failing", pod: crashing, want: []episode.State{episode.Failing}},
		{name: "failing, and tracked", pod: crashing, tracked: []episode.Key{key}, want: []episode.State{episode.Failing}},
		{name: "between two crashes", pod: calm, tracked: []episode.Key{key}, want: []episode.State{episode.Unclear}},
		{name: "well again", pod: well, tracked: []episode.Key{key}, want: []episode.State{episode.Well}},
		{name: "well, and nobody cares", pod: well},
		{name: "on a failing node", pod: crashing, facts: detect.Facts{NodeFailing: true}, want: []episode.State{episode.Excused}},
		{name: "well, as its dead node last said", pod: well, facts: detect.Facts{NodeFailing: true}, tracked: []episode.Key{key}, want: []episode.State{episode.Excused}},
		{name: "going away on purpose", pod: leaving, tracked: []episode.Key{key}, want: []episode.State{episode.Well}},
		{name: "another detector's key is not ours", pod: well, tracked: []episode.Key{{UID: "u1", Detector: "image_pull", Part: "api"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := detectors[*corev1.Pod]{kind: pods, list: detect.Pods[:1], node: func(*corev1.Pod) string { return "n1" }}
			var got []episode.State
			for _, s := range d.judge(tt.pod, tt.facts, tt.tracked) {
				got = append(got, s.State)
				if s.Key != key {
					t.Errorf("key = %v, want %v", s.Key, key)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
		})
	}
}

func TestControllerIsOnlyWhatCanBeAnObject(t *testing.T) {
	yes, no := true, false
	ref := func(version, kind, name, uid string, controller *bool) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: version, Kind: kind, Name: name, UID: types.UID(uid), Controller: controller},
		}}}
	}
	tests := []struct {
		name string
		pod  *corev1.Pod
		want heal.Target
	}{
		{"a ReplicaSet", ref("apps/v1", "ReplicaSet", "api-7d9", "u1", &yes), heal.Target{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "shop", Name: "api-7d9", UID: "u1"}},
		{"a custom resource", ref("argoproj.io/v1alpha1", "Rollout", "api", "u1", &yes), heal.Target{APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout", Namespace: "shop", Name: "api", UID: "u1"}},
		{"an owner that does not control", ref("v1", "ConfigMap", "api", "u1", &no), heal.Target{}},
		{"none", &corev1.Pod{}, heal.Target{}},
		{"a made-up name", ref("apps/v1", "ReplicaSet", "../../etc", "u1", &yes), heal.Target{}},
		{"a made-up uid", ref("apps/v1", "ReplicaSet", "api", "*.>", &yes), heal.Target{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, controller(tt.pod)); diff != "" {
				t.Errorf("controller (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMessageThatIsTooLongLosesItsLeastTellingParts(t *testing.T) {
	long := strings.Repeat("x", 2*heal.MaxText)
	f := detect.Finding{Reason: "R", Description: long, Metadata: map[string]string{}}
	for i := range 100 {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: fmt.Sprint(i) + long, Value: long})
		f.Metadata[fmt.Sprint(i)+long] = long
	}
	got := draft(pods, crashingPod(""), "n1", "d", heal.PodFailure, f)
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > maxMessage || len(got.Evidence) == 0 || !strings.HasPrefix(got.Evidence[0].Path, "0x") {
		t.Errorf("%d bytes with %d pieces of evidence; want at most %d, with the first piece kept", len(data), len(got.Evidence), maxMessage)
	}
}
