package watch

import (
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/services/watcher/internal/own"
)

// A shelf holds objects of one kind, by name. Those of a kind of which there
// are many lie packed, in a tenth of the room and without what names them:
// each look unpacks a new one.
type shelf struct {
	unpack func() object // an empty object; nil: nothing is packed
	items  map[name]item
}

type item struct {
	uid  uid
	obj  metav1.Object // nil if it is packed
	data []byte
}

func newShelf(k kind) shelf {
	s := shelf{items: map[name]item{}}
	switch {
	case k.Own: // decoded they take ten times the room
		s.unpack = func() object { return new(own.Object) }
	case k.Packed:
		s.unpack = k.New
	}
	return s
}

// get returns the object of this name, or nil.
func (s shelf) get(n name) metav1.Object {
	i, ok := s.items[n]
	if !ok {
		return nil
	}
	if i.obj != nil {
		return i.obj
	}
	obj := s.unpack()
	if u, ok := obj.(interface{ Unmarshal([]byte) error }); !ok || u.Unmarshal(i.data) != nil {
		return nil // what we packed ourselves; it cannot be
	}
	identify(obj, n, types.UID(i.uid.String()))
	return obj
}

func identify(obj metav1.Object, n name, id types.UID) {
	obj.SetNamespace(n.Namespace)
	obj.SetName(n.Name)
	obj.SetUID(id)
}

// has reports whether there is an object of this name, and its UID.
func (s shelf) has(n name) (uid, bool) {
	i, ok := s.items[n]
	return i.uid, ok
}

func (s shelf) put(n name, obj metav1.Object) {
	i := item{uid: makeUID([]byte(obj.GetUID())), obj: obj}
	if p, ok := obj.(interface{ Marshal() ([]byte, error) }); ok && s.unpack != nil {
		id := obj.GetUID()
		identify(obj, name{}, "")
		if data, err := p.Marshal(); err == nil {
			i.obj, i.data = nil, data
		}
		identify(obj, n, id)
	}
	n.Namespace = unique.Make(n.Namespace).Value() // many have the same
	s.items[n] = i
}

// drop lets go of the object of this name, if it has this UID.
func (s shelf) drop(n name, id uid) {
	if i, ok := s.items[n]; ok && i.uid == id {
		delete(s.items, n)
	}
}

// dropAll lets go of what has one of these UIDs.
func (s shelf) dropAll(ids map[uid]bool) {
	for n, i := range s.items {
		if ids[i.uid] {
			delete(s.items, n)
		}
	}
}
