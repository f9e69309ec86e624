package watch

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/own"
)

// Watched is every kind that is watched anyway.
func Watched() []own.Kind {
	var all []own.Kind
	for _, k := range kinds {
		all = append(all, own.Kind{Version: k.Version, Kind: k.Kind, Group: k.Group, Resource: k.Resource, Namespaced: k.Namespaced})
	}
	return all
}

// ownKind is a kind that detectors of the operator's own look at. It is
// watched for them alone, as a whole, even if it is watched for ours already:
// those see next to nothing of an object, and most of the many not at all. Of
// what is well nothing is kept, as of any other.
func ownKind(k own.Kind) kind {
	return kind{
		Version: k.Version, Kind: k.Kind, Group: k.Group, Resource: k.Resource, Namespaced: k.Namespaced,
		Optional: true,
		Own:      true,
		New:      func() object { return &anyObject{version: k.Version, kind: k.Kind} },
		Slim:     slimAny,
		Open: func(w *Watcher, kind kind) view {
			d := detectors[*own.Object]{
				kind: kind,
				list: k.Detectors,
				node: ownNode(k),
			}
			return view{
				judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
					sightings := d.judge(obj.(*own.Object), detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}, tracked)
					return append(sightings, dropped(k.Detectors, tracked)...)
				},
				change: func(metav1.Object, bool, time.Time) {},
				forget: func(string) {},
			}
		},
	}
}

// dropped ends what detectors found that are not in the file any more.
func dropped(list []detect.Detector[*own.Object], tracked []episode.Key) (ended []episode.Sighting) {
	for _, key := range tracked {
		if !slices.ContainsFunc(list, func(d detect.Detector[*own.Object]) bool { return d.Name == key.Detector }) {
			ended = append(ended, episode.Sighting{Key: key, State: episode.Well})
		}
	}
	return ended
}

// ownNode is the node that an object of a kind is about, if any: a node is
// about itself, and a pod about the one that it runs on.
func ownNode(k own.Kind) func(*own.Object) string {
	switch k.Version + "/" + k.Kind {
	case nodes.key():
		return func(o *own.Object) string { return o.GetName() }
	case pods.key():
		return func(o *own.Object) string {
			name, _, _ := unstructured.NestedString(o.Object, "spec", "nodeName") // absent, or it has none
			return name
		}
	}
	return func(*own.Object) string { return "" }
}

// anyObject is an object of which nothing is known but its kind, which the
// entries of some lists leave out.
type anyObject struct {
	unstructured.Unstructured
	version, kind string
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *anyObject) UnmarshalJSON(data []byte) error {
	var m map[string]any
	if err := utiljson.Unmarshal(data, &m); err != nil {
		return err
	}
	o.Object = m
	o.SetAPIVersion(o.version)
	o.SetKind(o.kind)
	return nil
}

// slimAny keeps of an object what an expression may see.
func slimAny(obj any) any {
	o, ok := obj.(*anyObject)
	if !ok {
		return obj
	}
	return own.Clean(o.Object)
}
