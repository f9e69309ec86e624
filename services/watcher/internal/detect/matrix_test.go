package detect

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// speaking is every detector that speaks for a pod now, with the part of it.
func speaking(t *testing.T, pod *corev1.Pod, facts Facts) []string {
	t.Helper()
	var all []string
	for _, d := range Pods {
		found := d.Find(pod, facts)
		if len(found) == 0 || d.Excuse(pod, facts) != None {
			continue
		}
		for _, f := range found {
			if !slices.Contains(d.Reasons, f.Reason) {
				t.Errorf("%s gives the reason %s, which it does not list", d.Name, f.Reason)
			}
			if f.Description == "" || len(f.Evidence) == 0 {
				t.Errorf("%s says nothing about, or shows nothing of, what it finds", d.Name)
			}
			all = append(all, d.Name+" "+f.Part)
		}
	}
	return all
}

// states is every state that a container can be in, as far as detectors tell
// them apart, with each of the last ends.
func states(name string, last ...*corev1.ContainerStateTerminated) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, l := range last {
		for _, reason := range []string{
			"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable",
			"ImageInspectError", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError",
			"PostStartHookError", "RunContainerError", "ContainerCannotRun", "SomethingNew",
		} {
			all = append(all, waiting(name, reason, 3, l))
		}
		for _, ready := range []bool{true, false} {
			all = append(all, corev1.ContainerStatus{
				Name: name, Ready: ready, RestartCount: 9,
				State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				LastTerminationState: corev1.ContainerState{Terminated: l},
			})
		}
		if l != nil {
			all = append(all, corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: l}})
		}
	}
	return all
}

func ended(code int32, reason string, at time.Time) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, FinishedAt: metav1.Time{Time: at}}
}

func TestNeverMoreThanOneDetectorSpeaksForAContainer(t *testing.T) {
	histories := []Facts{{}}
	for _, restarts := range []int{0, 2, 9} {
		for _, kills := range []int{0, 2} {
			for _, waits := range []int{0, 1} {
				histories = append(histories, Facts{
					Restarts: map[string]int{"api": restarts}, OOMKills: map[string]int{"api": kills}, BackedOff: map[string]int{"api": waits},
				})
			}
		}
	}
	for _, h := range slices.Concat(histories[:1], histories[len(histories)-4:]) { // no restarts, and many
		for _, of := range []Event{{Reason: unhealthy, Probe: liveness}, {Reason: failedPostStartHook}, {Reason: failedPreStopHook}} {
			of.Container, of.At = "api", noon
			h.Events = []Event{of}
			histories = append(histories, h)
		}
	}
	for _, h := range slices.Clone(histories) {
		h.Usage = map[string]Usage{"api": {Used: 9, Of: 10}, "setup": {Used: 9, Of: 10}}
		histories = append(histories, h)
	}
	short := ended(137, "OOMKilled", noon.Add(-time.Minute))
	spoken := map[string]bool{}
	for _, init := range append([]corev1.ContainerStatus{{}}, states("setup", exit(1, "Error"))...) {
		for _, regular := range states("api", nil, exit(0, "Completed"), exit(1, "Error"), exit(137, "Error"), short) {
			pod := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{regular}, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"},
			}}}
			if init.Name != "" {
				pod.Status.InitContainerStatuses = []corev1.ContainerStatus{init}
			}
			for _, facts := range histories {
				facts.Now, facts.Thresholds = noon, defaults
				all := speaking(t, pod, facts)
				perPart := map[string]int{}
				for _, s := range all {
					var name, part string
					_, _ = fmt.Sscan(s, &name, &part)
					perPart[part]++
					spoken[name] = true
					whole := name == "stuck_creating" || name == "not_ready"
					if perPart[part] > 1 || whole && len(all) > 1 {
						t.Fatalf("%v speak for one state: init %+v, container %+v, facts %+v", all, init, regular, facts)
					}
				}
			}
		}
	}
	for _, d := range Pods {
		// What is about a pod as a whole, or needs to be measured.
		others := []string{"unschedulable", "stuck_terminating", "evicted", "leftover", "bare_pod_failed", "static_pod_failing", "memory_near_limit"}
		if !spoken[d.Name] && !slices.Contains(others, d.Name) {
			t.Errorf("%s has never spoken", d.Name)
		}
	}
}

func TestTheFieldDecidesWhichDetectorSpeaks(t *testing.T) {
	now := metav1.Time{Time: noon}
	yes, no := true, false
	regular := func(c ...corev1.ContainerStatus) corev1.Pod {
		return corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: c, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"},
		}}}
	}
	withInit := func(init corev1.ContainerStatus, c ...corev1.ContainerStatus) corev1.Pod {
		p := regular(c...)
		p.Status.Phase = corev1.PodPending
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{init}
		return p
	}
	unready := func(name string, started *bool) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, Started: started, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	}
	outOf := func(at time.Time, ready bool) corev1.ContainerStatus {
		c := running("api", ready)
		c.LastTerminationState.Terminated = ended(137, "OOMKilled", at)
		return c
	}
	failed := func(p corev1.Pod) corev1.Pod { p.Status.Phase = corev1.PodFailed; return p }
	deleted := func(p corev1.Pod) corev1.Pod { p.DeletionTimestamp = &now; return p }
	scheduled := func(status corev1.ConditionStatus, reason string) corev1.Pod {
		return corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: status, Reason: reason},
		}}}
	}
	many := map[string]int{"api": 9}
	said := func(reason, probe string, ago time.Duration) Facts {
		return Facts{Events: []Event{{Reason: reason, Container: "api", Probe: probe, At: noon.Add(-ago)}}}
	}
	withRestarts := func(f Facts, n int) Facts { f.Restarts = map[string]int{"api": n}; return f }
	killed := func(code int32, ready bool) corev1.ContainerStatus {
		c := running("api", ready)
		c.LastTerminationState.Terminated = exit(code, "Error")
		return c
	}
	tests := []struct {
		name  string
		pod   corev1.Pod
		facts Facts
		want  []string
	}{
		{name: "crash loop", pod: regular(waiting("api", "CrashLoopBackOff", 9, exit(1, "Error"))), facts: Facts{Restarts: many, BackedOff: many}, want: []string{"crash_loop api"}},
		{name: "crash loop for want of memory", pod: regular(waiting("api", "CrashLoopBackOff", 9, ended(137, "OOMKilled", noon))), facts: Facts{Restarts: many, BackedOff: many, OOMKills: many}, want: []string{"crash_loop api"}},
		{name: "crash loop between two crashes, ready for a moment", pod: regular(running("api", true)), facts: Facts{Restarts: many, BackedOff: many}},
		{name: "the same for want of memory", pod: regular(outOf(noon, true)), facts: Facts{Restarts: many, BackedOff: many, OOMKills: many}},
		{name: "crash loop of an init container", pod: withInit(waiting("setup", "CrashLoopBackOff", 1, exit(1, "Error")), waiting("api", "PodInitializing", 0, nil)), want: []string{"crash_loop setup"}},
		{name: "restarted without a wait", pod: regular(running("api", false)), facts: Facts{Restarts: many}, want: []string{"restarting api"}},
		{name: "restarted a few times", pod: regular(running("api", true)), facts: Facts{Restarts: map[string]int{"api": 4}}},
		{name: "restarted often, long ago", pod: regular(running("api", true))},
		{name: "out of memory twice in an hour", pod: regular(outOf(noon, true)), facts: Facts{OOMKills: map[string]int{"api": 2}}, want: []string{"oom_killed api"}},
		{name: "out of memory twice, with one wait in between", pod: regular(outOf(noon, true)), facts: Facts{OOMKills: map[string]int{"api": 2}, Restarts: map[string]int{"api": 2}, BackedOff: map[string]int{"api": 1}}, want: []string{"oom_killed api"}},
		{name: "out of memory once (P3)", pod: regular(outOf(noon, true)), facts: Facts{OOMKills: map[string]int{"api": 1}, Restarts: map[string]int{"api": 1}}, want: []string{"oom_killed api"}},
		{name: "out of memory once, among other ends", pod: regular(outOf(noon, true)), facts: Facts{OOMKills: map[string]int{"api": 1}, Restarts: many}, want: []string{"restarting api"}},
		{name: "out of memory for the last time a while ago", pod: regular(outOf(noon.Add(-10*time.Minute), true)), facts: Facts{OOMKills: map[string]int{"api": 3}}},
		{name: "exit code 137 is not memory", pod: regular(running("api", true)), facts: Facts{OOMKills: map[string]int{"api": 2}}},
		{name: "image not pulled", pod: regular(waiting("api", "ErrImagePull", 0, nil), running("web", true)), want: []string{"image_pull api"}},
		{name: "image of an init container", pod: withInit(waiting("setup", "ImagePullBackOff", 0, nil), waiting("api", "PodInitializing", 0, nil)), want: []string{"image_pull setup"}},
		{name: "no image name", pod: regular(waiting("api", "InvalidImageName", 0, nil)), want: []string{"image_invalid api"}},
		{name: "image not on the node", pod: regular(waiting("api", "ErrImageNeverPull", 0, nil)), want: []string{"image_invalid api"}},
		{name: "configuration missing", pod: regular(waiting("api", "CreateContainerConfigError", 0, nil)), want: []string{"config_error api"}},
		{name: "refused by the runtime", pod: regular(waiting("api", "RunContainerError", 1, nil)), want: []string{"container_create_error api"}},
		{name: "a hook after the start fails (P8)", pod: regular(waiting("api", "PostStartHookError", 1, nil)), want: []string{"hook_failing api"}},
		{name: "the wait after it", pod: regular(waiting("api", "CrashLoopBackOff", 2, exit(137, "Error"))), facts: said(failedPostStartHook, "", 0), want: []string{"hook_failing api"}},
		{name: "a wait long after it", pod: regular(waiting("api", "CrashLoopBackOff", 2, exit(1, "Error"))), facts: said(failedPostStartHook, "", EventWindow), want: []string{"crash_loop api"}},
		{name: "another container's hook", pod: regular(waiting("web", "CrashLoopBackOff", 2, exit(1, "Error"))), facts: said(failedPostStartHook, "", 0), want: []string{"crash_loop web"}},
		{name: "a hook before the stop failed (P8)", pod: regular(running("api", true)), facts: said(failedPreStopHook, "", 0), want: []string{"hook_failing api"}},
		{name: "a hook before the stop failed, and it is not ready", pod: regular(running("api", false)), facts: said(failedPreStopHook, "", 0), want: []string{"not_ready api"}},
		{name: "killed for its liveness probe (P13)", pod: regular(killed(137, false)), facts: withRestarts(said(unhealthy, liveness, 0), 3), want: []string{"liveness_killed api"}},
		{name: "killed for it, obeying", pod: regular(killed(0, true)), facts: withRestarts(said(unhealthy, liveness, 0), 9), want: []string{"liveness_killed api"}},
		{name: "waiting after it", pod: regular(waiting("api", "CrashLoopBackOff", 9, exit(143, "Error"))), facts: withRestarts(said(unhealthy, liveness, 0), 3), want: []string{"liveness_killed api"}},
		{name: "killed twice", pod: regular(killed(137, true)), facts: withRestarts(said(unhealthy, liveness, 0), 2)},
		{name: "a crash that the probe saw as well", pod: regular(waiting("api", "CrashLoopBackOff", 9, exit(1, "Error"))), facts: withRestarts(said(unhealthy, liveness, 0), 3), want: []string{"crash_loop api"}},
		{name: "no memory, which the probe saw as well", pod: regular(outOf(noon, true)), facts: func() Facts {
			f := withRestarts(said(unhealthy, liveness, 0), 3)
			f.OOMKills = map[string]int{"api": 3}
			return f
		}(), want: []string{"oom_killed api"}},
		{name: "its readiness probe kills nobody", pod: regular(killed(137, true)), facts: withRestarts(said(unhealthy, readiness, 0), 3)},
		{name: "its liveness probe failed a while ago", pod: regular(killed(137, true)), facts: withRestarts(said(unhealthy, liveness, EventWindow), 3)},
		{name: "an init container failed for good", pod: withInit(corev1.ContainerStatus{Name: "setup", State: corev1.ContainerState{Terminated: exit(1, "Error")}}, waiting("api", "PodInitializing", 0, nil)), want: []string{"init_failing setup"}},
		{name: "an init container waits for something, by design", pod: withInit(unready("setup", nil), waiting("api", "PodInitializing", 0, nil))},
		{name: "an init container is done, the others are to come", pod: withInit(corev1.ContainerStatus{Name: "setup", Ready: true, State: corev1.ContainerState{Terminated: exit(0, "")}}, waiting("api", "PodInitializing", 0, nil)), want: []string{"stuck_creating "}},
		{name: "not created", pod: regular(waiting("api", "ContainerCreating", 0, nil), waiting("web", "ContainerCreating", 0, nil)), want: []string{"stuck_creating "}},
		{name: "not created beside a sidecar that runs", pod: withInit(running("sidecar", true), waiting("api", "PodInitializing", 0, nil)), want: []string{"stuck_creating "}},
		{name: "not created beside one that fails", pod: regular(waiting("api", "ContainerCreating", 0, nil), waiting("web", "CrashLoopBackOff", 1, nil)), want: []string{"crash_loop web"}},
		{name: "no node", pod: scheduled(corev1.ConditionFalse, "Unschedulable"), want: []string{"unschedulable "}},
		{name: "no node, but one is being brought", pod: scheduled(corev1.ConditionFalse, "Unschedulable"), facts: Facts{Events: []Event{{Reason: TriggeredScaleUp, At: noon}}}},
		{name: "no node, though one was to be brought", pod: scheduled(corev1.ConditionFalse, "Unschedulable"), facts: Facts{Events: []Event{{Reason: TriggeredScaleUp, At: noon.Add(-EventWindow)}}}, want: []string{"unschedulable "}},
		{name: "held back by a gate", pod: scheduled(corev1.ConditionFalse, "SchedulingGated")},
		{name: "a node", pod: scheduled(corev1.ConditionTrue, "")},
		{name: "not ready", pod: regular(unready("api", &yes), running("web", true)), want: []string{"not_ready api"}},
		{name: "not ready beside one that crashes", pod: regular(unready("api", &yes), waiting("web", "CrashLoopBackOff", 1, nil)), want: []string{"crash_loop web"}},
		{name: "starting up", pod: regular(unready("api", &no))},
		{name: "ready but for a gate", pod: func() corev1.Pod {
			p := regular(running("api", true))
			p.Status.Conditions[0].Reason = "ReadinessGatesNotReady"
			return p
		}()},
		{name: "to go", pod: deleted(regular(waiting("api", "CrashLoopBackOff", 1, nil))), want: []string{"stuck_terminating "}},
		{name: "to go, on a node that fails itself", pod: deleted(regular(running("api", true))), facts: Facts{NodeFailing: true}},
		{name: "failing on a node that fails itself", pod: regular(waiting("api", "ImagePullBackOff", 1, nil)), facts: Facts{NodeFailing: true}},
		{name: "evicted", pod: failed(regular(waiting("api", "ContainerCreating", 0, nil)))},
		{name: "well", pod: func() corev1.Pod {
			p := regular(running("api", true))
			p.Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
			return p
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.Now, tt.facts.Thresholds = noon, defaults
			if diff := cmp.Diff(tt.want, speaking(t, &tt.pod, tt.facts)); diff != "" {
				t.Errorf("detectors that speak (-want +got):\n%s", diff)
			}
		})
	}
}
