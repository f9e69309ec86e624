package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var (
	claims = kind{
		Version:    "v1",
		Kind:       "PersistentVolumeClaim",
		Resource:   "persistentvolumeclaims",
		Namespaced: true,
		New:        func() object { return new(corev1.PersistentVolumeClaim) },
		Slim:       slimClaim,
		Open:       openClaims,
	}
	volumes = kind{
		Version:  "v1",
		Kind:     "PersistentVolume",
		Resource: "persistentvolumes",
		Optional: true,
		New:      func() object { return new(corev1.PersistentVolume) },
		Slim:     slimVolume,
		Open: func(w *Watcher, k kind) view {
			return plain(w, detectors[*corev1.PersistentVolume]{
				kind: k,
				list: detect.Volumes,
				node: func(*corev1.PersistentVolume) string { return "" },
			})
		},
	}
	attachments = kind{
		Version:  "storage.k8s.io/v1",
		Kind:     "VolumeAttachment",
		Group:    "storage.k8s.io",
		Resource: "volumeattachments",
		Optional: true,
		New:      func() object { return new(storagev1.VolumeAttachment) },
		Slim:     slimAttachment,
		Open: func(w *Watcher, k kind) view {
			return plain(w, detectors[*storagev1.VolumeAttachment]{
				kind: k,
				list: detect.Attachments,
				node: func(a *storagev1.VolumeAttachment) string { return a.Spec.NodeName },
			})
		},
	}
	// Claims are judged by their class. There are a handful.
	storageClasses = kind{
		Version:  "storage.k8s.io/v1",
		Kind:     "StorageClass",
		Group:    "storage.k8s.io",
		Resource: "storageclasses",
		Optional: true,
		Keep:     true,
		New:      func() object { return new(storagev1.StorageClass) },
		Slim:     slimStorageClass,
		Open: func(*Watcher, kind) view {
			return view{
				judge:  func(metav1.Object, time.Time, []episode.Key) []episode.Sighting { return nil },
				change: func(_ metav1.Object, _ bool, _ time.Time) {},
				forget: func(string) {},
			}
		},
	}
)

func openClaims(w *Watcher, k kind) view {
	d := detectors[*corev1.PersistentVolumeClaim]{
		kind: k,
		list: detect.Claims,
		node: func(*corev1.PersistentVolumeClaim) string { return "" },
	}
	v := plain(w, d)
	v.judge = func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
		c := obj.(*corev1.PersistentVolumeClaim)
		return d.judge(c, detect.Facts{
			Now:          now,
			Thresholds:   w.cfg.Thresholds,
			Events:       w.notes.of(string(c.UID), now),
			StorageClass: w.storageClass(c),
			Usage:        w.usageOf(c),
		}, tracked)
	}
	v.forget = func(uid string) { w.notes.forget(uid) }
	return v
}

// storageClass is what is known of the class that a claim asks for.
func (w *Watcher) storageClass(c *corev1.PersistentVolumeClaim) detect.StorageClass {
	known := detect.StorageClass{Seen: w.read(storageClasses.Version, storageClasses.Kind)}
	if c.Spec.StorageClassName == nil {
		return known
	}
	class, ok := w.find(storageClasses.Version, storageClasses.Kind, "", *c.Spec.StorageClassName).(*storagev1.StorageClass)
	if ok {
		known.Exists = true
		known.Waits = class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	}
	return known
}

// slimClaim keeps of a claim what detectors read.
func slimClaim(obj any) any {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return obj
	}
	slim := &corev1.PersistentVolumeClaim{
		ObjectMeta: slimMeta(c.ObjectMeta),
		Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: c.Spec.StorageClassName, VolumeName: c.Spec.VolumeName},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: c.Status.Phase},
	}
	for _, key := range detect.ClaimAnnotations {
		if value := c.Annotations[key]; value != "" {
			if slim.Annotations == nil {
				slim.Annotations = map[string]string{}
			}
			slim.Annotations[key] = clip(value)
		}
	}
	return slim
}

// slimVolume keeps of a volume what detectors read; above all not where it is.
func slimVolume(obj any) any {
	v, ok := obj.(*corev1.PersistentVolume)
	if !ok {
		return obj
	}
	slim := &corev1.PersistentVolume{
		ObjectMeta: slimMeta(v.ObjectMeta),
		Status:     corev1.PersistentVolumeStatus{Phase: v.Status.Phase, Reason: clip(v.Status.Reason), Message: clip(v.Status.Message)},
	}
	if c := v.Spec.ClaimRef; c != nil {
		slim.Spec.ClaimRef = &corev1.ObjectReference{Namespace: clip(c.Namespace), Name: clip(c.Name)}
	}
	return slim
}

// slimAttachment keeps of an attachment what detectors read; not what drivers
// tell each other.
func slimAttachment(obj any) any {
	a, ok := obj.(*storagev1.VolumeAttachment)
	if !ok {
		return obj
	}
	slim := &storagev1.VolumeAttachment{
		ObjectMeta: slimMeta(a.ObjectMeta),
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: clip(a.Spec.Attacher), NodeName: a.Spec.NodeName,
			Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: a.Spec.Source.PersistentVolumeName},
		},
		Status: storagev1.VolumeAttachmentStatus{
			Attached:    a.Status.Attached,
			AttachError: slimVolumeError(a.Status.AttachError),
			DetachError: slimVolumeError(a.Status.DetachError),
		},
	}
	return slim
}

func slimVolumeError(e *storagev1.VolumeError) *storagev1.VolumeError {
	if e == nil {
		return nil
	}
	return &storagev1.VolumeError{Time: e.Time, Message: clip(e.Message)}
}

// slimStorageClass keeps of a class when it makes volumes; none of its
// parameters, which may name secrets.
func slimStorageClass(obj any) any {
	c, ok := obj.(*storagev1.StorageClass)
	if !ok {
		return obj
	}
	return &storagev1.StorageClass{ObjectMeta: slimMeta(c.ObjectMeta), VolumeBindingMode: c.VolumeBindingMode}
}
