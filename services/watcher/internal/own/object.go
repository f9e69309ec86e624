package own

import (
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// An Object is one as expressions see it. Clean makes one.
type Object struct{ unstructured.Unstructured }

// Marshal is the object in a form that takes a tenth of the room.
func (o *Object) Marshal() ([]byte, error) { return json.Marshal(o.Object) }

// Unmarshal reads that form.
func (o *Object) Unmarshal(data []byte) error { return utiljson.Unmarshal(data, &o.Object) }

// Hidden are the fields that no expression sees, wherever they stand, in lower
// case: they may hold what is never copied from a cluster. What is not to be
// told is not to be seen.
var Hidden = []string{
	"env", "envfrom", // environment values
	"command", "args", // command lines, those of probes and hooks too
	"httpheaders",                                                               // of probes and hooks, which may authorise
	"password", "token", "clientsecret", "secretkey", "accesskey", "privatekey", // written where a reference belongs
}

// HiddenData are the fields that no expression sees at the top of an object:
// what ConfigMaps and their like hold.
var HiddenData = []string{"data", "binarydata", "stringdata"}

// Clean is object without what is Hidden. It leaves object as it is, but may
// share parts with it.
func Clean(object map[string]any) *Object {
	clean := strip(object)
	for key := range clean {
		if holds(HiddenData, key) {
			delete(clean, key)
		}
	}
	if meta, ok := clean["metadata"].(map[string]any); ok {
		delete(meta, "managedFields") // long, and nobody's state
		if notes, ok := meta["annotations"].(map[string]any); ok {
			delete(notes, "kubectl.kubernetes.io/last-applied-configuration") // it holds all of the above
		}
	}
	return &Object{unstructured.Unstructured{Object: clean}}
}

func holds(list []string, key string) bool {
	for _, k := range list {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

func strip(m map[string]any) map[string]any {
	clean := make(map[string]any, len(m))
	for key, v := range m {
		if !holds(Hidden, key) {
			clean[key] = stripped(v)
		}
	}
	return clean
}

func stripped(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return strip(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = stripped(v[i])
		}
		return list
	}
	return v
}
