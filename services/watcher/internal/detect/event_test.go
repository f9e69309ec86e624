package detect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// The messages are those of kubelet, attach-detach controller and scheduler.
func TestKubernetesEventsAreReadWithoutCommandsAndOutput(t *testing.T) {
	tests := []struct {
		name                string
		kind, reason, where string
		message             string
		want                Event
		ok                  bool
	}{
		{name: "liveness over HTTP", kind: "Pod", reason: "Unhealthy", where: "spec.containers{api}", message: "Liveness probe failed: HTTP probe failed with statuscode: 503",
			want: Event{Reason: "Unhealthy", Container: "api", Probe: "liveness", Message: "answered with HTTP status 503"}, ok: true},
		{name: "readiness of a closed port", kind: "Pod", reason: "Unhealthy", where: "spec.containers{api}", message: `Readiness probe failed: Get "http://10.0.0.1:80/": dial tcp 10.0.0.1:80: connect: connection refused`,
			want: Event{Reason: "Unhealthy", Container: "api", Probe: "readiness", Message: "connection refused"}, ok: true},
		{name: "a command that takes too long", kind: "Pod", reason: "Unhealthy", where: "spec.initContainers{setup}", message: `Liveness probe failed: command timed out: "sh -c canary" timed out after 1s`,
			want: Event{Reason: "Unhealthy", Container: "setup", Probe: "liveness", Message: "no answer in time"}, ok: true},
		{name: "what a command printed", kind: "Pod", reason: "Unhealthy", where: "spec.containers{api}", message: "Readiness probe failed: canary",
			want: Event{Reason: "Unhealthy", Container: "api", Probe: "readiness", Message: "failed"}, ok: true},
		{name: "starting", kind: "Pod", reason: "Unhealthy", where: "spec.containers{api}", message: "Startup probe failed: canary"},
		{name: "a hook's command", kind: "Pod", reason: "FailedPostStartHook", where: "spec.containers{api}", message: "Exec lifecycle hook ([sh -c canary]) for Container failed",
			want: Event{Reason: "FailedPostStartHook", Container: "api"}, ok: true},
		{name: "a mount's arguments", kind: "Pod", reason: "FailedMount", message: "MountVolume.SetUp failed for volume \"data\" : mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t cifs -o password=canary",
			want: Event{Reason: "FailedMount", Message: `MountVolume.SetUp failed for volume "data" : mount failed: exit status 32`}, ok: true},
		{name: "attached elsewhere", kind: "Pod", reason: "FailedAttachVolume", message: `Multi-Attach error for volume "pvc-1"`,
			want: Event{Reason: "FailedAttachVolume", Message: `Multi-Attach error for volume "pvc-1"`}, ok: true},
		{name: "rebooted", kind: "Node", reason: "Rebooted", message: "Node n1 has been rebooted, boot id: 7", want: Event{Reason: "Rebooted", Message: "Node n1 has been rebooted, boot id: 7"}, ok: true},
		{name: "what the pod shows itself", kind: "Pod", reason: "BackOff", message: "Back-off restarting failed container"},
		{name: "about something else", kind: "ReplicaSet", reason: "FailedCreate", message: "quota"},
		{name: "a node's disk", kind: "Node", reason: "ImageGCFailed", message: "canary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &corev1.Event{
				Type: corev1.EventTypeWarning, Reason: tt.reason, Message: tt.message, LastTimestamp: metav1.Time{Time: noon},
				InvolvedObject: corev1.ObjectReference{Kind: tt.kind, FieldPath: tt.where},
			}
			got, ok := EventOf(e)
			if ok != tt.ok {
				t.Fatalf("asked for = %v, want %v", ok, tt.ok)
			}
			if !ok {
				return
			}
			tt.want.At = noon
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if strings.Contains(got.Message, "canary") {
				t.Errorf("something secret was copied: %s", got.Message)
			}
			e.Type = corev1.EventTypeNormal
			if _, ok := EventOf(e); ok {
				t.Error("a normal event was read")
			}
		})
	}
}

func TestTimeOfAnEventIsThatOfItsLastOccurrence(t *testing.T) {
	at := func(d time.Duration) metav1.Time { return metav1.Time{Time: noon.Add(d)} }
	micro := func(d time.Duration) metav1.MicroTime { return metav1.MicroTime{Time: noon.Add(d)} }
	for name, tt := range map[string]struct {
		event corev1.Event
		want  time.Duration
	}{
		"counted":                  {corev1.Event{FirstTimestamp: at(0), LastTimestamp: at(time.Minute)}, time.Minute},
		"of the newer kind":        {corev1.Event{EventTime: micro(time.Second)}, time.Second},
		"of the newer kind, again": {corev1.Event{EventTime: micro(time.Second), Series: &corev1.EventSeries{LastObservedTime: micro(time.Hour)}}, time.Hour},
		"without any":              {corev1.Event{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(time.Minute)}}, time.Minute},
	} {
		if got := eventTime(&tt.event).Sub(noon); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestEventsSayWhatIsInTheWay(t *testing.T) {
	facts := func(events ...Event) Facts {
		for i := range events {
			events[i].At = noon
		}
		return Facts{Now: noon, Thresholds: defaults, Events: events}
	}
	for _, tt := range []struct {
		event Event
		want  string
	}{
		{Event{Reason: failedAttachVolume, Message: `Multi-Attach error for volume "v"`}, "multi_attach"},
		{Event{Reason: failedAttachVolume, Message: "timeout"}, "volume_attach"},
		{Event{Reason: failedMount, Message: `secret "x" not found`}, "volume_mount"},
		{Event{Reason: failedSandbox, Message: "no IP addresses"}, "sandbox"},
		{Event{Reason: networkNotReady, Message: "cni"}, "network"},
	} {
		f := findStuckCreating(waitingFor("ContainerCreating", ""), facts(tt.event))[0]
		want := heal.Evidence{Path: `events[?(@.reason=="` + tt.event.Reason + `")].message`, Value: tt.event.Message}
		if last := f.Evidence[len(f.Evidence)-1]; last != want || f.Metadata["obstruction"] != tt.want || !strings.Contains(f.Description, tt.event.Message) {
			t.Errorf("%s: obstruction %q, last evidence %v, description %q; want %q, %v", tt.event.Reason, f.Metadata["obstruction"], last, f.Description, tt.want, want)
		}
	}
	both := findStuckCreating(waitingFor("ContainerCreating", ""), facts(Event{Reason: failedSandbox}, Event{Reason: failedMount}))[0]
	if got := both.Metadata["obstruction"]; got != "volume_mount" {
		t.Errorf("obstruction = %q, want the more telling one", got)
	}
	unready := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{running("api", false)}, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: containersNotReady},
	}}}
	known := facts(Event{Reason: unhealthy, Probe: readiness, Container: "api", Message: "connection refused"})
	known.NoneReady = true
	f := findNotReady(unready, known)[0]
	if diff := cmp.Diff(map[string]string{"container": "api", "probe": "readiness", "none_ready": "true"}, f.Metadata); diff != "" || f.Hold != 3*time.Minute {
		t.Errorf("not ready: hold %s, metadata (-want +got):\n%s", f.Hold, diff)
	}
	short := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{running("api", true)}}}
	short.Status.ContainerStatuses[0].LastTerminationState.Terminated = ended(137, "OOMKilled", noon)
	known = Facts{Now: noon, Thresholds: defaults, OOMKills: map[string]int{"api": 1}, NodeOOM: &Event{Reason: systemOOM, Message: "victim: java", At: noon}}
	f = findOOMKilled(short, known)[0]
	if f.Reason != "OOMKilledOnce" || f.Metadata["node_out_of_memory"] != "true" {
		t.Errorf("out of memory once, as the node is: %+v", f)
	}
	looping := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("api", "CrashLoopBackOff", 1, exit(137, "OOMKilled"))}}}
	if f := findCrashLoops(looping, known)[0]; f.Metadata["node_out_of_memory"] != "true" {
		t.Errorf("crash loop for want of memory, as the node is: %+v", f)
	}
	going := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: noon}}}
	f = findStuckTerminating(going, facts(Event{Reason: failedPreStopHook, Container: "api"}))[0]
	if f.Metadata["hook"] != "preStop" {
		t.Errorf("stuck terminating: %+v", f)
	}
}

func TestHooksAndKillsAreFoundWithWhatShowsThem(t *testing.T) {
	pod := func(c corev1.ContainerStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{c}}}
	}
	failed := waiting("api", "PostStartHookError", 1, nil)
	failed.State.Waiting.Message = "Exec lifecycle hook ([sh -c canary]) failed"
	facts := Facts{Now: noon, Thresholds: defaults, Restarts: map[string]int{"api": 4}, Events: []Event{
		{Reason: failedPostStartHook, Container: "api", At: noon},
		{Reason: unhealthy, Probe: liveness, Container: "api", Message: "no answer in time", At: noon},
	}}
	if diff := cmp.Diff([]Finding{{
		Part: "api", Reason: "PostStartHookError", Hold: time.Minute,
		Description: "container api cannot be started: its postStart hook fails",
		Evidence: []heal.Evidence{
			{Path: "status.containerStatuses[0].state.waiting.reason", Value: "PostStartHookError"},
			{Path: `events[?(@.reason=="FailedPostStartHook")].message`, Value: "FailedPostStartHook"},
		},
		Metadata: map[string]string{"container": "api", "hook": "postStart"},
	}}, findHookFailing(pod(failed), facts)); diff != "" {
		t.Errorf("hook (-want +got):\n%s", diff)
	}
	killed := running("api", true)
	killed.LastTerminationState.Terminated = exit(137, "Error")
	if diff := cmp.Diff([]Finding{{
		Part: "api", Reason: "LivenessProbeFailed",
		Description: "container api was killed 4 times in the last 10m0s, its liveness probe fails (no answer in time), last exit 137",
		Evidence: []heal.Evidence{
			{Path: "status.containerStatuses[0].restartCount", Value: "300"},
			{Path: `events[?(@.reason=="Unhealthy")].message`, Value: "liveness probe: no answer in time"},
			{Path: "status.containerStatuses[0].lastState.terminated.reason", Value: "Error"},
			{Path: "status.containerStatuses[0].lastState.terminated.exitCode", Value: "137"},
		},
		Metadata: map[string]string{"container": "api", "restarts_in_window": "4", "probe": "liveness", "exit_code": "137", "last_reason": "Error"},
	}}, findLivenessKilled(pod(killed), facts)); diff != "" {
		t.Errorf("kills (-want +got):\n%s", diff)
	}
}
