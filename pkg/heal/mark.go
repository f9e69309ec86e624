package heal

import (
	"maps"
	"slices"
	"strings"
)

// What a watcher puts into a failure's metadata of what speaks against acting
// on it: the annotations of people on what is affected and its namespace, of
// which the tightest counts, who declares its template, and whether a pod
// without a controller may be made anew. It is there so that
// a decision can take it into account; whoever acts reads the objects again.
const (
	MetadataMode      = "mode"       // of AnnotationMode: as it is written, if that is no mode
	MetadataHoldUntil = "hold_until" // of AnnotationHoldUntil: as it is written, if that is no time
	MetadataManagedBy = "managed_by" // who puts back what is changed in the cluster: "Argo CD", "Flux"
	MetadataRecreate  = "recreate"   // there if AnnotationRecreate permits it
)

// MetadataConfigChanged is the key in a Failure's metadata of the ConfigMap or
// Secret that its pod reads and that was changed last, and when: "ConfigMap web
// at 2026-11-22T12:00:00Z".
const MetadataConfigChanged = "config_changed"

// Reasons for which an object is left alone, of decisions and of results.
const (
	ReasonMarkedOff       = "MarkedOff"       // an annotation says off, or nothing that is known
	ReasonMarkedObserve   = "MarkedObserve"   // an annotation says observe
	ReasonHeld            = "Held"            // an annotation says until when
	ReasonManagedByGitOps = "ManagedByGitOps" // the change would be put back; it is proposed
)

// managers are those that put back what somebody else changes in the cluster,
// by how they call themselves as field managers, and by what their labels and
// annotations begin with.
var managers = []struct {
	name   string
	fields []string
	marks  []string
}{
	{"Argo CD", []string{"argocd-controller", "argocd-application-controller"}, []string{"argocd.argoproj.io/"}},
	{"Flux", []string{"kustomize-controller", "helm-controller"}, []string{"kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/"}},
}

// ManagedBy names who would put back what is changed of an object with these
// labels, annotations and field managers, and what shows it; empty if nobody is
// known to.
func ManagedBy(labels, annotations map[string]string, fieldManagers []string) (who, seen string) {
	for _, m := range managers {
		for _, all := range []map[string]string{labels, annotations} {
			for _, key := range slices.Sorted(maps.Keys(all)) {
				if slices.ContainsFunc(m.marks, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
					return m.name, key + ": " + Clean(all[key], 64)
				}
			}
		}
		for _, field := range fieldManagers {
			if slices.Contains(m.fields, field) {
				return m.name, "field manager " + field
			}
		}
	}
	return "", ""
}
