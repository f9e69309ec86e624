package watch

import (
	"cmp"
	"encoding/json"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/stream"
)

// Everything that is watched. A kind is a file of its own and a line here.
var kinds = []kind{
	pods,
	nodes,
	events,
	scaleUps,
	deployments,
	replicaSets,
	statefulSets,
	daemonSets,
	jobs,
	cronJobs,
	autoscalers,
	budgets,
	services,
	endpointSlices,
	namespaces,
	claims,
	volumes,
	attachments,
	storageClasses,
	quotas,
	apiServices,
	validatingWebhooks,
	mutatingWebhooks,
}

// A kind is a kind of object that is watched. It hides the object's type, so
// that all kinds stand in one list.
type kind struct {
	Version    string // group and version, as in an object's apiVersion
	Kind       string
	Group      string // as in RBAC rules
	Resource   string // as in RBAC rules
	Namespaced bool
	Optional   bool   // not every cluster serves it: the watcher is ready without it
	Keep       bool   // all objects are kept, not only suspects: others are judged by them
	First      bool   // it is read before all others, which are judged by it
	Packed     bool   // those that are kept lie in their encoded form: there are many, and they are seldom looked at
	Passing    bool   // they are news about others, and none is remembered
	Glance     bool   // most are dull: they are not even decoded (pods)
	Resume     bool   // there are many: a new process goes on where another was
	Own        bool   // detectors of the operator's own look at it, whoever else does
	Fields     string // a field selector; empty for all objects
	Labels     string // a label selector, as well
	New        func() object
	Slim       func(any) any // drops what no detector reads; may be given anything
	Open       func(*Watcher, kind) view
}

// An object is what every type of the API is.
type object interface {
	runtime.Object
	metav1.Object
}

// accept is the forms in which we understand objects of the kind.
func (k kind) accept() string {
	if _, ok := k.New().(interface{ Unmarshal([]byte) error }); ok {
		return stream.Protobuf + "," + stream.JSON
	}
	return stream.JSON
}

// A view judges the objects of a kind, and remembers between changes what the
// objects themselves do not say. Its methods are called under the Watcher's
// lock, and do no I/O.
type view struct {
	judge  func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting
	change func(obj metav1.Object, known bool, now time.Time) // known: it is not the first time
	forget func(uid string)

	// What follows may be nil.
	remembers func(uid []byte) bool                  // something is remembered that may matter, however dull the object looks
	memory    func(now time.Time) json.RawMessage    // what another process would have to know
	recall    func(json.RawMessage, time.Time) error // takes it over
	standing  func(uid string) (standing, bool)      // of a workload
}

// detectors is what is looked for in objects of type T.
type detectors[T metav1.Object] struct {
	kind kind
	list []detect.Detector[T]
	node func(T) string // the node it is about, if any
}

// judge says how all parts of obj are that a detector finds failing, or that
// are tracked because one did earlier.
func (d detectors[T]) judge(obj T, facts detect.Facts, tracked []episode.Key) []episode.Sighting {
	var out []episode.Sighting
	for i := range d.list {
		det := &d.list[i]
		found := det.Find(obj, facts)
		if len(found) == 0 && !following(tracked, det.Name) {
			continue
		}
		excuse := detect.None
		if det.Excuse != nil {
			excuse = det.Excuse(obj, facts)
		}
		clear := time.Duration(0)
		if det.Clear != nil {
			clear = det.Clear(facts.Thresholds)
		}
		state := func(otherwise episode.State) episode.State {
			switch excuse {
			case detect.Leaving:
				return episode.Well
			case detect.Masked:
				return episode.Excused
			}
			return otherwise
		}
		for _, f := range found {
			s := episode.Sighting{
				Key:   episode.Key{UID: d.kind.subject(string(obj.GetUID())), Detector: det.Name, Part: f.Part},
				State: state(episode.Failing), Hold: f.Hold, Clear: clear,
			}
			if s.State == episode.Failing {
				s.Failure = draft(d.kind, obj, d.node(obj), det.Name, det.Type, f)
				s.Failure.Severity = cmp.Or(det.Severity, s.Failure.Severity)
			}
			out = append(out, s)
		}
		for _, key := range tracked {
			if key.Detector != det.Name || finds(found, key.Part) {
				continue
			}
			calm := episode.Well
			if det.Well != nil && !det.Well(obj, key.Part) {
				calm = episode.Unclear
			}
			out = append(out, episode.Sighting{Key: key, State: state(calm), Clear: clear})
		}
	}
	return out
}

func following(tracked []episode.Key, detector string) bool {
	for _, key := range tracked {
		if key.Detector == detector {
			return true
		}
	}
	return false
}

func finds(found []detect.Finding, part string) bool {
	for i := range found {
		if found[i].Part == part {
			return true
		}
	}
	return false
}

// shared is s, of which there is one however many have it.
func shared[T ~string](s T) T { return unique.Make(s).Value() }

// slimMeta keeps what messages, owners and detectors need. Annotations may
// hold anything, secrets included; only two of Kubernetes' own are kept.
func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	slim := metav1.ObjectMeta{
		Name:              m.Name,
		Namespace:         m.Namespace,
		UID:               m.UID,
		ResourceVersion:   m.ResourceVersion,
		Generation:        m.Generation,
		CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp,
	}
	if m.DeletionTimestamp != nil { // only then do they say something
		slim.DeletionGracePeriodSeconds = m.DeletionGracePeriodSeconds
		slim.Finalizers = m.Finalizers
	}
	if c := metav1.GetControllerOfNoCopy(&m); c != nil {
		slim.OwnerReferences = []metav1.OwnerReference{*c}
	}
	for _, key := range []string{corev1.MirrorPodAnnotationKey, detect.RevisionAnnotation} {
		if value := m.Annotations[key]; value != "" {
			if slim.Annotations == nil {
				slim.Annotations = map[string]string{}
			}
			slim.Annotations[key] = clip(value)
		}
	}
	return slim
}
