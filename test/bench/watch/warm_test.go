package watch

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/test/harness"
)

const (
	warmRounds = 5
	reactions  = 400                    // so many that 99 % of them is not the luck of one
	paceOf     = 100 * time.Millisecond // between two failures, and …
	sickFor    = time.Second            // … so long each: few at a time, no storm
	patience   = 2 * time.Minute
)

// measureWarmAndReaction runs watcher and analyzer. First the watcher is
// stopped, a pod fails, and it is started again, several times. Then pods fail
// one after the other while it watches.
func (b *bench) measureWarmAndReaction() {
	p := harness.Prepare(b, b.cluster.kubeconfig, settings, "watcher", "analyzer")
	defer p.NATS.Kill()
	defer p.Kill("watcher")
	defer p.Kill("analyzer")
	p.Run(b, "watcher")
	p.Run(b, "analyzer")
	b.ready(p, "analyzer", time.Now())
	b.ready(p, "watcher", time.Now())
	own := p.Bus(b)
	h, stop := listen(b.B, own)
	defer stop()
	pass(b.Context(), settled)

	w := &Warm{}
	for _, v := range b.victims(warmRounds) {
		p.Stop("watcher")
		b.write(b.Context(), v.broken)
		place, err := b.cluster.log.End()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		p.Run(b, "watcher")
		if upTo(b.Context(), patience, func() bool { _, ok := h.decision(v.uid()); return ok }) {
			at, _ := h.failure(v.uid())
			w.Published = append(w.Published, at.Sub(began))
			at, _ = h.decision(v.uid())
			w.Decided = append(w.Decided, at.Sub(began))
		} else {
			w.Missed++
		}
		b.ready(p, "watcher", began)
		for _, r := range b.asked(place, "selfheal-watcher/") {
			if r.Lists() && (r.Open || r.Verb == "list") { // a watch is recorded twice
				if r.Pods() {
					w.Pods++
				} else {
					w.Small++
				}
			}
		}
		b.write(b.Context(), v.whole)
		pass(b.Context(), settled)
	}
	b.notePeak(p)

	v := b.victims(1)[0]
	b.write(b.Context(), v.broken)
	stock := b.reference("informer")
	w.Informer, _ = b.until(stock, func(s said) bool { return s.Unhealthy == v.uid() })
	stock.stop()
	b.write(b.Context(), v.whole)
	b.Warm = w

	b.React = b.react(h)
	b.notePeak(p)
}

func (b *bench) react(h *heard) *React {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	victims := b.victims(reactions)
	seen := b.referenceWatch(ctx)
	var mending sync.WaitGroup
	clock := time.NewTicker(paceOf)
	defer clock.Stop()
	for _, v := range victims {
		b.write(ctx, v.broken)
		mending.Go(func() {
			pass(ctx, sickFor)
			_, _ = b.cluster.kube.CoreV1().Pods(v.whole.Namespace).UpdateStatus(ctx, v.whole, metav1.UpdateOptions{}) // the next figure does not use it
		})
		<-clock.C
	}
	mending.Wait()
	r := &React{}
	late, cancel := context.WithTimeout(ctx, patience) // for all of them: what was whole again before it could be told is not told
	defer cancel()
	for _, v := range victims {
		at, ok := seen(v.uid())
		if !ok || !upTo(late, patience, func() bool { _, ok := h.decision(v.uid()); return ok }) {
			r.Missed++
			continue
		}
		stored, _ := h.failure(v.uid())
		r.Published = append(r.Published, stored.Sub(at))
		decided, _ := h.decision(v.uid())
		r.Decided = append(r.Decided, decided.Sub(at))
	}
	return r
}

// referenceWatch watches pods as any client could, and tells when it first
// saw that one is not ready.
func (b *bench) referenceWatch(ctx context.Context) func(uid string) (time.Time, bool) {
	b.Helper()
	list, err := b.cluster.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	w, err := b.cluster.kube.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]time.Time{} // guarded by mu
	go func() {
		defer w.Stop()
		for e := range w.ResultChan() {
			now := time.Now()
			pod, ok := e.Object.(*corev1.Pod)
			if !ok || len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].Ready {
				continue
			}
			mu.Lock()
			first(seen, string(pod.UID), now)
			mu.Unlock()
		}
	}()
	return func(uid string) (time.Time, bool) {
		mu.Lock()
		defer mu.Unlock()
		at, ok := seen[uid]
		return at, ok
	}
}
