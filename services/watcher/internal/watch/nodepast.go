package watch

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// nodePast is what another process knew of nodes, by UID, until they are seen:
// how they have been of late, which they do not say themselves.
type nodePast map[string]nodeMemory

type nodeMemory struct {
	InHand  bool         `json:"in_hand,omitempty"` // then, so that what happened since may have been meant
	Ended   time.Time    `json:"ended,omitzero"`    // when it ceased to be in hand, of late
	Ready   bool         `json:"ready,omitempty"`
	Changes detect.Tally `json:"changes,omitempty"` // of Ready, within the window
}

// A nodesMemory is what is stored.
type nodesMemory struct {
	Nodes nodePast  `json:"nodes"`
	AsOf  time.Time `json:"as_of,omitzero"` // moves on while a node is in hand, for what is old is not believed
}

// savedNodes is nil when nothing happened of late.
func savedNodes(known map[string]*nodeHistory, now time.Time) json.RawMessage {
	all := nodesMemory{Nodes: nodePast{}}
	for uid, h := range known {
		m := nodeMemory{InHand: h.inHand}
		if h.inHand {
			all.AsOf = now.UTC().Truncate(history / 2)
		} else if now.Sub(h.lastInHand) < detect.RebootTold {
			m.Ended = h.lastInHand.UTC().Truncate(time.Millisecond)
		}
		if n := h.changes.Within(now, detect.FlapWindow); n > 0 {
			m.Ready, m.Changes = h.ready, h.changes[len(h.changes)-n:]
		}
		if m.InHand || !m.Ended.IsZero() || len(m.Changes) > 0 {
			all.Nodes[uid] = m
		}
	}
	if len(all.Nodes) == 0 {
		return nil
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil // strings and times; it cannot be
	}
	return data
}

// load takes over what another process knew.
func (p nodePast) load(data json.RawMessage, _ time.Time) error {
	var all nodesMemory
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	maps.Copy(p, all.Nodes)
	return nil
}

// of is the history of a node that is seen for the first time.
func (p nodePast) of(uid, name string) *nodeHistory {
	m := p[uid]
	delete(p, uid)
	return &nodeHistory{
		name: name, inHand: m.InHand, lastInHand: m.Ended,
		ready: m.Ready, changes: m.Changes, seenReady: len(m.Changes) > 0, // what changed was so once
	}
}
