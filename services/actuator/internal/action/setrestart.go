package action

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// judgeSetRestart refuses to restart what is being rolled out, or what would
// lose more pods by it than can be spared.
func judgeSetRestart(target heal.Target, s podSet) guard.Verdict {
	from := s.current()
	if from == nil {
		v := guard.Veto("StatusBehind", "%s: no ControllerRevision has its template yet", target)
		v.Again = 2 * time.Second
		return v
	}
	if s.Idle != "" {
		return guard.Veto("NotRolledOut", "restarting %s would replace no pod, as %s", target, s.Idle)
	}
	for i := range s.Pods {
		if p := &s.Pods[i]; p.DeletionTimestamp == nil && p.Labels[appsv1.ControllerRevisionHashLabelKey] != from.Label {
			return guard.Veto("SeveralRevisions", "%s has pods of another revision than %s, such as %s: restarting would not end that roll-out", target, from, p.Name)
		}
	}
	if least := min(s.Ready, max(1, s.Wanted-1)); s.Keeps < least {
		return guard.Veto(guard.Floor, "%d of %d wanted pods of %s are Ready, its strategy keeps no more than %d of them, and %d must stay",
			s.Ready, s.Wanted, target, s.Keeps, least)
	}
	return guard.Allow("%d of %d wanted pods are Ready, and its strategy keeps %d", s.Ready, s.Wanted, s.Keeps)
}

// restartSet makes the request that restarts the target.
func restartSet(ctx context.Context, j *Job) error {
	return changeTemplate(ctx, j,
		func() (templateChange, error) { return planSetRestart(ctx, j) },
		func(c templateChange) Request { return restartRequest(j, c) })
}

func planSetRestart(ctx context.Context, j *Job) (templateChange, error) {
	s, err := gatherSet(ctx, j)
	if err != nil {
		return templateChange{}, err
	}
	if s.Template.Annotations[annotationRestartedBy] == j.Decision.ID {
		return templateChange{Made: true, Digest: digest(s.Template)}, nil // by an attempt that the ledger has lost
	}
	if v := judgeSetRestart(j.Decision.Target, s); !v.Allowed() {
		return templateChange{}, Refused(guard.Refuse("restart", v))
	}
	after := s.Template.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	after.Annotations[annotationRestartedBy] = j.Decision.ID
	return templateChange{Version: s.ResourceVersion, From: s.current().revision, Digest: digest(*after)}, nil
}
