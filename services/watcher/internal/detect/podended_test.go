package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// endedPod is a pod of a ReplicaSet that ended so long ago.
func endedPod(reason, message string, ago time.Duration) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "api-1", CreationTimestamp: metav1.Time{Time: noon.Add(-100 * time.Hour)},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "api", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{
			Phase: corev1.PodFailed, Reason: reason, Message: message,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Time{Time: noon.Add(-ago)}}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "api", State: corev1.ContainerState{Terminated: ended(137, "Error", noon.Add(-ago))},
			}},
		},
	}
}

func TestPodThatHasFailedForGoodIsSpokenForByOne(t *testing.T) {
	change := func(p *corev1.Pod, do func(*corev1.Pod)) *corev1.Pod { do(p); return p }
	disrupted := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason})
		}
	}
	bare := func(p *corev1.Pod) { p.OwnerReferences = nil }
	static := func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
	low := "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi."
	tests := []struct {
		name  string
		pod   *corev1.Pod
		facts Facts
		want  []string
	}{
		{name: "evicted (P15)", pod: endedPod("Evicted", low, 0), want: []string{"evicted "}},
		{name: "evicted, and marked by its kubelet as such", pod: change(endedPod("Evicted", low, 0), disrupted("TerminationByKubelet")), want: []string{"evicted "}},
		{name: "evicted for its own ephemeral storage (P19)", pod: endedPod("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.", 0), want: []string{"evicted "}},
		{name: "evicted an hour ago", pod: endedPod("Evicted", low, time.Hour)},
		{name: "evicted, on a node that fails itself", pod: change(endedPod("Evicted", low, 0), disrupted("TerminationByKubelet")), facts: Facts{NodeFailing: true}},
		{name: "evicted, and being tidied up", pod: change(endedPod("Evicted", low, 0), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon} }), want: []string{"stuck_terminating "}},
		{name: "disrupted by a drain", pod: change(endedPod("Evicted", low, 0), disrupted("EvictionByEvictionAPI"))},
		{name: "refused by its kubelet (P16)", pod: endedPod("OutOfcpu", "", 0), want: []string{"leftover "}},
		{name: "affine to another node (P16)", pod: endedPod("NodeAffinity", "", 0), want: []string{"leftover "}},
		{name: "not admitted (P16)", pod: endedPod("UnexpectedAdmissionError", "", 0), want: []string{"leftover "}},
		{name: "stopped with its node, by an older kubelet (P16)", pod: endedPod("NodeShutdown", "", 0), want: []string{"leftover "}},
		{name: "stopped with its node, which was intended (P16)", pod: change(endedPod("Terminated", "", 0), disrupted("TerminationByKubelet"))},
		{name: "left over for long", pod: endedPod("NodeAffinity", "", time.Hour)},
		{name: "failed otherwise, which its job answers", pod: endedPod("", "", 0)},
		{name: "bare, failed (P18)", pod: change(endedPod("", "", 0), bare), want: []string{"bare_pod_failed "}},
		{name: "bare, evicted: nobody makes it anew", pod: change(endedPod("Evicted", low, 0), bare), want: []string{"bare_pod_failed "}},
		{name: "bare, refused", pod: change(endedPod("OutOfcpu", "", 0), bare), want: []string{"bare_pod_failed "}},
		{name: "bare, failed yesterday", pod: change(endedPod("", "", 24*time.Hour), bare)},
		{name: "bare, preempted", pod: change(change(endedPod("", "", 0), bare), disrupted("PreemptionByScheduler"))},
		{name: "bare, done", pod: change(change(endedPod("", "", 0), bare), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
		{name: "static, failed (P20)", pod: change(endedPod("Evicted", low, 0), static), want: []string{"static_pod_failing "}},
		{name: "unknown: its node's incident (P17)", pod: change(endedPod("NodeLost", "", 0), func(p *corev1.Pod) { p.Status.Phase = corev1.PodUnknown }), facts: Facts{NodeFailing: true}},
		{name: "unknown, before its node is seen not to be ready (P17)", pod: change(endedPod("NodeLost", "", 0), func(p *corev1.Pod) { p.Status.Phase = corev1.PodUnknown })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.Now, tt.facts.Thresholds = noon, defaults
			if diff := cmp.Diff(tt.want, speaking(t, tt.pod, tt.facts)); diff != "" {
				t.Errorf("detectors that speak (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNothingBeginsAndNothingEndsWhileAPodsNodeIsUnknown(t *testing.T) {
	pod := endedPod("NodeLost", "", 0)
	pod.Status.Phase = corev1.PodUnknown
	for _, d := range Pods { // P17
		if got := d.Excuse(pod, Facts{Now: noon, NodeFailing: true}); got != Masked {
			t.Errorf("%s: excuse %v, want %v", d.Name, got, Masked)
		}
	}
}

func TestWhatIsLeftOfAPodIsShownWithWhatItSays(t *testing.T) {
	found := func(d Detector[*corev1.Pod], p *corev1.Pod) Finding {
		t.Helper()
		all := d.Find(p, Facts{Now: noon, Thresholds: defaults})
		if len(all) != 1 {
			t.Fatalf("%s finds %d things, want 1", d.Name, len(all))
		}
		return all[0]
	}
	e := found(evicted, endedPod("Evicted", "The node was low on resource: ephemeral-storage. ", time.Minute))
	if e.Description != "the pod was evicted from node n1: The node was low on resource: ephemeral-storage." || e.Hold != 0 {
		t.Errorf("evicted: %+v", e)
	}
	if diff := cmp.Diff(map[string]string{"resource": "ephemeral_storage", "limit": "node"}, e.Metadata); diff != "" {
		t.Errorf("metadata of an eviction (-want +got):\n%s", diff)
	}
	l := found(leftover, endedPod("OutOfpods", "", time.Minute))
	if l.Hold != 10*time.Minute || l.Metadata["status_reason"] != "OutOfpods" {
		t.Errorf("leftover: %+v", l)
	}
	bare := endedPod("", "", time.Minute)
	bare.OwnerReferences = nil
	b := found(barePodFailed, bare)
	if diff := cmp.Diff(map[string]string{"container": "api", "exit_code": "137", "last_reason": "Error"}, b.Metadata); diff != "" || b.Hold != time.Minute {
		t.Errorf("bare pod: hold %s, metadata (-want +got):\n%s", b.Hold, diff)
	}
	bare.Annotations = map[string]string{heal.AnnotationRecreate: "true"}
	if got := found(barePodFailed, bare).Metadata[heal.MetadataRecreate]; got != "permitted" {
		t.Errorf("a bare pod that may be made anew says %q", got)
	}
}

// The messages are the kubelet's.
func TestMessagesOfAnEvictionTellWhatThereWasTooLittleOf(t *testing.T) {
	for message, want := range map[string][2]string{
		"The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. Container api was using 1Gi, request is 0, has larger consumption of memory. ": {"memory", "node"},
		"The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 0. ":                                                                          {"ephemeral_storage", "node"},
		"The node was low on resource: inodes. ":                                        {"inodes", "node"},
		"The node was low on resource: pids. ":                                          {"process_ids", "node"},
		"The node had condition: [DiskPressure]. ":                                      {"ephemeral_storage", "node"},
		"The node had condition: [MemoryPressure]. ":                                    {"memory", "node"},
		"Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ": {"ephemeral_storage", "own"},
		"Container api exceeded its local ephemeral storage limit \"1Gi\". ":            {"ephemeral_storage", "own"},
		"Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\". ":                  {"ephemeral_storage", "own"},
		"": {"unknown", "node"},
	} {
		resource, limit := shortage(message)
		if got := [2]string{resource, limit}; got != want {
			t.Errorf("%q: %v, want %v", message, got, want)
		}
	}
}

func TestStaticPodIsFoundFailingInOneWayThatCallsForPeople(t *testing.T) {
	static := func(p *corev1.Pod) *corev1.Pod {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		return p
	}
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want map[string]string
	}{
		"crash loop": {waitingFor("CrashLoopBackOff", ""), map[string]string{"state": "CrashLoopBackOff", "container": "api"}},
		"image":      {waitingFor("ErrImagePull", "manifest unknown"), map[string]string{"state": "ImagePullBackOff", "container": "api", "pull_error": "not_found"}},
		"whole":      {waitingFor("ContainerCreating", ""), map[string]string{"state": "StuckCreating"}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := Facts{Now: noon, Thresholds: defaults}
			found := findStaticPodFailing(static(tt.pod), facts)
			if len(found) != 1 || found[0].Reason != "StaticPodFailing" {
				t.Fatalf("found %+v", found)
			}
			if diff := cmp.Diff(tt.want, found[0].Metadata); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
			if got := speaking(t, tt.pod, facts); len(got) != 1 || got[0] != "static_pod_failing "+found[0].Part {
				t.Errorf("%v speak, want static_pod_failing alone", got)
			}
		})
	}
	if found := findStaticPodFailing(waitingFor("CrashLoopBackOff", ""), Facts{}); found != nil {
		t.Errorf("found in a pod that is not static: %v", found)
	}
	going := static(waitingFor("CrashLoopBackOff", ""))
	going.DeletionTimestamp = &metav1.Time{Time: noon}
	for name, tt := range map[string]struct {
		pod   *corev1.Pod
		facts Facts
		want  Excuse
	}{
		"it is deleted":         {going, Facts{}, Leaving},
		"its node is not ready": {static(waitingFor("CrashLoopBackOff", "")), Facts{NodeFailing: true}, Masked},
	} {
		if got := staticPodFailing.Excuse(tt.pod, tt.facts); got != tt.want {
			t.Errorf("%s: excuse %v, want %v", name, got, tt.want)
		}
	}
	if staticPodFailing.Well(static(waitingFor("ContainerCreating", "")), "api") {
		t.Error("a container that is being created again counts as well")
	}
}
