package policy

import "github.com/selfheal/selfheal/pkg/heal"

// restartNeverCures keeps from acting on what is there again after every
// restart, and on what a restart makes worse: a pod that is made anew pulls its
// image again and loses its place in the queue of those that wait for a node.
// What would help is said instead, until the cause tells what to roll back.
var restartNeverCures = refinement{
	reason: reasonRestartNeverCures,
	refine: func(c Case, s heal.Strategy) (heal.Strategy, string, bool) {
		r, found := incurable[symptom{c.Failure.Type, c.Failure.Reason}]
		return heal.Monitor, r.why, found && s != heal.Monitor && s != r.cure
	},
}

const reasonRestartNeverCures = "RestartNeverCures"

// A symptom is what a failure looks like.
type symptom struct {
	of     heal.FailureType
	reason string // of the failure
}

// incurable is what no restart cures, why, and what cures it instead: a
// person, or the one strategy in cure. All reasons are those of Kubernetes or
// of our own watcher (docs/failures.md).
var incurable = map[symptom]struct {
	why  string
	cure heal.Strategy
}{
	{heal.PodFailure, "ImagePullBackOff"}:    {why: noPull},
	{heal.PodFailure, "ErrImagePull"}:        {why: noPull},
	{heal.PodFailure, "RegistryUnavailable"}: {why: noPull},
	{heal.PodFailure, "ImageInspectError"}:   {why: noPull},
	{heal.PodFailure, "InvalidImageName"}:    {why: "no restart makes the image's name valid; it must be corrected, or rolled back"},
	{heal.PodFailure, "ErrImageNeverPull"}: {
		why: "no restart brings the image to the node, and the pod forbids to pull it; the image must be loaded there, or imagePullPolicy changed",
	},
	{heal.PodFailure, "CreateContainerConfigError"}: {
		why: "no restart creates the ConfigMap, Secret or key that is missing; once it is there, the pod goes on by itself",
	},
	{heal.PodFailure, "CreateContainerError"}: {why: noCreate},
	{heal.PodFailure, "RunContainerError"}:    {why: noCreate},
	{heal.PodFailure, "ContainerCannotRun"}:   {why: noCreate},
	{heal.PodFailure, "StuckCreating"}: {
		why: "no restart mounts a volume, sets up a network or speeds up a download; the pod's Kubernetes events say what is missing",
	},
	{heal.PodFailure, "Unschedulable"}: {
		why: "a pod made anew fits on no node either; it needs room, or other requests, tolerations or affinities",
	},
	{heal.PodFailure, "StuckTerminating"}: {
		why: "the pod is deleted already; whoever put a finalizer on it must take it away, or its node must be looked at, and it is never deleted by force",
	},
	{heal.DeploymentFailure, "ProgressDeadlineExceeded"}: {
		why: "a restart starts pods of the same template; a revision that worked must be rolled back to", cure: heal.Rollback,
	},
}

const (
	noPull   = "no restart makes the image pullable, and each pulls again; it needs the right image, a pull secret, or its registry"
	noCreate = "no restart changes what the container runtime refuses; the container's command, mounts or security settings must be corrected, or rolled back"
)
