// Package usage learns, now and then, how much of what there is is used: of
// nodes and of containers' memory from the metrics API, where that is served,
// and of volumes from the kubelets, where that is asked for. It tells of which
// too much is used; what to say about that is the business of package detect.
//
// Answers are read as they come, one entry at a time, and kept is only what is
// high. Too much counts from the second poll in a row, so that a peak is
// passed over, and is over when it has fallen clearly below. That nobody
// serves the metrics API is no error; it is looked for again every hour.
package usage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// ErrAbsent is what Config.Get returns, wrapped or not, for what the cluster
// does not serve.
var ErrAbsent = errors.New("not served")

// Config says where to learn from. All are required but those with a default.
type Config struct {
	// Get reads a path of the API server as JSON. The caller closes it.
	Get func(ctx context.Context, path string) (io.ReadCloser, error)
	Log *slog.Logger

	Threshold int // per cent that are too much

	// Allocatable is what a node has for pods, in thousandths of a core and in
	// bytes; Limit is how much memory a container may use, and its pod's UID;
	// Nodes is every node that can be asked. False: it is not known.
	Allocatable func(node string) (cpu, memory int64, ok bool)
	Limit       func(namespace, pod, container string) (memory int64, uid string, ok bool)
	Nodes       func() []string

	Volumes bool        // ask the kubelets for volumes
	Changed func([]Ref) // what is to be judged again

	Every time.Duration // between polls; default 5 min
	Again time.Duration // until the metrics API is looked for again; default 1 h
	Round time.Duration // for asking every kubelet once; default 15 min
}

// A Ref names an object of which something else is known now.
type Ref struct{ Kind, Namespace, Name string }

const (
	defaultEvery = 5 * time.Minute
	defaultAgain = time.Hour
	defaultRound = 15 * time.Minute

	// timeout is how long an answer may take, and largest how long it may be.
	timeout = time.Minute
	largest = 512 << 20

	// maxHigh is how many objects of a kind are remembered. If more are high,
	// something else is wrong.
	maxHigh = 10_000

	nodesPath      = "/apis/metrics.k8s.io/v1beta1/nodes"
	containersPath = "/apis/metrics.k8s.io/v1beta1/pods"
)

// A Poller learns what is used. It is safe for concurrent use.
type Poller struct {
	cfg Config

	mu         sync.Mutex // guards what follows
	nodes      map[string]levels
	containers map[pod]podLevels
	claims     map[claim]*filling
}

// levels are by part of an object: cpu, memory, a container.
type levels map[string]level

// A pod is known by its name; its UID tells it from the next one of the name.
type pod struct{ namespace, name string }

type podLevels struct {
	uid string
	levels
}

// New returns a Poller that does nothing until Run.
func New(cfg Config) *Poller {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&cfg.Every, defaultEvery)
	or(&cfg.Again, defaultAgain)
	or(&cfg.Round, defaultRound)
	return &Poller{cfg: cfg, nodes: map[string]levels{}, containers: map[pod]podLevels{}, claims: map[claim]*filling{}}
}

// Run learns until ctx is done.
func (p *Poller) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { p.metrics(ctx) })
	if p.cfg.Volumes {
		running.Go(func() { p.volumes(ctx) })
	}
	running.Wait()
}

// metrics polls the metrics API.
func (p *Poller) metrics(ctx context.Context) {
	served := false
	trouble := said{log: p.cfg.Log, what: "the metrics API"}
	var heard time.Time
	for rest := time.Duration(0); pause.For(ctx, rest); {
		changed, err := p.poll(ctx)
		rest = p.cfg.Every
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrAbsent):
			rest = p.cfg.Again
			if served {
				p.cfg.Log.Info("the metrics API is not served any more", "again_in", rest.String())
			}
			served = false
		case err != nil:
			trouble.note(err)
		default:
			trouble.over()
			heard = time.Now()
			if !served {
				p.cfg.Log.Info("the metrics API is served: the usage of nodes and containers is watched", "every", rest.String())
			}
			served = true
		}
		if err != nil && time.Since(heard) > p.cfg.Again { // what it said is no news any more
			changed = append(changed, p.forget()...)
		}
		p.tell(changed)
	}
}

// poll reads the metrics API once.
func (p *Poller) poll(ctx context.Context) ([]Ref, error) {
	nodes, err := p.pollNodes(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := p.pollContainers(ctx)
	return append(nodes, pods...), err
}

func (p *Poller) tell(changed []Ref) {
	if len(changed) > 0 {
		p.cfg.Changed(changed)
	}
}

// forget lets go of all that the metrics API said.
func (p *Poller) forget() []Ref {
	p.mu.Lock()
	defer p.mu.Unlock()
	var changed []Ref
	for name, l := range p.nodes {
		if len(l.high()) > 0 {
			changed = append(changed, Ref{Kind: "Node", Name: name})
		}
	}
	for of, l := range p.containers {
		if len(l.high()) > 0 {
			changed = append(changed, Ref{Kind: "Pod", Namespace: of.namespace, Name: of.name})
		}
	}
	clear(p.nodes)
	clear(p.containers)
	return changed
}

// Node is what too much is used of on a node, by part; nil for nothing.
func (p *Poller) Node(name string) map[string]detect.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[name].high()
}

// Pod is which containers of a pod use too much of their memory.
func (p *Poller) Pod(namespace, name, uid string) map[string]detect.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.containers[pod{namespace, name}]
	if l.uid != uid {
		return nil
	}
	return l.high()
}

// Claim is how full the volume of a claim is, if that is too full.
func (p *Poller) Claim(namespace, name string) map[string]detect.Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.claims[claim{namespace, name}]; f != nil && f.high {
		return map[string]detect.Usage{"": f.usage}
	}
	return nil
}

// get reads a path to its end, which each must leave to it.
func (p *Poller) get(ctx context.Context, path, list string, each func(entry) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := p.cfg.Get(ctx, path)
	if err == nil {
		err = errors.Join(entries(io.LimitReader(body, largest), list, each), body.Close())
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	return nil
}

// said logs the first error of a series, and its end.
type said struct {
	log  *slog.Logger
	what string
	did  bool
}

func (s *said) note(err error) {
	if !s.did {
		s.log.Warn("what is used cannot be read; trying again", "of", s.what, "err", err)
	}
	s.did = true
}

func (s *said) over() {
	if s.did {
		s.log.Info("what is used can be read again", "of", s.what)
	}
	s.did = false
}
