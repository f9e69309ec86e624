package guard

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// replacers are the controllers that are known to make another pod when one
// goes, by API group and kind: apps.kruise.io has StatefulSets too, whose
// rules we do not know.
var replacers = map[string]bool{
	"apps/ReplicaSet":        true,
	"apps/StatefulSet":       true,
	"apps/DaemonSet":         true,
	"/ReplicationController": true,
}

// owned refuses a pod that nobody would replace.
var owned = Guard{Name: "owned", Judge: func(f Facts) Verdict {
	if f.Pod == nil {
		return Allow("%s is not a pod", f.Target)
	}
	owner := metav1.GetControllerOf(f.Pod)
	switch {
	case isMirror(f.Pod):
		return Veto("MirrorPod", "%s is a static pod: only the kubelet of %s can restart it", f.Target, f.Pod.Spec.NodeName)
	case owner == nil && !mayRecreate(f):
		return Veto("BarePod", "%s has no controller, so nobody would replace it: delete and create it by hand, or permit us to with %s: \"true\" on it", f.Target, PermitRecreate)
	case owner == nil && f.Pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
		return Veto("RestartNever", "%s has restartPolicy Never: it is not meant to run again", f.Target)
	case owner == nil:
		return Allow("%s on it permits to make it anew from its own spec", PermitRecreate)
	case groupKind(*owner) == "batch/Job":
		return Veto("JobPod", "%s belongs to Job %s, which has a back-off limit of its own", f.Target, owner.Name)
	case !replacers[groupKind(*owner)]:
		return Veto("UnknownOwner", "%s belongs to %s %s (%s), which is not known to replace its pods",
			f.Target, owner.Kind, owner.Name, owner.APIVersion)
	case f.Pod.Spec.RestartPolicy == corev1.RestartPolicyNever:
		return Veto("RestartNever", "%s has restartPolicy Never: it is not meant to run again", f.Target)
	case f.Gap != "":
		return Veto("OwnerGone", "%s: %s, so nobody would replace it", f.Target, f.Gap)
	}
	for _, o := range f.Owners {
		if o.DeletionTimestamp != nil {
			return Moot("NoLongerWanted", "%s, which owns %s, is being deleted", o, f.Target)
		}
	}
	return Allow("%s %s replaces it", owner.Kind, owner.Name)
}}

// Bare reports whether the pod has no controller.
func Bare(p *corev1.Pod) bool { return metav1.GetControllerOf(p) == nil && !isMirror(p) }

// mayRecreate reports whether the pod, which has no controller, may be made
// anew. Only that very decision may: a drain would have nowhere to put it.
func mayRecreate(f Facts) bool {
	return f.Pod.Annotations[PermitRecreate] == "true" && f.Target.Same(f.Decision.Target)
}

// groupKind is the API group, without version, and the kind of an owner.
func groupKind(o metav1.OwnerReference) string {
	group, _, found := strings.Cut(o.APIVersion, "/")
	if !found {
		group = "" // "v1"
	}
	return group + "/" + o.Kind
}

// isMirror reports whether the pod only shows a static pod of its kubelet.
func isMirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}
