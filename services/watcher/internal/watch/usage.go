package watch

import (
	"context"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/stream"
	"github.com/selfheal/selfheal/services/watcher/internal/usage"
)

// This file is what package usage needs to know of a Watcher, and the other
// way round.

var (
	usageRules = []rbacv1.PolicyRule{{APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"nodes", "pods"}, Verbs: []string{"get", "list"}}}
	// volumeRules is needed besides where volume_stats is on; it gives more
	// than reading, so nobody gets it who did not ask for it.
	volumeRules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes/proxy"}, Verbs: []string{"get"}}}
)

// VolumeRules is what reading volumes' statistics needs besides Rules.
func VolumeRules() []rbacv1.PolicyRule { return volumeRules }

// Usage has what is used learned with cfg, of which the caller gives the
// thresholds, and judged. It is called before Run.
func (w *Watcher) Usage(cfg usage.Config) *usage.Poller {
	cfg.Get, cfg.Log = w.readPath, w.log
	cfg.Allocatable, cfg.Limit, cfg.Nodes, cfg.Changed = w.allocatable, w.memoryLimit, w.nodeNames, w.reconsider
	w.using = usage.New(cfg)
	return w.using
}

// readPath reads a path as JSON.
func (w *Watcher) readPath(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := stream.Get(ctx, w.server.client, w.server.base.JoinPath(path), stream.JSON)
	served := !apierrors.IsNotFound(err)
	if strings.HasPrefix(path, "/apis/") { // behind it may be nobody, or it may not be for us
		served = served && !apierrors.IsServiceUnavailable(err) && !apierrors.IsForbidden(err)
	}
	switch {
	case !served:
		return nil, usage.ErrAbsent
	case err != nil:
		return nil, err
	}
	return resp.Body, nil
}

func (w *Watcher) allocatable(node string) (cpu, memory int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.find("v1", "Node", "", node).(*corev1.Node)
	if !ok {
		return 0, 0, false
	}
	return n.Status.Allocatable.Cpu().MilliValue(), n.Status.Allocatable.Memory().Value(), true
}

func (w *Watcher) memoryLimit(namespace, pod, container string) (memory int64, uid string, ok bool) {
	l, uid, _, ok := w.weights.Of(namespace, pod)
	if !ok {
		return 0, "", false
	}
	memory, ok = l.MemoryLimit(container)
	return memory, uid, ok
}

func (w *Watcher) nodeNames() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]string, 0, len(w.nodes))
	for _, h := range w.nodes {
		all = append(all, h.name)
	}
	return all
}

// reconsider has objects judged again whose usage is another.
func (w *Watcher) reconsider(refs []usage.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range refs {
		w.again("v1", r.Kind, r.Namespace, r.Name)
	}
}

// usageOf is what too much is used of; nil if nobody asks for that.
func (w *Watcher) usageOf(obj metav1.Object) map[string]detect.Usage {
	if w.using == nil {
		return nil
	}
	switch obj.(type) {
	case *corev1.Node:
		return w.using.Node(obj.GetName())
	case *corev1.Pod:
		return w.using.Pod(obj.GetNamespace(), obj.GetName(), string(obj.GetUID()))
	case *corev1.PersistentVolumeClaim:
		return w.using.Claim(obj.GetNamespace(), obj.GetName())
	}
	return nil
}
