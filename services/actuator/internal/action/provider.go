package action

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A provider is who gave the cluster its machines. To add one, write it in a
// file of its own and name it in providers.
type provider struct {
	Name  string
	Needs []rbacv1.PolicyRule

	// Find is the machine of the node, as far as the node shows that it is this
	// provider's; nil if it is not. A refusal says why the node must be left
	// alone.
	Find func(ctx context.Context, j *Job, node *corev1.Node) (*machine, error)

	// Replace is the request that has the machine replaced.
	Replace func(j *Job, m machine) Request
}

// providers are asked in this order: what a node shows by itself comes before
// what the settings say of all nodes.
var providers = []provider{clusterAPI, karpenter, byWebhook}

// byWebhookName is the webhook's, which is looked at by name after an order.
const byWebhookName = "webhook"

// A machine is what a node runs on, as its provider knows it. It is remembered
// by the ledger.
type machine struct {
	Provider string      `json:"provider"`
	Object   heal.Target `json:"object,omitzero"`  // what stands for it in the cluster, if anything does
	Path     string      `json:"path,omitempty"`   // of that
	Awaits   bool        `json:"awaits,omitempty"` // its provider makes another, whoever needs it
	Dead     string      `json:"-"`                // what proves that nothing runs on it; empty for no proof
}

// mayReplace are the rights to have machines replaced.
func mayReplace() []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, p := range providers {
		rules = append(rules, p.Needs...)
	}
	return rules
}

// machineOf finds the machine of the job's node; nil if no provider is known.
func machineOf(ctx context.Context, j *Job) (*machine, error) {
	if j.Facts.Node == nil {
		return nil, nil
	}
	for _, p := range providers {
		m, err := p.Find(ctx, j, j.Facts.Node)
		if apierrors.IsForbidden(err) {
			continue // without the rights it is no provider of ours
		}
		if m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil
}

// death is what proves that nothing runs on the node's machine any more; empty
// for none. A node that only keeps silent may go on working, and writing.
func death(node *corev1.Node, m *machine) string {
	if node == nil || guard.NodeReady(node) {
		return ""
	}
	for _, t := range node.Spec.Taints {
		switch t.Key {
		case shutdownTaint:
			return "its cloud says that the machine is shut down (taint " + t.Key + ")"
		case corev1.TaintNodeOutOfService:
			if t.Value != heal.FieldManager {
				return "somebody says that the machine is out of service (taint " + t.Key + ")"
			}
		}
	}
	if m != nil {
		return m.Dead
	}
	return ""
}

// shutdownTaint is put by a cloud's node controller when the machine is
// stopped (https://kubernetes.io/docs/reference/labels-annotations-taints/#node-cloudprovider-kubernetes-io-shutdown).
const shutdownTaint = "node.cloudprovider.kubernetes.io/shutdown"

// newcomers tells nodes that were made for one that is replaced from those that
// were there. Since lies a little before the newest node there was, and Known
// holds those made since: so no clock of ours counts.
type newcomers struct {
	Since time.Time   `json:"since,omitzero"`
	Known []types.UID `json:"known,omitempty"`
}

// clocks is by how much the clocks of API servers may differ.
const clocks = 10 * time.Second

func newcomersTo(nodes []corev1.Node) newcomers {
	var n newcomers
	for i := range nodes {
		if at := nodes[i].CreationTimestamp.Time; at.After(n.Since) {
			n.Since = at
		}
	}
	n.Since = n.Since.Add(-clocks)
	for i := range nodes {
		if !nodes[i].CreationTimestamp.Time.Before(n.Since) {
			n.Known = append(n.Known, nodes[i].UID)
		}
	}
	return n
}

// ready is the name of a node that has come, is Ready and takes pods; empty for none.
func (n newcomers) ready(nodes []corev1.Node) string {
	for i := range nodes {
		node := &nodes[i]
		if !node.CreationTimestamp.Time.Before(n.Since) && !slices.Contains(n.Known, node.UID) &&
			node.DeletionTimestamp == nil && !node.Spec.Unschedulable && guard.NodeReady(node) {
			return node.Name
		}
	}
	return ""
}

// replace has the node's machine replaced, if all that can be saved was moved
// from it.
func replace(ctx context.Context, j *Job, m *machine) error {
	var done drained
	j.Desk.Recall(&done)
	if done.Machine != nil {
		m = done.Machine // as it was when it was first asked for
	}
	skip := func(why string) error {
		j.Desk.Note(heal.Step{Name: "replace", Status: heal.StepSkipped, Detail: why})
		return nil
	}
	switch {
	case m == nil:
		return skip("no provider configured: whoever runs the machines has to repair or replace this one")
	case done.Why != "":
		return skip("what runs there finds no room elsewhere: the machine is not taken away")
	case done.Left > 0:
		return skip("not all pods could be moved: the machine is not taken away with them")
	}
	if err := j.Desk.Recheck(ctx, recheckEvery); err != nil && done.Machine == nil {
		return unlessMoot(err) // it is well again, or gone
	}
	if done.Machine == nil {
		nodes, err := j.Reader.Nodes(ctx)
		if err != nil {
			return err
		}
		done.Machine, done.Newcomers = m, newcomersTo(nodes)
		j.Desk.Remember(done)
	}
	i := slices.IndexFunc(providers, func(p provider) bool { return p.Name == m.Provider })
	if i < 0 {
		return skip("its provider " + heal.Clean(m.Provider, 32) + " is not known any more")
	}
	err := j.Desk.Do(ctx, providers[i].Replace(j, *m))
	var refusal *guard.Refusal
	if errors.As(err, &refusal) {
		done.Machine = nil // it was not asked for
		j.Desk.Remember(done)
		if refusal.Outcome == heal.Skipped {
			return nil
		}
	}
	return err
}

// deleteMachine is the request that deletes what stands for the machine in the
// cluster: whoever owns it makes another.
func deleteMachine(j *Job, m machine) Request {
	return Request{
		Step: "replace", Target: m.Object,
		Send: func(ctx context.Context, dryRun []string) error {
			uid := types.UID(m.Object.UID)
			body, err := json.Marshal(metav1.DeleteOptions{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
				DryRun:   dryRun, Preconditions: &metav1.Preconditions{UID: &uid},
			})
			if err != nil {
				return err
			}
			const asJSON = "application/json"
			err = j.Kube.Discovery().RESTClient().Delete().AbsPath(m.Path).
				SetHeader("Accept", asJSON).SetHeader("Content-Type", asJSON).Body(body).Do(ctx).Error()
			switch {
			case apierrors.IsNotFound(err):
				return guard.Refuse("replace", guard.Moot("TargetGone", "%s is gone", m.Object))
			case apierrors.IsConflict(err):
				return guard.Refuse("replace", guard.Moot("TargetReplaced", "%s is another machine by now", m.Object))
			}
			return answer(err, m.Object)
		},
		Seen: func(ctx context.Context) (bool, error) {
			var now custom
			found, err := j.Reader.Custom(ctx, m.Path, &now)
			return err == nil && (!found || string(now.UID) != m.Object.UID || now.DeletionTimestamp != nil), err
		},
	}
}

// A custom is the part that is used of Machines and NodeClaims.
type custom struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ClusterName string `json:"clusterName"`
		ProviderID  string `json:"providerID"`
		Paused      bool   `json:"paused"`
	} `json:"spec"`
	Status struct {
		NodeRef struct {
			Name string `json:"name"`
		} `json:"nodeRef"`
		NodeName   string `json:"nodeName"`
		ProviderID string `json:"providerID"`
	} `json:"status"`
}

// isOf refuses a machine that is not, or not any more, that of the node.
func (c custom) isOf(target, node heal.Target, named, providerID string, n *corev1.Node) guard.Verdict {
	switch {
	case named != n.Name:
		return guard.Veto("ProviderDisagrees", "%s names %s, but that is the machine of node %q", node, target, heal.Clean(named, 128))
	case providerID != "" && n.Spec.ProviderID != "" && providerID != n.Spec.ProviderID:
		return guard.Veto("ProviderDisagrees", "%s has the provider id %q, and %s has %q", node, heal.Clean(n.Spec.ProviderID, 128), target, heal.Clean(providerID, 128))
	}
	return guard.Allow("%s is the machine of %s", target, node)
}
