package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var pods = kind{
	Version:    "v1",
	Kind:       "Pod",
	Resource:   "pods",
	Namespaced: true,
	Packed:     true, // in a storm, thousands are suspect
	Glance:     true,
	Resume:     true,
	New:        func() object { return new(corev1.Pod) },
	Slim:       slimPod,
	Open:       openPods,
}

func openPods(w *Watcher, k kind) view {
	d := detectors[*corev1.Pod]{
		kind: k,
		list: detect.Pods,
		node: func(p *corev1.Pod) string { return p.Spec.NodeName },
	}
	past := newPodPast()
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			pod := obj.(*corev1.Pod)
			if len(tracked) > 0 {
				w.suspect(now)
			}
			sightings := d.judge(pod, detect.Facts{
				Now:         now,
				Thresholds:  w.cfg.Thresholds,
				Restarts:    past.Restarts.of(string(pod.UID), now),
				BackedOff:   past.Backoffs.of(string(pod.UID), now),
				OOMKills:    past.OOMKills.of(string(pod.UID), now),
				NodeFailing: w.nodeFailing(pod.Spec.NodeName, now),
				Usage:       w.usageOf(pod),
				NodeOOM:     w.notes.last(subject("Node", pod.Spec.NodeName, ""), "SystemOOM", now),
				Events:      w.notes.of(podSubject(pod), now),
				NoneReady:   !w.barren.bears(pod),
			}, tracked)
			tellTemplate(sightings, pod)
			return sightings
		},
		change: func(obj metav1.Object, known bool, now time.Time) {
			pod := obj.(*corev1.Pod)
			before, _ := w.find(k.Version, k.Kind, pod.Namespace, pod.Name).(*corev1.Pod)
			past.note(before, pod, known, now)
		},
		forget: func(id string) {
			past.forget(id)
			w.notes.forget(id)
		},
		remembers: func(id []byte) bool { return past.has(id) || w.notes.has(id) },
		memory:    past.save,
		recall:    past.load,
	}
}

// slimPod keeps of a pod what detectors read; above all no environment, no
// command line, and of its volumes only which claims they are. Add to it what
// a new detector needs.
func slimPod(obj any) any {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj
	}
	slim := &corev1.Pod{
		ObjectMeta: slimMeta(p.ObjectMeta),
		Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName, RestartPolicy: p.Spec.RestartPolicy, Volumes: slimVolumes(p.Spec.Volumes)},
		Status: corev1.PodStatus{
			Phase:                 p.Status.Phase,
			Reason:                p.Status.Reason,
			Message:               clip(p.Status.Message),
			Conditions:            slimPodConditions(p.Status.Conditions),
			InitContainerStatuses: slimStatuses(p.Status.InitContainerStatuses),
			ContainerStatuses:     slimStatuses(p.Status.ContainerStatuses),
		},
	}
	slim.Labels = keep(nil, p.Labels, true, templateHash, revisionHash, generationLabel)
	return slim
}

func slimVolumes(list []corev1.Volume) []corev1.Volume {
	var slim []corev1.Volume
	for i := range list {
		if claim := list[i].PersistentVolumeClaim; claim != nil {
			slim = append(slim, corev1.Volume{VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.ClaimName},
			}})
		}
	}
	return slim
}

func slimPodConditions(list []corev1.PodCondition) []corev1.PodCondition {
	slim := make([]corev1.PodCondition, len(list))
	for i, c := range list {
		slim[i] = corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message), LastTransitionTime: c.LastTransitionTime}
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
			ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: lastWords(t.Message),
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
