package watch

import (
	"fmt"
	"testing"
	"unique"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

func TestUIDIsKeptAsItIs(t *testing.T) {
	forms := rapid.OneOf(
		rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
		rapid.StringMatching(`[0-9a-fA-F-]{0,40}`), rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) {
		a, b := forms.Draw(t, "a"), forms.Draw(t, "b")
		if got := makeUID([]byte(a)).String(); got != a {
			t.Errorf("%q became %q", a, got)
		}
		if (makeUID([]byte(a)) == makeUID([]byte(b))) != (a == b) {
			t.Errorf("%q and %q are confused", a, b)
		}
	})
	usual := []byte("607d2dfa-4025-4d89-8eca-efeaa0105eb2")
	if u := makeUID(usual); u.form != (unique.Handle[string]{}) {
		t.Errorf("%s has a form of its own", usual)
	}
	if n := testing.AllocsPerRun(100, func() { makeUID(usual) }); n > 0 {
		t.Errorf("%v allocations for a usual UID, want none", n)
	}
}

func weightOn(node string, l load) weight {
	return weight{uid: makeUID([]byte("u-" + node)), load: unique.Make(l), node: unique.Make(node), counts: true}
}

func TestWeightsAddUpByNodeWhateverComesAndGoes(t *testing.T) {
	w := newWeights()
	a, b := w.key([]byte("shop"), []byte("a")), w.key([]byte("shop"), []byte("b"))
	small, large := load{CPU: 100, Memory: 10}, load{CPU: 2000, Memory: 500, Limits: "api=1000,web=50"}
	w.put(a, weightOn("n1", small))
	w.put(b, weightOn("n1", large))
	w.put(b, weightOn("n1", large)) // again
	if diff := cmp.Diff(sum{CPU: 2100, Memory: 510, Pods: 2}, w.On("n1")); diff != "" {
		t.Errorf("n1 (-want +got):\n%s", diff)
	}
	if l, id, node, ok := w.Of("shop", "b"); !ok || l != large || id != "u-n1" || node != "n1" {
		t.Errorf("shop/b: %+v, %s, %s, %v", l, id, node, ok)
	}
	if limit, ok := large.MemoryLimit("web"); !ok || limit != 50 {
		t.Errorf("limit of web: %d, %v", limit, ok)
	}
	if _, ok := large.MemoryLimit("we"); ok {
		t.Error("a container that is not limited has a limit")
	}

	moved := weightOn("n2", small)
	w.put(b, moved)
	ended := weightOn("n1", small)
	ended.counts = false
	w.put(a, ended)
	if got := w.On("n1"); got != (sum{}) {
		t.Errorf("n1 has %+v, want nothing", got)
	}
	if _, _, _, ok := w.Of("shop", "a"); ok {
		t.Error("a pod that has ended still asks for something")
	}
	w.drop(b, makeUID([]byte("somebody else")))
	w.drop(b, moved.uid)
	if got := w.On("n2"); got != (sum{}) || w.Len() != 1 {
		t.Errorf("n2 has %+v, %d pods in all; want nothing, and 1", got, w.Len())
	}
}

func TestWhatDoesNotComeInAReadingIsGoneFromThatPartAlone(t *testing.T) {
	w := newWeights()
	put := func(part uint8, name string) {
		w.put(w.key([]byte("shop"), []byte(name)), weight{uid: makeUID([]byte(name)), part: part})
	}
	put(0, "a")
	put(0, "b")
	put(1, "c")
	w.begin(0)
	put(0, "b")
	gone := w.end(0)
	if len(gone) != 1 || gone[0].String() != "a" || w.Len() != 2 || !w.has("shop", "c", makeUID([]byte("c"))) {
		t.Errorf("%v are gone, %d are left; want only a", gone, w.Len())
	}
	if again := w.end(0); len(again) != 0 {
		t.Errorf("%v are gone a second time", again)
	}
}

func TestLoadIsCountedAsTheSchedulerDoes(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	asks := func(name, cpu, memory string) corev1.Container {
		return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}}}
	}
	sidecar := asks("proxy", "50m", "1Mi")
	sidecar.RestartPolicy = &always
	tests := []struct {
		name string
		spec corev1.PodSpec
		want load
	}{
		{"nothing", corev1.PodSpec{Containers: []corev1.Container{{Name: "api"}}}, load{}},
		{"containers together", corev1.PodSpec{Containers: []corev1.Container{asks("a", "100m", "1Mi"), asks("b", "1", "2Mi")}}, load{CPU: 1100, Memory: 3 << 20}},
		{
			"an init container that asks for more", corev1.PodSpec{
				InitContainers: []corev1.Container{asks("i", "3", "1Mi")}, Containers: []corev1.Container{asks("a", "100m", "2Mi")},
			}, load{CPU: 3000, Memory: 2 << 20},
		},
		{
			"a sidecar, which stays", corev1.PodSpec{
				InitContainers: []corev1.Container{sidecar, asks("i", "100m", "1Mi")}, Containers: []corev1.Container{asks("a", "200m", "1Mi")},
			}, load{CPU: 250, Memory: 2 << 20},
		},
		{
			"overhead", corev1.PodSpec{
				Containers: []corev1.Container{asks("a", "100m", "1Mi")},
				Overhead:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")},
			}, load{CPU: 110, Memory: 1 << 20},
		},
		{
			"the pod as a whole", corev1.PodSpec{
				Containers: []corev1.Container{asks("a", "100m", "1Mi")},
				Resources:  &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}},
			}, load{CPU: 2000, Memory: 1 << 20},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := loadOf(&tt.spec); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestLedgerIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l ledger
		want := map[uint64]compact{}
		for i := range rapid.IntRange(0, 300).Draw(t, "steps") {
			key := rapid.Uint64Range(0, 40).Draw(t, "key") << rapid.SampledFrom([]int{0, 56}).Draw(t, "page")
			if rapid.Bool().Draw(t, "removes") {
				l.remove(key)
				delete(want, key)
				continue
			}
			c := compact{node: uint32(i)}
			l.put(key, c)
			want[key] = c
		}
		got := map[uint64]compact{}
		l.each(func(key uint64, c compact) { got[key] = c })
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(compact{})); diff != "" || l.len != len(want) {
			t.Fatalf("%d entries (-want +got):\n%s", l.len, diff)
		}
		for key, c := range want {
			if found, ok := l.get(key); !ok || found != c {
				t.Fatalf("key %d: %v, %v", key, found, ok)
			}
		}
	})
}

func BenchmarkWeightsPut(b *testing.B) {
	w := newWeights()
	var keys []uint64
	for i := range 100_000 {
		keys = append(keys, w.key([]byte("shop"), fmt.Appendf(nil, "pod-%d", i)))
	}
	p := weightOn("n1", load{CPU: 100})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.put(keys[i%len(keys)], p)
	}
}
