package watch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func shelfOf(k kind, objects ...metav1.Object) shelf {
	s := newShelf(k)
	for _, obj := range objects {
		s.put(nameOf(obj), obj)
	}
	return s
}

func TestWhatIsPackedIsAsItWasAndOnlyTheRightOneIsDropped(t *testing.T) {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api", UID: "u1", ResourceVersion: "7"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "api"}},
	}
	n := nameOf(service)
	for _, k := range []kind{{New: services.New}, {New: services.New, Packed: true}} {
		s := shelfOf(k, service)
		if diff := cmp.Diff(metav1.Object(service), s.get(n)); diff != "" {
			t.Errorf("packed %v (-want +got):\n%s", k.Packed, diff)
		}
		if s.get(name{"shop", "web"}) != nil {
			t.Error("there is something of another name")
		}
		s.drop(n, makeUID([]byte("u2")))
		count := 0
		s.each(func(metav1.Object) { count++ })
		if id, ok := s.has(n); count != 1 || !ok || id.String() != "u1" {
			t.Errorf("%d objects, %v, after another was dropped; want u1", count, id)
		}
		s.dropAll(map[uid]bool{makeUID([]byte("u1")): true})
		if s.get(n) != nil {
			t.Error("it is still there")
		}
	}
}
