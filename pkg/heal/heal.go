// Package heal is the vocabulary of the pipeline: the messages its services
// exchange and the words those messages are made of. It imports only the
// standard library, so every service, tool and test can share it.
//
// Each message carries the one that caused it,
//
//	Failure -> Decision -> Result -> Notification
//
// so any message can be understood, logged, replayed or golden-tested alone.
// Messages are values, and their ids are derived from what caused them, never
// generated: the same fact published twice, by two replicas or after a crash,
// has the same id, and the bus drops the second.
package heal

import (
	"fmt"
	"slices"
)

// A FailureType is one of the five kinds of trouble the pipeline tells apart.
type FailureType string

// The failure types, in the order in which they are listed everywhere.
const (
	NodeFailure        FailureType = "node_failure"
	PodFailure         FailureType = "pod_failure"
	ServiceFailure     FailureType = "service_failure"
	DeploymentFailure  FailureType = "deployment_failure"
	ResourceExhaustion FailureType = "resource_exhaustion"
)

// FailureTypes is every failure type.
var FailureTypes = []FailureType{NodeFailure, PodFailure, ServiceFailure, DeploymentFailure, ResourceExhaustion}

// ActionType names the kind of recovery that answers a failure of this type.
func (t FailureType) ActionType() string {
	switch t {
	case NodeFailure:
		return "node_recovery"
	case PodFailure:
		return "pod_recovery"
	case ServiceFailure:
		return "service_recovery"
	case DeploymentFailure:
		return "deployment_recovery"
	case ResourceExhaustion:
		return "resource_recovery"
	}
	return ""
}

// BaseSeverity is what a single failure of this type weighs before anything
// else is known. (The contract's table; a policy may replace it.)
func (t FailureType) BaseSeverity() Severity {
	switch t {
	case NodeFailure:
		return Critical
	case ServiceFailure, DeploymentFailure:
		return High
	}
	return Medium
}

// A Severity says how much a failure matters.
type Severity string

// The severities, mildest first.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities is every severity, mildest first.
var Severities = []Severity{Low, Medium, High, Critical}

// AtLeast returns the graver of s and other.
func (s Severity) AtLeast(other Severity) Severity {
	if slices.Index(Severities, other) > slices.Index(Severities, s) {
		return other
	}
	return s
}

// A Strategy is what is done about a failure.
type Strategy string

// The strategies. Monitor is the decision to do nothing but look.
const (
	Monitor           Strategy = "monitor"
	Restart           Strategy = "restart"
	Recreate          Strategy = "recreate"
	ScaleAndReplace   Strategy = "scale_and_replace"
	DrainAndReplace   Strategy = "drain_and_replace"
	EmergencyReplace  Strategy = "emergency_replace"
	Failover          Strategy = "failover"
	EmergencyFailover Strategy = "emergency_failover"
	Rollback          Strategy = "rollback"
	Resize            Strategy = "resize"
	Relieve           Strategy = "relieve"
)

// Strategies is every strategy.
var Strategies = []Strategy{
	Monitor, Restart, Recreate, ScaleAndReplace, DrainAndReplace, EmergencyReplace,
	Failover, EmergencyFailover, Rollback, Resize, Relieve,
}

// An Outcome is how carrying out a decision ended.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "succeeded" // done, and seen to have helped
	Failed    Outcome = "failed"    // tried, and did not help; or could not be tried any more
	Skipped   Outcome = "skipped"   // moot: nothing to do, or nothing left to do
	Rejected  Outcome = "rejected"  // refused by a guard, a person or the API server
	TimedOut  Outcome = "timed_out" // neither proven nor refuted within recovery_timeout
	DryRun    Outcome = "dry_run"   // would have been done
)

// Outcomes is every outcome.
var Outcomes = []Outcome{Succeeded, Failed, Skipped, Rejected, TimedOut, DryRun}

// A Mode says how far the system may go by itself.
type Mode string

// The modes, tightest first.
const (
	ModeOff     Mode = "off"     // not even a decision to act is considered
	ModeObserve Mode = "observe" // decides and says, acts on nothing
	ModeApprove Mode = "approve" // acts after a person agreed
	ModeAuto    Mode = "auto"    // acts
)

// Modes is every mode, tightest first.
var Modes = []Mode{ModeOff, ModeObserve, ModeApprove, ModeAuto}

// Tighter returns the tighter of m and other. An unknown mode counts as off,
// so that a typing error never loosens anything.
func (m Mode) Tighter(other Mode) Mode {
	i, j := slices.Index(Modes, m), slices.Index(Modes, other)
	return Modes[max(0, min(i, j))]
}

// known returns an error that names the field, the value and what was
// expected, unless v is one of all.
func known[T ~string](field string, v T, all []T) error {
	if slices.Contains(all, v) {
		return nil
	}
	return fmt.Errorf("%s: %q is not known; want one of %v", field, Clean(string(v), 64), all)
}
