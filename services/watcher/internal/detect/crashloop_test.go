package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var defaults = Thresholds{
	PodCheckInterval:     30 * time.Second,
	PodRestartThreshold:  5,
	NodeCheckInterval:    30 * time.Second,
	NodeFailureThreshold: 3,
}

func waiting(name, reason string, restarts int32, last *corev1.ContainerStateTerminated) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name:                 name,
		RestartCount:         restarts,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}},
		LastTerminationState: corev1.ContainerState{Terminated: last},
	}
}

func running(name string, ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: name, Ready: ready, RestartCount: 300,
		State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		LastTerminationState: corev1.ContainerState{Terminated: exit(1, "Error")},
	}
}

func exit(code int32, reason string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}
}

func TestCrashLoopIsFoundInEachContainerThatWaitsToBeStartedAgain(t *testing.T) {
	type pod = corev1.PodStatus
	containers := func(c ...corev1.ContainerStatus) pod { return pod{ContainerStatuses: c} }
	api := func(hold time.Duration, metadata map[string]string) []Finding {
		return []Finding{{
			Part: "api", Reason: "CrashLoopBackOff", Hold: hold,
			Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1",
			Evidence: []heal.Evidence{
				{Path: "status.containerStatuses[0].restartCount", Value: "7"},
				{Path: "status.containerStatuses[0].state.waiting.reason", Value: "CrashLoopBackOff"},
				{Path: "status.containerStatuses[0].lastState.terminated.reason", Value: "Error"},
				{Path: "status.containerStatuses[0].lastState.terminated.exitCode", Value: "1"},
			},
			Metadata: metadata,
		}}
	}
	crashing := waiting("api", "CrashLoopBackOff", 7, exit(1, "Error"))
	plain := map[string]string{"container": "api", "exit_code": "1", "last_reason": "Error"}

	tests := []struct {
		name      string
		status    pod
		restarts  map[string]int
		threshold int
		want      []Finding
	}{
		{
			name:   "a total of restarts says nothing about when they were",
			status: containers(crashing), threshold: 5,
			want: api(time.Minute, plain),
		},
		{
			name:   "two restarts in the window still wait",
			status: containers(crashing), restarts: map[string]int{"api": 2}, threshold: 5,
			want: api(time.Minute, map[string]string{"container": "api", "exit_code": "1", "last_reason": "Error", "restarts_in_window": "2"}),
		},
		{
			name:   "three restarts in the window count at once",
			status: containers(crashing), restarts: map[string]int{"api": 3}, threshold: 5,
			want: api(0, map[string]string{"container": "api", "exit_code": "1", "last_reason": "Error", "restarts_in_window": "3"}),
		},
		{
			name:   "a lower threshold counts sooner",
			status: containers(crashing), restarts: map[string]int{"api": 2}, threshold: 2,
			want: api(0, map[string]string{"container": "api", "exit_code": "1", "last_reason": "Error", "restarts_in_window": "2"}),
		},
		{
			name:   "another container's restarts do not count",
			status: containers(crashing), restarts: map[string]int{"sidecar": 9}, threshold: 5,
			want: api(time.Minute, plain),
		},
		{
			name:   "out of memory stays a crash loop and says so",
			status: containers(waiting("api", "CrashLoopBackOff", 1, exit(137, "OOMKilled"))), threshold: 5,
			want: []Finding{{
				Part: "api", Reason: "CrashLoopBackOff", Hold: time.Minute,
				Description: "container api is in CrashLoopBackOff: 1 restart, last exit 137 (out of memory)",
				Evidence: []heal.Evidence{
					{Path: "status.containerStatuses[0].restartCount", Value: "1"},
					{Path: "status.containerStatuses[0].state.waiting.reason", Value: "CrashLoopBackOff"},
					{Path: "status.containerStatuses[0].lastState.terminated.reason", Value: "OOMKilled"},
					{Path: "status.containerStatuses[0].lastState.terminated.exitCode", Value: "137"},
				},
				Metadata: map[string]string{"container": "api", "exit_code": "137", "last_reason": "OOMKilled"},
			}},
		},
		{
			name: "init containers and each of several containers are parts of their own",
			status: pod{
				InitContainerStatuses: []corev1.ContainerStatus{waiting("migrate", "CrashLoopBackOff", 2, nil)},
				ContainerStatuses:     []corev1.ContainerStatus{running("web", true), waiting("api", "CrashLoopBackOff", 3, nil)},
			},
			threshold: 5,
			want: []Finding{
				{
					Part: "migrate", Reason: "CrashLoopBackOff", Hold: time.Minute,
					Description: "init container migrate is in CrashLoopBackOff: 2 restarts",
					Evidence: []heal.Evidence{
						{Path: "status.initContainerStatuses[0].restartCount", Value: "2"},
						{Path: "status.initContainerStatuses[0].state.waiting.reason", Value: "CrashLoopBackOff"},
					},
					Metadata: map[string]string{"container": "migrate"},
				},
				{
					Part: "api", Reason: "CrashLoopBackOff", Hold: time.Minute,
					Description: "container api is in CrashLoopBackOff: 3 restarts",
					Evidence: []heal.Evidence{
						{Path: "status.containerStatuses[1].restartCount", Value: "3"},
						{Path: "status.containerStatuses[1].state.waiting.reason", Value: "CrashLoopBackOff"},
					},
					Metadata: map[string]string{"container": "api"},
				},
			},
		},
		{name: "a running container is not in a crash loop, however often it crashed", status: containers(running("api", true)), threshold: 5},
		{name: "waiting for something else is somebody else's finding", status: containers(waiting("api", "ImagePullBackOff", 0, nil)), threshold: 5},
		{name: "no containers yet", status: pod{}, threshold: 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			facts := Facts{Thresholds: defaults, Restarts: tt.restarts}
			facts.PodRestartThreshold = tt.threshold
			got := crashLoop.Find(&corev1.Pod{Status: tt.status}, facts)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContainerIsWellOnceItIsSeenToWork(t *testing.T) {
	terminated := func(code int32, ready bool) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "api", Ready: ready, State: corev1.ContainerState{Terminated: exit(code, "")}}
	}
	regular := func(c corev1.ContainerStatus) corev1.PodStatus {
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{c}}
	}
	tests := []struct {
		name    string
		status  corev1.PodStatus
		restart corev1.RestartPolicy
		want    bool
	}{
		{"running and ready", regular(running("api", true)), corev1.RestartPolicyAlways, true},
		{"running between two crashes, not ready yet", regular(running("api", false)), corev1.RestartPolicyAlways, false},
		{"just ended, about to be started again", regular(terminated(1, false)), corev1.RestartPolicyAlways, false},
		{"ended well, but it should not end", regular(terminated(0, false)), corev1.RestartPolicyAlways, false},
		{"ended well, as it should", regular(terminated(0, false)), corev1.RestartPolicyOnFailure, true},
		{"an init container that is done", corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{terminated(0, true)}}, corev1.RestartPolicyAlways, true},
		{"an init container that crashed", corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{terminated(1, false)}}, corev1.RestartPolicyAlways, false},
		{"waiting", regular(waiting("api", "CrashLoopBackOff", 1, nil)), corev1.RestartPolicyAlways, false},
		{"not there any more", regular(running("other", false)), corev1.RestartPolicyAlways, true},
		{"the pod has failed for good", corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{terminated(1, false)}}, corev1.RestartPolicyNever, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tt.restart}, Status: tt.status}
			if got := crashLoop.Well(pod, "api"); got != tt.want {
				t.Errorf("Well = %v, want %v", got, tt.want)
			}
		})
	}
}
