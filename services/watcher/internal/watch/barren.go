package watch

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// barren is the workloads that want pods and of which none is available, with
// their UIDs. They are few.
type barren map[ref]string

// note takes in how many pods a workload wants and has.
func (b *barren) note(k kind, obj metav1.Object, want, available int32) {
	r := ref{k.Version, k.Kind, obj.GetNamespace(), obj.GetName()}
	if want == 0 || available > 0 {
		delete(*b, r)
		return
	}
	if *b == nil {
		*b = barren{}
	}
	(*b)[r] = string(obj.GetUID())
}

func (b barren) forget(uid string) {
	maps.DeleteFunc(b, func(_ ref, of string) bool { return of == uid })
}

// bears reports whether the workload of a pod is not known to be barren. The
// Deployment of a ReplicaSet is told by its name: that of the latter is its own
// and the hash of the template.
func (b barren) bears(pod metav1.Object) bool {
	c := metav1.GetControllerOfNoCopy(pod)
	if c == nil {
		return true
	}
	r := ref{c.APIVersion, c.Kind, pod.GetNamespace(), c.Name}
	if i := strings.LastIndexByte(c.Name, '-'); c.Kind == "ReplicaSet" && i > 0 {
		r.Kind, r.Name = "Deployment", c.Name[:i]
	}
	_, known := b[r]
	return !known
}
