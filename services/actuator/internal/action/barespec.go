package action

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// bareSpec is what a pod is made from: without what the API server, the
// scheduler and the kubelet have added to it.
func bareSpec(p *corev1.Pod, decision string) corev1.PodTemplateSpec {
	p = p.DeepCopy()
	meta := metav1.ObjectMeta{Labels: p.Labels, Annotations: map[string]string{}, OwnerReferences: p.OwnerReferences}
	maps.Copy(meta.Annotations, p.Annotations)
	delete(meta.Annotations, "kubernetes.io/limit-ranger") // what it was given by default, it is given again
	meta.Annotations[heal.AnnotationOwnedBy] = heal.FieldManager
	meta.Annotations[heal.AnnotationDecisionID] = decision
	meta.Annotations[heal.AnnotationPrevious] = string(p.UID)

	spec := p.Spec
	spec.NodeName = ""
	spec.EphemeralContainers = nil // nobody may create a pod with them
	// These are computed from its priority class and its runtime class, and
	// given along they are refused if those have changed.
	spec.Priority, spec.PreemptionPolicy, spec.Overhead = nil, nil, nil
	dropToken(&spec)
	return corev1.PodTemplateSpec{ObjectMeta: meta, Spec: spec}
}

// dropToken takes out the volume with the service account's token, which the
// API server adds to every pod under a name that it makes up.
func dropToken(spec *corev1.PodSpec) {
	added := func(name string) bool { return strings.HasPrefix(name, "kube-api-access-") }
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Projected != nil && added(v.Name) })
	kept := func(name string) bool {
		return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			list[i].VolumeMounts = slices.DeleteFunc(list[i].VolumeMounts, func(m corev1.VolumeMount) bool { return added(m.Name) && !kept(m.Name) })
		}
	}
}

// newPod is the pod that a PodTemplate keeps.
func newPod(name string, t corev1.PodTemplateSpec) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: t.Labels, Annotations: t.Annotations, OwnerReferences: t.OwnerReferences,
	}, Spec: t.Spec}
}
