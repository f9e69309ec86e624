package action

import (
	"context"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

// restartNode has the node's machine restarted by its provider, after what runs
// there was moved away. Of the providers only the webhook can restart.
var restartNode = Action{
	Needs: slices.Concat(mayCordon, mayEvict, mayReplace()),
	Node:  true,
	Do: func(ctx context.Context, j *Job) error {
		if j.Machines == nil {
			return guard.Refuse("provider", guard.Veto("NoProvider",
				"nobody is known who could restart the machine of %s: set node_webhook_url, or restart it by hand", j.Decision.Target))
		}
		if _, err := machineOf(ctx, j); err != nil {
			return err // it is somebody else's to repair
		}
		if err := cordon(ctx, j); err != nil {
			return err
		}
		if err := drain(ctx, j); err != nil {
			return err
		}
		var done drained
		j.Desk.Recall(&done)
		if done.Why != "" || done.Left > 0 {
			j.Desk.Note(heal.Step{Name: "restart", Status: heal.StepSkipped, Detail: "not all pods could be moved: the machine is not restarted under them"})
			return nil
		}
		if done.Machine == nil {
			if err := j.Desk.Recheck(ctx, recheckEvery); err != nil {
				return unlessMoot(err)
			}
			done.Machine = &machine{Provider: byWebhookName}
			j.Desk.Remember(done)
		}
		return unlessMoot(j.Desk.Do(ctx, orderOf(j, webhook.Restart)))
	},
	Sights: machineSights,
	Settle: settleNode,
	Undo:   undoCordon,
}
