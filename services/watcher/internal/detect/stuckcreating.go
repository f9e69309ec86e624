package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// stuckCreating finds pods that have a node, but whose containers are not
// created: no sandbox, no network, a volume that is not mounted, or an image
// that takes its time. Every pod is so for a moment.
var stuckCreating = Detector[*corev1.Pod]{
	Name: "stuck_creating",
	Row:  "P10",
	Type: heal.PodFailure,

	Reasons: []string{"StuckCreating"},
	Hold:    "5 min; 10 min with a PersistentVolumeClaim",
	Excused: podExcused + "; an init container runs; a container waits for another reason",

	Find:   findStuckCreating,
	Excuse: podExcuse,

	BlamesNode: true,
}

const (
	creatingHold       = 5 * time.Minute
	creatingVolumeHold = 10 * time.Minute
)

func findStuckCreating(pod *corev1.Pod, facts Facts) []Finding {
	if over(pod) || podCondition(pod, corev1.PodScheduled) == corev1.ConditionFalse {
		return nil
	}
	var waiting []string
	var evidence []heal.Evidence
	for _, c := range containers(pod) {
		switch {
		case creating(c):
			waiting = append(waiting, c.Name)
			evidence = append(evidence, heal.Evidence{Path: c.path + ".state.waiting.reason", Value: c.waits()})
		case spokenFor(c, facts), c.init && c.State.Running != nil && !c.Ready:
			return nil // that one is what the others wait for, or matters more
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	f := Finding{
		Reason: "StuckCreating", Hold: creatingHold,
		Description: fmt.Sprintf("%s not created: %s", count(len(waiting), "container"), strings.Join(waiting, ", ")),
		Metadata:    map[string]string{},
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReadyToStartContainers {
			path := fmt.Sprintf("status.conditions[%d].status", i)
			evidence = slices.Insert(evidence, 0, heal.Evidence{Path: path, Value: string(c.Status)})
			f.Metadata["ready_to_start_containers"] = string(c.Status)
			if c.Status == corev1.ConditionFalse {
				f.Description += "; its sandbox, network or volumes are not there"
			}
		}
	}
	if claims := volumeClaims(pod); len(claims) > 0 {
		f.Hold = creatingVolumeHold
		f.Metadata["volume_claims"] = strings.Join(claims, ",")
	}
	for _, reason := range obstructions {
		e := facts.event(reason, "")
		if e == nil {
			continue
		}
		if f.Metadata["obstruction"] == "" { // the most telling
			f.Metadata["obstruction"] = obstruction(e)
			f.Description += "; " + e.Reason + ": " + e.Message
		}
		evidence = append(evidence, e.evidence())
	}
	f.Evidence = evidence
	return []Finding{f}
}

// obstruction is what an event says is in the way, in one word.
func obstruction(e *Event) string {
	switch e.Reason {
	case failedAttachVolume:
		if strings.Contains(e.Message, "Multi-Attach") {
			return "multi_attach"
		}
		return "volume_attach"
	case failedMount, failedMapVolume:
		return "volume_mount"
	case networkNotReady:
		return "network"
	}
	return "sandbox"
}

// creating reports whether a container waits for nothing but being created.
func creating(c container) bool {
	return c.State.Waiting != nil && slices.Contains([]string{"ContainerCreating", "PodInitializing"}, c.waits())
}

func volumeClaims(pod *corev1.Pod) []string {
	var names []string
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return names
}
