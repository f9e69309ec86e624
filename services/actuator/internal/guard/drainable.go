package guard

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// drainable refuses the pods of a node that draining it leaves alone. (Not
// k8s.io/kubectl/pkg/drain: it evicts without a UID precondition.) Pods of a
// Job go: the Job makes another elsewhere.
var drainable = Guard{Name: "drainable", Judge: func(f Facts) Verdict {
	if f.Pod == nil {
		return Veto("NotAPod", "%s is not a pod", f.Target)
	}
	owner := metav1.GetControllerOf(f.Pod)
	switch {
	case isMirror(f.Pod):
		return Moot("MirrorPod", "%s is a static pod of its node", f.Target)
	case f.Pod.Status.Phase == corev1.PodSucceeded, f.Pod.Status.Phase == corev1.PodFailed:
		return Moot("Completed", "%s has ended", f.Target)
	case owner == nil:
		return Veto("BarePod", "%s has no controller, so nobody would replace it", f.Target)
	case groupKind(*owner) == "apps/DaemonSet":
		return Moot("DaemonSetPod", "%s belongs to a DaemonSet, which would put it back", f.Target)
	case !replacers[groupKind(*owner)] && groupKind(*owner) != "batch/Job":
		return Veto("UnknownOwner", "%s belongs to %s %s (%s), which is not known to replace its pods",
			f.Target, owner.Kind, owner.Name, owner.APIVersion)
	case f.Gap != "":
		return Veto("OwnerGone", "%s: %s, so nobody would replace it", f.Target, f.Gap)
	}
	return Allow("%s %s replaces it", owner.Kind, owner.Name)
}}

// Movable reports whether a drain would move the pod, as far as the pod alone
// can tell.
func Movable(p *corev1.Pod) bool { return drainable.Judge(Facts{Pod: p}).Allowed() }
