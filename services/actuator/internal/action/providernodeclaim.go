package action

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// karpenter is Karpenter. The NodeClaim is deleted, and Karpenter makes another
// when pods need one. (To restart one it has no request.)
// https://karpenter.sh/docs/concepts/disruption
var karpenter = provider{
	Name: "karpenter",
	Needs: []rbacv1.PolicyRule{
		{APIGroups: []string{karpenterGroup}, Resources: []string{"nodeclaims"}, Verbs: []string{"get", "delete"}},
	},
	Find:    findNodeClaim,
	Replace: deleteMachine,
}

const (
	karpenterGroup = "karpenter.sh"
	doNotDisrupt   = karpenterGroup + "/do-not-disrupt"
)

func findNodeClaim(ctx context.Context, j *Job, node *corev1.Node) (*machine, error) {
	for _, owner := range node.OwnerReferences {
		group, version, _ := strings.Cut(owner.APIVersion, "/")
		if owner.Kind != "NodeClaim" || group != karpenterGroup {
			continue
		}
		m := &machine{
			Provider: "karpenter", Path: "/apis/" + owner.APIVersion + "/nodeclaims/" + owner.Name,
			Object: heal.Target{APIVersion: karpenterGroup + "/" + version, Kind: "NodeClaim", Name: owner.Name, UID: string(owner.UID)},
		}
		var claim custom
		there, err := j.Reader.Custom(ctx, m.Path, &claim)
		if !there || err != nil || claim.UID != owner.UID {
			return nil, err
		}
		if v := judgeNodeClaim(j.Decision.Target, m.Object, node, claim); !v.Allowed() {
			return nil, guard.Refuse("provider", v)
		}
		return m, nil
	}
	return nil, nil
}

// judgeNodeClaim refuses a NodeClaim that is not to be touched, or that nobody
// would make anew.
func judgeNodeClaim(target, object heal.Target, node *corev1.Node, claim custom) guard.Verdict {
	if v := claim.isOf(object, target, claim.Status.NodeName, claim.Status.ProviderID, node); !v.Allowed() {
		return v
	}
	switch {
	case claim.DeletionTimestamp != nil:
		return guard.Veto(guard.RepairedByOther, "%s is left to Karpenter, which is deleting %s", target, object)
	case node.Annotations[doNotDisrupt] == "true", claim.Annotations[doNotDisrupt] == "true":
		return guard.Veto("DoNotDisrupt", "%s carries %s: whoever set it wants it left alone", target, doNotDisrupt)
	case claim.Labels[karpenterGroup+"/nodepool"] == "":
		return guard.Veto("NobodyReplaces", "%s is of no NodePool, so nobody would make another", object)
	}
	return guard.Allow("Karpenter makes another in place of %s when pods need it", object)
}
