package live

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/mask"
)

// EvidenceNeeds are the rights to read what is kept as evidence.
var EvidenceNeeds = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"}},
}

// Evidence is what an object looked like before it was changed, without what
// might be a secret.
type Evidence struct {
	DecisionID string      `json:"decision_id"`
	At         time.Time   `json:"at"`
	Target     heal.Target `json:"target"`
	Object     any         `json:"object,omitempty"` // its metadata, spec and status
	Events     []string    `json:"events"`           // Kubernetes events about it, the newest last
	Logs       []Log       `json:"logs"`
	Missing    []string    `json:"missing"` // what could not be had, and why
}

// A Log is the end of what a container has written.
type Log struct {
	Container string `json:"container"`
	Previous  bool   `json:"previous"` // of the run before this one
	Text      string `json:"text"`
}

const (
	logLines      = 100
	logBytes      = 16 << 10 // of each container
	mostLogs      = 8
	mostEvents    = 50
	mostObject    = 128 << 10
	eventsAPage   = 500
	evidenceLimit = 2 * time.Second
)

// Evidence gathers what there is about the object of the facts, within two
// seconds. What cannot be had is named.
func (r Reader) Evidence(ctx context.Context, d heal.Decision, f guard.Facts) Evidence {
	ctx, cancel := context.WithTimeout(ctx, evidenceLimit)
	defer cancel()
	e := Evidence{DecisionID: d.ID, At: time.Now().UTC(), Target: f.Target, Events: []string{}, Logs: []Log{}, Missing: []string{}}
	var mu sync.Mutex // guards e
	missing := func(what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		e.Missing = append(e.Missing, what+": "+heal.Clean(err.Error(), heal.MaxText))
	}
	object, err := evident(f)
	if err != nil {
		missing("object", err)
	}
	e.Object = object
	var all sync.WaitGroup
	all.Go(func() {
		events, err := r.events(ctx, f.Target)
		if err != nil {
			missing("events", err)
		}
		mu.Lock()
		defer mu.Unlock()
		e.Events = append(e.Events, events...)
	})
	for _, want := range logsOf(f.Pod) {
		all.Go(func() {
			text, err := r.log(ctx, f.Target, want)
			if err != nil {
				missing("log of "+want.Container, err)
				return
			}
			want.Text = text
			mu.Lock()
			defer mu.Unlock()
			e.Logs = append(e.Logs, want)
		})
	}
	all.Wait()
	return e
}

// evident is the object of the facts as it is kept.
func evident(f guard.Facts) (any, error) {
	var object any
	switch {
	case f.Pod != nil:
		object = f.Pod
	case f.Node != nil:
		object = f.Node
	case f.Deployment != nil:
		object = f.Deployment
	case f.StatefulSet != nil:
		object = f.StatefulSet
	case f.DaemonSet != nil:
		object = f.DaemonSet
	case f.Service != nil:
		object = f.Service
	case f.Claim != nil:
		object = f.Claim
	default:
		return nil, nil
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	if len(data) > mostObject {
		return nil, fmt.Errorf("has %d bytes, more than %d", len(data), mostObject)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	return mask.Object(v), nil
}

// logsOf are the logs that tell why a pod fails: those of containers that are
// not ready, of their last run first.
func logsOf(p *corev1.Pod) []Log {
	if p == nil {
		return nil
	}
	var logs []Log
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for _, c := range list {
			if c.RestartCount > 0 {
				logs = append(logs, Log{Container: c.Name, Previous: true})
			}
			if !c.Ready && (c.State.Running != nil || c.State.Terminated != nil) {
				logs = append(logs, Log{Container: c.Name})
			}
		}
	}
	return logs[:min(len(logs), mostLogs)]
}

func (r Reader) log(ctx context.Context, target heal.Target, l Log) (string, error) {
	lines, bytes := int64(logLines), int64(logBytes)
	body, err := r.Kube.CoreV1().Pods(target.Namespace).GetLogs(target.Name, &corev1.PodLogOptions{
		Container: l.Container, Previous: l.Previous, TailLines: &lines, LimitBytes: &bytes, Timestamps: true,
	}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, logBytes))
	if err != nil && len(data) == 0 {
		return "", err
	}
	return mask.Text(string(data)), nil
}

func (r Reader) events(ctx context.Context, target heal.Target) ([]string, error) {
	namespace := target.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where those about objects without are
	}
	list, err := r.Kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", target.UID).String(), Limit: eventsAPage,
	})
	if err != nil {
		return nil, err
	}
	items := list.Items[max(0, len(list.Items)-mostEvents):]
	var events []string
	for i := range items {
		e := &items[i]
		events = append(events, heal.Clean(fmt.Sprintf("%s %s %s: %s", e.LastTimestamp.UTC().Format(time.RFC3339), e.Type, e.Reason, mask.Text(e.Message)), 2*heal.MaxText))
	}
	return events, nil
}
