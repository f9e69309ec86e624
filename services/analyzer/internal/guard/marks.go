package guard

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// marks keeps hands off what people said so of by an annotation, on what is
// affected or its namespace. That approve asks a person first is the mode's
// affair. A mark that cannot be read counts as the tightest there is.
func marks(in Input) heal.Verdict {
	if text := in.Failure.Metadata[heal.MetadataHoldUntil]; text != "" {
		until, err := time.Parse(time.RFC3339, text)
		switch {
		case err != nil:
			return veto(heal.ReasonHeld, fmt.Sprintf("%s is %q, which is not an RFC 3339 time and counts as for ever", heal.AnnotationHoldUntil, heal.Clean(text, 40)))
		case in.Now.Before(until):
			return veto(heal.ReasonHeld, fmt.Sprintf("%s is %s, which is in %s", heal.AnnotationHoldUntil, heal.Clean(text, 40), rounded(until.Sub(in.Now))))
		}
	}
	text := in.Failure.Metadata[heal.MetadataMode]
	switch heal.Mode(text) {
	case "", heal.ModeAuto:
		return allow("no mark forbids it")
	case heal.ModeApprove:
		return allow(heal.AnnotationMode + " is approve: a person is asked")
	case heal.ModeObserve:
		return veto(heal.ReasonMarkedObserve, heal.AnnotationMode+" is observe")
	case heal.ModeOff:
		return veto(heal.ReasonMarkedOff, heal.AnnotationMode+" is off")
	}
	return veto(heal.ReasonMarkedOff, fmt.Sprintf("%s is %q, which is not one of %v and counts as off", heal.AnnotationMode, heal.Clean(text, 32), heal.Modes))
}
