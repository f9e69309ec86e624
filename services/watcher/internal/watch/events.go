package watch

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// events are the warnings among Kubernetes' own events. They are no objects
// that can fail, but facts about pods and nodes; the watcher does without them
// where it may not see them.
var events = kind{
	Version:    "v1",
	Kind:       "Event",
	Resource:   "events",
	Namespaced: true,
	Optional:   true,
	Passing:    true,
	Fields:     "type=" + corev1.EventTypeWarning,
	New:        func() object { return new(corev1.Event) },
	Slim:       slimEvent,
	Open:       openEvents,
}

func openEvents(w *Watcher, _ kind) view {
	return view{
		judge: func(metav1.Object, time.Time, []episode.Key) []episode.Sighting { return nil },
		change: func(obj metav1.Object, _ bool, now time.Time) {
			e := obj.(*corev1.Event)
			about := e.InvolvedObject
			note, ok := detect.EventOf(e)
			if !ok || !w.notes.add(subject(about.Kind, about.Name, string(about.UID)), note, now) {
				return
			}
			if about.Kind != "Pod" || note.Alone() || w.suspects(pods, about.Namespace, about.Name) {
				w.again(versionOf(about.Kind), about.Kind, about.Namespace, about.Name)
			}
		},
		forget: func(string) {}, // they are forgotten with time, or with what they are about
	}
}

// versionOf is the version in which we watch a kind that events are about.
func versionOf(kind string) string {
	for _, k := range []string{statefulSets.key(), daemonSets.key(), jobs.key()} {
		if version, found := strings.CutSuffix(k, "/"+kind); found {
			return version
		}
	}
	return "v1"
}

// subject is what is noted under: a kubelet calls its node by name, and knows
// no UID of it.
func subject(kind, name, uid string) string {
	if kind == "Node" {
		return "Node/" + name
	}
	return uid
}

// podSubject is subject for a pod. A static pod has a UID of its own, by which
// its kubelet speaks of it; the API's picture of it, which has another, says so.
func podSubject(p *corev1.Pod) string {
	if static := p.Annotations[corev1.MirrorPodAnnotationKey]; static != "" {
		return static
	}
	return string(p.UID)
}

const (
	// What is remembered at most. Beyond it a failure is found all the same, but
	// less is said about why.
	maxNoted      = 4096
	notesPerThing = 8
)

// notes remembers what was said of late about pods and nodes: of each kind of
// event the last.
type notes struct {
	about map[string][]detect.Event // by subject
	swept time.Time
}

// add takes in an event, and reports whether it is news: a list tells again
// what is known.
func (n *notes) add(subject string, e detect.Event, now time.Time) bool {
	if e.At.After(now) {
		e.At = now // by another clock
	}
	if subject == "" || now.Sub(e.At) >= detect.EventWindow {
		return false
	}
	list := n.about[subject]
	i := slices.IndexFunc(list, func(have detect.Event) bool {
		return have.Reason == e.Reason && have.Container == e.Container && have.Probe == e.Probe
	})
	if i >= 0 {
		if !e.At.After(list[i].At) {
			return false
		}
		list[i] = e
		return true
	}
	if list == nil && len(n.about) >= maxNoted {
		n.sweep(now)
		if len(n.about) >= maxNoted {
			return false
		}
	}
	if n.about == nil {
		n.about = map[string][]detect.Event{}
	}
	if len(list) >= notesPerThing { // the oldest goes
		oldest := 0
		for i := range list {
			if list[i].At.Before(list[oldest].At) {
				oldest = i
			}
		}
		list[oldest] = e
		return true
	}
	n.about[subject] = append(list, e)
	return true
}

// sweep forgets what has left the window, at most once a minute.
func (n *notes) sweep(now time.Time) {
	if now.Sub(n.swept) < time.Minute {
		return
	}
	n.swept = now
	for subject := range n.about {
		if len(n.of(subject, now)) == 0 {
			delete(n.about, subject)
		}
	}
}

// of is what was said about a subject within the window.
func (n *notes) of(subject string, now time.Time) []detect.Event {
	var recent []detect.Event
	for _, e := range n.about[subject] {
		if now.Sub(e.At) < detect.EventWindow {
			recent = append(recent, e)
		}
	}
	return recent
}

// last is the last event of one reason about a subject, or nil.
func (n *notes) last(subject, reason string, now time.Time) *detect.Event {
	for _, e := range n.of(subject, now) {
		if e.Reason == reason {
			return &e
		}
	}
	return nil
}

// has reports whether anything was said about a subject.
func (n *notes) has(subject []byte) bool { return n.about[string(subject)] != nil }

func (n *notes) forget(subject string) { delete(n.about, subject) }

// slimEvent keeps of an event what it is about and what it says.
func slimEvent(obj any) any {
	e, ok := obj.(*corev1.Event)
	if !ok {
		return obj
	}
	about := e.InvolvedObject
	slim := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name: e.Name, Namespace: e.Namespace, UID: e.UID, ResourceVersion: e.ResourceVersion, CreationTimestamp: e.CreationTimestamp,
		},
		InvolvedObject: corev1.ObjectReference{
			Kind: about.Kind, Namespace: about.Namespace, Name: about.Name, UID: about.UID, FieldPath: strings.Clone(about.FieldPath),
		},
		Type:           e.Type,
		Reason:         e.Reason,
		Message:        clip(e.Message),
		FirstTimestamp: e.FirstTimestamp,
		LastTimestamp:  e.LastTimestamp,
		EventTime:      e.EventTime,
	}
	if e.Series != nil {
		slim.Series = &corev1.EventSeries{LastObservedTime: e.Series.LastObservedTime}
	}
	return slim
}
