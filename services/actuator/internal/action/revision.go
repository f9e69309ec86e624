package action

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// annotationRolledBack, on a Deployment, is when we took which template back:
// it outlives the ledger, and goes where the Deployment goes.
const annotationRolledBack = heal.Domain + "/rolled-back"

// revisionAnnotation is set by the Deployment controller on its ReplicaSets.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// A revision is one of the templates of a workload.
type revision struct {
	Number int64  `json:"number"`
	Hash   string `json:"hash"`
	Set    string `json:"set"` // name of what keeps it
	UID    string `json:"uid"`
	Kind   string `json:"kind,omitempty"` // of what keeps it; default ReplicaSet
}

func (r revision) String() string {
	return fmt.Sprintf("revision %d (%s %s)", r.Number, cmp.Or(r.Kind, "ReplicaSet"), r.Set)
}

// A templateChange is what an action on a Deployment must remember.
type templateChange struct {
	Version string   `json:"version"` // resourceVersion of the Deployment that was judged
	From    revision `json:"from"`
	To      revision `json:"to"`
	Digest  string   `json:"digest"` // of the template that the Deployment should have

	// Made says that it was found to be made already, though the ledger knew
	// nothing of it.
	Made bool `json:"made,omitempty"`
}

// digest is the same for the same template, whichever ReplicaSet has it.
func digest(t corev1.PodTemplateSpec) string {
	t = *t.DeepCopy()
	delete(t.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	if len(t.Labels) == 0 {
		t.Labels = nil
	}
	text, err := json.Marshal(t)
	if err != nil {
		return "" // only of types that JSON cannot hold
	}
	return heal.ID("t", string(text))
}

func revisionOf(rs *appsv1.ReplicaSet) revision {
	n, err := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	if err != nil {
		n = 0 // older than any
	}
	return revision{Number: n, Hash: rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey], Set: rs.Name, UID: string(rs.UID)}
}

// current is the ReplicaSet that has the Deployment's template; as in the
// Deployment controller, the oldest of them if there are several.
func current(d *appsv1.Deployment, sets []appsv1.ReplicaSet) *appsv1.ReplicaSet {
	want := digest(d.Spec.Template)
	var found *appsv1.ReplicaSet
	for i := range sets {
		rs := &sets[i]
		if rs.DeletionTimestamp == nil && digest(rs.Spec.Template) == want &&
			(found == nil || rs.CreationTimestamp.Before(&found.CreationTimestamp)) {
			found = rs
		}
	}
	return found
}

// lastHealthy is the newest ReplicaSet older than from that has another
// template and available pods now, which nothing but the template's health
// explains. The revision before the current one proves nothing by itself: it
// may have been as bad.
func lastHealthy(from *appsv1.ReplicaSet, sets []appsv1.ReplicaSet) (best *appsv1.ReplicaSet, why string) {
	older, same, ill := 0, 0, 0
	for i := range sets {
		rs := &sets[i]
		n := revisionOf(rs).Number
		if n < 1 || n >= revisionOf(from).Number || rs.DeletionTimestamp != nil {
			continue
		}
		older++
		switch {
		case digest(rs.Spec.Template) == digest(from.Spec.Template):
			same++
		case rs.Status.AvailableReplicas < 1:
			ill++
		case best == nil || n > revisionOf(best).Number:
			best = rs
		}
	}
	return best, fmt.Sprintf("%d older revisions are kept, of which %d have no available pod and %d the same template", older, ill, same)
}

// early reports whether the decision is so sure that the template is to blame
// that a roll-out need not miss its deadline first. The pods of an older
// revision that still work are what makes a cause so sure.
func early(d heal.Decision) bool {
	const sure = 0.8
	return d.Cause.Kind == heal.CauseRollout && d.Cause.Confidence >= sure
}

// sickOf is a pod of the revision that shows a symptom, and which; empty if
// none does.
func sickOf(from *appsv1.ReplicaSet, pods []corev1.Pod) string {
	for i := range pods {
		p := &pods[i]
		if from == nil || !metav1.IsControlledBy(p, from) || p.DeletionTimestamp != nil {
			continue
		}
		if sick, seen := guard.SickPod(p); sick {
			return p.Name + ": " + seen
		}
	}
	return ""
}

// judgeRollback chooses what to roll the Deployment back to, or says why it
// must not be. sets are the ReplicaSets that it controls, pods are theirs.
func judgeRollback(now time.Time, decision heal.Decision, d *appsv1.Deployment, sets []appsv1.ReplicaSet, pods []corev1.Pod) (templateChange, guard.Verdict) {
	target := decision.Target
	from := current(d, sets)
	var to *appsv1.ReplicaSet
	sick := sickOf(from, pods)
	why := "no ReplicaSet has its template yet"
	if from != nil {
		to, why = lastHealthy(from, sets)
	}
	number := int64(0)
	if to != nil {
		number = revisionOf(to).Number
	}
	if v := judgeManaged(target, d.ObjectMeta, number); !v.Allowed() {
		return templateChange{}, v
	}
	switch {
	case from == nil:
		v := guard.Veto("StatusBehind", "%s: %s", target, why)
		v.Again = 2 * time.Second
		return templateChange{}, v
	case guard.RollingOut(d) && d.Status.AvailableReplicas > 0 && (!early(decision) || from.Status.AvailableReplicas > 0 || sick == ""):
		v := guard.Veto("RolloutUnderWay", "%s is still being rolled out within its deadline, %d of %d replicas are available, %d updated, %d of these available",
			target, d.Status.AvailableReplicas, guard.Wanted(d), d.Status.UpdatedReplicas, from.Status.AvailableReplicas)
		v.Again = 10 * time.Second
		return templateChange{}, v
	}
	if v := judgeSince(decision, d.ObjectMeta, from.CreationTimestamp.Time); !v.Allowed() {
		return templateChange{}, v
	}
	if to == nil {
		return templateChange{}, guard.Veto("NoHealthyRevision", "%s has no revision that is known to have worked: %s", target, why)
	}
	if v := judgePower(target, from.Spec.Template.Spec, to.Spec.Template.Spec); !v.Allowed() {
		return templateChange{}, v
	}
	change := templateChange{Version: d.ResourceVersion, From: revisionOf(from), To: revisionOf(to), Digest: digest(to.Spec.Template)}
	if v := judgeRest(now, target, d.ObjectMeta, change.From); !v.Allowed() {
		return templateChange{}, v
	}
	v := guard.Allow("%s has %d available pods, %s has %d", change.To, to.Status.AvailableReplicas, change.From, from.Status.AvailableReplicas)
	if guard.RollingOut(d) && sick != "" {
		v.Detail += "; before its deadline, as " + sick
	}
	return change, v
}

// judgeManaged refuses a workload whose template somebody else declares, and
// would put back. to is the revision to roll back to, 0 for none.
func judgeManaged(target heal.Target, o metav1.ObjectMeta, to int64) guard.Verdict {
	command := undoCommand(target, to)
	if who, seen := guard.ManagedBy(o); who != "" {
		return guard.Veto("ManagedByGitOps", "%s is managed by %s (%s), which would put its template back: revert it there; until it syncs, this helps: %s",
			target, who, seen, command)
	}
	if owner := metav1.GetControllerOf(&o); owner != nil {
		return guard.Veto("ManagedByController", "%s is controlled by %s %s (%s), which would put its template back: revert it there; until then, this helps: %s",
			target, owner.Kind, owner.Name, owner.APIVersion, command)
	}
	return guard.Allow("nobody is known to put the template back")
}

// judgeSince refuses when the template is not the one that was seen to fail.
func judgeSince(decision heal.Decision, o metav1.ObjectMeta, made time.Time) guard.Verdict {
	changed, who := made, ""
	if writers := guard.TemplateWriters(o); len(writers) > 0 && writers[0].At.After(changed) {
		changed, who = writers[0].At, " by "+writers[0].Name
	}
	if seen := decision.Failure.Timestamp.Time; changed.After(seen) {
		return guard.Veto("RolledOutSince", "the template of %s was changed%s %s after the failure was seen: it is not the one that failed",
			decision.Target, who, changed.Sub(seen).Round(time.Second))
	}
	return guard.Allow("the template is the one that was seen to fail")
}

// judgePower refuses a template that could do other things than the one it
// replaces: what a roll-back may run is then not only a matter of images.
func judgePower(target heal.Target, from, to corev1.PodSpec) guard.Verdict {
	var differs []string
	if from.ServiceAccountName != to.ServiceAccountName {
		differs = append(differs, fmt.Sprintf("service account %q instead of %q", to.ServiceAccountName, from.ServiceAccountName))
	}
	if from.HostNetwork != to.HostNetwork || from.HostPID != to.HostPID || from.HostIPC != to.HostIPC {
		differs = append(differs, "other namespaces of the host")
	}
	if len(differs) > 0 {
		return guard.Veto("PowerDiffers", "the template to roll %s back to has %s: roll it back by hand", target, strings.Join(differs, " and "))
	}
	return guard.Allow("it runs as the same service account")
}

// judgeRest refuses what the workload itself says was done not long ago. The
// ledger is asked later; this is for when it was lost.
func judgeRest(now time.Time, target heal.Target, o metav1.ObjectMeta, from revision) guard.Verdict {
	text, ok := o.Annotations[annotationRolledBack]
	if !ok {
		return guard.Allow("it was not rolled back yet")
	}
	at, hash, _ := strings.Cut(text, " ")
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return guard.Veto(guard.RollbackOncePerDay, "%s carries %s: %q, which does not begin with an RFC 3339 time and counts as now",
			target, annotationRolledBack, heal.Clean(text, 64))
	}
	return guard.JudgeRollback(now, target, from.Hash, guard.Rollbacks{Done: []guard.Rollback{{Hash: hash, At: when}}}, "")
}

// undoCommand is how a person rolls back; to the revision before if n is 0.
func undoCommand(t heal.Target, n int64) string {
	command := fmt.Sprintf("kubectl rollout undo %s/%s -n %s", strings.ToLower(t.Kind), t.Name, t.Namespace)
	if n > 0 {
		command += fmt.Sprintf(" --to-revision=%d", n)
	}
	return command
}

// references are the ConfigMaps and Secrets that pods of the template cannot
// start without.
func references(t corev1.PodSpec) (configMaps, secrets []string) {
	needs := func(optional *bool) bool { return optional == nil || !*optional }
	for _, v := range t.Volumes {
		if c := v.ConfigMap; c != nil && needs(c.Optional) {
			configMaps = append(configMaps, c.Name)
		}
		if s := v.Secret; s != nil && needs(s.Optional) {
			secrets = append(secrets, s.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if c := p.ConfigMap; c != nil && needs(c.Optional) {
				configMaps = append(configMaps, c.Name)
			}
			if s := p.Secret; s != nil && needs(s.Optional) {
				secrets = append(secrets, s.Name)
			}
		}
	}
	for _, c := range slices.Concat(t.InitContainers, t.Containers) {
		for _, e := range c.EnvFrom {
			if r := e.ConfigMapRef; r != nil && needs(r.Optional) {
				configMaps = append(configMaps, r.Name)
			}
			if r := e.SecretRef; r != nil && needs(r.Optional) {
				secrets = append(secrets, r.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil && needs(r.Optional) {
				configMaps = append(configMaps, r.Name)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil && needs(r.Optional) {
				secrets = append(secrets, r.Name)
			}
		}
	}
	slices.Sort(configMaps)
	slices.Sort(secrets)
	return slices.Compact(configMaps), slices.Compact(secrets)
}
