// Package guard judges whether a decision may still be carried out, from facts
// that were read from the API server a moment ago.
//
// Judging is pure: no client, no clock, no log; the facts hold the time. A
// guard fails closed: what it cannot tell counts as a refusal. Guards only
// ever refuse, so another guard can make the actuator more careful, never
// bolder.
//
// To add a guard, write it in a file of its own and name it in a list below.
package guard

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Guard is one reason not to act.
type Guard struct {
	Name  string // lower case, stable; a metric's label
	Judge func(Facts) Verdict
}

// Decided are the guards in front of carrying out a decision, in the order in
// which they are asked: first whether it is the right object, then whether
// anybody forbids to touch it, then whether it needs it, then whether now, and
// last whether a person has to agree: nobody is asked for what would not be
// done anyway.
var Decided = []Guard{identity, protected, owned, marks, rollout, symptom, foreignCordon, repaired, blind, storm, oneNode, ownNode, floor, approval}

// Drained are the guards in front of evicting one pod of a node that is
// drained: the pod is not the target of the decision, and need not be broken.
var Drained = []Guard{identity, protected, drainable, marks, blind, floor}

// Unstuck are the guards in front of deleting a pod that is not Ready and keeps
// its workload from being rolled out: the workload is the target of the decision.
var Unstuck = []Guard{identity, protected, owned, marks, blind}

// Backing are the guards in front of changing a workload for the sake of a
// service, which is the target of the decision.
var Backing = []Guard{identity, protected, marks, rollout, blind}

// Undone are the guards in front of taking a change back that a person asks
// to be taken back.
var Undone = []Guard{identity, protected, marks}

// Facts are what guards judge. Which of them are there depends on the kind of
// the target; a guard that is not about that kind allows it.
type Facts struct {
	Now      time.Time
	Decision heal.Decision

	Target    heal.Target  // what a request would be made about
	Live      *Object      // what has its name now; nil for nothing
	Owners    []Owner      // the controller of Live, then its controller, …
	Gap       string       // why Owners ends before the top; empty if it does not
	Namespace *Object      // nil for kinds without
	Pod       *corev1.Pod  // Live in full, if it is a pod
	Workload  Workload     // how the pod's top owner stands; only gathered for a Ready pod
	Node      *corev1.Node // Live in full, if it is a node
	Nodes     []NodeState  // all of the cluster's; only gathered for a node
	Reserved  []string     // namespaces that are never touched, beside Kubernetes' own
	Sight     heal.Sight   // whether what the watchers see may be acted upon

	Deployment  *appsv1.Deployment  // Live in full, if it is a Deployment
	StatefulSet *appsv1.StatefulSet // the same of a StatefulSet
	DaemonSet   *appsv1.DaemonSet   // and of a DaemonSet

	Service   *corev1.Service // Live in full, if it is a service
	Endpoints int             // that are ready, of a service

	Claim *corev1.PersistentVolumeClaim // Live in full, if it is a claim
	Usage map[string]int64              // bytes of memory, by container of the pod; only gathered if that is what it is about

	Failing *corev1.Pod // the pod that fails, if the decision is about its workload; nil if it is gone

	Mode     heal.Mode // the tightest of the decision's, ours and our namespace's
	Approved bool      // a person has agreed to the decision

	Own     []OwnPod // pods that this system consists of; only gathered for a node
	OwnNode string   // the node that this process runs on; empty if that is not known
}

// An Object is what guards need to know of an object of any kind.
type Object struct {
	Kind string
	metav1.ObjectMeta
}

// String is how a person would write it.
func (o Object) String() string {
	return heal.Target{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}.String()
}

// An Owner is a controller of pods, or of a controller of pods.
type Owner struct {
	Object
	APIVersion string
	Wanted     int    // pods
	Ready      int    // of them, as the owner itself says
	Selector   string // of them
}

// Target is the owner as the vocabulary names it.
func (o Owner) Target() heal.Target {
	return heal.Target{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)}
}

// A Workload is how many of its pods a controller wants, and has Ready.
type Workload struct {
	Wanted int
	Ready  int
}

// A Verdict is what one guard says.
type Verdict struct {
	Outcome heal.Outcome // empty if it allows, else how the decision ends
	Reason  string       // CamelCase, stable; empty if it allows
	Detail  string       // one sentence with the numbers

	// Again, if it is set, says that this may pass: ask again after it, as
	// long as there is time.
	Again time.Duration
}

// Allowed reports whether the guard has nothing against it.
func (v Verdict) Allowed() bool { return v.Outcome == "" }

// A Refusal is the verdict that ends a decision, as an error.
type Refusal struct {
	Guard string // whose it is
	Verdict
}

// Refuse makes a refusal by guard, which need not be one of the lists above.
func Refuse(guard string, v Verdict) *Refusal { return &Refusal{guard, v} }

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s: %s", r.Guard, r.Reason, r.Detail) }

// Judge asks guards in their order until one refuses. It returns what was
// said, and the refusal or nil.
func Judge(f Facts, guards []Guard) ([]heal.Verdict, *Refusal) {
	var said []heal.Verdict
	for _, g := range guards {
		v := g.Judge(f)
		said = append(said, heal.Verdict{Name: g.Name, Allowed: v.Allowed(), Reason: v.Reason, Detail: v.Detail})
		if !v.Allowed() {
			return said, Refuse(g.Name, v)
		}
	}
	return said, nil
}

// Allow says that there is nothing against it, and why.
func Allow(format string, args ...any) Verdict {
	return Verdict{Detail: fmt.Sprintf(format, args...)}
}

// Veto says that it must not be done.
func Veto(reason, format string, args ...any) Verdict {
	return Verdict{Outcome: heal.Rejected, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Moot says that there is nothing left to do.
func Moot(reason, format string, args ...any) Verdict {
	return Verdict{Outcome: heal.Skipped, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}
