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
//     reason for which it waits; but one that waits in CrashLoopBackOff since
//     its liveness probe or its postStart hook fails, as Kubernetes' own events
//     say, belongs to liveness_killed or hook_failing;
//   - one that has ended belongs to init_failing, if it is an init container;
//   - one that runs belongs to oom_killed if its last ends were for want of
//     memory, or else to liveness_killed, or else to restarting if it keeps
//     starting without having been made to wait, or else to not_ready, or else,
//     if all of its pod works, to hook_failing for its preStop hook;
//   - unschedulable, stuck_creating and not_ready, which are about a pod as a
//     whole, are silent while a container of it is spoken for;
//   - a pod that has failed for good belongs to bare_pod_failed if nobody makes
//     it anew, or else to evicted or leftover, by its reason;
//   - a static pod belongs to static_pod_failing, whatever is wrong with it;
//   - once a pod is to go, only stuck_terminating speaks;
//   - while a node is not ready, only node_not_ready speaks, for the node and
//     for what runs on it (P17), or else node_never_ready, if it never was. A
//     finding about a node of the control plane (N12), or about one that its
//     provider replaces by himself, says so in its metadata;
//   - of a service behind which nothing is ready, only service_unavailable
//     speaks, or dns_unavailable if it is the cluster's DNS: not of its ports,
//     and not of how much of it is left. That its pods are not ready is told of
//     them, and that a webhook or an API behind it does not answer, of these;
//   - of a workload as a whole, the first that fits speaks: *_unobserved while
//     its status is of an older generation, replicas_refused while its pods may
//     not be created (of stateful sets and daemon sets, which do not say that
//     themselves, *_refused), *_stalled of a roll-out, *_unavailable when nothing is
//     left, *_degraded when something is missing. What ails its pods is told of
//     them as well: those are other objects;
//   - of an autoscaler that has no metrics, only autoscaler_blind speaks;
//   - in a namespace that is being deleted nobody speaks (package watch sees to it).
//
// To add a detector, write it in a file of its own and list it with its
// kind below; nothing else changes. Its row in docs/failures.md is
// written by `go test ./internal/detect -update`.
package detect

import (
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

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
		hookFailing,
		initFailing,
		stuckCreating,
		unschedulable,
		notReady,
		livenessKilled,
		stuckTerminating,
		evicted,
		leftover,
		barePodFailed,
		staticPodFailing,
		memoryNearLimit,
	}
	Nodes = placed([]Detector[*corev1.Node]{
		nodeNotReady,
		nodePressure,
		networkUnavailable,
		nodeProblem,
		accelerator,
		nodeFlapping,
		nodeRebooted,
		nodeNeverReady,
		forgottenCordon,
		nodeSuspected,
		kubeletCertificate,
		kubeletSkew,
		nodeUsage,
	})
	Deployments = []Detector[*appsv1.Deployment]{
		deploymentStalled,
		deploymentUnavailable,
		deploymentDegraded,
		replicasRefused,
		deploymentUnobserved,
	}
	ReplicaSets = append(yielding(replicaSetRefused,
		replicaSetUnavailable,
		replicaSetDegraded,
	), replicaSetUnobserved)
	StatefulSets = append(yielding(statefulSetRefused,
		statefulSetStalled,
		statefulSetUnavailable,
		statefulSetDegraded,
	), statefulSetUnobserved)
	DaemonSets = append(yielding(daemonSetRefused,
		daemonSetStalled,
		daemonSetUnavailable,
	), daemonSetMisscheduled, daemonSetUnobserved)
	Jobs        = []Detector[*batchv1.Job]{jobFailed, jobRefused}
	CronJobs    = []Detector[*batchv1.CronJob]{cronJobMissed}
	Autoscalers = []Detector[*autoscalingv2.HorizontalPodAutoscaler]{autoscalerLimited, autoscalerBlind, autoscalerUnobserved}
	Budgets     = []Detector[*policyv1.PodDisruptionBudget]{budgetBlocking, budgetUnobserved}
	Services    = []Detector[*corev1.Service]{
		serviceUnavailable,
		servicePort,
		serviceDegraded,
		loadBalancerPending,
		dnsUnavailable,
	}
	ValidatingWebhooks = []Detector[*admissionv1.ValidatingWebhookConfiguration]{validatingWebhookDown}
	MutatingWebhooks   = []Detector[*admissionv1.MutatingWebhookConfiguration]{mutatingWebhookDown}
	APIServices        = []Detector[*apiregistrationv1.APIService]{apiUnavailable}
	Claims             = []Detector[*corev1.PersistentVolumeClaim]{claimUnbound, claimLost, volumeFilling}
	Volumes            = []Detector[*corev1.PersistentVolume]{volumeFailed}
	Attachments        = []Detector[*storagev1.VolumeAttachment]{attachStuck}
	Quotas             = []Detector[*corev1.ResourceQuota]{quotaExhausted}
	Namespaces         = []Detector[*corev1.Namespace]{headroomLost}
)

// A Detector recognises one failure in objects of one kind.
type Detector[T any] struct {
	Name string           // stable; part of every episode's identity
	Row  string           // the rows of the failure catalogue that it covers
	Type heal.FailureType // of what it finds
	// Severity of what it finds, if that weighs less than its type: nothing
	// fails now, and it is only said.
	Severity heal.Severity

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
	// BlamesNode says that what is found in a pod can be its node's fault.
	BlamesNode bool
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
	NodeOOM     *Event         // the node it runs on itself ran out of memory; nil if it did not of late
	Events      []Event        // Kubernetes events about it, the last of each kind
	NoneReady   bool           // its controller wants pods, and none of them is ready

	// Of a node.
	SeenReady         bool      // we have seen it ready at least once
	ReadyChanges      int       // how often we saw it become ready or cease to be within FlapWindow
	Rebooted          time.Time // when we saw it come up anew; zero if we did not
	CordonSeen        time.Time // when we first saw its present cordon; zero if it has none
	InHand            time.Time // when we last saw it so; zero if we did not
	Accusers          []string  // workloads that fail on this node only, sorted
	AccusersElsewhere int       // how many there are of the node that has the most besides it
	Nodes             int       // of the cluster
	ServerVersion     string    // of the API server; empty if it is not known
	NewestKubelet     string    // of all nodes; empty if none is known

	// Of a deployment, stateful set or daemon set.
	RolloutSince  time.Time // when we first saw its present revision
	ScaledSince   time.Time // when we first saw it ask for so many replicas as it does now
	FromZero      bool      // before that it asked for none
	ProgressSince time.Time // when a roll-out, or the making of its replicas, last came further
	NodesAway     int       // nodes that are not ready, cordoned, leaving, or ready for less than 5 min
	Draining      bool      // nodes have been taken away, or lost, within the last hour

	// Of a job.
	Succeeded    time.Time // when a run of the cron job that made it last did; zero if it never has
	CronJobKnown bool      // … and that is known, or nothing made it

	// Of a cron job.
	Schedule     Schedule  // nil if it cannot be read, or its time zone is not known here
	Unparseable  bool      // its schedule cannot be read by anybody
	WaitingSince time.Time // when we saw its spec change; zero if it has not since we first saw it

	// Of a disruption budget.
	Held []Held // the pods of it on cordoned nodes

	// Of a service, and of whatever calls one.
	EndpointsRead bool               // all EndpointSlices have been read
	Endpoints     Endpoints          // what its slices hold
	Idle          bool               // a workload that it selects is scaled to zero
	Woke          time.Time          // when one that was so was scaled up; zero if none was
	Backends      map[Backend]Backed // of a webhook configuration: the services that it calls

	// Of a claim.
	StorageClass StorageClass // that it asks for

	// Of a node, a pod or a claim: what too much is used of, by part.
	Usage map[string]Usage

	// Of the cluster.
	Capacity Capacity
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
