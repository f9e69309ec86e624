package action

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// rollbackDeployment gives a Deployment the template of an older revision of
// its own that works. It is the template of a ReplicaSet as it is there, never
// one of a message: or whoever may send one could run anything.
var rollbackDeployment = Action{
	Needs: slices.Concat(mayChangeTemplate, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}},
	}),
	Do: func(ctx context.Context, j *Job) error {
		return changeTemplate(ctx, j,
			func() (templateChange, error) { return planRollback(ctx, j, j.Facts.Deployment) },
			func(c templateChange) Request {
				return rollbackRequest(j, c, func(ctx context.Context) (live.Template, bool, error) {
					t, found, err := j.Reader.TemplateOf(ctx, j.Decision.Target.Namespace, c.To.Set, c.To.UID)
					if err == nil && found {
						err = dropHash(&t)
					}
					return t, found, err
				})
			})
	},
	Sights: func(j *Job) Sights {
		return rolledOut(j, func(c templateChange) string { return "it has the template of " + c.To.String() + " again" })
	},
	Settle: settleRollback,
	Undo:   undoRollback,
}

// planRollback finds out what to roll back to.
func planRollback(ctx context.Context, j *Job, d *appsv1.Deployment) (templateChange, error) {
	if isMarked(d.ObjectMeta, j.Decision.ID) {
		return foundRollback(ctx, j, d)
	}
	sets, err := j.Reader.ReplicaSetsOf(ctx, d)
	if err != nil {
		return templateChange{}, answer(err, j.Decision.Target)
	}
	pods, err := podsOfDeployment(ctx, j, d)
	if err != nil {
		return templateChange{}, answer(err, j.Decision.Target)
	}
	change, v := judgeRollback(time.Now(), j.Decision, d, sets, pods)
	if !v.Allowed() {
		return templateChange{}, Refused(guard.Refuse("rollback", v))
	}
	i := slices.IndexFunc(sets, func(rs appsv1.ReplicaSet) bool { return string(rs.UID) == change.To.UID })
	there, err := haveReferences(ctx, j, change.To, sets[i].Spec.Template.Spec)
	if err != nil {
		return templateChange{}, err
	}
	j.Desk.Note(heal.Step{Name: "choose_revision", Status: heal.StepOK, Detail: v.Detail + "; " + there})
	return change, nil
}

// podsOfDeployment reads the pods of all revisions.
func podsOfDeployment(ctx context.Context, j *Job, d *appsv1.Deployment) ([]corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of %s: %w", j.Decision.Target, err)
	}
	return j.Reader.Pods(ctx, d.Namespace, selector.String())
}

// foundRollback is for a ledger that was lost after the roll-back was made.
func foundRollback(ctx context.Context, j *Job, d *appsv1.Deployment) (templateChange, error) {
	sets, err := j.Reader.ReplicaSetsOf(ctx, d)
	if err != nil {
		return templateChange{}, answer(err, j.Decision.Target)
	}
	change := templateChange{Made: true, Digest: digest(d.Spec.Template)}
	if rs := current(d, sets); rs != nil {
		change.To = revisionOf(rs)
	}
	change.From.Number, _ = strconv.ParseInt(d.Annotations[heal.AnnotationPrevious], 10, 64) // only for the undo
	return change, nil
}

// haveReferences refuses a template whose ConfigMaps are gone: it would fail
// in another way. Secrets are not looked for, as there is no right to read any.
func haveReferences(ctx context.Context, j *Job, to revision, spec corev1.PodSpec) (string, error) {
	configMaps, secrets := references(spec)
	var gone []string
	for _, name := range configMaps {
		there, err := j.Reader.HasConfigMap(ctx, j.Decision.Target.Namespace, name)
		if err != nil {
			return "", answer(err, j.Decision.Target)
		}
		if !there {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		return "", guard.Refuse("rollback", guard.Veto("ReferenceGone", "%s of %s needs %d ConfigMaps that are gone: %s",
			to, j.Decision.Target, len(gone), heal.Clean(strings.Join(gone, ", "), heal.MaxText)))
	}
	there := fmt.Sprintf("its %d ConfigMaps are there", len(configMaps))
	if len(secrets) > 0 {
		there += fmt.Sprintf(", its %d Secrets were not looked for, as there is no right to (%s)", len(secrets), heal.Clean(strings.Join(secrets, ", "), 128))
	}
	return there, nil
}

// rollbackRequest gives a workload of any kind the template that read reads.
func rollbackRequest(j *Job, c templateChange, read func(context.Context) (live.Template, bool, error)) Request {
	target := j.Decision.Target
	return Request{
		Step: "roll_back", Target: target, Rollback: c.From.Hash,
		Send: func(ctx context.Context, dryRun []string) error {
			if c.Made {
				return nil
			}
			t, found, err := read(ctx)
			if err != nil {
				return err
			}
			w, there := j.Facts.Templated()
			if !found || !there || digest(t.Typed) != c.Digest {
				return ErrMoved
			}
			p := patchOf(target, c.Version)
			p.replace("/spec/template", t.JSON)
			p.mark(w, j.Decision.ID)
			const annotations = "/metadata/annotations"
			p.add(annotations, heal.AnnotationPrevious, strconv.FormatInt(c.From.Number, 10))
			p.add(annotations, annotationRolledBack, time.Now().UTC().Format(time.RFC3339)+" "+c.From.Hash)
			return sendPatch(ctx, j, c, p, dryRun)
		},
		Seen: marked(j),
	}
}

// dropHash takes the label from the template that only those of ReplicaSets
// have.
func dropHash(t *live.Template) error {
	var metadata, labels map[string]json.RawMessage
	if err := json.Unmarshal(t.JSON["metadata"], &metadata); err != nil {
		return fmt.Errorf("template: metadata: %w", err)
	}
	if err := json.Unmarshal(metadata["labels"], &labels); err != nil {
		return fmt.Errorf("template: labels: %w", err)
	}
	delete(labels, appsv1.DefaultDeploymentUniqueLabelKey)
	var err error
	if metadata["labels"], err = json.Marshal(labels); err != nil {
		return err
	}
	t.JSON["metadata"], err = json.Marshal(metadata)
	return err
}

// settleRollback tells how to take the roll-back back, if it stands.
func settleRollback(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
	target := j.Decision.Target
	var c templateChange
	j.Desk.Recall(&c)
	w, err := j.Reader.Templated(ctx, target)
	if err != nil || w == nil || string(w.UID) != target.UID || !isMarked(w.ObjectMeta, j.Decision.ID) || digest(w.Template) != c.Digest {
		return nil, err
	}
	return &heal.Undo{
		Summary: fmt.Sprintf("%s runs the template of %s instead of revision %d; once that is repaired, roll it out again", target, c.To, c.From.Number),
		Command: undoCommand(target, c.From.Number),
	}, nil
}
