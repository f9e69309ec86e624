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
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// rollbackDeployment gives a Deployment the template of an older revision of
// its own that works. It is the template of a ReplicaSet as it is there, never
// one of a message: or whoever may send one could run anything.
var rollbackDeployment = Action{
	Kinds: []string{"Deployment"},
	Needs: slices.Concat(mayChangeTemplate, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}},
	}),
	Do: func(ctx context.Context, j *Job) error {
		return changeTemplate(ctx, j,
			func(d *appsv1.Deployment) (templateChange, error) { return planRollback(ctx, j, d) },
			func(c templateChange) Request { return rollbackRequest(j, c) })
	},
	Sights: func(j *Job) Sights {
		return rolledOut(j, func(c templateChange) string { return "it has the template of " + c.To.String() + " again" })
	},
	Settle: settleRollback,
}

// planRollback finds out what to roll back to.
func planRollback(ctx context.Context, j *Job, d *appsv1.Deployment) (templateChange, error) {
	if isMarked(d, j.Decision.ID) {
		return foundRollback(ctx, j, d)
	}
	sets, err := j.Reader.ReplicaSetsOf(ctx, d)
	if err != nil {
		return templateChange{}, answer(err, j.Decision.Target)
	}
	change, v := judgeRollback(time.Now(), j.Decision, d, sets)
	if !v.Allowed() {
		return templateChange{}, Refused(guard.Refuse("rollback", v))
	}
	i := slices.IndexFunc(sets, func(rs appsv1.ReplicaSet) bool { return string(rs.UID) == change.To.UID })
	there, err := haveReferences(ctx, j, change.To, &sets[i])
	if err != nil {
		return templateChange{}, err
	}
	j.Desk.Note(heal.Step{Name: "choose_revision", Status: heal.StepOK, Detail: v.Detail + "; " + there})
	return change, nil
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
func haveReferences(ctx context.Context, j *Job, to revision, rs *appsv1.ReplicaSet) (string, error) {
	configMaps, secrets := references(rs.Spec.Template.Spec)
	var gone []string
	for _, name := range configMaps {
		there, err := j.Reader.HasConfigMap(ctx, rs.Namespace, name)
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

func rollbackRequest(j *Job, c templateChange) Request {
	target := j.Decision.Target
	return Request{
		Step: "roll_back", Target: target, Rollback: c.From.Hash,
		Send: func(ctx context.Context, dryRun []string) error {
			if c.Made {
				return nil
			}
			t, found, err := j.Reader.TemplateOf(ctx, target.Namespace, c.To.Set, c.To.UID)
			if err != nil {
				return err
			}
			if !found || digest(t.Typed) != c.Digest {
				return ErrMoved
			}
			template, err := withoutHash(t)
			if err != nil {
				return fmt.Errorf("template of %s: %w", c.To, err)
			}
			p := patchOf(target, c.Version)
			p.replace("/spec/template", template)
			const annotations = "/metadata/annotations" // the controller has put its own there
			p.add(annotations, heal.AnnotationOwnedBy, heal.FieldManager)
			p.add(annotations, heal.AnnotationDecisionID, j.Decision.ID)
			p.add(annotations, heal.AnnotationPrevious, strconv.FormatInt(c.From.Number, 10))
			p.add(annotations, annotationRolledBack, time.Now().UTC().Format(time.RFC3339)+" "+c.From.Hash)
			return sendPatch(ctx, j, c, p, dryRun)
		},
		Seen: marked(j),
	}
}

// withoutHash is the template as JSON, without the label that only those of
// ReplicaSets have.
func withoutHash(t live.Template) (map[string]json.RawMessage, error) {
	var metadata, labels map[string]json.RawMessage
	if err := json.Unmarshal(t.JSON["metadata"], &metadata); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := json.Unmarshal(metadata["labels"], &labels); err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	delete(labels, appsv1.DefaultDeploymentUniqueLabelKey)
	var err error
	if metadata["labels"], err = json.Marshal(labels); err != nil {
		return nil, err
	}
	if t.JSON["metadata"], err = json.Marshal(metadata); err != nil {
		return nil, err
	}
	return t.JSON, nil
}

// settleRollback tells how to take the roll-back back, if it stands.
func settleRollback(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
	target := j.Decision.Target
	var c templateChange
	j.Desk.Recall(&c)
	d, err := j.Reader.Deployment(ctx, target.Namespace, target.Name)
	if err != nil || d == nil || string(d.UID) != target.UID || !isMarked(d, j.Decision.ID) || digest(d.Spec.Template) != c.Digest {
		return nil, err
	}
	return &heal.Undo{
		Summary: fmt.Sprintf("%s runs the template of %s instead of revision %d; once that is repaired, roll it out again", target, c.To, c.From.Number),
		Command: undoCommand(target, c.From.Number),
	}, nil
}
