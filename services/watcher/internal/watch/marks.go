package watch

import (
	"cmp"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// unwritten is what an annotation says that is there and says nothing: like
// anything else that is no value of it, it counts as the tightest there is.
const unwritten = "(empty)"

// mark adds what an object says for itself, and for those in it, of how far it
// is to be left alone.
func (r routing) mark(obj metav1.Object) {
	for annotation, key := range map[string]string{heal.AnnotationMode: heal.MetadataMode, heal.AnnotationHoldUntil: heal.MetadataHoldUntil} {
		if text, ok := obj.GetAnnotations()[annotation]; ok {
			r[key] = shared(cmp.Or(clip(text), unwritten))
		}
	}
}

// declare adds who would put back what is changed of an object.
func (r routing) declare(obj metav1.Object) {
	var fields []string
	for _, f := range obj.GetManagedFields() {
		fields = append(fields, f.Manager)
	}
	if who, seen := heal.ManagedBy(obj.GetLabels(), obj.GetAnnotations(), fields); who != "" {
		r[heal.MetadataManagedBy] = clip(who + " (" + seen + ")")
	}
}

// nearer adds what a nearer object says, which counts, except that the tighter
// of two marks does: whoever may annotate an object must not get round a mark
// on its namespace.
func (r routing) nearer(own routing) {
	mode := tighter(r, own, heal.MetadataMode, func(text string) int { return slices.Index(heal.Modes, heal.Mode(text)) })
	hold := tighter(r, own, heal.MetadataHoldUntil, func(text string) int {
		until, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return -1
		}
		return int(max(0, time.Unix(1<<40, 0).Unix()-until.Unix())) // the later, the tighter
	})
	maps.Copy(r, own)
	tell(r, heal.MetadataMode, mode)
	tell(r, heal.MetadataHoldUntil, hold)
}

// tighter is that of two values whose rank is lower; empty if neither is there.
func tighter(a, b routing, key string, rank func(string) int) string {
	x, y := a[key], b[key]
	if x == "" || y != "" && rank(y) < rank(x) {
		return y
	}
	return x
}
