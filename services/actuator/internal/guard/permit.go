package guard

import "github.com/selfheal/selfheal/pkg/heal"

// The annotations that permit what is not done else, each up to a limit of its
// own.
const (
	PermitReplicas = heal.Domain + "/max-replicas" // how many replicas there may be
	PermitMemory   = heal.Domain + "/max-memory"   // how high the memory limit of a container may be
	PermitVolume   = heal.Domain + "/max-volume"   // on a claim: how large its volume may be
	PermitRecreate = heal.AnnotationRecreate       // on a pod without a controller
)

// Permit is what the nearest of the pod's owners, or else its namespace, says
// for an annotation that permits something, and which object it is on; false
// if none has it. The pod itself is not asked: its annotations are those of a
// template, or of whoever may make pods.
func Permit(f Facts, annotation string) (value, on string, permitted bool) {
	for _, o := range marked(f) {
		if f.Pod != nil && f.Live != nil && o.UID == f.Live.UID {
			continue
		}
		if value, ok := o.Annotations[annotation]; ok {
			return heal.Clean(value, 32), o.String(), true
		}
	}
	return "", "", false
}

// LeaveAlone is why an object beside the target must not be changed, such as
// the node of a pod: what a person forbade by a mark on it. It is empty if
// nobody did.
func LeaveAlone(f Facts, o Object) string {
	v := marks.Judge(Facts{Now: f.Now, Decision: f.Decision, Live: &o, Target: heal.Target{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)}})
	if v.Allowed() {
		return ""
	}
	return v.Detail
}
