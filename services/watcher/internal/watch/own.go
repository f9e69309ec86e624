package watch

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/own"
)

// Watched is every kind that is watched anyway, as apiVersion/Kind.
func Watched() []string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.key())
	}
	return all
}

// ownKind is a kind that detectors of the operator's own look at. Of what is
// well nothing is kept, as of any other.
func ownKind(k own.Kind) kind {
	return kind{
		Version: k.Version, Kind: k.Kind, Group: k.Group, Resource: k.Resource, Namespaced: k.Namespaced,
		Optional: true,
		New:      func() object { return &anyObject{version: k.Version, kind: k.Kind} },
		Slim:     slimAny,
		Open: func(w *Watcher, kind kind) view {
			d := detectors[*unstructured.Unstructured]{
				kind: kind,
				list: k.Detectors,
				node: func(*unstructured.Unstructured) string { return "" },
			}
			return view{
				judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
					return d.judge(obj.(*unstructured.Unstructured), detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}, tracked)
				},
				change: func(metav1.Object, bool, time.Time) {},
				forget: func(string) {},
			}
		},
	}
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
	return &unstructured.Unstructured{Object: own.Clean(o.Object)}
}
