package heal

// The names that the outside world knows this system by. Each stands here
// once; everything else derives from them.
const (
	Product      = "self-healing"  // chart, default namespace, Kubernetes object names
	SubjectRoot  = "selfheal.v1"   // root of every NATS subject
	StreamPrefix = "SELFHEAL_"     // prefix of every stream and bucket
	EnvPrefix    = "SELFHEAL_"     // prefix under which every environment name is also read
	Domain       = "selfheal.dev"  // annotations, labels, taints
	TypePrefix   = "dev.selfheal." // CloudEvents types
	MetricPrefix = "self_healing_" // Prometheus metrics
	FieldManager = "selfheal-actuator"
)

// Annotations on a pod's owner, a node, a service or a namespace. The nearest
// object wins; the first two only ever tighten what policy allows.
const (
	AnnotationMode       = Domain + "/mode"        // off, observe, approve, auto
	AnnotationHoldUntil  = Domain + "/hold-until"  // RFC 3339; nothing is done until then
	AnnotationOwnedBy    = Domain + "/owned-by"    // ours, on what we changed: who
	AnnotationDecisionID = Domain + "/decision-id" // ours: which decision
	AnnotationPrevious   = Domain + "/previous"    // ours: what it was before

	// AnnotationStandby, on a service, is the selector of the pods that may take
	// over from its own.
	AnnotationStandby = Domain + "/standby-selector"

	// AnnotationRecreate, "true" on a pod without a controller, permits to make it
	// anew from its own spec.
	AnnotationRecreate = Domain + "/recreate"

	AnnotationTeam    = Domain + "/team"    // who hears of it
	AnnotationRunbook = Domain + "/runbook" // an http(s) URL: what to do about it
)
