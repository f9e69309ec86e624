package action

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// clusterAPI is Cluster API, if it runs in the cluster that it looks after. The
// Machine is deleted, and the MachineSet that owns it makes another. (To
// restart one it has no request of its own.)
// https://cluster-api.sigs.k8s.io/reference/api/labels-and-annotations
var clusterAPI = provider{
	Name: "cluster_api",
	Needs: []rbacv1.PolicyRule{
		{APIGroups: []string{capiGroup}, Resources: []string{"machines"}, Verbs: []string{"get", "delete"}},
		{APIGroups: []string{capiGroup}, Resources: []string{"clusters"}, Verbs: []string{"get"}},
		{APIGroups: []string{capiGroup}, Resources: []string{"machinehealthchecks"}, Verbs: []string{"list"}},
	},
	Find:    findMachine,
	Replace: deleteMachine,
}

const capiGroup = "cluster.x-k8s.io"

// A healthCheck is the part that is used of a MachineHealthCheck.
type healthCheck struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ClusterName string               `json:"clusterName"`
		Selector    metav1.LabelSelector `json:"selector"`
	} `json:"spec"`
}

func findMachine(ctx context.Context, j *Job, node *corev1.Node) (*machine, error) {
	name, namespace := node.Annotations[capiGroup+"/machine"], node.Annotations[capiGroup+"/cluster-namespace"]
	if name == "" || namespace == "" {
		return nil, nil
	}
	version, err := j.Reader.Version(ctx, capiGroup)
	if version == "" || err != nil {
		return nil, err // it runs elsewhere
	}
	in := "/apis/" + capiGroup + "/" + version + "/namespaces/" + namespace + "/"
	m := &machine{
		Provider: "cluster_api", Path: in + "machines/" + name, Awaits: true,
		Object: heal.Target{APIVersion: capiGroup + "/" + version, Kind: "Machine", Namespace: namespace, Name: name},
	}
	var found, cluster custom
	there, err := j.Reader.Custom(ctx, m.Path, &found)
	if err != nil {
		return nil, err
	}
	if !there {
		// The Machine's finalizer goes only when the machine is gone. Nobody is
		// left to replace it.
		return nil, nil
	}
	m.Object.UID = string(found.UID)
	if _, err := j.Reader.Custom(ctx, in+"clusters/"+found.Spec.ClusterName, &cluster); err != nil {
		return nil, err
	}
	var checks struct {
		Items []healthCheck `json:"items"`
	}
	if _, err := j.Reader.Custom(ctx, in+"machinehealthchecks", &checks); err != nil {
		return nil, err
	}
	if v := judgeMachine(j.Decision.Target, m.Object, node, found, cluster, checks.Items); !v.Allowed() {
		return nil, guard.Refuse("provider", v)
	}
	return m, nil
}

// judgeMachine refuses a Machine that somebody else replaces, or nobody.
func judgeMachine(target, object heal.Target, node *corev1.Node, m, cluster custom, checks []healthCheck) guard.Verdict {
	if v := m.isOf(object, target, m.Status.NodeRef.Name, m.Spec.ProviderID, node); !v.Allowed() {
		return v
	}
	owner := metav1.GetControllerOf(&m.ObjectMeta)
	_, controlPlane := m.Labels[capiGroup+"/control-plane"]
	_, paused := m.Annotations[capiGroup+"/paused"]
	switch {
	case m.DeletionTimestamp != nil:
		return guard.Veto(guard.RepairedByOther, "%s is left to Cluster API, which is deleting %s", target, object)
	case controlPlane:
		return guard.Veto("ProtectedNode", "%s belongs to the control plane of cluster %s: repair it by hand", object, heal.Clean(m.Spec.ClusterName, 64))
	case paused || cluster.Spec.Paused:
		return guard.Veto("ProviderPaused", "%s is paused in Cluster API: whoever did that is at work on it", object)
	case owner == nil:
		return guard.Veto("NobodyReplaces", "%s has no controller, so nobody would make another", object)
	case owner.Kind != "MachineSet":
		return guard.Veto("NobodyReplaces", "%s belongs to %s %s, which is not known to make another", object, heal.Clean(owner.Kind, 64), owner.Name)
	}
	for _, c := range checks {
		selector, err := metav1.LabelSelectorAsSelector(&c.Spec.Selector)
		if err != nil || c.Spec.ClusterName == m.Spec.ClusterName && selector.Matches(labels.Set(m.Labels)) {
			return guard.Veto(guard.RepairedByOther, "%s is left to MachineHealthCheck %s, which looks after %s", target, c.Name, object)
		}
	}
	return guard.Allow("%s makes another in place of %s", owner.Name, object)
}
