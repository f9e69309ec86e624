package watch

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var pods = kind{
	Version:  "v1",
	Kind:     "Pod",
	Resource: "pods",
	Example:  &corev1.Pod{},
	Reach: func(kube kubernetes.Interface) reach {
		api := kube.CoreV1().Pods(metav1.NamespaceAll)
		return reach{
			List:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
			Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return api.Watch(ctx, o) },
		}
	},
	Slim: slimPod,
	Open: openPods,
}

func openPods(w *Watcher, k kind) view {
	d := detectors[*corev1.Pod]{
		kind: k,
		list: detect.Pods,
		node: func(p *corev1.Pod) string { return p.Spec.NodeName },
	}
	var restarts restarts
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			pod := obj.(*corev1.Pod)
			return d.judge(pod, detect.Facts{
				Now:         now,
				Thresholds:  w.cfg.Thresholds,
				Restarts:    restarts.of(string(pod.UID), now),
				NodeFailing: w.nodeFailing(pod.Spec.NodeName),
			}, tracked)
		},
		change: func(old, obj metav1.Object, now time.Time) {
			if old != nil { // of a pod that is new to us nothing is known but a total
				restarts.note(old.(*corev1.Pod), obj.(*corev1.Pod), now)
			}
		},
		forget: restarts.forget,
	}
}

// nodeFailing reports whether a node is itself not ready, as far as we see.
func (w *Watcher) nodeFailing(name string) bool {
	if name == "" {
		return false
	}
	node, ok := w.find("v1", "Node", "", name).(*corev1.Node)
	if !ok {
		return false
	}
	_, ready := detect.ReadyCondition(node)
	return ready != nil && ready.Status != corev1.ConditionTrue
}

// maxRestarting is how many pods' restarts are remembered at once. Beyond
// it a crash loop waits out its hold instead of being known at once.
const maxRestarting = 100_000

// restarts remembers when containers were seen to restart, of the pods in
// which one did within the window.
type restarts struct {
	pods  map[string]map[string]detect.Tally // by UID and container
	limit int                                // size at which to look for what has left the window …
	swept time.Time                          // … unless we just did
}

// note takes in what a change says. A container without a status in old had
// not been started yet.
func (r *restarts) note(old, pod *corev1.Pod, now time.Time) {
	r.noteList(pod, old.Status.InitContainerStatuses, pod.Status.InitContainerStatuses, now)
	r.noteList(pod, old.Status.ContainerStatuses, pod.Status.ContainerStatuses, now)
}

func (r *restarts) noteList(pod *corev1.Pod, old, list []corev1.ContainerStatus, now time.Time) {
	for i := range list {
		before := int32(0)
		for j := range old {
			if old[j].Name == list[i].Name {
				before = old[j].RestartCount
			}
		}
		if grown := int(list[i].RestartCount - before); grown > 0 {
			r.add(string(pod.UID), list[i].Name, grown, now)
		}
	}
}

func (r *restarts) add(uid, container string, n int, now time.Time) {
	if r.pods[uid] == nil {
		if len(r.pods) >= max(r.limit, 1024) && now.Sub(r.swept) >= time.Minute {
			r.prune(now)
			r.limit, r.swept = 2*len(r.pods), now
		}
		if len(r.pods) >= maxRestarting {
			return
		}
		if r.pods == nil {
			r.pods = map[string]map[string]detect.Tally{}
		}
		r.pods[uid] = map[string]detect.Tally{}
	}
	r.pods[uid][container] = r.pods[uid][container].Add(n, now)
}

func (r *restarts) prune(now time.Time) {
	for uid := range r.pods {
		if len(r.of(uid, now)) == 0 {
			delete(r.pods, uid)
		}
	}
}

// of counts a pod's restarts within the window, by container.
func (r *restarts) of(uid string, now time.Time) map[string]int {
	tallies := r.pods[uid]
	if tallies == nil {
		return nil
	}
	counts := map[string]int{}
	for container, t := range tallies {
		if n := t.Within(now); n > 0 {
			counts[container] = n
		}
	}
	return counts
}

func (r *restarts) forget(uid string) { delete(r.pods, uid) }

// slimPod keeps of a pod what detectors read; above all no environment, no
// command line and no volume. Add to it what a new detector needs.
func slimPod(obj any) any {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj
	}
	return &corev1.Pod{
		ObjectMeta: slimMeta(p.ObjectMeta),
		Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName, RestartPolicy: p.Spec.RestartPolicy},
		Status: corev1.PodStatus{
			Phase:                 p.Status.Phase,
			Reason:                p.Status.Reason,
			Message:               clip(p.Status.Message),
			Conditions:            slimPodConditions(p.Status.Conditions),
			InitContainerStatuses: slimStatuses(p.Status.InitContainerStatuses),
			ContainerStatuses:     slimStatuses(p.Status.ContainerStatuses),
		},
	}
}

func slimPodConditions(list []corev1.PodCondition) []corev1.PodCondition {
	slim := make([]corev1.PodCondition, len(list))
	for i, c := range list {
		slim[i] = corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message)}
	}
	return slim
}

func slimStatuses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	slim := make([]corev1.ContainerStatus, len(list))
	for i, c := range list {
		slim[i] = corev1.ContainerStatus{
			Name: c.Name, Ready: c.Ready, RestartCount: c.RestartCount, Started: c.Started,
			State: slimState(c.State), LastTerminationState: slimState(c.LastTerminationState),
		}
	}
	return slim
}

func slimState(s corev1.ContainerState) corev1.ContainerState {
	if w := s.Waiting; w != nil {
		s.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: clip(w.Message)}
	}
	if t := s.Terminated; t != nil {
		s.Terminated = &corev1.ContainerStateTerminated{
			ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: clip(t.Message),
			StartedAt: t.StartedAt, FinishedAt: t.FinishedAt,
		}
	}
	return s
}

// clip bounds a text that others chose, and lets go of the rest of it.
func clip(s string) string {
	if s == "" {
		return s
	}
	return heal.Clean(s, heal.MaxText)
}
