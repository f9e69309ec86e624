package action

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// changedSince refuses to take back what is not any more as we made it.
func changedSince(format string, args ...any) error {
	return guard.Refuse("undo", guard.Veto("ChangedSince", format, args...))
}

// undoCordon uncordons the node, and writes down that a person wanted that, so
// that it is left alone for a while.
func undoCordon(ctx context.Context, j *Job) error {
	target, node := j.Decision.Target, j.Facts.Node
	if node == nil || !guard.StateOf(node).Ours || node.Annotations[heal.AnnotationDecisionID] != j.Decision.ID {
		return changedSince("%s does not carry the cordon of this decision any more", target)
	}
	err := j.Desk.Do(ctx, Request{
		Step: "uncordon", Target: target, Heal: true,
		Send: func(ctx context.Context, dryRun []string) error {
			config := corev1ac.Node(node.Name).WithUID(node.UID).
				WithAnnotations(map[string]string{guard.AnnotationUncordonSeen: time.Now().UTC().Format(time.RFC3339)})
			_, err := j.Kube.CoreV1().Nodes().Apply(ctx, config, metav1.ApplyOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
			return nodeAnswer(ctx, err, j, target)
		},
		Seen: func(ctx context.Context) (bool, error) {
			now, err := j.Reader.Node(ctx, target.Name)
			return err == nil && (now == nil || !owns(now)), err
		},
	})
	if err != nil {
		return err
	}
	return j.Cordons.Remove(ctx, target.Name)
}

// undoFailover selects again what the service selected before, if that answers.
func undoFailover(ctx context.Context, j *Job) error {
	var s switchOver
	if !j.Desk.Recall(&s) || !ours(j.Facts.Service, s, j.Decision.ID) {
		return changedSince("the selector of %s is not any more the one that this decision gave it", j.Decision.Target)
	}
	ready, _, err := j.Reader.ReadyPods(ctx, s.Service.Namespace, s.From, time.Now())
	if err != nil {
		return err
	}
	if ready == 0 {
		return guard.Refuse("undo", guard.Veto("PrimaryNotReady", "no pod of %s is Ready: nobody would answer for %s", labels.Set(s.From), s.Service))
	}
	err = j.Desk.Do(ctx, Request{
		Step: "switch_back", Target: s.Service, Heal: true,
		Send: func(ctx context.Context, dryRun []string) error {
			return failBack(ctx, j.Kube, j.Reader, s, j.Facts.Service, dryRun)
		},
		Seen: func(ctx context.Context) (bool, error) {
			now, err := j.Reader.Service(ctx, s.Service.Namespace, s.Service.Name)
			return err == nil && !ours(now, s, j.Decision.ID), err
		},
	})
	if err != nil {
		return err
	}
	if err := scaleBack(ctx, j.Kube, s.Scaled); err != nil {
		return err
	}
	return j.Leftovers.Remove(ctx, Leftover{Kind: leftFailover, Decision: j.Decision.ID})
}

// undoRollback gives the workload the template that was rolled back. That it
// was, stays written down, so that it is not rolled back once more.
func undoRollback(ctx context.Context, j *Job) error {
	target := j.Decision.Target
	var c templateChange
	w, there := j.Facts.Templated()
	if !j.Desk.Recall(&c) || !there || !isMarked(w.ObjectMeta, j.Decision.ID) || digest(w.Template) != c.Digest {
		return changedSince("%s has not any more the template that this decision gave it", target)
	}
	t, found, err := templateOf(ctx, j, c.From)
	if err != nil {
		return err
	}
	if !found {
		return guard.Refuse("undo", guard.Veto("RevisionGone", "%s of %s is not kept any more", c.From, target))
	}
	change := templateChange{Version: w.ResourceVersion, From: c.To, To: c.From, Digest: digest(t.Typed)}
	return j.Desk.Do(ctx, Request{
		Step: "roll_forward", Target: target, Heal: true,
		Send: func(ctx context.Context, dryRun []string) error {
			p := patchOf(target, change.Version)
			p.replace("/spec/template", t.JSON)
			p.unmark(w.ObjectMeta)
			return sendPatch(ctx, j, change, p, dryRun)
		},
		Seen: func(ctx context.Context) (bool, error) {
			now, err := j.Reader.Templated(ctx, target)
			return err == nil && now != nil && !isMarked(now.ObjectMeta, j.Decision.ID), err
		},
	})
}

// templateOf reads the template that a revision keeps.
func templateOf(ctx context.Context, j *Job, r revision) (live.Template, bool, error) {
	namespace := j.Decision.Target.Namespace
	if r.Kind == "" {
		t, found, err := j.Reader.TemplateOf(ctx, namespace, r.Set, r.UID)
		if err == nil && found {
			err = dropHash(&t)
		}
		return t, found, err
	}
	kept, err := j.Reader.Revision(ctx, namespace, r.Set, r.UID)
	if kept == nil || err != nil {
		return live.Template{}, false, err
	}
	t, err := live.TemplateOfRevision(kept)
	if err != nil {
		return live.Template{}, false, fmt.Errorf("read %s: %w", r, err)
	}
	return t, true, nil
}

// unmark takes our marks from the object.
func (p *patch) unmark(o metav1.ObjectMeta) {
	for _, key := range []string{heal.AnnotationOwnedBy, heal.AnnotationDecisionID, heal.AnnotationPrevious} {
		if _, ok := o.Annotations[key]; ok {
			p.add("/metadata/annotations", key, nil)
			(*p)[len(*p)-1].Op = "remove"
		}
	}
}
