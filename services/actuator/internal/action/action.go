// Package action changes the cluster to heal something.
//
// Every request goes through a Desk, which tries it with dryRun=All, asks the
// guards again when their verdict is old, pays for it from the budgets, writes
// the intent into the ledger, sends it, and writes down that it was done. So
// an action is a straight line of requests that each name one object by UID,
// and it may be run again from the start after a crash: what was done is not
// done twice. No request selects objects by labels, and none deletes with a
// grace period of zero.
//
// To add an action, write it in a file of its own and name it in Default.
package action

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

// A Key is what a decision asks for.
type Key struct {
	Type     heal.FailureType
	Strategy heal.Strategy
	Kind     string // of the target
}

// An Action carries out one strategy for one type of failure of one kind of
// objects.
type Action struct {
	Needs []rbacv1.PolicyRule // the rights to change things; `make generate` renders these into the chart

	// Node says that it takes a node out of service, which is done one by one.
	Node bool

	// Do makes the change. It returns nil when everything is done that can be,
	// a *guard.Refusal when it must not be, a *Wait when it may be later, and
	// any other error when that is unknown.
	Do func(ctx context.Context, j *Job) error

	// Sights says how to see whether it helped.
	Sights func(j *Job) Sights

	// Settle puts away what was only needed while it was under way, and tells
	// how a person can take back what stays. It may be nil.
	Settle func(ctx context.Context, j *Job, c verify.Conclusion) (*heal.Undo, error)

	// Undo takes back what stays, as a person asks afterwards; Settle has then
	// told that it can be. It refuses when that is not as the action made it any
	// more. It may be nil.
	Undo func(ctx context.Context, j *Job) error
}

// Sights are looks at the cluster after an action.
type Sights struct {
	Look   func(context.Context) (verify.Sight, error)
	Follow func(context.Context, chan<- struct{}) // see verify.Plan
}

// Default is every action there is.
var Default = map[Key]Action{
	{heal.PodFailure, heal.Restart, "Pod"}:                           restartPod,
	{heal.PodFailure, heal.Recreate, "Pod"}:                          recreatePod,
	{heal.PodFailure, heal.ScaleAndReplace, "Pod"}:                   scaleAndReplacePod,
	{heal.NodeFailure, heal.Restart, "Node"}:                         restartNode,
	{heal.PodFailure, heal.Resize, "Pod"}:                            resizePod,
	{heal.ResourceExhaustion, heal.Resize, "Pod"}:                    resizePod,
	{heal.ResourceExhaustion, heal.Relieve, "Node"}:                  relieveNode,
	{heal.NodeFailure, heal.DrainAndReplace, "Node"}:                 drainAndReplaceNode,
	{heal.NodeFailure, heal.EmergencyReplace, "Node"}:                emergencyReplaceNode,
	{heal.ResourceExhaustion, heal.Resize, "PersistentVolumeClaim"}:  expandClaim,
	{heal.ResourceExhaustion, heal.Relieve, "PersistentVolumeClaim"}: expandClaim,
	{heal.ServiceFailure, heal.Restart, "Service"}:                   restartService,
	{heal.ServiceFailure, heal.Failover, "Service"}:                  failoverService,
	{heal.ServiceFailure, heal.EmergencyFailover, "Service"}:         emergencyFailoverService,
	{heal.DeploymentFailure, heal.Restart, "Deployment"}:             restartDeployment,
	{heal.DeploymentFailure, heal.Rollback, "Deployment"}:            rollbackDeployment,
	{heal.DeploymentFailure, heal.Restart, "StatefulSet"}:            restartStatefulSet,
	{heal.DeploymentFailure, heal.Rollback, "StatefulSet"}:           rollbackStatefulSet,
	{heal.DeploymentFailure, heal.Restart, "DaemonSet"}:              restartDaemonSet,
	{heal.DeploymentFailure, heal.Rollback, "DaemonSet"}:             rollbackDaemonSet,
}

// Find returns the action that d asks for, or why there is none.
func Find(actions map[Key]Action, d heal.Decision) (Action, *guard.Refusal) {
	if a, ok := actions[Key{d.Type, d.Strategy, d.Target.Kind}]; ok {
		return a, nil
	}
	var known, kinds []string
	for k := range actions {
		known = append(known, string(k.Type)+"/"+string(k.Strategy))
		if k.Type == d.Type && k.Strategy == d.Strategy {
			kinds = append(kinds, k.Kind)
		}
	}
	if len(kinds) > 0 {
		slices.Sort(kinds)
		return Action{}, guard.Refuse("supported", guard.Veto("Unsupported",
			"%s/%s does not apply to a %s, only to %s", d.Type, d.Strategy, d.Target.Kind, strings.Join(kinds, ", ")))
	}
	slices.Sort(known)
	return Action{}, guard.Refuse("supported", guard.Veto("Unsupported",
		"%s/%s cannot be carried out; known are %s", d.Type, d.Strategy, strings.Join(slices.Compact(known), ", ")))
}

// A Job is a decision under way, as an action sees it.
type Job struct {
	Decision  heal.Decision
	Facts     guard.Facts // as they were last gathered; judged, unless it was acted on already
	Kube      kubernetes.Interface
	Reader    live.Reader
	Desk      Desk
	Cordons   Cordons
	Leftovers Leftovers
	Cooldowns *Cooldowns
	Machines  *webhook.Client // who restarts and replaces machines; nil for nobody
	DryRun    bool

	// FailBack is how long what a service selected before must have been Ready
	// for it to be selected again: going back too early interrupts those twice
	// whom the standby serves well.
	FailBack time.Duration
}

// A Desk makes the requests of a job and keeps its papers.
type Desk interface {
	// Do makes a request, unless it is known to be done. See Action.Do for
	// what it returns.
	Do(ctx context.Context, r Request) error

	// Recheck gathers the job's facts again and judges the decision by them,
	// unless that was done within the time given. It returns a *guard.Refusal,
	// or a *Wait for one that may pass.
	Recheck(ctx context.Context, within time.Duration) error

	// LastWrite is when no request may be made any more, except to heal.
	LastWrite() time.Time

	// Note adds a step that is not a request.
	Note(step heal.Step)

	// Remember keeps v, as JSON, with the next request; Recall reads it back,
	// also after a crash, and reports whether there was any.
	Remember(v any)
	Recall(v any) bool
}

// Cordons is the list of nodes that we cordoned, which outlives the job.
type Cordons interface {
	Add(ctx context.Context, node heal.Target, decision string) error
	Remove(ctx context.Context, node string) error
}

// A Request changes one object.
type Request struct {
	Step   string      // what it is called in the result: "evict"
	Target heal.Target // what it changes

	// Send makes the request, with dryRun either All or nil.
	Send func(ctx context.Context, dryRun []string) error

	// Seen reports whether its effect shows on the live object, for when the
	// answer was lost.
	Seen func(ctx context.Context) (bool, error)

	// Beside finds out what must be known before it is made, while it is tried.
	// It may be nil.
	Beside func(ctx context.Context) error

	Pod  bool // it is an action on a pod, which the budgets count
	Heal bool // it takes a change of ours back: it waits for no budget and never expires

	// Rollback is the hash of the template that it takes back, which is done
	// once for each, and once a day; empty if it takes none back.
	Rollback string
}

// A Wait is an error that says that a request may be made later.
type Wait struct {
	For     time.Duration
	Refusal *guard.Refusal // how it ends when there is no later
}

func (w *Wait) Error() string {
	return fmt.Sprintf("wait %s: %v", w.For.Round(time.Millisecond), w.Refusal)
}

func (w *Wait) Unwrap() error { return w.Refusal }

// Refused turns a refusal, which may be nil, into the error of a Desk.
func Refused(r *guard.Refusal) error {
	switch {
	case r == nil:
		return nil
	case r.Again > 0:
		return &Wait{r.Again, r}
	}
	return r
}
