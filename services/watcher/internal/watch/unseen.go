package watch

import (
	"slices"
	"strings"
	"time"
)

// outOfScope is why what belongs to the whole cluster is not seen.
const outOfScope = "it belongs to the whole cluster, of which only some namespaces are watched"

// beyond is every kind that is not watched although somebody looks for it,
// since only some namespaces are.
func (w *Watcher) beyond() (resources []string) {
	for _, k := range w.all() {
		if w.sources[k.key()] == nil {
			resources = append(resources, k.grouped())
		}
	}
	slices.Sort(resources)
	return slices.Compact(resources)
}

// Unseen is every kind of which nothing is seen now, with why: what belongs to
// it is not detected.
func (w *Watcher) Unseen() map[string]string {
	unseen := map[string]string{}
	for _, resource := range w.beyond() {
		unseen[resource] = outOfScope
	}
	now := time.Now()
	for _, s := range w.sources {
		if _, why := s.unseen(now); why != "" && !s.synced() {
			unseen[s.grouped()] = why
		}
	}
	return unseen
}

// sayBeyond says once what is not looked at.
func (w *Watcher) sayBeyond() {
	if resources := w.beyond(); len(resources) > 0 {
		w.log.Info("only some namespaces are watched; what belongs to the whole cluster is not seen, and what is wrong with it not detected",
			"namespaces", w.cfg.Namespaces, "unseen", strings.Join(resources, " "))
	}
}

// all is every kind that somebody looks for.
func (w *Watcher) all() []kind {
	all := slices.Clone(kinds)
	for _, k := range w.cfg.Own {
		all = append(all, ownKind(k))
	}
	return all
}

// grouped is the resource as kubectl takes it: nodes, apiservices.apiregistration.k8s.io.
func (k kind) grouped() string {
	if k.Group == "" {
		return k.Resource
	}
	return k.Resource + "." + k.Group
}
