package actuator_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// claim makes a claim whose volume is of a class that grows, and a Decision
// about it.
func (r *rig) claim(annotations map[string]string) heal.Decision {
	r.t.Helper()
	ctx, ten := r.t.Context(), corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}
	_, err := r.admin.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: r.ns}, Provisioner: "shop.example/disk", AllowVolumeExpansion: new(true),
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = r.admin.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: r.ns},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: ten, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: r.ns,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "shop.example", VolumeHandle: r.ns}},
			ClaimRef:                      &corev1.ObjectReference{Namespace: r.ns, Name: "data"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = r.admin.CoreV1().PersistentVolumeClaims(r.ns).Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Annotations: annotations},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &r.ns, VolumeName: r.ns,
			Resources: corev1.VolumeResourceRequirements{Requests: ten},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	c := r.untilClaim("Bound", func(c *corev1.PersistentVolumeClaim) bool { return c.Status.Phase == corev1.ClaimBound })
	d := decide(heal.Target{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: r.ns, Name: "data", UID: string(c.UID)}, heal.ResourceExhaustion, heal.Relieve)
	d.Failure.Reason, d.Failure.Detector = "VolumeNearlyFull", "volume_nearly_full"
	d.Failure.Metadata = map[string]string{"of": strconv.Itoa(10 << 30), "percent": "97"}
	return d
}

func (r *rig) untilClaim(what string, as func(*corev1.PersistentVolumeClaim) bool) *corev1.PersistentVolumeClaim {
	r.t.Helper()
	return await(r, "data", what, as, r.admin.CoreV1().PersistentVolumeClaims(r.ns).Get)
}

func asksFor(c *corev1.PersistentVolumeClaim) string {
	return c.Spec.Resources.Requests.Storage().String()
}

// grow does what the volume's driver does once it is asked for 12Gi.
func (r *rig) grow() *corev1.PersistentVolumeClaim {
	r.t.Helper()
	c := r.untilClaim("asked to grow", func(c *corev1.PersistentVolumeClaim) bool { return asksFor(c) == "12Gi" })
	c.Status.Capacity[corev1.ResourceStorage] = resource.MustParse("12Gi")
	if _, err := r.admin.CoreV1().PersistentVolumeClaims(r.ns).UpdateStatus(r.t.Context(), c, metav1.UpdateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestAVolumeGrowsAsFarAsItsClaimPermits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	d := r.claim(map[string]string{"selfheal.dev/max-volume": "12Gi"})
	r.publish(d)
	c := r.grow()
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"patch persistentvolumeclaims"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := c.Annotations[heal.AnnotationPrevious]; got != "10Gi" {
		t.Errorf("previous %q, want 10Gi", got)
	}
}

func TestAnExpansionSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.BeforeAPI, crash.AfterAPIBeforeRecord} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			d := r.claim(map[string]string{"selfheal.dev/max-volume": "12Gi"})
			r.survives(at, d, verified, func() { r.grow() })
			if diff := cmp.Diff([]string{"patch persistentvolumeclaims"}, did(r.effective())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if got := asksFor(r.untilClaim("there", func(*corev1.PersistentVolumeClaim) bool { return true })); got != "12Gi" {
				t.Errorf("it asks for %s, want 12Gi: it was expanded once", got)
			}
		})
	}
}

func TestAVolumeThatDoesNotGrowIsSaidSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 6 * time.Second
	r.start(cfg)
	d := r.claim(map[string]string{"selfheal.dev/max-volume": "12Gi"})
	res := r.carryOut(d)
	if got, want := end(res), (ended{heal.TimedOut, "VerificationTimedOut"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "has 10Gi, and 12Gi are asked for") {
		t.Errorf("message %q", res.Message)
	}
}

func TestAVolumeThatNobodyPermitsToGrowStaysAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	res := r.carryOut(r.claim(nil))
	if got, want := end(res), (ended{heal.Rejected, "NotPermitted"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}
