// Package detect recognises failures in Kubernetes objects.
//
// A detector is a pure function: it is given an object and the facts gathered
// around it, and says what is wrong with it now. It has no client, no clock
// and no memory, so its test is a table. How long something must last before
// it counts, and when it is over, is the business of package episode.
//
// One detector speaks for one state of a container. The field decides which:
//
//   - a container that waits is spoken for by the one detector that lists the
//     reason for which it waits;
//   - one that has ended belongs to init_failing, if it is an init container;
//   - one that runs belongs to oom_killed if its last ends were for want of
//     memory, or else to restarting if it keeps starting without having been
//     made to wait, or else to not_ready;
//   - unschedulable, stuck_creating and not_ready, which are about a pod as a
//     whole, are silent while a container of it is spoken for;
//   - once a pod is to go, only stuck_terminating speaks;
//   - while a node is not ready, only node_not_ready speaks, for the node and
//     for what runs on it.
//
// To add a detector, write it in a file of its own and list it in Pods, Nodes
// or Deployments below; nothing else changes. Its row in docs/failures.md is
// written by `go test ./internal/detect -update`.
package detect

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Everything that is looked for.
var (
	Pods = []Detector[*corev1.Pod]{
		crashLoop,
		restarting,
		oomKilled,
		imagePull,
		imageInvalid,
		configError,
		containerCreateError,
		initFailing,
		stuckCreating,
		unschedulable,
		notReady,
		stuckTerminating,
	}
	Nodes = []Detector[*corev1.Node]{
		nodeNotReady,
		nodePressure,
		networkUnavailable,
		nodeProblem,
	}
	Deployments = []Detector[*appsv1.Deployment]{
		deploymentStalled,
		deploymentUnavailable,
	}
)

// A Detector recognises one failure in objects of one kind.
type Detector[T any] struct {
	Name string           // stable; part of every episode's identity
	Row  string           // the rows of the failure catalogue that it covers
	Type heal.FailureType // of what it finds

	// For docs/failures.md, and for whoever must know what can come.
	Reasons []string // every reason that it gives
	Hold    string   // how long what it finds must last
	Excused string   // when that does not count

	// Find says what is wrong with obj now, one finding for each part of it.
	Find func(obj T, facts Facts) []Finding
	// Excuse says why nothing that Find finds in obj counts. Nil: everything counts.
	Excuse func(obj T, facts Facts) Excuse
	// Well reports whether a part that Find found earlier, and does not find
	// now, is seen to work. Nil: it is well as soon as it is not found.
	Well func(obj T, part string) bool
	// Clear is how long a part must be well before the failure is over.
	Clear func(Thresholds) time.Duration
}

// A Finding is what is wrong with one part of an object now.
type Finding struct {
	Part        string          // the container, …; empty for the whole object
	Reason      string          // CamelCase, stable
	Hold        time.Duration   // how long it must last before it counts; 0 counts at once
	Description string          // one sentence, for people
	Evidence    []heal.Evidence // the fields that show it
	Metadata    map[string]string
}

// Facts are what a detector may know besides the object itself.
type Facts struct {
	Now time.Time
	Thresholds

	// Of a pod.
	Restarts    map[string]int // by container: restarts that we saw within RestartWindow
	BackedOff   map[string]int // by container: how often we saw it begin to wait in CrashLoopBackOff within RestartWindow
	OOMKills    map[string]int // by container: ends for want of memory that we know of within OOMWindow
	NodeFailing bool           // the node it runs on is itself not ready

	// Of a node.
	SeenReady bool // we have seen it ready at least once

	// Of a deployment.
	RolloutSince time.Time // when we first saw its present revision
}

// Thresholds are the operator's settings that detectors use.
type Thresholds struct {
	PodCheckInterval     time.Duration
	PodRestartThreshold  int
	NodeCheckInterval    time.Duration
	NodeFailureThreshold int
}

// An Excuse says why what is found in an object is not counted as a failure.
type Excuse int

// The excuses.
const (
	None    Excuse = iota // it counts
	Leaving               // the object is done, or going away on purpose: nothing begins, and what began ends
	Masked                // somebody else's failure, or too early to tell: nothing begins, and nothing ends
)
