package watch

import (
	"hash/maphash"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/services/watcher/internal/wire"
)

// A glance is what the encoded form of a pod shows at first sight: whether
// there is any need to decode it, which costs ten times as much.
type glance struct {
	// dull: no detector and no tally has anything to say about it, unless it
	// is about something that we know besides, or its restarts are more than
	// they were. Whatever is unusual is not dull.
	dull     bool
	ended    bool   // it runs no more, and takes nothing of its node
	restarts uint32 // of all its containers together
	load     unique.Handle[load]
	node     unique.Handle[string]
}

// glances takes glances, on one goroutine. It remembers what the same
// template, or the same node, was found to be the last time.
type glances struct {
	seed    maphash.Seed
	loads   map[uint64]unique.Handle[load] // by a hash of what asks for resources
	nodes   map[string]unique.Handle[string]
	scratch []byte
}

// maxRemembered bounds each of the two.
const maxRemembered = 16 << 10

func newGlances() *glances {
	return &glances{seed: maphash.MakeSeed(), loads: map[uint64]unique.Handle[load]{}, nodes: map[string]unique.Handle[string]{}}
}

// of looks at an encoded pod; false if it cannot be read.
func (g *glances) of(pod []byte) (seen glance, ok bool) {
	var meta, spec, status []byte
	m := wire.Read(pod)
	for m.Next() {
		var part *[]byte
		switch m.Num {
		case 1:
			part = &meta
		case 2:
			part = &spec
		case 3:
			part = &status
		default:
			return seen, false
		}
		if *part != nil || m.Type != wire.Bytes { // in halves, as nobody writes it
			return seen, false
		}
		*part = m.Bytes
	}
	if m.Bad() {
		return seen, false
	}
	s, ok := glanceStatus(status)
	if !ok {
		return seen, false
	}
	plain, ok := glanceMeta(meta)
	if !ok {
		return seen, false
	}
	seen.dull = plain && s.dull()
	seen.ended = s.phase == ended || s.phase == failed
	seen.restarts = s.restarts
	seen.load, seen.node, ok = g.spec(pod, spec)
	return seen, ok
}

// glanceMeta reports whether metadata show a pod that is not deleted, and not
// the picture of a static one.
func glanceMeta(meta []byte) (plain, ok bool) {
	plain = true
	m := wire.Read(meta)
	for m.Next() {
		switch m.Num {
		case 9: // deletionTimestamp
			plain = false
		case 12: // an annotation
			entry := wire.Read(m.Bytes)
			for entry.Next() {
				plain = plain && (entry.Num != 1 || string(entry.Bytes) != corev1.MirrorPodAnnotationKey)
			}
		}
	}
	return plain, !m.Bad()
}

// The phases that a glance tells apart.
const (
	otherPhase = iota
	running
	ended // Succeeded
	failed
)

// glancedStatus is a pod's status at first sight.
type glancedStatus struct {
	phase      int
	unusual    bool // something that a healthy pod does not have
	containers int
	up         int // containers, of the regular ones, that run and are ready
	done       int // … that have ended well
	restarts   uint32
}

func (s *glancedStatus) dull() bool {
	switch {
	case s.unusual || s.containers == 0:
		return false
	case s.phase == running:
		return s.up == s.containers
	case s.phase == ended:
		return s.done == s.containers
	}
	return false
}

func glanceStatus(status []byte) (s glancedStatus, ok bool) {
	m := wire.Read(status)
	for m.Next() {
		switch m.Num {
		case 1: // phase
			s.phase = otherPhase
			switch string(m.Bytes) {
			case string(corev1.PodRunning):
				s.phase = running
			case string(corev1.PodSucceeded):
				s.phase = ended
			case string(corev1.PodFailed):
				s.phase = failed
			}
		case 2:
			s.unusual = s.unusual || !usualCondition(m.Bytes)
		case 8:
			c := glanceContainer(m.Bytes)
			s.add(c)
			s.containers++
			if c.up {
				s.up++
			}
			if c.done {
				s.done++
			}
		case 10: // of init containers
			c := glanceContainer(m.Bytes)
			s.add(c)
			s.unusual = s.unusual || !c.up && !c.done
		case 5, 6, 7, 9, 12, 13, 15, 16, 17, 18, 19, 20, 21: // addresses, times, ephemeral containers, resources
		default: // reason, message, what is not there yet
			s.unusual = s.unusual || m.Type != wire.Bytes || len(m.Bytes) > 0
		}
	}
	return s, !m.Bad()
}

func (s *glancedStatus) add(c glancedContainer) {
	s.restarts += c.restarts
	s.unusual = s.unusual || c.unusual
}

// usualCondition reports whether a condition is one of those that every pod
// has, or a readiness gate, and is met.
func usualCondition(condition []byte) bool {
	var usual, met bool
	m := wire.Read(condition)
	for m.Next() {
		switch m.Num {
		case 1:
			switch corev1.PodConditionType(m.Bytes) {
			case corev1.PodScheduled, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodReadyToStartContainers:
				usual = true
			default: // Kubernetes' own have no slash
				usual = slash(m.Bytes)
			}
		case 2:
			met = string(m.Bytes) == string(corev1.ConditionTrue)
		}
	}
	return usual && !m.Bad() && (met || completed(condition))
}

// completed reports whether a condition says that the pod has ended well.
func completed(condition []byte) bool {
	for m := wire.Read(condition); m.Next(); {
		if m.Num == 5 && string(m.Bytes) == "PodCompleted" {
			return true
		}
	}
	return false
}

func slash(name []byte) bool {
	for _, c := range name {
		if c == '/' {
			return true
		}
	}
	return false
}

// glancedContainer is a container's status at first sight.
type glancedContainer struct {
	unusual  bool
	up, done bool
	restarts uint32
}

func glanceContainer(status []byte) (c glancedContainer) {
	var ready bool
	var state int
	m := wire.Read(status)
	for m.Next() {
		switch m.Num {
		case 2:
			c.unusual = c.unusual || state != 0
			state = glanceState(m.Bytes)
		case 3: // how it ended the last time
			last := glanceState(m.Bytes)
			c.unusual = c.unusual || last != none && last != terminated && last != terminatedWell
		case 4:
			ready = m.Int == 1
		case 5:
			c.restarts = uint32(m.Int)
		case 1, 6, 7, 8, 9, 10, 11, 12, 13, 15:
		default:
			c.unusual = true
		}
	}
	c.unusual = c.unusual || m.Bad()
	c.up = state == runs && ready
	c.done = state == terminatedWell
	return c
}

// The states that a glance tells apart.
const (
	none = iota + 1
	runs
	terminated     // not for want of memory
	terminatedWell // with 0
	otherState
)

func glanceState(state []byte) int {
	found := none
	m := wire.Read(state)
	for m.Next() {
		if found != none {
			return otherState
		}
		switch m.Num {
		case 2:
			found = runs
		case 3:
			found = glanceEnd(m.Bytes)
		default:
			found = otherState
		}
	}
	if m.Bad() {
		return otherState
	}
	return found
}

func glanceEnd(end []byte) int {
	found := terminatedWell
	m := wire.Read(end)
	for m.Next() {
		switch {
		case m.Num == 1 && m.Int != 0, m.Num == 2 && m.Int != 0: // exit code, signal
			found = terminated
		case m.Num == 3 && string(m.Bytes) == "OOMKilled":
			return otherState
		}
	}
	if m.Bad() {
		return otherState
	}
	return found
}

// spec is what a pod asks for, and where.
func (g *glances) spec(pod, spec []byte) (unique.Handle[load], unique.Handle[string], bool) {
	g.scratch = g.scratch[:0]
	var node []byte
	m := wire.Read(spec)
	for m.Next() {
		switch m.Num {
		case 10:
			node = m.Bytes
		case 2, 20: // containers, init containers
			g.scratch = append(g.scratch, byte(m.Num))
			c := wire.Read(m.Bytes)
			for c.Next() {
				switch c.Num {
				case 1, 8, 24: // name, resources, restartPolicy
					g.keep(c.Num, c.Bytes)
				}
			}
			if c.Bad() {
				return unique.Handle[load]{}, unique.Handle[string]{}, false
			}
		case 32, 40: // overhead, resources of the pod as a whole
			g.keep(m.Num, m.Bytes)
		}
	}
	if m.Bad() {
		return unique.Handle[load]{}, unique.Handle[string]{}, false
	}
	l, ok := g.load(pod)
	return l, g.intern(node), ok
}

func (g *glances) keep(num int, value []byte) {
	g.scratch = append(g.scratch, byte(num), byte(len(value)), byte(len(value)>>8))
	g.scratch = append(g.scratch, value...)
}

// load is what the pod of which scratch holds the requests asks for.
func (g *glances) load(pod []byte) (unique.Handle[load], bool) {
	key := maphash.Bytes(g.seed, g.scratch)
	if l, known := g.loads[key]; known {
		return l, true
	}
	var p corev1.Pod
	if p.Unmarshal(pod) != nil {
		return unique.Handle[load]{}, false
	}
	if len(g.loads) >= maxRemembered {
		clear(g.loads)
	}
	l := unique.Make(loadOf(&p.Spec))
	g.loads[key] = l
	return l, true
}

func (g *glances) intern(node []byte) unique.Handle[string] {
	if n, known := g.nodes[string(node)]; known {
		return n
	}
	if len(g.nodes) >= maxRemembered {
		clear(g.nodes)
	}
	n := unique.Make(string(node))
	g.nodes[n.Value()] = n
	return n
}

// loadOf is what a pod asks for, as the scheduler counts it: what its
// containers ask for together, or an init container while it runs, if that is
// more; unless the pod as a whole asks for something.
func loadOf(spec *corev1.PodSpec) load {
	count := func(name corev1.ResourceName, value func(resource.Quantity) int64) int64 {
		var sum, most int64
		for i := range spec.InitContainers {
			c := &spec.InitContainers[i]
			n := value(c.Resources.Requests[name])
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				sum += n
				n = 0
			}
			most = max(most, sum+n)
		}
		for i := range spec.Containers {
			sum += value(spec.Containers[i].Resources.Requests[name])
		}
		sum = max(sum, most)
		if spec.Resources != nil {
			if q, set := spec.Resources.Requests[name]; set {
				sum = value(q)
			}
		}
		return sum + value(spec.Overhead[name])
	}
	l := load{
		CPU:    count(corev1.ResourceCPU, func(q resource.Quantity) int64 { return q.MilliValue() }),
		Memory: count(corev1.ResourceMemory, func(q resource.Quantity) int64 { return q.Value() }),
	}
	l.limit(spec.InitContainers)
	l.limit(spec.Containers)
	return l
}
