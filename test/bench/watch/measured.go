// Package watch measures the watcher as a process, on clusters of several
// sizes that are real but for their kubelets and controllers: objects of the
// same shape and number as at work, loaded into etcd once and kept (see
// dev/cluster). Each figure stands beside a reference that was measured in the
// same run. Nothing here asserts a time.
package watch

import (
	"time"

	"github.com/selfheal/selfheal/test/bench/internal/figure"
	"github.com/selfheal/selfheal/test/bench/internal/request"
)

// A Size is a cluster that is measured.
type Size struct{ Pods, Nodes int }

// Measured is what was seen at one size. What was not measured is nil.
type Measured struct {
	Size
	Cold   *Cold
	Warm   *Warm
	React  *React
	Event  *Event
	Rest   *Rest
	Storm  *Storm
	Limits []Limits

	Peak          int64 // resident bytes of the watcher, the most of all its lives but the storm's
	ReferencePeak int64 // of the informers
}

// Cold is the start of a watcher that knows nothing, until it is ready.
type Cold struct {
	Watcher   figure.Times
	Discarder figure.Times // reads and discards the same bytes
	Informer  figure.Times // stock informers of pods, nodes and deployments
	Bytes     int64        // that the discarder has read
	Requests  int          // lists and watches behind which they are
}

// Warm is the start of a watcher that was stopped, after which a pod has
// failed.
type Warm struct {
	Published figure.Times // from the start of its process to the failure being stored
	Decided   figure.Times // to the decision being stored
	Pods      int          // requests for all pods, all restarts together
	Small     int          // … for all of another kind, of which there are few: others are judged by them
	Missed    int
	Informer  time.Duration // until a stock informer that was started sees it
}

// React is how long failures take that happen one at a time, from when a
// watch of the benchmark's own shows the status.
type React struct {
	Published figure.Times // until the failure is stored
	Decided   figure.Times // until the decision is stored
	Missed    int
}

// Event is what a status update of a healthy pod costs.
type Event struct {
	Events   int
	Rate     float64 // per second
	Watcher  time.Duration
	Informer time.Duration
}

// Rest is what all cost while nothing happens but heartbeats.
type Rest struct {
	For      time.Duration
	CPU      map[string]float64 // share of a core, by service, and NATS
	Informer float64
	Asked    time.Duration // for which requests were counted
	Requests request.Rest  // of all binaries, two of each
	Stock    request.Rest  // of one stock informer program
}

// Storm is many pods failing at once.
type Storm struct {
	Pods      int
	Broken    time.Duration // first status to last
	Published time.Duration // first status to last failure stored
	After     time.Duration // last status to last failure stored
	Lost      int
	Doubled   int
	Peak      int64         // resident bytes of the watcher
	CPU       time.Duration // of the watcher, for each failure
	Oracle    time.Duration // a bare client storing the same messages
}

// stormWithin is how long decisions are waited for after a storm.
const stormWithin = 3 * time.Minute

// Limits is the whole pipeline within a container's limits while a pod fails
// every second, and then many at once.
type Limits struct {
	Together bool   // all four and NATS share one container's limits; else each service has its own
	Free     string // why they were not held to the limits; empty if they were

	For     time.Duration
	Wrote   figure.Times // from when a watch of the benchmark's own shows the failure to its showing the eviction
	Missed  int
	CPU     map[string]float64 // share of a core, by service, and NATS
	Waited  map[string]float64 // share of the periods in which the container had used its share up
	Peak    map[string]int64   // resident bytes, the storm included
	Killed  int64              // for want of memory
	Storm   int                // pods
	Decided time.Duration      // from the first of the storm's statuses to its last failure's decision
	Late    int                // of the storm: pods about which nothing was decided within stormWithin
	Acted   int                // of the storm: evictions until then
}

// An Alloc is a line of go test -bench.
type Alloc struct {
	Name   string
	Time   time.Duration
	Bytes  int64
	Allocs int64
}
