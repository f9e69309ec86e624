package watch

import (
	"encoding/json"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// podPast is what pods do not say themselves: of those that have been started
// again how often, and of those to which it happened of late, when.
type podPast struct {
	Restarts tallies
	Backoffs tallies
	OOMKills tallies

	counts map[uid]counts
}

func newPodPast() podPast {
	return podPast{
		Restarts: tallies{window: detect.RestartWindow},
		Backoffs: tallies{window: detect.RestartWindow},
		OOMKills: tallies{window: detect.OOMWindow},
		counts:   map[uid]counts{},
	}
}

// note takes in how a pod is now. Before is as we last held it, if we did.
// Known says that it is not the first time that we see it: of a pod that is
// new to us nothing is known but a total.
func (p *podPast) note(before, pod *corev1.Pod, known bool, now time.Time) {
	noteOOMKills(&p.OOMKills, pod, now)
	noteBackoffs(&p.Backoffs, before, pod, now)
	id, total := makeUID([]byte(pod.UID)), countsOf(pod)
	then, had := p.counts[id]
	if known || had {
		noteRestarts(&p.Restarts, then, pod, now)
	}
	if total == (counts{}) {
		delete(p.counts, id)
		return
	}
	p.counts[id] = total
}

// has reports whether anything happened to a pod of late.
func (p *podPast) has(id []byte) bool {
	return p.Restarts.has(id) || p.Backoffs.has(id) || p.OOMKills.has(id)
}

func (p *podPast) forget(id string) {
	p.Restarts.forget(id)
	p.Backoffs.forget(id)
	p.OOMKills.forget(id)
	delete(p.counts, makeUID([]byte(id)))
}

// A podMemory is what another process has to know of a podPast, by UID.
type podMemory struct {
	Restarts map[string]map[string]detect.Tally `json:"restarts,omitempty"`
	Backoffs map[string]map[string]detect.Tally `json:"backoffs,omitempty"`
	OOMKills map[string]map[string]detect.Tally `json:"oom_kills,omitempty"`
	Counts   map[string]string                  `json:"counts,omitempty"` // of the pods in the others
}

// save is nil when nothing happened of late.
func (p *podPast) save(now time.Time) json.RawMessage {
	for _, t := range []*tallies{&p.Restarts, &p.Backoffs, &p.OOMKills} {
		t.prune(now)
	}
	m := podMemory{Restarts: p.Restarts.pods, Backoffs: p.Backoffs.pods, OOMKills: p.OOMKills.pods, Counts: map[string]string{}}
	for _, t := range []*tallies{&p.Restarts, &p.Backoffs, &p.OOMKills} {
		for id := range t.pods {
			if c := p.counts[makeUID([]byte(id))]; c != (counts{}) {
				m.Counts[id] = c.Value()
			}
		}
	}
	if len(m.Restarts)+len(m.Backoffs)+len(m.OOMKills) == 0 {
		return nil
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil // strings and times; it cannot be
	}
	return data
}

// load takes over what another process knew.
func (p *podPast) load(data json.RawMessage, now time.Time) error {
	var m podMemory
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	p.Restarts.pods, p.Backoffs.pods, p.OOMKills.pods = m.Restarts, m.Backoffs, m.OOMKills
	for _, t := range []*tallies{&p.Restarts, &p.Backoffs, &p.OOMKills} {
		t.prune(now)
	}
	for id, c := range m.Counts {
		p.counts[makeUID([]byte(id))] = counts{unique.Make(c)}
	}
	return nil
}
