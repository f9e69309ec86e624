package stream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/wire"
)

const (
	// maxFrame bounds one event. etcd takes no object beyond 1.5 MiB.
	maxFrame = 8 << 20
	// keepBuffer is up to which size a buffer is kept for the next event.
	keepBuffer = 256 << 10
)

// An Object is one object as the API server sent it. All of it is overwritten
// by the next one: whoever wants to keep something copies it.
type Object struct {
	Data []byte // protobuf of the kind's type, or JSON
	JSON bool

	Namespace, Name, UID, Version []byte // from its metadata

	complete bool // of a bookmark: it ends what existed before
}

var magic = []byte("k8s\x00")

var errFrame = errors.New("not a watch event")

// The types of events.
const (
	added    = "ADDED"
	modified = "MODIFIED"
	deleted  = "DELETED"
	bookmark = "BOOKMARK"
	failure  = "ERROR"
)

// events reads the events of one watch.
type events struct {
	json   bool
	r      *bufio.Reader
	head   [4]byte // the length of what follows
	buf    []byte
	budget io.LimitedReader
	dec    *json.Decoder

	Type   string
	Object Object
}

func readEvents(body io.Reader, asJSON bool) *events {
	e := &events{json: asJSON}
	if asJSON {
		e.budget = io.LimitedReader{R: body, N: maxFrame}
		e.dec = json.NewDecoder(&e.budget)
	} else {
		e.r = bufio.NewReaderSize(body, 8<<10)
	}
	return e
}

// next reads one event. An error of the server, told as one, is an
// apierrors.APIStatus; io.EOF is an orderly end.
func (e *events) next() error {
	if e.json {
		return e.nextJSON()
	}
	if _, err := io.ReadFull(e.r, e.head[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(e.head[:]))
	if n > maxFrame {
		return fmt.Errorf("%w: %d bytes long, want at most %d", errFrame, n, maxFrame)
	}
	if n > cap(e.buf) || cap(e.buf) > keepBuffer && n <= keepBuffer {
		e.buf = make([]byte, n+n/4)
	}
	frame := e.buf[:n]
	if _, err := io.ReadFull(e.r, frame); err != nil {
		return unexpected(err)
	}
	var kind, data []byte
	for m := wire.Read(frame); m.Next(); {
		switch m.Num {
		case 1:
			kind = m.Bytes
		case 2:
			data = field(m.Bytes, 1)
		}
	}
	data, ok := unwrap(data)
	if !ok {
		return fmt.Errorf("%w: %d bytes of type %q", errFrame, n, clip(kind))
	}
	e.Type = typeName(kind)
	if e.Type == failure {
		return decodeStatus(data, false)
	}
	if e.Object, ok = readObject(data); !ok {
		return fmt.Errorf("%w: an object without metadata", errFrame)
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func clip(b []byte) []byte { return b[:min(len(b), 64)] }

// typeName is kind as a string, without making a new one.
func typeName(kind []byte) string {
	for _, known := range [...]string{modified, added, deleted, bookmark, failure} {
		if string(kind) == known {
			return known
		}
	}
	return string(clip(kind))
}

// unwrap takes off the envelope that every encoded object comes in.
func unwrap(data []byte) ([]byte, bool) {
	inner, ok := bytes.CutPrefix(data, magic)
	if !ok {
		return nil, false
	}
	return field(inner, 2), true
}

// field is the last field of this number, or nil.
func field(message []byte, num int) (value []byte) {
	for m := wire.Read(message); m.Next(); {
		if m.Num == num && m.Type == wire.Bytes {
			value = m.Bytes
		}
	}
	return value
}

// readObject finds an object's name; every type has its metadata in field 1.
func readObject(data []byte) (o Object, ok bool) {
	o.Data = data
	meta := field(data, 1)
	m := wire.Read(meta)
	for m.Next() {
		switch m.Num {
		case 1:
			o.Name = m.Bytes
		case 3:
			o.Namespace = m.Bytes
		case 5:
			o.UID = m.Bytes
		case 6:
			o.Version = m.Bytes
		case 12:
			o.complete = o.complete || isEnd(m.Bytes)
		}
	}
	return o, !m.Bad() && len(o.Version) > 0
}

// isEnd reports whether an annotation is the one that ends the initial events.
func isEnd(entry []byte) bool {
	return string(field(entry, 1)) == metav1.InitialEventsAnnotationKey && string(field(entry, 2)) == "true"
}

func (e *events) nextJSON() error {
	e.budget.N = maxFrame
	var event struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := e.dec.Decode(&event); err != nil {
		if e.budget.N <= 0 {
			return fmt.Errorf("%w: longer than %d bytes", errFrame, maxFrame)
		}
		return err
	}
	e.Type = event.Type
	if e.Type == failure {
		return decodeStatus(event.Object, true)
	}
	var ok bool
	if e.Object, ok = readJSONObject(event.Object); !ok {
		return fmt.Errorf("%w: an object without metadata", errFrame)
	}
	return nil
}

func readJSONObject(data []byte) (Object, bool) {
	var o struct {
		Metadata struct {
			Name            string            `json:"name"`
			Namespace       string            `json:"namespace"`
			UID             string            `json:"uid"`
			ResourceVersion string            `json:"resourceVersion"`
			Annotations     map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &o); err != nil {
		return Object{}, false
	}
	m := o.Metadata
	return Object{
		Data: data, JSON: true,
		Namespace: []byte(m.Namespace), Name: []byte(m.Name), UID: []byte(m.UID), Version: []byte(m.ResourceVersion),
		complete: m.Annotations[metav1.InitialEventsAnnotationKey] == "true",
	}, m.ResourceVersion != ""
}

// decodeStatus makes an error of what the server says about one. Data is
// without its envelope.
func decodeStatus(data []byte, asJSON bool) error {
	var s metav1.Status
	var err error
	if asJSON {
		err = json.Unmarshal(data, &s)
	} else {
		err = s.Unmarshal(data)
	}
	if err != nil {
		return fmt.Errorf("an error that cannot be read: %w", err)
	}
	return &apierrors.StatusError{ErrStatus: s}
}

// page is one page of a list.
type page struct {
	Version, Continue string
	items             [][]byte
	json              bool
}

// readPage takes a list apart, in place.
func readPage(body []byte, asJSON bool) (p page, err error) {
	if asJSON {
		return readJSONPage(body)
	}
	list, ok := unwrap(body)
	if !ok {
		return p, errors.New("not a list")
	}
	m := wire.Read(list)
	for m.Next() {
		switch m.Num {
		case 1:
			p.Version, p.Continue = string(field(m.Bytes, 2)), string(field(m.Bytes, 3))
		case 2:
			p.items = append(p.items, m.Bytes)
		}
	}
	if m.Bad() || p.Version == "" {
		return p, errors.New("not a list")
	}
	return p, nil
}

func readJSONPage(body []byte) (page, error) {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
			Continue        string `json:"continue"`
		} `json:"metadata"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return page{}, fmt.Errorf("not a list: %w", err)
	}
	p := page{Version: list.Metadata.ResourceVersion, Continue: list.Metadata.Continue, json: true}
	for _, item := range list.Items {
		p.items = append(p.items, item)
	}
	if p.Version == "" {
		return p, errors.New("not a list")
	}
	return p, nil
}

// objects hands over what is on the page.
func (p page) objects(do func(*Object) error) error {
	for _, item := range p.items {
		read := readObject
		if p.json {
			read = readJSONObject
		}
		o, ok := read(item)
		if !ok {
			return errors.New("an object without metadata")
		}
		if err := do(&o); err != nil {
			return err
		}
	}
	return nil
}
