package actuate

import (
	"context"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
)

// EventNeeds are the rights to record Kubernetes events.
var EventNeeds = []rbacv1.PolicyRule{
	{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
}

// Events records Kubernetes events, so that `kubectl describe` shows what was
// done to an object. It never makes anybody wait: what cannot be recorded soon
// is not recorded at all.
type Events struct {
	kube     kubernetes.Interface
	brake    *Brake
	instance string
	log      *slog.Logger
	queue    chan *eventsv1.Event
}

const (
	mostEvents   = 128 // that wait
	eventTimeout = 5 * time.Second
)

func newEvents(kube kubernetes.Interface, brake *Brake, instance string, log *slog.Logger) *Events {
	return &Events{kube: kube, brake: brake, instance: instance, log: log, queue: make(chan *eventsv1.Event, mostEvents)}
}

// Keep records events until ctx is done, and then those that are left, as far
// as that takes no time.
func (e *Events) Keep(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case event := <-e.queue:
			e.record(ctx, event)
		case <-ctx.Done():
		}
	}
	parting, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for parting.Err() == nil {
		select {
		case event := <-e.queue:
			e.record(parting, event)
		default:
			return nil
		}
	}
	return nil
}

// Result records how a decision ended.
func (e *Events) Result(r heal.Result) {
	kind := corev1.EventTypeWarning
	if r.Outcome == heal.Succeeded || r.Outcome == heal.Skipped {
		kind = corev1.EventTypeNormal
	}
	e.put(r.Decision, "end", kind, r.Reason, string(r.Decision.Strategy)+" "+strings.ReplaceAll(string(r.Outcome), "_", " ")+": "+r.Message)
}

// Asks records that a decision waits for a person.
func (e *Events) Asks(d heal.Decision, why string, expires time.Time) {
	e.put(d, "ask", corev1.EventTypeNormal, "ApprovalNeeded", sentence("%s of %s waits until %s for `selfheal approve %s`: %s",
		d.Strategy, d.Target, expires.UTC().Format(time.RFC3339), d.ID, why))
}

// put queues an event about the object that people look at: the one that owns
// the target. Its name follows from the decision, so that telling twice is
// telling once.
func (e *Events) put(d heal.Decision, what, kind, reason, note string) {
	about := d.Failure.Owner
	if about.UID == "" {
		about = d.Target
	}
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // as the API server wants it of objects without
	}
	const longestNote, longestName = 1024, 128
	event := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name: d.ID + "." + what, Namespace: namespace,
			Labels: map[string]string{heal.AnnotationOwnedBy: heal.FieldManager}, Annotations: map[string]string{heal.AnnotationDecisionID: d.ID},
		},
		EventTime:           metav1.NowMicro(),
		ReportingController: heal.Domain + "/actuator",
		ReportingInstance:   e.instance[:min(len(e.instance), longestName)],
		Action:              string(d.Strategy),
		Type:                kind,
		Reason:              heal.Clean(reason, longestName),
		Note:                heal.Clean(note, longestNote),
		Regarding:           reference(about),
	}
	if !about.Same(d.Target) {
		related := reference(d.Target)
		event.Related = &related
	}
	select {
	case e.queue <- event:
	default:
		e.log.Debug("kubernetes event dropped, as too many wait", "decision_id", d.ID)
	}
}

func (e *Events) record(ctx context.Context, event *eventsv1.Event) {
	if e.brake.on() {
		return // an event is a write as well
	}
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	_, err := e.kube.EventsV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
		e.log.Debug("kubernetes event not recorded", "event", event.Name, "err", err)
	}
}

func reference(t heal.Target) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: t.APIVersion, Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, UID: types.UID(t.UID)}
}
