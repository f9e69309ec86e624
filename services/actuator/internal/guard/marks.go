package guard

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// marks refuses what a person forbade by an annotation on the object, one of
// its owners or the namespace. The tightest mark counts: whoever may annotate
// a pod must not get round a mark on its namespace. A value that cannot be
// read counts as the tightest there is.
var marks = Guard{Name: "marks", Judge: func(f Facts) Verdict {
	for _, o := range marked(f) {
		if text, ok := o.Annotations[heal.AnnotationHoldUntil]; ok {
			if v := judgeHold(f.Now, o, text); !v.Allowed() {
				return v
			}
		}
	}
	mode, carrier, value := tightest(heal.ModeAuto, marked(f))
	switch mode {
	case heal.ModeAuto:
		return Allow("no mark forbids it")
	case heal.ModeApprove:
		if f.Target.Same(f.Decision.Target) || f.Approved && ownedBy(f, f.Decision.Target) {
			return Allow("%s carries %s: approve", carrier, heal.AnnotationMode) // the guard approval asks for it
		}
		return Veto("MarkedApprove", "%s carries %s: approve, and what was decided about %s is not an approval of that: do it by hand",
			carrier, heal.AnnotationMode, f.Decision.Target)
	case heal.ModeObserve:
		return Veto("MarkedObserve", "%s carries %s: %s", carrier, heal.AnnotationMode, value)
	}
	if value != string(heal.ModeOff) {
		return Veto("MarkedOff", "%s carries %s: %q, which is not one of %v and counts as off", carrier, heal.AnnotationMode, value, heal.Modes)
	}
	return Veto("MarkedOff", "%s carries %s: off", carrier, heal.AnnotationMode)
}}

// ownedBy reports whether owner is among the owners of the target.
func ownedBy(f Facts, owner heal.Target) bool {
	return slices.ContainsFunc(f.Owners, func(o Owner) bool { return string(o.UID) == owner.UID })
}

// tightest is the tightest of mode and the marks on objects, and if that is a
// mark, which object carries it and what it says.
func tightest(mode heal.Mode, objects []Object) (_ heal.Mode, carrier Object, value string) {
	for _, o := range objects {
		text, ok := o.Annotations[heal.AnnotationMode]
		if !ok {
			continue
		}
		if m := mode.Tighter(heal.Mode(text)); m != mode {
			mode, carrier, value = m, o, heal.Clean(text, 32)
		}
	}
	return mode, carrier, value
}

// marked is whatever may carry a mark, nearest first.
func marked(f Facts) []Object {
	var all []Object
	if f.Live != nil {
		all = append(all, *f.Live)
	}
	for i, o := range f.Owners {
		// A Deployment copies its annotations to its ReplicaSets, and leaves
		// them there when they are taken from itself.
		if o.Kind == "ReplicaSet" && i+1 < len(f.Owners) && f.Owners[i+1].Kind == "Deployment" {
			continue
		}
		all = append(all, o.Object)
	}
	if f.Namespace != nil {
		all = append(all, *f.Namespace)
	}
	return all
}

func judgeHold(now time.Time, o Object, text string) Verdict {
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Veto("Held", "%s carries %s: %q, which is not an RFC 3339 time and counts as for ever",
			o, heal.AnnotationHoldUntil, heal.Clean(text, 40))
	}
	if now.Before(until) {
		return Veto("Held", "%s carries %s: %s, which is in %s", o, heal.AnnotationHoldUntil, text, until.Sub(now).Round(time.Second))
	}
	return Allow("the hold on %s is over", o)
}
