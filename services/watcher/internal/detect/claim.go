package detect

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// What Kubernetes notes on a claim: the node for whose pod a volume is made,
// and who was asked to make it.
const (
	SelectedNodeAnnotation   = "volume.kubernetes.io/selected-node"
	ProvisionerAnnotation    = "volume.kubernetes.io/storage-provisioner"
	provisionerAnnotationOld = "volume.beta.kubernetes.io/storage-provisioner"

	// provisioningFailed is the reason of Kubernetes events about claims.
	provisioningFailed = "ProvisioningFailed"
)

// ClaimAnnotations are the annotations of claims that detectors read.
var ClaimAnnotations = []string{SelectedNodeAnnotation, ProvisionerAnnotation, provisionerAnnotationOld}

// A StorageClass is what is known of the class that a claim asks for.
type StorageClass struct {
	Seen   bool // we see all classes; if not, the rest says nothing
	Exists bool
	Waits  bool // it makes a volume only when a pod that uses the claim has a node
}

const claimExcused = "the claim is deleted"

func claimExcuse(c *corev1.PersistentVolumeClaim, _ Facts) Excuse {
	if c.DeletionTimestamp != nil {
		return Leaving
	}
	return None
}

// className is the class that a claim asks for; empty for none.
func className(c *corev1.PersistentVolumeClaim) string {
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}

func claimFinding(c *corev1.PersistentVolumeClaim, reason string) Finding {
	f := Finding{
		Reason:   reason,
		Evidence: []heal.Evidence{{Path: "status.phase", Value: string(c.Status.Phase)}},
		Metadata: map[string]string{},
	}
	if class := className(c); class != "" {
		f.Metadata["storage_class"] = class
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "spec.storageClassName", Value: class})
	}
	if c.Spec.VolumeName != "" {
		f.Metadata["volume"] = c.Spec.VolumeName
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "spec.volumeName", Value: c.Spec.VolumeName})
	}
	return f
}
