package action

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// answer turns what the API server said to a request about target into an
// error that says how to go on. Errors that it does not know stay as they
// are: whether the request had an effect is then unknown.
func answer(err error, target heal.Target) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err): // also what an admission webhook says
		return guard.Refuse("api_server", guard.Veto("Forbidden", "the API server does not let us change %s: %s", target, heal.Clean(err.Error(), heal.MaxText)))
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		return guard.Refuse("api_server", guard.Veto("Invalid", "the API server does not take the change of %s: %s", target, heal.Clean(err.Error(), heal.MaxText)))
	case apierrors.IsTooManyRequests(err) && !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		return overload(err, target)
	}
	return err
}

// overload is the API server asking for less. (The client does not wait for it
// by itself, as that would hide in one call.)
func overload(err error, target heal.Target) *Wait {
	wait := 5 * time.Second
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		wait = max(wait, time.Duration(seconds)*time.Second)
	}
	return &Wait{min(wait, time.Minute), guard.Refuse("api_server",
		guard.Veto("Overloaded", "the API server was too busy to take the change of %s until it was too late", target))}
}
