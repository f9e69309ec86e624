package guard

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Brake is the name of what stops all acting at once. It is asked right before
// every write, also before one that takes a change of ours back, so it is not
// in the lists of guards.
const Brake = "brake"

// The reasons of the brake.
const (
	Paused   = "Paused"   // by `selfheal pause`
	Disarmed = "Disarmed" // by a mark on the namespace that we run in
)

// JudgeBrake says whether anything may be changed. control is the last that was
// sent, the zero one if none ever was. home are the namespaces that we run in,
// as far as they exist: a mark there counts for all of the cluster. mode is the
// tightest that those leave.
func JudgeBrake(now time.Time, control heal.Control, home []Object) (mode heal.Mode, v Verdict) {
	if control.Verb == heal.Pause && (control.Until.IsZero() || now.Before(control.Until)) {
		text := "paused by " + heal.Clean(control.By, 64) + " at " + control.At.UTC().Format(time.RFC3339)
		if !control.Until.IsZero() {
			text += " until " + control.Until.UTC().Format(time.RFC3339)
		}
		if control.Reason != "" {
			text += ": " + heal.Clean(control.Reason, heal.MaxText)
		}
		return heal.ModeOff, Veto(Paused, "%s; `selfheal resume` ends that", text)
	}
	mode, carrier, value := tightest(heal.ModeAuto, home)
	for _, o := range home {
		if text, ok := o.Annotations[heal.AnnotationHoldUntil]; ok {
			if held := judgeHold(now, o, text); !held.Allowed() {
				return heal.ModeOff, Veto(Disarmed, "nothing is changed in all of the cluster: %s", held.Detail)
			}
		}
	}
	if mode == heal.ModeOff || mode == heal.ModeObserve {
		return mode, Veto(Disarmed, "nothing is changed in all of the cluster: %s carries %s: %s; `kubectl annotate namespace %s %s-` ends that",
			carrier, heal.AnnotationMode, value, carrier.Name, heal.AnnotationMode)
	}
	return mode, Allow("acting is neither paused nor forbidden")
}
