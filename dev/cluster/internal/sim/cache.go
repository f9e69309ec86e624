package sim

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

const (
	byNode      = "node"
	byNamespace = cache.NamespaceIndex
)

// handlers are told what has changed.
type handlers struct {
	pod    func(cache.ObjectName)
	node   func(name string)
	config func(namespace string)
}

// caches mirror the objects that the simulation depends on.
type caches struct {
	handlers
	factories           []informers.SharedInformerFactory
	podStore, nodeStore cache.Indexer
	configMaps, secrets cache.Indexer
	synced              []cache.InformerSynced
}

func newCaches(client kubernetes.Interface, h handlers) *caches {
	c := &caches{handlers: h}
	assigned := c.factory(client, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	})
	simulated := c.factory(client, func(o *metav1.ListOptions) { o.LabelSelector = LabelNode + "=true" })
	all := c.factory(client, nil)

	c.podStore = c.watch(assigned.Core().V1().Pods().Informer(), c.podChanged, c.podChanged)
	c.nodeStore = c.watch(simulated.Core().V1().Nodes().Informer(), c.nodeChanged, c.nodeChanged)
	// A reference is missing or not: a change of the keys counts, and a container that started keeps what it has.
	c.configMaps = c.watch(all.Core().V1().ConfigMaps().Informer(), c.configChanged, nil)
	c.secrets = c.watch(all.Core().V1().Secrets().Informer(), c.configChanged, nil)
	return c
}

func (c *caches) factory(client kubernetes.Interface, tweak func(*metav1.ListOptions)) informers.SharedInformerFactory {
	opts := []informers.SharedInformerOption{informers.WithTransform(trim)}
	if tweak != nil {
		opts = append(opts, informers.WithTweakListOptions(tweak))
	}
	f := informers.NewSharedInformerFactoryWithOptions(client, 0, opts...)
	c.factories = append(c.factories, f)
	return f
}

// trim drops what is never looked at, from a cache that may hold thousands of objects.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		o.ManagedFields = nil
	case *corev1.Node:
		o.ManagedFields = nil
	case *corev1.ConfigMap:
		o.ManagedFields = nil
		for k := range o.Data {
			o.Data[k] = ""
		}
		for k := range o.BinaryData {
			o.BinaryData[k] = nil
		}
	case *corev1.Secret:
		o.ManagedFields = nil
		for k := range o.Data {
			o.Data[k] = nil
		}
	}
	return obj, nil
}

func (c *caches) watch(informer cache.SharedIndexInformer, changed, gone func(any)) cache.Indexer {
	if gone == nil {
		gone = func(any) {}
	}
	h, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, obj any) { changed(obj) },
		DeleteFunc: func(obj any) {
			if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = t.Obj
			}
			gone(obj)
		},
	})
	if err == nil { // it only fails for an informer that was stopped
		c.synced = append(c.synced, h.HasSynced)
	}
	return informer.GetIndexer()
}

func (c *caches) start(ctx context.Context) error {
	if err := c.podStore.AddIndexers(cache.Indexers{byNode: func(obj any) ([]string, error) {
		return []string{obj.(*corev1.Pod).Spec.NodeName}, nil
	}}); err != nil {
		return err
	}
	for _, f := range c.factories {
		f.Start(ctx.Done())
	}
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return errors.New("stopped before the caches were filled")
	}
	return nil
}

func (c *caches) podChanged(obj any) {
	if p, ok := obj.(*corev1.Pod); ok {
		c.handlers.pod(cache.MetaObjectToName(p))
	}
}

// nodeChanged brings up the node's pods too: whether its kubelet lives decides about them.
func (c *caches) nodeChanged(obj any) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return
	}
	c.handlers.node(n.Name)
	pods, err := c.podStore.ByIndex(byNode, n.Name)
	if err != nil {
		return // before start; every pod is looked at then
	}
	for _, p := range pods {
		c.handlers.pod(cache.MetaObjectToName(p.(*corev1.Pod)))
	}
}

func (c *caches) configChanged(obj any) {
	if o, ok := obj.(metav1.Object); ok {
		c.handlers.config(o.GetNamespace())
	}
}

func (c *caches) pod(key cache.ObjectName) *corev1.Pod {
	return lookUp[*corev1.Pod](c.podStore, key.String())
}

func (c *caches) node(name string) *corev1.Node { return lookUp[*corev1.Node](c.nodeStore, name) }

func lookUp[T any](store cache.Indexer, key string) T {
	obj, _, _ := store.GetByKey(key)
	t, _ := obj.(T)
	return t
}

func (c *caches) podsIn(namespace string) []*corev1.Pod {
	objs, _ := c.podStore.ByIndex(byNamespace, namespace)
	return all[*corev1.Pod](objs)
}

func (c *caches) allPods() []*corev1.Pod { return all[*corev1.Pod](c.podStore.List()) }

func (c *caches) allNodes() []*corev1.Node { return all[*corev1.Node](c.nodeStore.List()) }

func all[T any](objs []any) []T {
	ts := make([]T, 0, len(objs))
	for _, o := range objs {
		if t, ok := o.(T); ok {
			ts = append(ts, t)
		}
	}
	return ts
}

// keysOf returns the keys of a ConfigMap or Secret, and whether it exists.
func (c *caches) keysOf(r reference) (map[string]bool, bool) {
	keys := make(map[string]bool)
	switch r.kind {
	case "configmap":
		m := lookUp[*corev1.ConfigMap](c.configMaps, r.namespace+"/"+r.name)
		if m == nil {
			return nil, false
		}
		for k := range maps.Keys(m.Data) {
			keys[k] = true
		}
		for k := range maps.Keys(m.BinaryData) {
			keys[k] = true
		}
	case "secret":
		m := lookUp[*corev1.Secret](c.secrets, r.namespace+"/"+r.name)
		if m == nil {
			return nil, false
		}
		for k := range maps.Keys(m.Data) {
			keys[k] = true
		}
	}
	return keys, true
}

func sink(client kubernetes.Interface) record.EventSink {
	return &typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")}
}

func podScheme() *runtime.Scheme { return scheme.Scheme }

func registrationPatch(r registration) ([]byte, error) {
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"labels": r.labels},
		"spec":     map[string]any{"providerID": r.providerID},
	})
}
