package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// envelope encodes an object as the API server does.
func envelope(t testing.TB, version, kind string, obj interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	raw, err := obj.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: version, Kind: kind}, Raw: raw}
	data, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("k8s\x00"), data...)
}

func frame(t testing.TB, kind string, object []byte) []byte {
	t.Helper()
	data, err := (&metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: object}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

func somePod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api-1", UID: "u1", ResourceVersion: "7", Annotations: map[string]string{"note": "x"}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
	}
}

func endOfInitial() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "9", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
}

// An event is what was read, copied.
type event struct {
	Type, Namespace, Name, UID, Version string
	Complete                            bool
}

func readAll(e *events) (all []event, err error) {
	for {
		if err := e.next(); err != nil {
			return all, err
		}
		o := e.Object
		all = append(all, event{e.Type, string(o.Namespace), string(o.Name), string(o.UID), string(o.Version), o.complete})
	}
}

var wantEvents = []event{{Type: "ADDED", Namespace: "shop", Name: "api-1", UID: "u1", Version: "7"}, {Type: "BOOKMARK", Version: "9", Complete: true}}

func TestProtobufEventsAreReadInPlace(t *testing.T) {
	var all []byte
	all = append(all, frame(t, "ADDED", envelope(t, "v1", "Pod", somePod()))...)
	all = append(all, frame(t, "BOOKMARK", envelope(t, "v1", "Pod", endOfInitial()))...)
	got, err := readAll(readEvents(bytes.NewReader(all), false))
	if !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	if diff := cmp.Diff(wantEvents, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	e := readEvents(bytes.NewReader(all), false)
	if err := e.next(); err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := Decode(&e.Object, &pod); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(somePod(), &pod); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
}

func TestJSONEventsAreReadAsProtobufOnesAre(t *testing.T) {
	var all bytes.Buffer
	for _, e := range []struct {
		kind string
		pod  *corev1.Pod
	}{{"ADDED", somePod()}, {"BOOKMARK", endOfInitial()}} {
		if err := json.NewEncoder(&all).Encode(map[string]any{"type": e.kind, "object": e.pod}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readAll(readEvents(&all, true))
	if !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	if diff := cmp.Diff(wantEvents, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestErrorInAStreamIsTheServersOwn(t *testing.T) {
	gone := apierrors.NewResourceExpired("too old resource version: 1 (100)").ErrStatus
	_, err := readAll(readEvents(bytes.NewReader(frame(t, "ERROR", envelope(t, "v1", "Status", &gone))), false))
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("protobuf: %v, want that it is expired", err)
	}
	data, err := json.Marshal(map[string]any{"type": "ERROR", "object": gone})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = readAll(readEvents(bytes.NewReader(data), true)); !apierrors.IsResourceExpired(err) {
		t.Errorf("JSON: %v, want that it is expired", err)
	}
}

func TestWhatIsNoEventIsAnErrorAndNothingIsReadBeyondTheLimit(t *testing.T) {
	whole := frame(t, "ADDED", envelope(t, "v1", "Pod", somePod()))
	tests := []struct {
		name string
		data []byte
		json bool
		want error
	}{
		{"nothing", nil, false, io.EOF},
		{"half a length", whole[:2], false, io.ErrUnexpectedEOF},
		{"half an event", whole[:len(whole)-3], false, io.ErrUnexpectedEOF},
		{"a length that is none", []byte("<html><body>"), false, errFrame},
		{"no envelope", frame(t, "ADDED", []byte("hello")), false, errFrame},
		{"no metadata", frame(t, "ADDED", envelope(t, "v1", "Pod", &corev1.Pod{})), false, errFrame},
		{"an endless event", []byte(`{"type":"` + strings.Repeat("x", maxFrame) + `"}`), true, errFrame},
		{"JSON without metadata", []byte(`{"type":"ADDED","object":{}}`), true, errFrame},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := readAll(readEvents(bytes.NewReader(tt.data), tt.json)); !errors.Is(err, tt.want) || len(got) > 0 {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestPageIsTakenApart(t *testing.T) {
	list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "9", Continue: "more"}, Items: []corev1.Pod{*somePod(), *somePod()}}
	asJSON, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	for form, read := range map[string]func() (page, error){
		"protobuf": func() (page, error) { return readPage(envelope(t, "v1", "PodList", list), false) },
		"JSON":     func() (page, error) { return readPage(asJSON, true) },
	} {
		p, err := read()
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		names := 0
		if err := p.objects(func(o *Object) error {
			var pod corev1.Pod
			if err := Decode(o, &pod); err != nil {
				return err
			}
			if string(o.Name) == "api-1" && pod.Spec.NodeName == "n1" {
				names++
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if p.Version != "9" || p.Continue != "more" || names != 2 {
			t.Errorf("%s: version %q, continue %q, %d objects", form, p.Version, p.Continue, names)
		}
	}
	if _, err := readPage([]byte("<html>"), false); err == nil {
		t.Error("a page of a proxy is taken for a list")
	}
}

func TestResourceVersionsAreComparedAsNumbers(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"9", "10", true}, {"10", "9", false}, {"10", "10", false}, {"99", "100", true}, {"", "10", false}, {"abc", "abd", false}, {"9", "", false},
	}
	for _, tt := range tests {
		if got := before([]byte(tt.a), tt.b); got != tt.want {
			t.Errorf("before(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestReadingAnEventCostsNoMemory(t *testing.T) {
	one := frame(t, "MODIFIED", envelope(t, "v1", "Pod", somePod()))
	e := readEvents(bytes.NewReader(bytes.Repeat(one, 200)), false)
	if got := testing.AllocsPerRun(100, func() {
		if err := e.next(); err != nil {
			t.Error(err)
		}
	}); got > 0 {
		t.Errorf("%v allocations for an event, want none", got)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add(frame(f, "ADDED", envelope(f, "v1", "Pod", somePod())), false)
	f.Add([]byte(`{"type":"ADDED","object":{"metadata":{"name":"x","resourceVersion":"7"}}}`), true)
	f.Fuzz(func(t *testing.T, data []byte, asJSON bool) {
		if _, err := readAll(readEvents(bytes.NewReader(data), asJSON)); err == nil {
			t.Error("no end")
		}
		_, _ = readPage(data, asJSON)
	})
}

func BenchmarkEvent(b *testing.B) {
	one := frame(b, "MODIFIED", envelope(b, "v1", "Pod", somePod()))
	r := &endless{data: one}
	e := readEvents(r, false)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.next(); err != nil {
			b.Fatal(err)
		}
	}
}

// endless repeats data for ever.
type endless struct {
	data []byte
	at   int
}

func (r *endless) Read(p []byte) (int, error) {
	n := copy(p, r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	return n, nil
}

func TestSilenceIsLongerOnceEverythingHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits{silence: time.Minute, firstSilence: 10 * time.Second}
		s := &Stream{cfg: Config{Handler: newSeen(), Observer: newSeen()}, limits: l}
		body, server := io.Pipe()
		fell := make(chan time.Time, 1)
		quiet := time.AfterFunc(l.silence, func() {
			fell <- time.Now()
			_ = server.CloseWithError(errSilent)
		})
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- s.read(readEvents(body, false), true, quiet) }()
		if _, err := server.Write(frame(t, bookmark, envelope(t, "v1", "Pod", endOfInitial()))); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, errSilent) || s.version != "9" {
			t.Errorf("ended with %v at version %q, want silence after everything has come", err, s.version)
		}
		if after := (<-fell).Sub(began); after != l.silence {
			t.Errorf("taken for silent after %s, want %s", after, l.silence)
		}
	})
}

func TestKindWithoutBookmarksMayBeSilentForAsLongAsAStreamLasts(t *testing.T) {
	for _, tt := range []struct {
		quiet bool
		want  time.Duration
	}{{false, usual.silence}, {true, maxLife + usual.silence}} {
		if got := New(Config{Quiet: tt.quiet}).patience(); got != tt.want {
			t.Errorf("quiet %t: taken for silent after %s, want %s", tt.quiet, got, tt.want)
		}
	}
}
