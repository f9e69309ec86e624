// Package live reads from the API server what is true just now.
//
// Every read but PodsBeside is a quorum read (no resourceVersion), never one from
// a cache or a watch: what is read here decides whether something is evicted a
// moment later. It gathers and does not judge.
package live

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// Needs are the rights to read that the guards need whatever is done.
var Needs = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "watch"}}, // ours, for marks
	{APIGroups: []string{""}, Resources: []string{"replicationcontrollers"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{"apps"}, Resources: []string{"replicasets", "deployments", "statefulsets", "daemonsets"}, Verbs: []string{"get"}},
	{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"get"}},
	{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list"}},
	{APIGroups: []string{"policy"}, Resources: []string{"poddisruptionbudgets"}, Verbs: []string{"list"}},
}

// A Reader reads the cluster. It is safe for concurrent use.
type Reader struct {
	Kube     kubernetes.Interface
	Watch    kubernetes.Interface             // for watches; default Kube
	Reserved []string                         // namespaces that guards must protect
	Sight    func(context.Context) heal.Sight // whether the watchers see; nil: nobody does
	OwnNode  string                           // the node that this process runs on; empty if that is not known
}

// gatherers gather, by kind of the target, what the guards judge.
var gatherers = map[string]func(Reader, context.Context, heal.Target, *guard.Facts) error{
	"Pod":         Reader.pod,
	"Node":        Reader.node,
	"Deployment":  Reader.deployment,
	"StatefulSet": Reader.statefulSet,
	"DaemonSet":   Reader.daemonSet,
	"Service":     Reader.service,

	"PersistentVolumeClaim": Reader.claim,
}

// Facts gathers what the guards need to know about target, for decision d.
func (r Reader) Facts(ctx context.Context, d heal.Decision, target heal.Target) (guard.Facts, error) {
	f := guard.Facts{Decision: d, Target: target, Reserved: r.Reserved}
	gather, ok := gatherers[target.Kind]
	if !ok {
		return f, fmt.Errorf("read %s: this kind is not known here", target)
	}
	if err := gather(r, ctx, target, &f); err != nil {
		return f, err
	}
	if r.Sight != nil {
		f.Sight = r.Sight(ctx)
	}
	f.Now = time.Now()
	return f, nil
}

// Pod reads one pod; nil if the one with its UID is gone.
func (r Reader) Pod(ctx context.Context, target heal.Target) (*corev1.Pod, error) {
	pod, err := r.Kube.CoreV1().Pods(target.Namespace).Get(ctx, target.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(pod.UID) != target.UID {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", target, err)
	}
	return pod, nil
}

func (r Reader) pod(ctx context.Context, target heal.Target, f *guard.Facts) error {
	var ahead *foreseen
	if target.Same(f.Decision.Target) {
		ahead = r.foresee(ctx, target, f.Decision.Failure.Owner)
		defer ahead.stop()
	}
	var namespace *guard.Object
	var nsErr error
	var beside sync.WaitGroup
	beside.Go(func() { namespace, nsErr = r.namespace(ctx, target.Namespace) })
	defer beside.Wait()

	pod, err := r.Kube.CoreV1().Pods(target.Namespace).Get(ctx, target.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", target, err)
	}
	f.Pod, f.Live = pod, &guard.Object{Kind: "Pod", ObjectMeta: pod.ObjectMeta}
	if f.Owners, f.Gap, err = r.chain(ctx, pod.Namespace, metav1.GetControllerOf(pod), ahead); err != nil {
		return err
	}
	if f.Decision.Type == heal.ResourceExhaustion && f.Decision.Target.Kind == "Pod" {
		if f.Usage, err = r.Usage(ctx, target.Namespace, target.Name); err != nil {
			return err
		}
	}
	if len(f.Owners) > 0 && guard.IsReady(pod) {
		if err := r.workload(ctx, f.Owners[len(f.Owners)-1], f); err != nil {
			return err
		}
	}
	beside.Wait()
	f.Namespace = namespace
	return nsErr
}

// workload counts the Ready pods of the top owner itself instead of believing
// its status, which may lag behind.
func (r Reader) workload(ctx context.Context, top guard.Owner, f *guard.Facts) error {
	list, err := r.Kube.CoreV1().Pods(top.Namespace).List(ctx, metav1.ListOptions{LabelSelector: top.Selector})
	if err != nil {
		return fmt.Errorf("list pods of %s: %w", top, err)
	}
	f.Workload.Wanted = top.Wanted
	for i := range list.Items {
		if p := &list.Items[i]; p.DeletionTimestamp == nil && guard.IsReady(p) {
			f.Workload.Ready++
		}
	}
	return nil
}

func (r Reader) namespace(ctx context.Context, name string) (*guard.Object, error) {
	ns, err := r.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return &guard.Object{Kind: "Namespace", ObjectMeta: ns.ObjectMeta}, nil
}

func (r Reader) node(ctx context.Context, target heal.Target, f *guard.Facts) error {
	var list []corev1.Node
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		list, err = r.Nodes(ctx)
		return err
	})
	g.Go(func() (err error) {
		f.Own, err = r.own(ctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range list {
		n := &list[i]
		if n.Name == target.Name {
			f.Node = n
			f.Live = &guard.Object{Kind: "Node", ObjectMeta: n.ObjectMeta}
		}
		if n.DeletionTimestamp == nil {
			f.Nodes = append(f.Nodes, guard.StateOf(n))
		}
	}
	f.OwnNode = r.OwnNode
	return nil
}

// Node reads one node; nil if there is none of that name.
func (r Reader) Node(ctx context.Context, name string) (*corev1.Node, error) {
	node, err := r.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Node/%s: %w", name, err)
	}
	return node, nil
}

// Nodes reads all nodes.
func (r Reader) Nodes(ctx context.Context) ([]corev1.Node, error) {
	list, err := r.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return list.Items, nil
}

// PodsOn reads the pods of a node.
func (r Reader) PodsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	list, err := r.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list pods of Node/%s: %w", node, err)
	}
	return list.Items, nil
}

// EachPod calls fn with every pod of the cluster that has not ended, some
// hundred at a time, so that no more are held at once.
func (r Reader) EachPod(ctx context.Context, fn func(*corev1.Pod)) error {
	opts := metav1.ListOptions{Limit: 500, FieldSelector: "status.phase!=Succeeded,status.phase!=Failed"}
	for {
		list, err := r.Kube.CoreV1().Pods("").List(ctx, opts)
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		for i := range list.Items {
			fn(&list.Items[i])
		}
		if list.Continue == "" {
			return nil
		}
		opts.Continue = list.Continue
	}
}

// Budgets reads the disruption budgets that cover a pod.
func (r Reader) Budgets(ctx context.Context, pod *corev1.Pod) ([]Budget, error) {
	list, err := r.Kube.PolicyV1().PodDisruptionBudgets(pod.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list disruption budgets of namespace %s: %w", pod.Namespace, err)
	}
	var match []Budget
	for i := range list.Items {
		b := Budget{&list.Items[i]}
		if b.covers(pod) {
			match = append(match, b)
		}
	}
	return match, nil
}
