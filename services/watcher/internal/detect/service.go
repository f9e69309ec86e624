package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Endpoints are what the EndpointSlices of a service hold together. Those that
// are about to end count as serving at most, so that a scale-down shrinks the
// total, and a failure does not.
type Endpoints struct {
	Known   bool      // there is at least one slice, so somebody has looked for endpoints
	Total   int       // that are not about to end
	Ready   int       // of these
	Serving int       // ready, or about to end and still answering
	Ports   []string  // names of the service's ports that any of them serves
	Had     bool      // there have been some since the service exists
	Proven  bool      // we have seen one ready
	Former  Level     // the last one that was steady; zero if none was seen
	Began   time.Time // when there were some again, after there had been none
}

// A Level is how many endpoints of a service were ready, of how many.
type Level struct{ Ready, Total int }

const (
	// serviceBootstrap is how long a service that never had a ready endpoint is
	// taken to be starting, or its workload to be still on its way.
	serviceBootstrap = 10 * time.Minute
	// serviceStart is how long pods are given that start from nothing: after
	// scaling from zero, or with strategy Recreate.
	serviceStart = 5 * time.Minute
)

const (
	serviceUncounted = "the service has no selector, is an ExternalName or headless, or publishes addresses that are not ready"
	serviceExcused   = "the service is deleted; it has no endpoint at all, and a workload that it selects is scaled to zero; " +
		"it never had a ready one and is younger than 10 min, or those it has, or will have, are starting from nothing, 5 min at most; not all slices have been read yet"
)

// counted reports whether the endpoints of a service say how it is. Without a
// selector they are somebody else's; a headless service is a directory; and
// one that publishes what is not ready says nothing about readiness.
func counted(s *corev1.Service) bool {
	return len(s.Spec.Selector) > 0 && s.Spec.Type != corev1.ServiceTypeExternalName &&
		s.Spec.ClusterIP != corev1.ClusterIPNone && !s.Spec.PublishNotReadyAddresses
}

// serviceExcuse is the event hygiene of services: one whose workload rests on
// purpose, or has not started yet, does not fail.
func serviceExcuse(s *corev1.Service, facts Facts) Excuse {
	e := facts.Endpoints
	switch {
	case s.DeletionTimestamp != nil, e.Total == 0 && facts.Idle:
		return Leaving
	case !facts.EndpointsRead,
		e.Ready == 0 && e.Total > 0 && facts.Now.Sub(e.Began) < serviceStart,
		e.Total == 0 && facts.Now.Sub(facts.Woke) < serviceStart,
		!e.Proven && facts.Now.Sub(s.CreationTimestamp.Time) < serviceBootstrap:
		return Masked
	}
	return None
}

// endpointEvidence is what shows how the endpoints of a service are. It names
// fields of its slices too, which are objects of their own.
func endpointEvidence(s *corev1.Service, e Endpoints) []heal.Evidence {
	return []heal.Evidence{
		{Path: "spec.selector", Value: labels.FormatLabels(s.Spec.Selector)},
		{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: fmt.Sprintf("%d of %d", e.Ready, e.Total)},
	}
}

func endpointMetadata(e Endpoints) map[string]string {
	return map[string]string{
		"ready":   strconv.Itoa(e.Ready),
		"total":   strconv.Itoa(e.Total),
		"serving": strconv.Itoa(e.Serving),
	}
}

// critical marks what should wake somebody, whatever its type weighs.
func critical(metadata map[string]string) map[string]string {
	metadata["critical"] = "true"
	return metadata
}
