package watch

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
)

// A load is what a pod asks for, and how much memory its containers may use.
// Pods made from one template have the same, which is kept once.
type load struct {
	CPU    int64  // requested, in thousandths of a core, as the scheduler counts it
	Memory int64  // requested, in bytes
	Limits string // memory limits: "name=bytes,…" of the containers that have one; MemoryLimit reads it
}

// MemoryLimit is how many bytes a container may use; false if it is not limited.
func (l load) MemoryLimit(container string) (int64, bool) {
	for entry := range strings.SplitSeq(l.Limits, ",") {
		if name, bytes, found := strings.Cut(entry, "="); found && name == container {
			n, err := strconv.ParseInt(bytes, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// limit adds the memory limits of containers.
func (l *load) limit(containers []corev1.Container) {
	for i := range containers {
		c := &containers[i]
		q, limited := c.Resources.Limits[corev1.ResourceMemory]
		if !limited {
			continue
		}
		if l.Limits != "" {
			l.Limits += ","
		}
		l.Limits += c.Name + "=" + strconv.FormatInt(q.Value(), 10)
	}
}

// A sum is what the pods of one node ask for.
type sum struct {
	CPU, Memory int64
	Pods        int
}

// weights is what we know of every pod, whether it is failing or not: some 45
// bytes each. It is safe for concurrent use, and asks for no other lock.
type weights struct {
	seed maphash.Seed

	mu    sync.Mutex // guards what follows
	pods  ledger     // by a hash of namespace and name
	forms table[string]
	loads table[load]
	names table[string]   // of nodes
	nodes map[string]sum  // by node; "" for pods that have none
	reads [maxParts]uint8 // by part: number of readings begun, modulo 256
}

// maxParts is how many parts there can be: namespaces that are read apart.
const maxParts = 127

type weight struct {
	uid      uid
	load     unique.Handle[load]
	node     unique.Handle[string]
	restarts uint16 // of all its containers together, modulo 65,536
	part     uint8  // of what is read, to which it belongs
	counts   bool   // it has not ended: what it asks for is taken
}

// compact is a weight in 32 bytes.
type compact struct {
	id               [16]byte
	form, load, node uint32 // in tables
	restarts         uint16
	part             uint8 // … and counting, if it counts
	reading          uint8 // the last one in which it was seen
}

const counting = 1 << 7

func (w *weights) pack(p weight) compact {
	c := compact{
		id: p.uid.id, form: w.forms.take(p.uid.form), load: w.loads.take(p.load), node: w.names.take(p.node),
		restarts: p.restarts, part: p.part, reading: w.reads[p.part],
	}
	if p.counts {
		c.part |= counting
	}
	return c
}

func (w *weights) unpack(c compact) weight {
	return weight{
		uid: uid{c.id, w.forms.at(c.form)}, load: w.loads.at(c.load), node: w.names.at(c.node),
		restarts: c.restarts, part: c.part &^ counting, counts: c.part&counting != 0,
	}
}

func (w *weights) release(c compact) {
	w.forms.release(c.form)
	w.loads.release(c.load)
	w.names.release(c.node)
}

// A table numbers values of which there are few. Nothing has the number 0.
type table[T comparable] struct {
	numbers map[unique.Handle[T]]uint32
	values  []unique.Handle[T] // by number, less one
	uses    []uint32
	free    []uint32
}

func (t *table[T]) take(v unique.Handle[T]) uint32 {
	if v == (unique.Handle[T]{}) {
		return 0
	}
	n, known := t.numbers[v]
	switch {
	case known:
	case len(t.free) > 0:
		n = t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
		t.values[n-1] = v
	default:
		t.values, t.uses = append(t.values, v), append(t.uses, 0)
		n = uint32(len(t.values))
	}
	if !known {
		if t.numbers == nil {
			t.numbers = map[unique.Handle[T]]uint32{}
		}
		t.numbers[v] = n
	}
	t.uses[n-1]++
	return n
}

func (t *table[T]) at(n uint32) unique.Handle[T] {
	if n == 0 {
		return unique.Handle[T]{}
	}
	return t.values[n-1]
}

func (t *table[T]) release(n uint32) {
	if n == 0 {
		return
	}
	if t.uses[n-1]--; t.uses[n-1] > 0 {
		return
	}
	delete(t.numbers, t.values[n-1])
	t.values[n-1] = unique.Handle[T]{}
	t.free = append(t.free, n)
}

func newWeights() *weights {
	return &weights{seed: maphash.MakeSeed(), nodes: map[string]sum{}}
}

// Of is what the pod of this name asks for, its UID and its node; false for
// one that we have not seen, or that has ended.
func (w *weights) Of(namespace, name string) (l load, id, node string, ok bool) {
	key := w.key([]byte(namespace), []byte(name))
	w.mu.Lock()
	c, ok := w.pods.get(key)
	p := w.unpack(c)
	w.mu.Unlock()
	if !ok || !p.counts {
		return load{}, "", "", false
	}
	return p.load.Value(), p.uid.String(), p.node.Value(), true
}

// On is what the pods on a node ask for together; of "", the pods without one.
func (w *weights) On(node string) sum {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[node]
}

// Len is how many there are, ended ones too.
func (w *weights) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pods.len
}

func (w *weights) key(namespace, name []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(w.seed)
	_, _ = h.Write(namespace)
	_ = h.WriteByte('/')
	_, _ = h.Write(name)
	return h.Sum64()
}

// put takes in a pod as it is now, and returns what was known under its name.
func (w *weights) put(key uint64, p weight) (before weight, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, known := w.pods.put(key, w.pack(p))
	if !known {
		w.count(p, 1)
		return weight{}, false
	}
	before = w.unpack(old)
	w.release(old)
	if before.load != p.load || before.node != p.node || before.counts != p.counts {
		w.count(before, -1)
		w.count(p, 1)
	}
	return before, true
}

// drop forgets a pod, unless another has its name by now.
func (w *weights) drop(key uint64, id uid) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := w.pods.get(key); ok && w.unpack(c).uid == id {
		w.remove(key, c)
	}
}

func (w *weights) remove(key uint64, c compact) {
	w.count(w.unpack(c), -1)
	w.release(c)
	w.pods.remove(key)
}

func (w *weights) count(p weight, n int64) {
	if !p.counts {
		return
	}
	node, l := p.node.Value(), p.load.Value()
	s := w.nodes[node]
	s.CPU, s.Memory, s.Pods = s.CPU+n*l.CPU, s.Memory+n*l.Memory, s.Pods+int(n)
	if s.Pods == 0 {
		delete(w.nodes, node)
		return
	}
	w.nodes[node] = s
}

// has reports whether there is an object of this name and UID.
func (w *weights) has(namespace, name string, id uid) bool {
	key := w.key([]byte(namespace), []byte(name))
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.pods.get(key)
	return ok && w.unpack(c).uid == id
}

// begin notes that everything in a part is read anew; end drops, and hands
// over, what did not come.
func (w *weights) begin(part uint8) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads[part]++
}

func (w *weights) end(part uint8) (gone []uid) {
	w.mu.Lock()
	defer w.mu.Unlock()
	absent := map[uint64]compact{}
	w.pods.each(func(key uint64, c compact) {
		if c.part&^counting == part && c.reading != w.reads[part] {
			absent[key] = c
		}
	})
	for key, c := range absent {
		gone = append(gone, w.unpack(c).uid)
		w.remove(key, c)
	}
	return gone
}

// A uid is an object's UID in 16 bytes, and a form that nearly all share.
type uid struct {
	id   [16]byte
	form unique.Handle[string] // zero for a UUID as Kubernetes makes them; else see makeUID
}

// uuid is the form of all UIDs that Kubernetes makes.
const uuid = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

// verbatim begins the form of what consists of anything else than digits.
const verbatim = "="

func (u uid) String() string {
	form := uuid
	if u.form != (unique.Handle[string]{}) {
		form = u.form.Value()
	}
	if text, odd := strings.CutPrefix(form, verbatim); odd {
		return text
	}
	text := []byte(form)
	n := 0
	for i := range text {
		if text[i] == 'x' {
			text[i] = "0123456789abcdef"[u.id[n/2]>>(4*(1-n%2))&15]
			n++
		}
	}
	return string(text)
}

// makeUID takes the digits out of s. What is left is its form, with an x for
// each; if s is made of something else, the form is s itself.
func makeUID(s []byte) (u uid) {
	n, usual := 0, len(s) == len(uuid)
	for i, c := range s {
		d := digit(c)
		switch {
		case d > 15 && c != '-', d < 16 && n == 32:
			return uid{form: unique.Make(verbatim + string(s))}
		case d < 16:
			u.id[n/2] |= d << (4 * (1 - n%2))
			n++
		}
		usual = usual && (c == '-') == (uuid[i] == '-')
	}
	if usual {
		return u
	}
	form := bytes.Clone(s)
	for i, c := range form {
		if c != '-' {
			form[i] = 'x'
		}
	}
	u.form = unique.Make(string(form))
	return u
}

// digit is the value of a digit in lower case, or 255.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
