package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// EventWindow is how long a Kubernetes event about an object is a fact about it.
const EventWindow = 10 * time.Minute

// An Event is what Kubernetes events of one reason last said about an object,
// or about one container of it. Anybody who may create events can forge one,
// so they only ever explain what an object itself shows, or tell people.
type Event struct {
	Reason    string
	Container string // which one it is about; empty for the whole object
	Probe     string // of Unhealthy: liveness or readiness
	Message   string // without command lines and what a probe printed; may be empty
	At        time.Time
}

// EventOf reads a Kubernetes event; false if no detector asks for its kind.
//
// Of messages only those are copied in which no command line, and nothing that
// a container printed, can be.
func EventOf(e *corev1.Event) (Event, bool) {
	if e.Type != corev1.EventTypeWarning {
		return Event{}, false
	}
	ev := Event{Reason: e.Reason, At: eventTime(e)}
	switch e.InvolvedObject.Kind {
	case "Node":
		ev.Message = e.Message
		return ev, e.Reason == rebooted || e.Reason == systemOOM
	case "Pod":
		ev.Container = fieldContainer(e.InvolvedObject.FieldPath)
	case "PersistentVolumeClaim":
		ev.Message = e.Message
		return ev, e.Reason == provisioningFailed
	case "Service":
		ev.Message = e.Message
		return ev, e.Reason == syncLoadBalancerFailed
	case "StatefulSet", "DaemonSet", "Job":
		ev.Message = e.Message
		return ev, e.Reason == failedCreate
	default:
		return Event{}, false
	}
	switch e.Reason {
	case failedPostStartHook, failedPreStopHook:
		return ev, true
	case unhealthy:
		probe, why, _ := strings.Cut(e.Message, " ")
		ev.Probe = strings.ToLower(probe)
		ev.Message = probeFailure(why)
		return ev, ev.Probe == liveness || ev.Probe == readiness
	}
	ev.Message, _, _ = strings.Cut(e.Message, "Mounting command") // and its arguments, credentials among them
	ev.Message = strings.TrimSpace(ev.Message)
	return ev, slices.Contains(obstructions, e.Reason)
}

// The kubelet's and the attach controller's reasons that detectors ask for.
const (
	failedPostStartHook = "FailedPostStartHook"
	failedPreStopHook   = "FailedPreStopHook"
	unhealthy           = "Unhealthy"
	failedAttachVolume  = "FailedAttachVolume"
	failedMount         = "FailedMount"
	failedMapVolume     = "FailedMapVolume"
	failedSandbox       = "FailedCreatePodSandBox"
	networkNotReady     = "NetworkNotReady"
	rebooted            = "Rebooted"
	systemOOM           = "SystemOOM"

	// TriggeredScaleUp is by which cluster-autoscaler says that it brings a node.
	TriggeredScaleUp = "TriggeredScaleUp"

	liveness  = "liveness"
	readiness = "readiness"
)

// obstructions are what keeps the containers of a pod from being created, the
// most telling first.
var obstructions = []string{failedAttachVolume, failedMount, failedMapVolume, failedSandbox, networkNotReady}

// Alone reports whether the event shows a failure of a pod that looks well. All
// others only explain what the pod itself shows.
func (e Event) Alone() bool { return e.Reason == failedPreStopHook }

// fieldContainer is the container that a field path such as
// spec.containers{api} leads to.
func fieldContainer(path string) string {
	_, rest, _ := strings.Cut(path, "{")
	name, _, _ := strings.Cut(rest, "}")
	return name
}

func eventTime(e *corev1.Event) time.Time {
	times := []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time}
	if e.Series != nil {
		times = append(times, e.Series.LastObservedTime.Time)
	}
	return latest(times, e.CreationTimestamp.Time)
}

// EventsTime is when an event of the newer API happened last.
func EventsTime(e *eventsv1.Event) time.Time {
	times := []time.Time{e.EventTime.Time, e.DeprecatedLastTimestamp.Time, e.DeprecatedFirstTimestamp.Time}
	if e.Series != nil {
		times = append(times, e.Series.LastObservedTime.Time)
	}
	return latest(times, e.CreationTimestamp.Time)
}

func latest(times []time.Time, otherwise time.Time) time.Time {
	at := slices.MaxFunc(times, time.Time.Compare)
	if at.IsZero() {
		return otherwise
	}
	return at
}

var probeStatus = regexp.MustCompile(`statuscode: (\d{3})\b`)

// probeFailure says how a probe failed, but not what it ran or was answered.
func probeFailure(message string) string {
	if m := probeStatus.FindStringSubmatch(message); m != nil {
		return "answered with HTTP status " + m[1]
	}
	message = strings.ToLower(message)
	for _, f := range []struct{ why, words string }{
		{"connection refused", "connection refused"},
		{"connection reset", "connection reset"},
		{"not reachable", "no route to host"},
		{"no answer in time", "timed out"},
		{"no answer in time", "timeout"},
		{"no answer in time", "deadline exceeded"},
	} {
		if strings.Contains(message, f.words) {
			return f.why
		}
	}
	return "failed"
}

// event finds what was said of late; nil if nothing was.
func (f Facts) event(reason, container string) *Event {
	for i := range f.Events {
		if e := &f.Events[i]; e.Reason == reason && e.Container == container && e.recent(f.Now) {
			return e
		}
	}
	return nil
}

// probe finds the last failure of a container's probe; nil if it did not fail
// of late.
func (f Facts) probe(kind, container string) *Event {
	for i := range f.Events {
		if e := &f.Events[i]; e.Reason == unhealthy && e.Probe == kind && e.Container == container && e.recent(f.Now) {
			return e
		}
	}
	return nil
}

func (e *Event) recent(now time.Time) bool { return now.Sub(e.At) < EventWindow }

// evidence is the event as a field of the list of events.
func (e *Event) evidence() heal.Evidence {
	text := e.Message
	if text == "" {
		text = e.Reason
	}
	if e.Probe != "" {
		text = e.Probe + " probe: " + text
	}
	return heal.Evidence{Path: fmt.Sprintf("events[?(@.reason==%q)].message", e.Reason), Value: text}
}
