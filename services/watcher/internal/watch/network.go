package watch

import (
	"slices"
	"strings"
	"time"
	"unique"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// network is what services lead to, as far as it is needed to judge them: a
// few numbers for each EndpointSlice, and the labels of workloads that rest.
// The Watcher's lock guards it; the zero value knows nothing.
type network struct {
	services map[detect.Backend]*served
	owners   map[uid]*served              // by UID of a slice
	resting  map[string]map[string]idling // by namespace and UID of a workload
	callers  map[string]caller            // by UID of a webhook configuration
}

// served is what the slices of one service hold.
type served struct {
	of     detect.Backend
	slices []slice
	level  detect.Level
	since  time.Time // of level
	former detect.Level
	began  time.Time
	had    bool
	proven bool
}

// A slice is what counts of one EndpointSlice.
type slice struct {
	uid                   uid
	family                discoveryv1.AddressType
	ready, serving, total int
	ports                 unique.Handle[string] // its ports' names, joined; most slices have the same
}

// An idling is that of a workload which is scaled to zero, or was until woke.
type idling struct {
	labels labelSet
	woke   time.Time
}

// A labelSet is the labels of a workload's pods.
type labelSet = map[string]string

// A caller is a webhook configuration, and the services that it calls.
type caller struct {
	ref      ref
	backends []detect.Backend
}

// portSeparator cannot be part of a port's name.
const portSeparator = ","

// put takes in a slice as it is now, and reports whether its service is to be
// judged again.
func (n *network) put(of detect.Backend, s slice, had bool, now time.Time) bool {
	if before := n.owners[s.uid]; before != nil && before.of != of { // relabelled by hand
		n.drop(s.uid, now)
	}
	if n.services == nil {
		n.services, n.owners = map[detect.Backend]*served{}, map[uid]*served{}
	}
	v := n.services[of]
	if v == nil {
		of.Namespace = shared(of.Namespace)
		v = &served{of: of}
		n.services[of] = v
	}
	before := v.sum()
	n.owners[s.uid] = v
	if i := v.index(s.uid); i >= 0 {
		v.slices[i] = s
	} else {
		v.slices = append(v.slices, s)
	}
	v.had = v.had || had
	return v.settle(before, now)
}

// drop forgets a slice, and gives the service that it was of, if that is to be
// judged again.
func (n *network) drop(id uid, now time.Time) (detect.Backend, bool) {
	v := n.owners[id]
	if v == nil {
		return detect.Backend{}, false
	}
	delete(n.owners, id)
	before := v.sum()
	v.slices = slices.DeleteFunc(v.slices, func(s slice) bool { return s.uid == id })
	if len(v.slices) == 0 { // the service is gone, or will have new ones in a moment
		delete(n.services, v.of)
		return v.of, true
	}
	return v.of, v.settle(before, now)
}

// of is what is known of a service's endpoints.
func (n *network) of(service detect.Backend) detect.Endpoints {
	v := n.services[service]
	if v == nil {
		return detect.Endpoints{}
	}
	return v.sum()
}

// assume takes a service that is known to be degraded, and of which nothing
// else is known, for one of which everything was ready.
func (n *network) assume(service detect.Backend) {
	if v := n.services[service]; v != nil && v.former == (detect.Level{}) {
		v.former = detect.Level{Ready: v.level.Total, Total: v.level.Total}
	}
}

func (v *served) index(id uid) int {
	return slices.IndexFunc(v.slices, func(s slice) bool { return s.uid == id })
}

// sum adds up the slices. A service of two address families has each pod
// twice; the family in which it has more counts.
func (v *served) sum() detect.Endpoints {
	var best slice
	var ports []string
	for i := range v.slices {
		family := v.slices[i].family
		if best.family == family {
			continue
		}
		all := slice{family: family}
		for _, s := range v.slices {
			if s.family == family {
				all.ready, all.serving, all.total = all.ready+s.ready, all.serving+s.serving, all.total+s.total
			}
		}
		if i == 0 || all.ready > best.ready || all.ready == best.ready && all.total > best.total {
			best = all
		}
	}
	for _, s := range v.slices {
		if s.total == 0 || s.ports == (unique.Handle[string]{}) {
			continue
		}
		for name := range strings.SplitSeq(s.ports.Value(), portSeparator) {
			if !slices.Contains(ports, name) {
				ports = append(ports, name)
			}
		}
	}
	return detect.Endpoints{
		Known: len(v.slices) > 0, Ready: best.ready, Serving: best.serving, Total: best.total, Ports: ports,
		Had: v.had, Proven: v.proven, Former: v.former, Began: v.began,
	}
}

// settle takes in what follows from a change, and reports whether the service
// is to be judged again: if it was failing, or may be now.
func (v *served) settle(before detect.Endpoints, now time.Time) bool {
	after := v.sum()
	v.had = v.had || after.Total > 0
	v.proven = v.proven || after.Ready > 0
	if level := (detect.Level{Ready: after.Ready, Total: after.Total}); level != v.level {
		if !v.since.IsZero() {
			v.learn(before, now)
			if before.Total == 0 {
				v.began = now
			}
		}
		v.level, v.since = level, now
	}
	after = v.sum()
	return before.Ready == 0 || after.Ready == 0 || before.Degraded() || after.Degraded() || !slices.Equal(before.Ports, after.Ports)
}

// learn takes the level that just ended for the usual one if it lasted. What
// is known to be degraded does not become usual by lasting.
func (v *served) learn(before detect.Endpoints, now time.Time) {
	if now.Sub(v.since) >= detect.ServiceSteady && before.Ready > 0 && !before.Degraded() {
		v.former = v.level
	}
}

// rest takes in whether a workload is scaled to zero, and what labels its pods
// would have.
func (n *network) rest(uid, namespace string, resting bool, labels labelSet, now time.Time) {
	is := idling{labels: labels}
	if !resting {
		was, known := n.resting[namespace][uid]
		if !known {
			return
		}
		if is.woke = was.woke; is.woke.IsZero() {
			is.woke = now
		}
	}
	if n.resting == nil {
		n.resting = map[string]map[string]idling{}
	}
	if n.resting[namespace] == nil {
		n.resting[namespace] = map[string]idling{}
	}
	n.resting[namespace][uid] = is
}

func (n *network) restsNoMore(uid, namespace string) {
	delete(n.resting[namespace], uid)
	if len(n.resting[namespace]) == 0 {
		delete(n.resting, namespace)
	}
}

// restGone is for a workload of which only the UID is known.
func (n *network) restGone(uid string) {
	for namespace, workloads := range n.resting {
		if _, found := workloads[uid]; found {
			n.restsNoMore(uid, namespace)
			return
		}
	}
}

// rests reports whether a selector means a workload that is scaled to zero,
// and when the last that was so was scaled up.
func (n *network) rests(namespace string, selector labelSet) (resting bool, woke time.Time) {
	for _, is := range n.resting[namespace] {
		if !selects(selector, is.labels) {
			continue
		}
		resting = resting || is.woke.IsZero()
		if is.woke.After(woke) {
			woke = is.woke
		}
	}
	return resting, woke
}

func selects(selector, labels labelSet) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// serviceAgain has a service judged again, and the webhooks that it answers for. The
// caller holds mu.
func (w *Watcher) serviceAgain(of detect.Backend) {
	w.again("v1", "Service", of.Namespace, of.Name)
	for _, c := range w.network.callers {
		if slices.Contains(c.backends, of) {
			w.again(c.ref.Version, c.ref.Kind, "", c.ref.Name)
		}
	}
}

// read reports whether all objects of a kind have been read.
func (w *Watcher) read(version, kind string) bool {
	s := w.sources[version+"/"+kind]
	return s != nil && s.complete()
}
