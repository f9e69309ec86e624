package actuator

import (
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
)

// Supports reports whether there is an action for a strategy against failures
// of a type of objects of a kind, such as Pod.
func Supports(t heal.FailureType, s heal.Strategy, kind string) bool {
	_, ok := action.Default[action.Key{Type: t, Strategy: s, Kind: kind}]
	return ok
}
