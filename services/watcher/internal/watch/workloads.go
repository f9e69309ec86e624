package watch

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// A workload is what is remembered of one that keeps pods running.
type workload struct {
	revision string
	asked    int32 // replicas; asking for others is no roll-out
	updated  int32 // of the revision
	pods     int32 // that there should be …
	serving  int32 // … and that serve
	labels   labelSet

	available int32 // pods, as it says itself
	still     bool  // it does not bring its pods to the newest revision by itself
}

// openWorkloads is the view of a kind that keeps pods running.
func openWorkloads[T metav1.Object](w *Watcher, k kind, list []detect.Detector[T], describe func(T) workload) view {
	d := detectors[T]{kind: k, list: list, node: func(T) string { return "" }}
	history := newCourses(time.Now())
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			facts := detect.Facts{Now: now, Thresholds: w.cfg.Thresholds, Events: w.notes.of(string(obj.GetUID()), now)}
			history.tell(makeUID([]byte(obj.GetUID())), &facts)
			facts.NodesAway, facts.Draining = w.absences.count(now)
			return d.judge(obj.(T), facts, tracked)
		},
		change: func(obj metav1.Object, _ bool, now time.Time) {
			is := describe(obj.(T))
			history.note(makeUID([]byte(obj.GetUID())), is, now)
			w.barren.note(k, obj, is.pods, is.serving)
			w.network.rest(string(obj.GetUID()), obj.GetNamespace(), is.asked == 0, is.labels, now)
		},
		forget: func(uid string) {
			history.forget(makeUID([]byte(uid)))
			w.barren.forget(uid)
			w.network.restGone(uid)
			w.notes.forget(uid)
		},
		standing: func(uid string) (standing, bool) { return history.standing(makeUID([]byte(uid))) },
	}
}

// replicas is how many are asked for. (The API's default is one.)
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
