package watch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// A position is how far a watcher has read a kind, and what it must not forget
// of what it read: with both, another goes on as if it had been there all the
// time. Failures that are announced already have records of their own.
type position struct {
	Server   string            `json:"server"`  // whose versions these are
	Version  string            `json:"version"` // everything up to it has been judged
	SavedAt  time.Time         `json:"saved_at"`
	Suspects []episode.Suspect `json:"suspects,omitempty"`
	Memory   json.RawMessage   `json:"memory,omitempty"` // of the view
}

const (
	saveEvery   = 10 * time.Second
	loadTimeout = 2 * time.Second
	saveTimeout = 5 * time.Second

	// maxPosition bounds what is stored. A cluster in which more is suspect at
	// once is read from the beginning.
	maxPosition = 200 << 10

	// history is how old a position may be: API servers forget what changed
	// before, and a suspect of long ago may have been well since.
	history = 10 * time.Minute

	// A process that went on where another was reads everything anew before
	// long, so as to know also what has not changed since.
	settleAfter  = 60 * time.Second
	settleSpread = 30 * time.Second
)

// slot is where the part's position is stored. All watchers that see the same
// share one: any of them will do.
func (p *part) slot() string {
	version := p.Version
	if p.Own {
		version = ownPrefix + version
	}
	return heal.ID("p", p.w.bus.Cluster(), version, p.Resource, p.namespace)
}

// identity tells one API server's versions from another's: a cluster that is
// made anew under the same name has another authority.
func identity(c *rest.Config) string {
	ca := c.CAData
	if len(ca) == 0 && c.CAFile != "" {
		ca, _ = os.ReadFile(c.CAFile) // without it the address must do
	}
	if len(ca) == 0 {
		ca = []byte(c.Host)
	}
	sum := sha256.Sum256(ca)
	return hex.EncodeToString(sum[:8])
}

// load reads the part's position, takes over what it says is suspect, and
// returns the version to go on after; empty if there is none.
func (p *part) load(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	pos, rev, err := p.w.positions.Get(ctx, p.slot())
	now := time.Now()
	switch {
	case err != nil:
		if !errors.Is(err, bus.ErrNotFound) {
			p.w.log.Debug("where we were cannot be read; reading everything", "resource", p.Resource, "err", err)
		}
		return ""
	}
	p.saved.rev = rev
	if pos.Server != p.w.identity || now.Sub(pos.SavedAt) >= history || pos.SavedAt.Sub(now) >= history {
		return ""
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, s := range pos.Suspects {
		p.w.book.Suspect(now, s, min(arrival, p.w.cfg.Recheck))
	}
	if p.view.recall != nil && len(pos.Memory) > 0 {
		if err := p.view.recall(pos.Memory, now); err != nil {
			p.w.log.Debug("what a watcher remembered cannot be understood; doing without it", "resource", p.Resource, "err", err)
		}
	}
	if !p.Resume {
		return ""
	}
	return pos.Version
}

// saved is what is known to be stored. Only keepPositions uses it, and load
// before it.
type saved struct {
	rev  uint64
	data []byte // without the time
}

// keepPositions stores how far we are, now and then and at the end.
func (w *Watcher) keepPositions(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.save(ctx)
		}
	}
}

// leave stores how far we came, when everything has ended.
func (w *Watcher) leave(ctx context.Context) {
	for _, s := range w.sources {
		for _, p := range s.parts {
			if version := p.stream.Version(); version != "" {
				p.At(version)
			}
		}
	}
	w.save(ctx)
}

func (w *Watcher) save(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	versions := map[*part]*string{} // before the suspects: what comes meanwhile is read again rather than missed
	for _, s := range w.sources {
		for _, p := range s.parts {
			versions[p] = p.version.Load()
		}
	}
	suspects := w.unstored()
	for _, s := range w.sources {
		for _, p := range s.parts {
			if err := p.save(ctx, versions[p], suspects[p]); err != nil {
				w.log.Debug("where we are cannot be stored; trying again", "resource", p.Resource, "err", err)
				return
			}
		}
	}
}

// unstored is what is suspect and has no record, by part.
func (w *Watcher) unstored() map[*part][]episode.Suspect {
	w.mu.Lock()
	defer w.mu.Unlock()
	by := map[*part][]episode.Suspect{}
	for s := range w.book.Suspects() {
		if src, _ := w.sourceOf(s.Target); src != nil {
			if p := src.partOf(s.Target.Namespace); p != nil {
				by[p] = append(by[p], s)
			}
		}
	}
	return by
}

// save stores the part's position if it is another than was stored.
func (p *part) save(ctx context.Context, version *string, suspects []episode.Suspect) error {
	if version == nil {
		return nil // nothing was read yet; what is stored may still be of use
	}
	slices.SortFunc(suspects, func(a, b episode.Suspect) int { return a.Compare(b) })
	pos := position{Server: p.w.identity, Suspects: suspects}
	if p.Resume {
		pos.Version = *version
	}
	if p.view.memory != nil {
		p.w.mu.Lock()
		pos.Memory = p.view.memory(time.Now())
		p.w.mu.Unlock()
	}
	data, err := fitPosition(&pos)
	if err != nil {
		return err
	}
	if string(data) == string(p.saved.data) || !p.Resume && len(p.saved.data) == 0 && len(suspects) == 0 && pos.Memory == nil {
		return nil
	}
	pos.SavedAt = time.Now().UTC()
	if err := p.write(ctx, pos); err != nil {
		return err
	}
	p.saved.data = data
	return nil
}

// fitPosition encodes pos, without what there is no room for: then whoever
// reads it reads everything anew.
func fitPosition(pos *position) ([]byte, error) {
	for {
		data, err := json.Marshal(pos)
		if err != nil || len(data) <= maxPosition {
			return data, err
		}
		switch {
		case pos.Memory != nil:
			pos.Memory = nil
		default:
			pos.Version, pos.Suspects = "", nil
		}
	}
}

func (p *part) write(ctx context.Context, pos position) error {
	for range 2 {
		var err error
		var rev uint64
		if p.saved.rev == 0 {
			rev, err = p.w.positions.Create(ctx, p.slot(), pos)
		} else {
			rev, err = p.w.positions.Update(ctx, p.slot(), pos, p.saved.rev)
		}
		if err == nil {
			p.saved.rev = rev
			return nil
		}
		if !errors.Is(err, bus.ErrConflict) {
			return err
		}
		// Another watcher has stored its own, which is as good; ours may be newer.
		_, p.saved.rev, err = p.w.positions.Get(ctx, p.slot())
		if errors.Is(err, bus.ErrNotFound) {
			p.saved.rev, err = 0, nil
		}
		if err != nil {
			return err
		}
	}
	return nil // another was quicker twice: there is one
}
