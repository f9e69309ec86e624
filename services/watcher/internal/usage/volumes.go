package usage

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

const (
	// emptyAt is the part available below which a volume is nearly full
	// whatever else; soonAt the one below which it is if nothing will be left
	// within horizon. Both are over when it is clearly more again.
	emptyAt, emptyOver = 0.03, 0.05
	soonAt, soonOver   = 0.15, 0.17
	horizon            = 4 * 24 * time.Hour
	horizonOver        = 5 * 24 * time.Hour

	// A forecast follows from what was used in the last window, of which it
	// must have seen a part, by a few samples.
	window     = 6 * time.Hour
	minWindow  = 30 * time.Minute
	minSamples = 3
	maxSamples = 32
	followAt   = 0.30 // a volume with more available than that is not followed

	minPause  = time.Second // between two kubelets
	maxClaims = 50_000
)

// A volume of a pod, as a kubelet says.
type volume struct {
	Available *int64 `json:"availableBytes"`
	Capacity  *int64 `json:"capacityBytes"`
	Claim     *struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"pvcRef"`
}

type claim struct{ namespace, name string }

// A filling is a volume that is followed.
type filling struct {
	usage   detect.Usage
	samples []sample // oldest first
	above   int      // samples in a row at which it would be too full soon
	high    bool
	seen    time.Time
}

// A sample is how much was used when.
type sample struct {
	at   time.Time
	used int64
}

// take takes in one more look at a volume. Looks that follow each other
// closely, as when several nodes use it, count as one.
func (f *filling) take(now time.Time, used, of int64, least time.Duration) {
	again := len(f.samples) > 0 && now.Sub(f.seen) < least
	f.seen = now
	if again {
		f.samples = f.samples[:len(f.samples)-1]
	}
	f.samples = append(f.samples, sample{now, used})
	for len(f.samples) > maxSamples || now.Sub(f.samples[0].at) > window {
		f.samples = f.samples[1:]
	}
	f.usage = detect.Usage{Used: used, Of: of, FullIn: forecast(f.samples, of)}
	left := 1 - float64(used)/float64(of)
	in := f.usage.FullIn
	soon := left < soonAt && in > 0 && in <= horizon
	switch {
	case again:
	case soon:
		f.above++
	default:
		f.above = 0
	}
	switch {
	case left < emptyAt, soon && f.above >= polls:
		f.high = true
	case f.high:
		f.high = left < emptyOver || left < soonOver && in > 0 && in <= horizonOver
	}
}

// forecast is how long it will take until all of it is used, by a straight
// line through the samples; 0 if that is not known, or will never be.
func forecast(samples []sample, of int64) time.Duration {
	if len(samples) < minSamples {
		return 0
	}
	first, last := samples[0], samples[len(samples)-1]
	if last.at.Sub(first.at) < minWindow {
		return 0
	}
	var t, u, tt, tu float64
	n := float64(len(samples))
	for _, s := range samples {
		x, y := s.at.Sub(first.at).Seconds(), float64(s.used-first.used)
		t, u, tt, tu = t+x, u+y, tt+x*x, tu+x*y
	}
	slope := (n*tu - t*u) / (n*tt - t*t) // bytes per second; the samples are not all at one time
	if slope <= 0 {
		return 0
	}
	seconds := float64(of-last.used) / slope
	if seconds > (365 * 24 * time.Hour).Seconds() {
		return 0
	}
	return max(time.Duration(seconds*float64(time.Second)), time.Second)
}

// volumes asks one kubelet after another, for ever; at first without delay, as
// what is full by then has waited long enough.
func (p *Poller) volumes(ctx context.Context) {
	trouble := said{log: p.cfg.Log, what: "kubelets"}
	for asked := false; ; {
		nodes, rest := p.cfg.Nodes(), min(minPause, p.cfg.Round)
		if len(nodes) == 0 { // none was read yet
			if !pause.For(ctx, rest) {
				return
			}
			continue
		}
		if asked {
			rest = max(p.cfg.Round/time.Duration(len(nodes)), rest)
		}
		asked = true
		failed := false
		for _, node := range nodes {
			if !pause.For(ctx, rest) {
				return
			}
			changed, err := p.askKubelet(ctx, node, time.Now())
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				failed = true
				trouble.note(err)
			}
			p.tell(changed)
		}
		if !failed {
			trouble.over()
		}
		p.tell(p.forgetClaims(time.Now()))
	}
}

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// askKubelet takes in what one kubelet says.
func (p *Poller) askKubelet(ctx context.Context, node string, now time.Time) (changed []Ref, err error) {
	if !nodeName.MatchString(node) {
		return nil, nil
	}
	err = p.get(ctx, "/api/v1/nodes/"+node+"/proxy/stats/summary", "pods", func(e entry) error {
		for _, v := range e.Volumes {
			if v.Claim == nil || v.Available == nil || v.Capacity == nil || *v.Capacity <= 0 || *v.Available < 0 || *v.Available > *v.Capacity {
				continue
			}
			of := claim{v.Claim.Namespace, v.Claim.Name}
			if p.take(of, now, *v.Capacity-*v.Available, *v.Capacity) {
				changed = append(changed, Ref{Kind: "PersistentVolumeClaim", Namespace: of.namespace, Name: of.name})
			}
		}
		return nil
	})
	if errors.Is(err, ErrAbsent) { // a node that has just gone
		err = nil
	}
	return changed, err
}

// take takes in one look at a claim's volume, and reports whether it is to be
// judged again.
func (p *Poller) take(of claim, now time.Time, used, capacity int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.claims[of]
	if f == nil {
		if float64(capacity-used) >= followAt*float64(capacity) || len(p.claims) >= maxClaims {
			return false
		}
		f = &filling{}
		p.claims[of] = f
	}
	was := f.high
	f.take(now, used, capacity, p.cfg.Round/3)
	if !f.high && float64(capacity-used) >= followAt*float64(capacity) {
		delete(p.claims, of)
	}
	return was || f.high
}

// forgetClaims lets go of volumes that no kubelet speaks of any more.
func (p *Poller) forgetClaims(now time.Time) (changed []Ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for of, f := range p.claims {
		if now.Sub(f.seen) <= 3*p.cfg.Round {
			continue
		}
		delete(p.claims, of)
		if f.high {
			changed = append(changed, Ref{Kind: "PersistentVolumeClaim", Namespace: of.namespace, Name: of.name})
		}
	}
	return changed
}
