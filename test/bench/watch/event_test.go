package watch

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/test/bench/internal/process"
	"github.com/selfheal/selfheal/test/harness"
)

const (
	eventRate = 200 // a second: what an API server takes
	eventsFor = 10 * time.Second
	drivers   = 16
)

// measureEvents compares what watcher and informers use while pods report
// that they are well with what they use while nothing is reported but nodes'
// heartbeats.
func (b *bench) measureEvents() {
	p := harness.Prepare(b, b.cluster.kubeconfig, settings, "watcher")
	defer p.NATS.Kill()
	defer p.Kill("watcher")
	p.Run(b, "watcher")
	b.ready(p, "watcher", time.Now())
	stock := b.reference("informer")
	b.until(stock, synced)
	defer stock.stop()
	victims := b.victims(eventRate) // who are spared: only the time of a condition is new
	pass(b.Context(), settled)

	watcher, informer := p.PID("watcher"), stock.cmd.Process.Pid
	idleWatcher, idleInformer := b.used(watcher), b.used(informer)
	pass(b.Context(), eventsFor)
	idleWatcher, idleInformer = b.used(watcher)-idleWatcher, b.used(informer)-idleInformer

	busyWatcher, busyInformer := b.used(watcher), b.used(informer)
	began := time.Now()
	events := b.report(victims)
	took := time.Since(began)
	pass(b.Context(), eventsFor-took) // the last ones arrive
	busyWatcher, busyInformer = b.used(watcher)-busyWatcher, b.used(informer)-busyInformer

	// Idle time grows with the time that driving took, when the machine is slow.
	scale := max(1, took.Seconds()/eventsFor.Seconds())
	per := func(busy, idle time.Duration) time.Duration {
		return (busy - time.Duration(scale*float64(idle))) / time.Duration(max(1, events))
	}
	b.Event = &Event{
		Events: events, Rate: float64(events) / took.Seconds(),
		Watcher: per(busyWatcher, idleWatcher), Informer: per(busyInformer, idleInformer),
	}
	b.notePeak(p)
	b.noteReferencePeak(stock)
}

// used is the processor time of a process so far.
func (b *bench) used(pid int) time.Duration {
	b.Helper()
	d, err := process.CPU(pid)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// report has pods report that they are well at a steady rate, and returns how
// many reports were stored.
func (b *bench) report(pods []victim) int {
	work := make(chan victim, len(pods)) // a moment in which the server is slow is made up for
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := 0 // guarded by mu
	for range drivers {
		wg.Go(func() {
			for v := range work {
				pod := v.whole.DeepCopy()
				for i := range pod.Status.Conditions {
					pod.Status.Conditions[i].LastProbeTime = metav1.Now()
				}
				pod.Status.Message = time.Now().Format(time.RFC3339Nano) // seconds alone could be the same twice
				if _, err := b.cluster.kube.CoreV1().Pods(pod.Namespace).UpdateStatus(b.Context(), pod, metav1.UpdateOptions{}); err == nil {
					mu.Lock()
					stored++
					mu.Unlock()
				}
			}
		})
	}
	clock := time.NewTicker(time.Second / eventRate)
	defer clock.Stop()
	for i := range int(eventsFor.Seconds()) * eventRate {
		work <- pods[i%len(pods)]
		<-clock.C
	}
	close(work)
	wg.Wait()
	return stored
}
