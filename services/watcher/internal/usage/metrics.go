package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// An entry of a list that is read; as much of it as is of interest.
type entry struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Usage      amounts `json:"usage"` // of a node
	Containers []struct {
		Name  string  `json:"name"`
		Usage amounts `json:"usage"`
	} `json:"containers"` // of a pod

	Volumes []volume `json:"volume"` // of a pod, as a kubelet says
}

type amounts struct {
	CPU    string `json:"cpu"`
	Memory string `json:"memory"`
}

// amount reads a quantity, in whole units or in thousandths; negative and
// unreadable ones are 0.
func amount(s string, thousandths bool) int64 {
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() < 0 {
		return 0
	}
	if thousandths {
		return q.MilliValue()
	}
	return q.Value()
}

// entries hands over the entries of the list that stands under a key of an
// object, one at a time, so that no answer is ever held whole.
func entries(r io.Reader, list string, each func(entry) error) error {
	dec := json.NewDecoder(r)
	if err := open(dec, '{'); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if key != list {
			if err := skip(dec); err != nil {
				return err
			}
			continue
		}
		if err := open(dec, '['); err != nil {
			return err
		}
		for dec.More() {
			var e entry
			if err := dec.Decode(&e); err != nil {
				return err
			}
			if err := each(e); err != nil {
				return err
			}
		}
		return nil // what follows is of no interest
	}
	return fmt.Errorf("it has no list %q", list)
}

func open(dec *json.Decoder, with json.Delim) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if t != with {
		return fmt.Errorf("%v, want %v", t, with)
	}
	return nil
}

// skip reads over one value without keeping it.
func skip(dec *json.Decoder) error {
	for depth := 0; ; {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

var errTooMany = errors.New("more of them use too much than can be remembered")

// pollNodes takes in what the metrics API says of nodes.
func (p *Poller) pollNodes(ctx context.Context) ([]Ref, error) {
	next := map[string]levels{}
	p.mu.Lock()
	before := p.nodes
	p.mu.Unlock()
	err := p.get(ctx, nodesPath, "items", func(e entry) error {
		cpu, memory, ok := p.cfg.Allocatable(e.Metadata.Name)
		if !ok {
			return nil
		}
		l := levels{}
		for part, u := range map[string]detect.Usage{
			detect.UsageCPU:    {Used: amount(e.Usage.CPU, true), Of: cpu},
			detect.UsageMemory: {Used: amount(e.Usage.Memory, false), Of: memory},
		} {
			if one, keep := before[e.Metadata.Name][part].after(u, p.cfg.Threshold); keep {
				l[part] = one
			}
		}
		if len(l) > 0 {
			next[e.Metadata.Name] = l
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = next
	var changed []Ref
	for name := range union(before, next) {
		if len(before[name].high()) > 0 || len(next[name].high()) > 0 {
			changed = append(changed, Ref{Kind: "Node", Name: name})
		}
	}
	return changed, nil
}

// pollContainers takes in what the metrics API says of pods.
func (p *Poller) pollContainers(ctx context.Context) ([]Ref, error) {
	next := map[pod]podLevels{}
	p.mu.Lock()
	before := p.containers
	p.mu.Unlock()
	err := p.get(ctx, containersPath, "items", func(e entry) error {
		of := pod{e.Metadata.Namespace, e.Metadata.Name}
		for _, c := range e.Containers {
			limit, uid, ok := p.cfg.Limit(of.namespace, of.name, c.Name)
			if !ok || limit <= 0 {
				continue
			}
			was := before[of]
			if was.uid != uid {
				was = podLevels{}
			}
			one, keep := was.levels[c.Name].after(detect.Usage{Used: amount(c.Usage.Memory, false), Of: limit}, p.cfg.Threshold)
			if !keep {
				continue
			}
			l := next[of]
			if l.levels == nil {
				if len(next) >= maxHigh {
					return errTooMany
				}
				l = podLevels{uid, levels{}}
			}
			l.levels[c.Name] = one
			next[of] = l
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTooMany) {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.containers = next
	var changed []Ref
	for of := range union(before, next) {
		if len(before[of].high()) > 0 || len(next[of].high()) > 0 {
			changed = append(changed, Ref{Kind: "Pod", Namespace: of.namespace, Name: of.name})
		}
	}
	return changed, err
}

func union[K comparable, V any](a, b map[K]V) map[K]struct{} {
	all := make(map[K]struct{}, len(a)+len(b))
	for k := range a {
		all[k] = struct{}{}
	}
	for k := range b {
		all[k] = struct{}{}
	}
	return all
}
