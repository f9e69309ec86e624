package action

import (
	"cmp"
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

// byWebhook asks whoever the settings name (node_webhook_url), of any node that
// shows no other provider. It is the only one that can restart a machine.
var byWebhook = provider{
	Name: byWebhookName,
	Find: func(ctx context.Context, j *Job, node *corev1.Node) (*machine, error) {
		if j.Machines == nil {
			return nil, nil
		}
		m := &machine{Provider: byWebhookName, Awaits: true}
		// Whoever gives no answer proves nothing.
		if a, err := j.Machines.Machine(ctx, node.Name, node.Spec.ProviderID); err == nil && (a.Machine == webhook.Stopped || a.Machine == webhook.Gone) {
			m.Dead = "its provider says that the machine is " + a.Machine
		}
		return m, nil
	},
	Replace: func(j *Job, _ machine) Request { return orderOf(j, webhook.Replace) },
}

// orderOf gives an order about the job's node.
func orderOf(j *Job, verb string) Request {
	target := j.Decision.Target
	return Request{
		Step: verb, Target: target,
		Send: func(ctx context.Context, dryRun []string) error {
			if len(dryRun) > 0 {
				return nil // it has no way to try
			}
			order := webhook.Order{ID: j.Decision.ID, Verb: verb, Node: target.Name, UID: target.UID, Reason: j.Decision.Failure.Reason}
			if j.Facts.Node != nil {
				order.ProviderID = j.Facts.Node.Spec.ProviderID
			}
			a, err := j.Machines.Give(ctx, order)
			switch {
			case errors.Is(err, webhook.ErrRefused):
				return guard.Refuse("provider", guard.Veto("ProviderRefused", "%s of %s: %v", verb, target, err))
			case err == nil && a.State == webhook.Failed:
				return guard.Refuse("provider", guard.Veto("ProviderRefused", "%s of %s: its provider says that it failed: %s", verb, target, cmp.Or(a.Message, "and not why")))
			}
			return err
		},
		Seen: func(ctx context.Context) (bool, error) {
			a, err := j.Machines.Ask(ctx, j.Decision.ID)
			return err == nil && a.State != webhook.Unknown, err
		},
	}
}

// ordered is what became of the order; empty if all is well or it is not known.
func ordered(ctx context.Context, j *Job) (failed string) {
	if j.Machines == nil {
		return ""
	}
	a, err := j.Machines.Ask(ctx, j.Decision.ID)
	if err != nil || a.State != webhook.Failed {
		return ""
	}
	return cmp.Or(a.Message, "it does not say why")
}
