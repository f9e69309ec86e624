package detect

import (
	"fmt"
	"time"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// attachStuck finds volumes that cannot be attached to a node, or detached
// from it. Kubernetes itself tries again, and gives up a dead node's volume
// after six minutes; what lasts longer needs somebody.
var attachStuck = Detector[*storagev1.VolumeAttachment]{
	Name: "attach_stuck",
	Row:  "V3",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"AttachFailed", "DetachFailed"},
	Hold:    "6 min",
	Excused: "an attachment that is deleted need not be attached any more",

	Find: findAttachStuck,
}

const (
	attachHold = 6 * time.Minute
	attachPart = "attach"
	detachPart = "detach"
)

func findAttachStuck(a *storagev1.VolumeAttachment, _ Facts) []Finding {
	switch leaving := a.DeletionTimestamp != nil; {
	case leaving && a.Status.DetachError != nil:
		return []Finding{attachFinding(a, detachPart, "DetachFailed", "detached from", "status.detachError", a.Status.DetachError)}
	case !leaving && !a.Status.Attached && a.Status.AttachError != nil:
		return []Finding{attachFinding(a, attachPart, "AttachFailed", "attached to", "status.attachError", a.Status.AttachError)}
	}
	return nil
}

func attachFinding(a *storagev1.VolumeAttachment, part, reason, what, path string, e *storagev1.VolumeError) Finding {
	volume := ""
	if name := a.Spec.Source.PersistentVolumeName; name != nil {
		volume = *name
	}
	f := Finding{
		Part: part, Reason: reason, Hold: attachHold,
		Description: fmt.Sprintf("volume %s cannot be %s node %s: %s", volume, what, a.Spec.NodeName, e.Message),
		Evidence: []heal.Evidence{
			{Path: "spec.source.persistentVolumeName", Value: volume},
			{Path: "spec.nodeName", Value: a.Spec.NodeName},
			{Path: "status.attached", Value: fmt.Sprint(a.Status.Attached)},
			{Path: path + ".message", Value: e.Message},
		},
		Metadata: map[string]string{"volume": volume, "attacher": a.Spec.Attacher},
	}
	if !e.Time.IsZero() {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".time", Value: e.Time.UTC().Format(time.RFC3339)})
	}
	return f
}
