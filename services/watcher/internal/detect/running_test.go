package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestAContainerThatRunsIsFoundWithItsHistory(t *testing.T) {
	status := func(c corev1.ContainerStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{c}, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"},
		}}}
	}
	short := running("api", true)
	short.LastTerminationState.Terminated = ended(137, "OOMKilled", noon)
	init := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
		{Name: "setup", State: corev1.ContainerState{Terminated: exit(2, "Error")}},
	}}}
	tests := []struct {
		name     string
		detector Detector[*corev1.Pod]
		pod      *corev1.Pod
		facts    Facts
		want     Finding
	}{
		{
			name: "restarted again and again", detector: restarting, pod: status(running("api", true)), facts: Facts{Restarts: map[string]int{"api": 5}},
			want: Finding{
				Part: "api", Reason: "Restarting", Description: "container api runs, but was restarted 5 times in the last 10m0s, last exit 1",
				Evidence: []heal.Evidence{
					{Path: "status.containerStatuses[0].restartCount", Value: "300"},
					{Path: "status.containerStatuses[0].lastState.terminated.reason", Value: "Error"},
					{Path: "status.containerStatuses[0].lastState.terminated.exitCode", Value: "1"},
				},
				Metadata: map[string]string{"container": "api", "restarts_in_window": "5", "exit_code": "1", "last_reason": "Error"},
			},
		},
		{
			name: "out of memory again", detector: oomKilled, pod: status(short), facts: Facts{OOMKills: map[string]int{"api": 2}},
			want: Finding{
				Part: "api", Reason: "OOMKilled", Hold: 30 * time.Second,
				Description: "container api ran out of memory 2 times in the last hour, last exit 137 (out of memory)",
				Evidence: []heal.Evidence{
					{Path: "status.containerStatuses[0].restartCount", Value: "300"},
					{Path: "status.containerStatuses[0].lastState.terminated.reason", Value: "OOMKilled"},
					{Path: "status.containerStatuses[0].lastState.terminated.exitCode", Value: "137"},
				},
				Metadata: map[string]string{"container": "api", "oom_kills_in_window": "2", "exit_code": "137", "last_reason": "OOMKilled"},
			},
		},
		{
			name: "not ready", detector: notReady, pod: status(running("api", false)),
			want: Finding{
				Part: "api", Reason: "ContainersNotReady", Hold: 15 * time.Minute, Description: "container api runs, but is not ready",
				Evidence: []heal.Evidence{
					{Path: "status.containerStatuses[0].ready", Value: "false"},
					{Path: "status.conditions[0].reason", Value: "ContainersNotReady"},
				},
				Metadata: map[string]string{"container": "api"},
			},
		},
		{
			name: "an init container that failed", detector: initFailing, pod: init,
			want: Finding{
				Part: "setup", Reason: "InitContainerFailing", Hold: 5 * time.Minute, Description: "init container setup failed and is not started again, last exit 2",
				Evidence: []heal.Evidence{
					{Path: "status.initContainerStatuses[0].state.terminated.reason", Value: "Error"},
					{Path: "status.initContainerStatuses[0].state.terminated.exitCode", Value: "2"},
				},
				Metadata: map[string]string{"container": "setup", "exit_code": "2", "last_reason": "Error"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.Now, tt.facts.Thresholds = noon, defaults
			if diff := cmp.Diff([]Finding{tt.want}, tt.detector.Find(tt.pod, tt.facts)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
