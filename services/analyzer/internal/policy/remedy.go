package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A symptom is what a failure looks like.
type symptom struct {
	of     heal.FailureType
	reason string // of the failure
}

// A remedy is what may ever help against a symptom (the columns "right
// recovery" and "when not to act" of the failure catalogue). What the table of
// the policy asks for, and the remedy does not have, is only watched.
type remedy struct {
	may    []heal.Strategy // nil: nothing that we can do
	reason string          // of a decision that is refused: CamelCase, stable
	why    string          // a clause: why nothing else helps, and what would
	role   Role
	permit string // metadata of the failure, without which nothing helps
	record bool   // nothing is broken: it weighs little, however often it comes, and nobody is woken
}

// A Role is what a failure is to the others of the same owner, or of what
// depends on it.
type Role int

// The roles.
const (
	Single  Role = iota // a trouble of its own
	Leads               // what its pods suffer from follows from it
	Follows             // it follows from what its pods suffer from, while any does
)

// Reasons of decisions that a remedy refuses.
const (
	reasonRestartNeverCures = "RestartNeverCures"     // it is there again after every restart
	reasonPeopleOnly        = "NeedsAPerson"          // what helps needs a right or a knowledge that we do not have
	reasonPodsActedUpon     = "PodsAreActedUpon"      // what its pods suffer from is acted upon
	reasonKubelets          = "PressureIsTheKubelets" // the kubelet does it itself
	reasonSelfHeals         = "HealsByItself"         // a controller of Kubernetes does it already
	reasonNoRecovery        = "NoRecoveryForKind"     // for objects of the kind there is none
	reasonJobs              = "JobsRetryThemselves"   // the Job has a back-off of its own
)

var (
	podStrategies      = []heal.Strategy{heal.Restart, heal.Recreate, heal.ScaleAndReplace}
	nodeStrategies     = []heal.Strategy{heal.Restart, heal.DrainAndReplace, heal.EmergencyReplace}
	workloadStrategies = []heal.Strategy{heal.Restart, heal.Rollback}
	serviceStrategies  = []heal.Strategy{heal.Restart, heal.Failover, heal.EmergencyFailover}
	rollback           = []heal.Strategy{heal.Rollback}
	relieve            = []heal.Strategy{heal.Relieve}
)

func may(s []heal.Strategy) remedy { return remedy{may: s} }

func watch(reason, why string) remedy { return remedy{reason: reason, why: why} }

// remedies is what helps against everything that our own watcher can announce
// (docs/failures.md; a test in test/contract compares them), and against what
// Kubernetes itself names so. To a symptom that is not here, as one of
// somebody's own detector, the policy's table applies as it is.
var remedies = map[symptom]remedy{
	// Pods.
	{heal.PodFailure, "CrashLoopBackOff"}:     may(append(slices.Clone(podStrategies), heal.Resize)), // one that runs out of memory at once
	{heal.PodFailure, "Restarting"}:           may(podStrategies),
	{heal.PodFailure, "InitContainerFailing"}: may(podStrategies),
	{heal.PodFailure, "ContainersNotReady"}:   may(podStrategies),
	{heal.PodFailure, "LivenessProbeFailed"}:  may([]heal.Strategy{heal.Recreate, heal.ScaleAndReplace}).unless(reasonSelfHeals, "the kubelet restarts it already, each time its liveness probe fails; the probe or the program must be looked at"),
	{heal.PodFailure, "OOMKilled"}:            may([]heal.Strategy{heal.Restart, heal.Resize}).unless(reasonMoreMemory, "it ran out of memory again; it needs a higher memory limit, or its leak mended"),

	{heal.PodFailure, "ImagePullBackOff"}:    watch(reasonRestartNeverCures, noPull),
	{heal.PodFailure, "ErrImagePull"}:        watch(reasonRestartNeverCures, noPull),
	{heal.PodFailure, "RegistryUnavailable"}: watch(reasonRestartNeverCures, noPull),
	{heal.PodFailure, "ImageInspectError"}:   watch(reasonRestartNeverCures, noPull),
	{heal.PodFailure, "InvalidImageName"}:    watch(reasonRestartNeverCures, "no restart makes the image's name valid; it must be corrected, or rolled back"),
	{heal.PodFailure, "ErrImageNeverPull"}: watch(reasonRestartNeverCures,
		"no restart brings the image to the node, and the pod forbids to pull it; the image must be loaded there, or imagePullPolicy changed"),
	{heal.PodFailure, "CreateContainerConfigError"}: watch(reasonRestartNeverCures,
		"no restart creates the ConfigMap, Secret or key that is missing; once it is there, the pod goes on by itself"),
	{heal.PodFailure, "CreateContainerError"}: watch(reasonRestartNeverCures, noCreate),
	{heal.PodFailure, "RunContainerError"}:    watch(reasonRestartNeverCures, noCreate),
	{heal.PodFailure, "ContainerCannotRun"}:   watch(reasonRestartNeverCures, noCreate),
	{heal.PodFailure, "PostStartHookError"}:   watch(reasonRestartNeverCures, noHook),
	{heal.PodFailure, "FailedPostStartHook"}:  watch(reasonRestartNeverCures, noHook),
	{heal.PodFailure, "FailedPreStopHook"}:    watch(reasonRestartNeverCures, noHook),
	{heal.PodFailure, "StuckCreating"}: watch(reasonRestartNeverCures,
		"no restart mounts a volume, sets up a network or speeds up a download; the pod's Kubernetes events say what is missing"),
	{heal.PodFailure, "Unschedulable"}: watch(reasonRestartNeverCures,
		"a pod made anew fits on no node either; it needs room, or other requests, tolerations or affinities"),
	{heal.PodFailure, "StuckTerminating"}: watch(reasonRestartNeverCures,
		"the pod is deleted already; whoever put a finalizer on it must take it away, or its node must be looked at, and it is never deleted by force"),
	{heal.PodFailure, "Evicted"}:       watch(reasonSelfHeals, noEvicted),
	{heal.PodFailure, "LeftoverPod"}:   may([]heal.Strategy{heal.Recreate}).unless(reasonSelfHeals, "its owner has made another already; what is left of it needs only to be deleted"),
	{heal.PodFailure, "OOMKilledOnce"}: watch(reasonSelfHeals, "it ran out of memory once, and the kubelet has restarted it"),
	{heal.PodFailure, "BarePodFailed"}: may(podStrategies).unless(reasonPeopleOnly, "nobody makes a pod without a controller anew, so it is neither evicted nor deleted unless "+heal.AnnotationRecreate+" on it permits us to").permittedBy(heal.MetadataRecreate),
	{heal.PodFailure, "StaticPodFailing"}: watch(reasonPeopleOnly,
		"it is a static pod: only its manifest on the node changes anything, and deleting it here has no effect"),

	// Nodes.
	{heal.NodeFailure, "KubeletNotReady"}:            leads(nodeStrategies),
	{heal.NodeFailure, "NodeStatusUnknown"}:          leads(nodeStrategies),
	{heal.NodeFailure, "NodeNotReady"}:               leads(nodeStrategies),
	{heal.NodeFailure, "NetworkUnavailable"}:         leads(nodeStrategies),
	{heal.NodeFailure, "ReadonlyFilesystem"}:         leads(nodeStrategies),
	{heal.NodeFailure, "KernelDeadlock"}:             leads(nodeStrategies),
	{heal.NodeFailure, "ContainerRuntimeUnhealthy"}:  leads(nodeStrategies),
	{heal.NodeFailure, "KubeletUnhealthy"}:           leads(nodeStrategies),
	{heal.NodeFailure, "FrequentKubeletRestart"}:     leads(nodeStrategies),
	{heal.NodeFailure, "FrequentContainerdRestart"}:  leads(nodeStrategies),
	{heal.NodeFailure, "PLEGUnhealthy"}:              {role: Leads, reason: reasonPeopleOnly, why: "the container runtime answers its kubelet too slowly; a person must look at the node, which may only be overloaded, and its pods run meanwhile"},
	{heal.NodeFailure, "NodeSuspected"}:              watch(reasonPeopleOnly, "the node itself says that it is well, and no number of failing pods earns an action on a node; the pods that fail on it are moved"),
	{heal.NodeFailure, "NodeFlapping"}:               watch(reasonPeopleOnly, "a node that comes and goes is not replaced again and again; a person must look why"),
	{heal.NodeFailure, "NodeNeverReady"}:             watch(reasonPeopleOnly, "a node that never worked runs nothing that could be saved; its provider must take it back"),
	{heal.NodeFailure, "NodeRebooted"}:               watch(reasonSelfHeals, "the node is up again").asRecord(),
	{heal.NodeFailure, "ForgottenCordon"}:            watch(reasonPeopleOnly, "only who cordoned the node knows whether it may be used again").asRecord(),
	{heal.NodeFailure, "KubeletCertificateExpiring"}: watch(reasonPeopleOnly, "the kubelet's certificate must be renewed on the node"),
	{heal.NodeFailure, "KubeletVersionSkew"}:         watch(reasonPeopleOnly, "nothing fails yet: the node must be brought to a version that Kubernetes supports with that of the API server").asRecord(),
	{heal.NodeFailure, "AcceleratorUnhealthy"}:       watch(reasonPeopleOnly, "who brought the accelerator repairs it, and two who repair fight each other"),
	{heal.NodeFailure, "MemoryPressure"}:             watch(reasonKubelets, noPressure),
	{heal.NodeFailure, "DiskPressure"}:               watch(reasonKubelets, noPressure),
	{heal.NodeFailure, "PIDPressure"}:                watch(reasonKubelets, noPressure),
	{heal.ResourceExhaustion, "MemoryPressure"}:      may(relieve).unless(reasonKubelets, noPressure),
	{heal.ResourceExhaustion, "DiskPressure"}:        may(relieve).unless(reasonKubelets, noPressure),
	{heal.ResourceExhaustion, "PIDPressure"}:         may(relieve).unless(reasonKubelets, noPressure),

	// Workloads.
	{heal.DeploymentFailure, "ProgressDeadlineExceeded"}: {
		may: rollback, role: Leads, reason: reasonRestartNeverCures,
		why: "a restart starts pods of the same template; a revision that worked must be rolled back to",
	},
	{heal.DeploymentFailure, "MinimumReplicasUnavailable"}: {
		role: Follows, reason: reasonPodsActedUpon,
		why: "that no replica is available does not say why; what its pods suffer from is acted upon",
	},

	{heal.DeploymentFailure, "RolloutStalled"}: {
		may: rollback, role: Leads, reason: reasonRestartNeverCures,
		why: "a restart starts pods of the same template; a revision that worked must be rolled back to",
	},
	{heal.DeploymentFailure, "ReplicasMissing"}:       followsPods,
	{heal.DeploymentFailure, "NoReplicasReady"}:       followsPods,
	{heal.DeploymentFailure, "PodsUnavailable"}:       followsPods,
	{heal.DeploymentFailure, "FailedCreate"}:          watch(reasonPeopleOnly, "no restart changes who refuses to create its pods: a quota, a webhook, a service account or a security policy"),
	{heal.DeploymentFailure, "PodsMisscheduled"}:      watch(reasonPeopleOnly, "pods run where the template does not want them; the node's labels or the template must be looked at"),
	{heal.DeploymentFailure, "GenerationNotObserved"}: watch(reasonPeopleOnly, "its controller does not look at it: the control plane must be looked at, and nothing is done through it meanwhile"),
	{heal.DeploymentFailure, "DrainBlocked"}:          watch(reasonPeopleOnly, "the disruption budget lets no pod go, and we keep to it; the budget or the workload must change"),

	// Jobs and what scales workloads. Their kinds have no recovery at all.
	{heal.DeploymentFailure, "BackoffLimitExceeded"}:             watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "DeadlineExceeded"}:                 watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "PodFailurePolicy"}:                 watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "MaxFailedIndexesExceeded"}:         watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "FailedIndexes"}:                    watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "JobFailed"}:                        watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "RunsMissed"}:                       watch(reasonJobs, noRerun),
	{heal.DeploymentFailure, "UnparseableSchedule"}:              watch(reasonPeopleOnly, "the schedule must be corrected"),
	{heal.DeploymentFailure, "FailedGetResourceMetric"}:          watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "FailedGetContainerResourceMetric"}: watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "FailedGetPodsMetric"}:              watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "FailedGetObjectMetric"}:            watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "FailedGetExternalMetric"}:          watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "InvalidMetricSourceType"}:          watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "InvalidSelector"}:                  watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "AmbiguousSelector"}:                watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "FailedGetScale"}:                   watch(reasonPeopleOnly, noScaling),
	{heal.DeploymentFailure, "FailedUpdateScale"}:                watch(reasonPeopleOnly, noScaling),
	{heal.ResourceExhaustion, "TooManyReplicas"}:                 watch(reasonPeopleOnly, "the autoscaler is at its maximum; whether it may grow is for who pays for it to say"),

	// Volumes, quotas and room.
	{heal.ResourceExhaustion, "Evicted"}:              watch(reasonSelfHeals, noEvicted),
	{heal.ResourceExhaustion, "AttachFailed"}:         watch(reasonSelfHeals, noAttach),
	{heal.ResourceExhaustion, "DetachFailed"}:         watch(reasonSelfHeals, noAttach),
	{heal.ResourceExhaustion, "ClaimLost"}:            watch(reasonPeopleOnly, noVolume),
	{heal.ResourceExhaustion, "VolumeFailed"}:         watch(reasonPeopleOnly, noVolume),
	{heal.ResourceExhaustion, "ProvisioningPending"}:  watch(reasonPeopleOnly, noProvision),
	{heal.ResourceExhaustion, "StorageClassNotFound"}: watch(reasonPeopleOnly, noProvision),
	{heal.ResourceExhaustion, "NoVolumeFits"}:         watch(reasonPeopleOnly, noProvision),
	{heal.ResourceExhaustion, "VolumeNearlyFull"}:     may([]heal.Strategy{heal.Resize, heal.Relieve}), // as far as the claim permits
	{heal.ResourceExhaustion, "NodeCPUHigh"}:          watch(reasonPeopleOnly, noBusy),
	{heal.ResourceExhaustion, "NodeMemoryHigh"}:       watch(reasonPeopleOnly, noBusy),
	{heal.ResourceExhaustion, "ContainerMemoryNearLimit"}: may([]heal.Strategy{heal.Resize}).unless(reasonMoreMemory,
		"it comes near its memory limit; only a higher limit helps, or less use"),
	{heal.ResourceExhaustion, "QuotaExhausted"}: watch(reasonPeopleOnly, "a quota is a decision of people, and is never raised by us"),
	{heal.ResourceExhaustion, "HeadroomLost"}:   watch(reasonPeopleOnly, "what is missing is room in the cluster, and no pod that is moved makes any"),

	// Services.
	{heal.ServiceFailure, "NoReadyEndpoints"}:       followsOr(serviceStrategies),
	{heal.ServiceFailure, "EndpointsLost"}:          followsOr(serviceStrategies),
	{heal.ServiceFailure, "EndpointsDegraded"}:      followsOr(nil),
	{heal.ServiceFailure, "SelectorMatchesNothing"}: watch(reasonPeopleOnly, "no restart makes pods match the service's selector; the labels or the selector must be corrected, and we invent neither"),
	{heal.ServiceFailure, "PortMismatch"}:           watch(reasonPeopleOnly, "no restart gives the pods the port that the service names; one of both must be corrected"),
	{heal.ServiceFailure, "LoadBalancerPending"}:    watch(reasonPeopleOnly, "the load balancer is its provider's; the service's Kubernetes events say what it refuses"),
	{heal.ServiceFailure, "ClusterDNSUnavailable"}:  watch(reasonPeopleOnly, "the cluster's DNS lives in a protected namespace: a person must look at once, as most other failures follow from this one"),
	{heal.ServiceFailure, "APIServiceUnavailable"}:  watch(reasonPeopleOnly, "who serves this part of the API must be brought back; everything that asks it waits meanwhile"),
	{heal.ServiceFailure, "WebhookBackendDown"}:     watch(reasonPeopleOnly, "a webhook is never changed by us; its service must be brought back, or a person must let it fail open"),
}

const (
	noPull      = "no restart makes the image pullable, and each pulls again; it needs the right image, a pull secret, or its registry"
	noCreate    = "no restart changes what the container runtime refuses; the container's command, mounts or security settings must be corrected, or rolled back"
	noHook      = "no restart mends the container's lifecycle hook; it must be corrected, or rolled back"
	noPressure  = "the kubelet evicts pods itself until the node has room; if that does not last, requests and limits must fit what is used"
	noBusy      = "the node is busy, and not broken; to move its pods would make the next one busy: it needs room, or requests that fit"
	noEvicted   = "the kubelet evicted it to protect its node, and its owner makes another; if that repeats, it needs requests and limits that fit"
	noRerun     = "a Job retries by itself, and to run one again may do what it does twice"
	noScaling   = "the autoscaler does not get what it asks for; its metrics, or its settings, must be brought back"
	noVolume    = "data may be lost: nothing is done by itself"
	noProvision = "no recovery makes a volume; the storage class, its provisioner or the claim must be looked at"
	noAttach    = "the volume is attached to another node still; Kubernetes detaches it after 6 minutes, and force would risk two writers"
)

// followsPods is for workloads that lack pods without saying why.
var followsPods = remedy{
	role: Follows, reason: reasonPodsActedUpon,
	why: "that pods of it are missing does not say why; what its pods suffer from is acted upon",
}

func leads(s []heal.Strategy) remedy { return remedy{may: s, role: Leads} }

// followsOr is for services: their pods are what is broken, and besides only
// what is behind them can be started anew, or traffic be moved.
func followsOr(s []heal.Strategy) remedy {
	return remedy{may: s, role: Follows, reason: reasonPodsActedUpon, why: "a service is as well as its pods; what they suffer from is acted upon"}
}

func (r remedy) unless(reason, why string) remedy {
	r.reason, r.why = reason, why
	return r
}

func (r remedy) permittedBy(metadata string) remedy {
	r.permit = metadata
	return r
}

// recoverable are the kinds of objects for which there is any recovery, by
// type of failure, and which. Everything else, as a Job, a CronJob, a namespace
// or an aggregated API, is only watched. It is what the actuator can do; a test
// in test/contract compares them.
var recoverable = map[heal.FailureType]map[string][]heal.Strategy{
	heal.PodFailure:        {"Pod": append(slices.Clone(podStrategies), heal.Resize)},
	heal.NodeFailure:       {"Node": nodeStrategies},
	heal.DeploymentFailure: {"Deployment": workloadStrategies, "StatefulSet": workloadStrategies, "DaemonSet": workloadStrategies},
	heal.ServiceFailure:    {"Service": serviceStrategies},
	heal.ResourceExhaustion: {
		"Pod": {heal.Resize}, "Node": relieve, "PersistentVolumeClaim": {heal.Resize, heal.Relieve},
	},
}

// asRecord is r of what is only told so that it is known.
func (r remedy) asRecord() remedy {
	r.record = true
	return r
}

// isRecord reports whether a failure only says what was or will be.
func isRecord(f heal.Failure) bool { return remedies[symptom{f.Type, f.Reason}].record }

// RoleOf is what a failure is to others. A node that fails in a way that we
// have no word for leads as well.
func RoleOf(t heal.FailureType, reason string) Role {
	r, known := remedies[symptom{t, reason}]
	if !known && t == heal.NodeFailure {
		return Leads
	}
	return r.role
}

// Page is the table as a page for people, docs/remedies.md.
func Page() string {
	var b strings.Builder
	b.WriteString(pageHead)
	symptoms := slices.SortedFunc(maps.Keys(remedies), func(a, b symptom) int {
		return cmp.Or(cmp.Compare(slices.Index(heal.FailureTypes, a.of), slices.Index(heal.FailureTypes, b.of)), cmp.Compare(a.reason, b.reason))
	})
	for _, s := range symptoms {
		r, may := remedies[s], "–"
		if len(r.may) > 0 {
			names := make([]string, len(r.may))
			for i, m := range r.may {
				names[i] = "`" + string(m) + "`"
			}
			may = strings.Join(names, ", ")
		}
		otherwise := ""
		if r.reason != "" {
			otherwise = "`" + r.reason + "`: " + r.why
		}
		weighs := ""
		if r.record {
			weighs = "`low`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n", s.of, s.reason, may, [...]string{"", "leads", "follows"}[r.role], weighs, otherwise)
	}
	return b.String()
}

const pageHead = `# What may help

Generated from the table of remedies in ` + "`services/analyzer/internal/policy/remedy.go`" + `; do not edit it, run
` + "`go test ./internal/policy -update` in `services/analyzer`" + `.

For each failure that the watcher can announce (docs/failures.md): the strategies that may ever help against it. What the
policy's table asks for besides is only watched, with the reason beside it. A failure that *leads* is acted upon instead of
the pods that suffer from it; one that *follows* is not acted upon while what it follows from goes on.

A failure of another name is treated as the policy's table says. Nothing is done to an object of a kind that there is no
recovery for (` + "`NoRecoveryForKind`" + `), nor to pods of Jobs (` + "`JobsRetryThemselves`" + `). A cause that is known well enough
comes before all this.

A failure weighs what the policy's table says of its type and of those like it. One with a *severity* here is only a record,
of something that is not broken: it weighs that, however often it comes, unless a rule says otherwise.

| type | reason | may help | role | severity | otherwise |
|---|---|---|---|---|---|
`

// byRemedy lets only through what may help.
func byRemedy(c Case, s heal.Strategy) (better heal.Strategy, reason, why string, applies bool) {
	if s == heal.Monitor {
		return s, "", "", false
	}
	f := c.Failure
	can, some := recoverable[f.Type][f.Target.Kind]
	if f.Target.Kind != "" && !some {
		kinds := slices.Sorted(maps.Keys(recoverable[f.Type]))
		return heal.Monitor, reasonNoRecovery, fmt.Sprintf("there is no recovery for a %s, only for %s: it goes to people", heal.Clean(f.Target.Kind, 64), strings.Join(kinds, ", ")), true
	}
	if f.Type == heal.PodFailure && (f.Owner.Kind == "Job" || f.Owner.Kind == "CronJob") {
		return heal.Monitor, reasonJobs, "its Job makes pods anew with a back-off of its own, and to run it twice may do harm", true
	}
	r, known := remedies[symptom{f.Type, f.Reason}]
	switch {
	case known && (!slices.Contains(r.may, s) || r.permit != "" && f.Metadata[r.permit] == ""):
		return heal.Monitor, cmp.Or(r.reason, reasonPeopleOnly), cmp.Or(r.why, "none of what is known to help is "+string(s)), true
	case some && !slices.Contains(can, s):
		return heal.Monitor, reasonNoRecovery, fmt.Sprintf("there is no %s of a %s: it goes to people", s, f.Target.Kind), true
	}
	return s, "", "", false
}
