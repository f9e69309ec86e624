// Package own is detectors that an operator writes himself, as expressions in
// the Common Expression Language (https://cel.dev) over objects of any kind.
//
// It promises that a file is taken as a whole or not at all: every expression
// is parsed and type-checked when the file is read, and what is wrong is said
// with its line. An expression can only look: it has no client and no clock,
// what it may cost is bounded, and what is never copied from a cluster is taken
// out before it sees an object (Clean). One that fails finds nothing; it is
// said once, and counted.
//
// The form of the file is in docs/own-detectors.md.
package own

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// A Kind is a kind of object that own detectors look at.
type Kind struct {
	Version    string // group and version, as in an object's apiVersion
	Kind       string
	Group      string
	Resource   string
	Namespaced bool
	Detectors  []detect.Detector[*Object]
}

// Prefix begins the names of all own detectors, so that none is taken for one
// of ours.
const Prefix = "own."

// Trouble is told when a detector's expressions fail on an object, each time.
type Trouble func(detector string, err error)

// detector makes a detector of a rule.
func (r rule) detector(trouble Trouble) detect.Detector[*Object] {
	name := Prefix + r.Name
	d := detect.Detector[*Object]{
		Name: name, Row: "own", Type: heal.FailureType(r.Type), Reasons: []string{r.Reason}, Hold: r.Hold.String(),
		Find: func(obj *Object, _ detect.Facts) []detect.Finding {
			failing, err := r.expression.bool(obj.Object)
			if err != nil {
				trouble(name, fmt.Errorf("expression: %w", err))
			}
			if !failing {
				return nil
			}
			return []detect.Finding{{
				Reason: r.Reason, Hold: r.Hold.Duration,
				Description: r.describe(obj, name, trouble),
				Evidence:    r.evidence(obj.Object),
			}}
		},
		// One whose expression fails is not seen to be well.
		Well: func(obj *Object, _ string) bool {
			failing, err := r.expression.bool(obj.Object)
			return err == nil && !failing
		},
		Clear: func(detect.Thresholds) time.Duration { return r.Clear.Duration },
	}
	d.Excuse = func(obj *Object, _ detect.Facts) detect.Excuse {
		if obj.GetDeletionTimestamp() != nil {
			return detect.Leaving
		}
		if r.excuse.program == nil {
			return detect.None
		}
		excused, err := r.excuse.bool(obj.Object)
		switch {
		case err != nil:
			trouble(name, fmt.Errorf("excuse: %w", err))
			return detect.Masked // nobody can tell: nothing begins, and nothing ends
		case excused:
			return detect.Masked
		}
		return detect.None
	}
	return d
}

func (r rule) describe(obj *Object, name string, trouble Trouble) string {
	plain := fmt.Sprintf("%s %s: %s", obj.GetKind(), obj.GetName(), r.Reason)
	if r.description.program == nil {
		return plain
	}
	text, err := r.description.string(obj.Object)
	if err != nil {
		trouble(name, fmt.Errorf("description: %w", err))
		return plain
	}
	return text
}

// evidence is what object shows at the rule's paths.
func (r rule) evidence(object map[string]any) []heal.Evidence {
	var all []heal.Evidence
	for _, p := range r.paths {
		if v, ok := p.in(object); ok {
			all = append(all, heal.Evidence{Path: p.text, Value: show(v)})
		}
	}
	return all
}

// show is a value as a person would read it.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any, []any:
		data, err := json.Marshal(v)
		if err == nil {
			return string(data)
		}
	}
	return fmt.Sprint(v)
}

// An expression is compiled.
type expression struct{ program cel.Program }

func (e expression) eval(object map[string]any) (any, error) {
	out, _, err := e.program.Eval(map[string]any{"object": object})
	if err != nil {
		return nil, err
	}
	return out.Value(), nil
}

func (e expression) bool(object map[string]any) (bool, error) {
	v, err := e.eval(object)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("it came to %T, want bool", v)
	}
	return b, nil
}

func (e expression) string(object map[string]any) (string, error) {
	v, err := e.eval(object)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("it came to %T, want string", v)
	}
	return s, nil
}

// A Tally counts troubles, and tells the first of each detector. It is safe
// for concurrent use.
type Tally struct {
	Tell func(detector string, err error)

	mu sync.Mutex // guards n
	n  map[string]int
}

// Note counts one, as a Trouble.
func (t *Tally) Note(detector string, err error) {
	t.mu.Lock()
	if t.n == nil {
		t.n = map[string]int{}
	}
	t.n[detector]++
	first := t.n[detector] == 1
	t.mu.Unlock()
	if first && t.Tell != nil {
		t.Tell(detector, err)
	}
}

// Counts is how often each detector's expressions have failed.
func (t *Tally) Counts() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]int, len(t.n))
	for name, n := range t.n {
		all[name] = n
	}
	return all
}
