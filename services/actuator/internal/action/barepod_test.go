package action

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

func TestABarePodThatWasBegunToBeMadeAnewIsFinishedByWhoeverComesLater(t *testing.T) {
	t.Parallel()
	c := kubetest.Get(t)
	k := c.Client(t)
	const decision = "d-0"
	for name, tt := range map[string]struct {
		gone     bool // the pod
		deleting bool // we were about to delete it
		going    bool // it is being deleted, and held
		altered  bool // the PodTemplate
		dropped  bool // there is none any more

		made, kept bool // is there a new pod; is there still a PodTemplate
		refused    bool
		wait       bool
	}{
		"deleted by us":                        {gone: true, deleting: true, made: true},
		"deleted by somebody else":             {gone: true},
		"not deleted yet":                      {deleting: true},
		"being deleted":                        {going: true, deleting: true, kept: true, wait: true},
		"whose PodTemplate was altered":        {gone: true, deleting: true, altered: true, kept: true, refused: true},
		"whose PodTemplate somebody took away": {gone: true, deleting: true, dropped: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := c.Namespace(t)
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare"}, Spec: corev1.PodSpec{
				SchedulerName: "nobody", Containers: []corev1.Container{{Name: "app", Image: "shop/api:good"}},
			}}
			if tt.going {
				p.Finalizers = []string{"example.com/held"}
			}
			p, err := k.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			spec := bareSpec(p, decision)
			b := bare{
				Pod:      heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: ns, Name: "bare", UID: string(p.UID)},
				Template: "selfheal-" + decision, Digest: digest(spec), Deleting: tt.deleting,
			}
			if tt.altered {
				spec.Spec.ServiceAccountName = "powerful"
			}
			if !tt.dropped {
				if _, err := k.CoreV1().PodTemplates(ns).Create(t.Context(), &corev1.PodTemplate{
					ObjectMeta: metav1.ObjectMeta{Name: b.Template, Annotations: map[string]string{heal.AnnotationOwnedBy: heal.FieldManager, heal.AnnotationDecisionID: decision}},
					Template:   spec,
				}, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if tt.gone || tt.going {
				if err := k.CoreV1().Pods(ns).Delete(t.Context(), "bare", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			left, err := leftover(&Job{Decision: heal.Decision{ID: decision}}, leftBare, b)
			if err != nil {
				t.Fatal(err)
			}

			err = TakeBack(t.Context(), k, live.Reader{Kube: k}, left)

			var refusal *guard.Refusal
			if got := errors.As(err, &refusal); got != tt.refused {
				t.Errorf("refused: %v, want %v (%v)", got, tt.refused, err)
			}
			if got := errors.Is(err, ErrNotYet); got != tt.wait {
				t.Errorf("waits: %v, want %v (%v)", got, tt.wait, err)
			}
			now, err := k.CoreV1().Pods(ns).Get(t.Context(), "bare", metav1.GetOptions{})
			if made := err == nil && now.UID != p.UID; made != tt.made {
				t.Errorf("made: %v, want %v (%v)", made, tt.made, err)
			}
			_, err = k.CoreV1().PodTemplates(ns).Get(t.Context(), b.Template, metav1.GetOptions{})
			if kept := !apierrors.IsNotFound(err); kept != tt.kept {
				t.Errorf("the PodTemplate is there: %v, want %v (%v)", kept, tt.kept, err)
			}
			if tt.going {
				free := []byte(`{"metadata":{"finalizers":null}}`)
				if _, err := k.CoreV1().Pods(ns).Patch(t.Context(), "bare", "application/merge-patch+json", free, metav1.PatchOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestABarePodIsMadeFromWhatAPersonWroteAlone(t *testing.T) {
	t.Parallel()
	priority := int32(7)
	token := corev1.Volume{Name: "kube-api-access-x7k2p", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}
	data := corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	mounts := []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: token.Name, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "batch", UID: "1"}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "bare", Namespace: "shop", UID: "u-1", ResourceVersion: "5", Finalizers: []string{"example.com/held"},
			Labels: map[string]string{"app": "bare"}, OwnerReferences: []metav1.OwnerReference{owner},
			Annotations: map[string]string{"note": "kept", "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request"},
		},
		Spec: corev1.PodSpec{
			NodeName: "n-1", Priority: &priority, PriorityClassName: "shop", Volumes: []corev1.Volume{data, token},
			EphemeralContainers: []corev1.EphemeralContainer{{}},
			Containers:          []corev1.Container{{Name: "app", Image: "shop/api:1", VolumeMounts: mounts}},
		},
	}
	want := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{"app": "bare"}, OwnerReferences: []metav1.OwnerReference{owner},
			Annotations: map[string]string{"note": "kept", heal.AnnotationOwnedBy: heal.FieldManager, heal.AnnotationDecisionID: "d-0", heal.AnnotationPrevious: "u-1"},
		},
		Spec: corev1.PodSpec{
			PriorityClassName: "shop", Volumes: []corev1.Volume{data},
			Containers: []corev1.Container{{Name: "app", Image: "shop/api:1", VolumeMounts: mounts[:1]}},
		},
	}
	before := p.DeepCopy()
	if diff := cmp.Diff(want, bareSpec(p, "d-0")); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, p); diff != "" {
		t.Errorf("the pod itself was changed:\n%s", diff)
	}
}
