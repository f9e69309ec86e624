package action

import (
	"errors"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// leftAlone is the step that something was refused which is not all of the job.
func leftAlone(step string, refusal *guard.Refusal) heal.Step {
	return heal.Step{Name: step, Status: heal.StepSkipped, Detail: refusal.Detail}
}

// unlessMoot is err, unless that says that the workload got well by itself.
func unlessMoot(err error) error {
	var refusal *guard.Refusal
	if errors.As(err, &refusal) && refusal.Outcome == heal.Skipped {
		err = nil
	}
	return err
}
