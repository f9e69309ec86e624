package detect

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// claimUnbound finds claims that get no volume. One whose class waits for its
// first consumer waits on purpose until a pod that uses it has a node.
var claimUnbound = Detector[*corev1.PersistentVolumeClaim]{
	Name: "claim_unbound",
	Row:  "V1",
	Type: heal.ResourceExhaustion,

	Reasons: []string{provisioningPending, storageClassNotFound, noVolumeFits},
	Hold:    "10 × `pod_check_interval`",
	Excused: claimExcused + "; its class waits for the first consumer, and no pod that uses it has a node; its class is not known to us, and nobody was asked for a volume yet",

	Find:   findClaimUnbound,
	Excuse: claimExcuse,
	// A claim that is not pending any more may be lost.
	Well: func(c *corev1.PersistentVolumeClaim, _ string) bool { return c.Status.Phase == corev1.ClaimBound },
}

const (
	provisioningPending  = "ProvisioningPending"
	storageClassNotFound = "StorageClassNotFound"
	noVolumeFits         = "NoVolumeFits"
)

func findClaimUnbound(c *corev1.PersistentVolumeClaim, facts Facts) []Finding {
	if c.Status.Phase != corev1.ClaimPending {
		return nil
	}
	node := c.Annotations[SelectedNodeAnnotation]
	provisioner := cmp.Or(c.Annotations[ProvisionerAnnotation], c.Annotations[provisionerAnnotationOld])
	class, name := facts.StorageClass, className(c)
	var f Finding
	switch {
	case c.Spec.VolumeName != "":
		f = claimFinding(c, noVolumeFits)
		f.Description = fmt.Sprintf("claim %s waits for volume %s, which is not there or belongs to another", c.Name, c.Spec.VolumeName)
	case name == "":
		f = claimFinding(c, noVolumeFits)
		f.Description = fmt.Sprintf("claim %s has no storage class, and no volume fits it", c.Name)
	case class.Seen && !class.Exists:
		f = claimFinding(c, storageClassNotFound)
		f.Description = fmt.Sprintf("claim %s asks for storage class %s, which does not exist, and no volume fits it", c.Name, name)
	case class.Waits && node == "", !class.Seen && node == "" && provisioner == "":
		return nil
	default:
		f = claimFinding(c, provisioningPending)
		f.Description = fmt.Sprintf("no volume of storage class %s is made for claim %s", name, c.Name)
	}
	if node != "" {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: annotation(SelectedNodeAnnotation), Value: node})
		f.Metadata["selected_node"] = node
	}
	if provisioner != "" {
		f.Description += "; asked is " + provisioner
		f.Evidence = append(f.Evidence, heal.Evidence{Path: annotation(ProvisionerAnnotation), Value: provisioner})
		f.Metadata["provisioner"] = provisioner
	}
	if e := facts.event(provisioningFailed, ""); e != nil {
		f.Description += ": " + e.Message
		f.Evidence = append(f.Evidence, e.evidence())
	}
	f.Hold = claimPatience * facts.PodCheckInterval
	return []Finding{f}
}

const claimPatience time.Duration = 10

func annotation(key string) string { return fmt.Sprintf("metadata.annotations['%s']", key) }
