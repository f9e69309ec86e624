package watch

import (
	"encoding/json"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// What is copied from the cluster into one message, at most.
const (
	maxMessage  = 8 << 10
	maxEvidence = 16
	maxMetadata = 16
)

// draft turns a finding into the message about it, but for what the Book and
// the owner chain add. Everything that others could have written is cleaned.
func draft(k kind, obj metav1.Object, node, detector string, t heal.FailureType, f detect.Finding) heal.Failure {
	failure := heal.Failure{
		Type:         t,
		Reason:       f.Reason,
		Severity:     t.BaseSeverity(),
		ResourceName: obj.GetName(),
		Namespace:    obj.GetNamespace(),
		Description:  clip(f.Description),
		Target: heal.Target{
			APIVersion: k.Version, Kind: k.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(),
			UID: string(obj.GetUID()), ResourceVersion: obj.GetResourceVersion(),
		},
		Owner:    controller(obj),
		Node:     node,
		Detector: detector,
		Metadata: map[string]string{},
	}
	for _, e := range f.Evidence[:min(len(f.Evidence), maxEvidence)] {
		failure.Evidence = append(failure.Evidence, heal.Evidence{Path: clip(e.Path), Value: clip(e.Value)})
	}
	keys := slices.Sorted(maps.Keys(f.Metadata))
	for _, key := range keys[:min(len(keys), maxMetadata)] {
		failure.Metadata[clip(key)] = clip(f.Metadata[key])
	}
	return fit(failure)
}

// fit drops the least telling parts of f until it is short enough to be sent.
func fit(f heal.Failure) heal.Failure {
	for {
		data, err := json.Marshal(f)
		if err != nil || len(data) <= maxMessage {
			return f
		}
		switch {
		case len(f.Evidence) > 1:
			f.Evidence = f.Evidence[:len(f.Evidence)/2]
		case len(f.Metadata) > 0:
			f.Metadata = nil
		default:
			return f // names and identifiers, all bounded by Kubernetes
		}
	}
}

// controller is the object that controls obj, or nothing. Anybody may write
// anything into an owner reference of his own pod: one that names no possible
// object would make the whole message invalid, and counts as none.
func controller(obj metav1.Object) heal.Target {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil {
		return heal.Target{}
	}
	owner := heal.Target{APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: obj.GetNamespace(), Name: ref.Name, UID: string(ref.UID)}
	if owner.Kind == "Node" && owner.APIVersion == "v1" { // of a static pod; it has no namespace
		owner.Namespace = ""
	}
	if owner.Validate("owner") != nil {
		return heal.Target{}
	}
	return owner
}
