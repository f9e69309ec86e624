package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// claim is one that waits for a volume of class "fast".
func claim(changes ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := "fast"
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data-db-0", Annotations: map[string]string{}},
		Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: &class},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func TestClaimThatGetsNoVolumeIsFoundWithWhatItWaitsFor(t *testing.T) {
	asked := func(c *corev1.PersistentVolumeClaim) { c.Annotations[ProvisionerAnnotation] = "csi.example.com" }
	askedLongAgo := func(c *corev1.PersistentVolumeClaim) { c.Annotations[provisionerAnnotationOld] = "csi.example.com" }
	placed := func(c *corev1.PersistentVolumeClaim) { c.Annotations[SelectedNodeAnnotation] = "n1" }
	classless := func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }
	static := func(c *corev1.PersistentVolumeClaim) { none := ""; c.Spec.StorageClassName = &none }
	reserved := func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv-7" }
	in := func(phase corev1.PersistentVolumeClaimPhase) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = phase }
	}
	var (
		immediate = StorageClass{Seen: true, Exists: true}
		waits     = StorageClass{Seen: true, Exists: true, Waits: true}
		missing   = StorageClass{Seen: true}
		unknown   = StorageClass{}
	)
	tests := []struct {
		name  string
		claim *corev1.PersistentVolumeClaim
		class StorageClass
		want  string // the reason
	}{
		{"nobody makes one", claim(), immediate, "ProvisioningPending"},
		{"whoever was asked makes none", claim(asked), immediate, "ProvisioningPending"},
		{"there is no such class", claim(), missing, "StorageClassNotFound"},
		{"there is no class at all", claim(classless), unknown, "NoVolumeFits"},
		{"no volume is free", claim(static), immediate, "NoVolumeFits"},
		{"the volume it is meant for is not there", claim(reserved), immediate, "NoVolumeFits"},
		{"waits for its first consumer", claim(), waits, ""},
		{"its consumer has a node", claim(placed), waits, "ProvisioningPending"},
		{"classes are not seen, and nobody was asked", claim(), unknown, ""},
		{"classes are not seen, and somebody was asked", claim(asked), unknown, "ProvisioningPending"},
		{"classes are not seen, and somebody was asked long ago", claim(askedLongAgo), unknown, "ProvisioningPending"},
		{"classes are not seen, and its consumer has a node", claim(placed), unknown, "ProvisioningPending"},
		{"bound", claim(in(corev1.ClaimBound)), immediate, ""},
		{"lost is told otherwise", claim(in(corev1.ClaimLost)), immediate, ""},
		{"new", claim(in("")), immediate, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for _, f := range claimUnbound.Find(tt.claim, Facts{Thresholds: defaults, StorageClass: tt.class}) {
				got += f.Reason
			}
			if got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
	want := []Finding{{
		Reason: "ProvisioningPending", Hold: 5 * time.Minute,
		Description: "no volume of storage class fast is made for claim data-db-0; asked is csi.example.com: disk quota exceeded",
		Evidence: []heal.Evidence{
			{Path: "status.phase", Value: "Pending"},
			{Path: "spec.storageClassName", Value: "fast"},
			{Path: "metadata.annotations['volume.kubernetes.io/selected-node']", Value: "n1"},
			{Path: "metadata.annotations['volume.kubernetes.io/storage-provisioner']", Value: "csi.example.com"},
			{Path: `events[?(@.reason=="ProvisioningFailed")].message`, Value: "disk quota exceeded"},
		},
		Metadata: map[string]string{"storage_class": "fast", "selected_node": "n1", "provisioner": "csi.example.com"},
	}}
	f := Facts{
		Now: noon, Thresholds: defaults, StorageClass: waits,
		Events: []Event{{Reason: "ProvisioningFailed", Message: "disk quota exceeded", At: noon}},
	}
	if diff := cmp.Diff(want, claimUnbound.Find(claim(asked, placed), f)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if claimUnbound.Well(claim(), "") || claimUnbound.Well(claim(in(corev1.ClaimLost)), "") || !claimUnbound.Well(claim(in(corev1.ClaimBound)), "") {
		t.Error("a claim is well when it is bound, and only then")
	}
}

func TestClaimThatLostItsVolumeIsFoundAtOnce(t *testing.T) {
	lost := claim(func(c *corev1.PersistentVolumeClaim) { c.Status.Phase, c.Spec.VolumeName = corev1.ClaimLost, "pv-7" })
	want := []Finding{{
		Reason:      "ClaimLost",
		Description: "claim data-db-0 has lost its volume pv-7; what was on it may be gone",
		Evidence: []heal.Evidence{
			{Path: "status.phase", Value: "Lost"},
			{Path: "spec.storageClassName", Value: "fast"},
			{Path: "spec.volumeName", Value: "pv-7"},
		},
		Metadata: map[string]string{"storage_class": "fast", "volume": "pv-7", "critical": "true"},
	}}
	if diff := cmp.Diff(want, claimLost.Find(lost, Facts{})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if got := claimLost.Find(claim(), Facts{}); got != nil {
		t.Errorf("a claim that waits is found lost: %v", got)
	}
}

func TestClaimThatIsDeletedIsExcused(t *testing.T) {
	deleted := claim(func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{Time: noon} })
	for _, d := range Claims {
		if got := d.Excuse(deleted, Facts{}); got != Leaving {
			t.Errorf("excuse of %s = %v, want %v", d.Name, got, Leaving)
		}
		if got := d.Excuse(claim(), Facts{}); got != None {
			t.Errorf("excuse of %s without a reason = %v, want %v", d.Name, got, None)
		}
	}
}

func TestVolumeThatFailedIsFound(t *testing.T) {
	volume := func(phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv-7"},
			Spec:       corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "data-db-0"}},
			Status:     corev1.PersistentVolumeStatus{Phase: phase, Reason: "VolumeFailedDelete", Message: "disk is in use"},
		}
	}
	found := []Finding{{
		Reason: "VolumeFailed", Description: "volume pv-7 has failed: disk is in use",
		Evidence: []heal.Evidence{
			{Path: "status.phase", Value: "Failed"},
			{Path: "status.reason", Value: "VolumeFailedDelete"},
			{Path: "status.message", Value: "disk is in use"},
			{Path: "spec.claimRef", Value: "shop/data-db-0"},
		},
		Metadata: map[string]string{"claim": "shop/data-db-0", "critical": "true"},
	}}
	tests := []struct {
		phase corev1.PersistentVolumePhase
		want  []Finding
	}{
		{corev1.VolumeFailed, found},
		{corev1.VolumePending, nil},
		{corev1.VolumeAvailable, nil},
		{corev1.VolumeBound, nil},
		{corev1.VolumeReleased, nil},
	}
	for _, tt := range tests {
		t.Run(string(tt.phase), func(t *testing.T) {
			if diff := cmp.Diff(tt.want, volumeFailed.Find(volume(tt.phase), Facts{})); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVolumeThatCannotBeAttachedOrDetachedIsFound(t *testing.T) {
	pv := "pv-7"
	attachment := func(change func(*storagev1.VolumeAttachment)) *storagev1.VolumeAttachment {
		a := &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: "csi-1"},
			Spec:       storagev1.VolumeAttachmentSpec{Attacher: "csi.example.com", NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}},
		}
		change(a)
		return a
	}
	failed := &storagev1.VolumeError{Time: metav1.Time{Time: noon}, Message: "disk is attached to n2"}
	finding := func(part, reason, what, attached, path string) []Finding {
		return []Finding{{
			Part: part, Reason: reason, Hold: 6 * time.Minute,
			Description: "volume pv-7 cannot be " + what + " node n1: disk is attached to n2",
			Evidence: []heal.Evidence{
				{Path: "spec.source.persistentVolumeName", Value: "pv-7"},
				{Path: "spec.nodeName", Value: "n1"},
				{Path: "status.attached", Value: attached},
				{Path: path + ".message", Value: "disk is attached to n2"},
				{Path: path + ".time", Value: "2026-11-22T12:00:00Z"},
			},
			Metadata: map[string]string{"volume": "pv-7", "attacher": "csi.example.com"},
		}}
	}
	leave := func(a *storagev1.VolumeAttachment) { a.DeletionTimestamp = &metav1.Time{Time: noon} }
	tests := []struct {
		name       string
		attachment *storagev1.VolumeAttachment
		want       []Finding
	}{
		{"cannot be attached", attachment(func(a *storagev1.VolumeAttachment) { a.Status.AttachError = failed }),
			finding("attach", "AttachFailed", "attached to", "false", "status.attachError")},
		{"cannot be detached", attachment(func(a *storagev1.VolumeAttachment) { leave(a); a.Status.Attached, a.Status.DetachError = true, failed }),
			finding("detach", "DetachFailed", "detached from", "true", "status.detachError")},
		{"attached in the end", attachment(func(a *storagev1.VolumeAttachment) { a.Status.Attached, a.Status.AttachError = true, failed }), nil},
		{"not needed any more", attachment(func(a *storagev1.VolumeAttachment) { leave(a); a.Status.AttachError = failed }), nil},
		{"needed again", attachment(func(a *storagev1.VolumeAttachment) { a.Status.Attached, a.Status.DetachError = true, failed }), nil},
		{"on its way", attachment(func(*storagev1.VolumeAttachment) {}), nil},
		{"being detached", attachment(func(a *storagev1.VolumeAttachment) { leave(a); a.Status.Attached = true }), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, attachStuck.Find(tt.attachment, Facts{})); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
