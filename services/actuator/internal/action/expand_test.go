package action

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func TestHowFarAVolumeGrows(t *testing.T) {
	type facts struct {
		claim *corev1.PersistentVolumeClaim
		class *storagev1.StorageClass
	}
	permit := func(size string) func(*facts) {
		return func(f *facts) { f.claim.Annotations[guard.PermitVolume] = size }
	}
	for _, tt := range []struct {
		name   string
		change func(*facts)
		to     string
		reason string
	}{
		{"a quarter more", permit("20Gi"), "13Gi", ""},
		{"no more than is permitted", permit("11Gi"), "11Gi", ""},
		{"all that is permitted is there", permit("10Gi"), "", "AtMaximum"},
		{"nothing permits it", func(f *facts) { delete(f.claim.Annotations, guard.PermitVolume) }, "", "NotPermitted"},
		{"no quantity permits it", permit("more"), "", "NotPermitted"},
		{"its class does not allow it", func(f *facts) { f.class.AllowVolumeExpansion = nil }, "", "NotExpandable"},
		{"it has no class", func(f *facts) { f.class = nil }, "", "NotExpandable"},
		{"it is on its way", func(f *facts) {
			f.claim.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("12Gi")
		}, "", "ExpansionUnderWay"},
		{"it grew five hours ago", func(f *facts) {
			f.claim.Annotations[annotationExpanded] = noon.Add(-5 * time.Hour).Format(time.RFC3339)
		}, "", "ExpandedBefore"},
		{"it grew seven hours ago", func(f *facts) {
			f.claim.Annotations[annotationExpanded] = noon.Add(-7 * time.Hour).Format(time.RFC3339)
		}, "13Gi", ""},
		{"it grew nobody knows when", func(f *facts) { f.claim.Annotations[annotationExpanded] = "lately" }, "", "ExpandedBefore"},
		{"it is in Git", func(f *facts) { f.claim.Labels = map[string]string{"argocd.argoproj.io/instance": "shop"} }, "", "ManagedByGitOps"},
	} {
		ten := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}
		f := facts{
			claim: &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{guard.PermitVolume: "20Gi"}},
				Spec:       corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: ten.DeepCopy()}},
				Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: ten},
			},
			class: &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "ssd"}, AllowVolumeExpansion: new(true)},
		}
		tt.change(&f)
		e, v := judgeExpansion(guard.Facts{Now: noon, Claim: f.claim, Decision: heal.Decision{ID: "d-1"}}, f.class)
		if e.To != tt.to || v.Reason != tt.reason {
			t.Errorf("%s: grows to %q, reason %q (%s), want %q, %q", tt.name, e.To, v.Reason, v.Detail, tt.to, tt.reason)
		}
	}
}

func TestHowMuchMoreMemoryAContainerGets(t *testing.T) {
	target := heal.Target{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "d1"}
	type facts struct {
		f guard.Facts
		w guard.Templated
	}
	owned := func(key, value string) func(*facts) {
		return func(f *facts) { f.f.Owners[0].Annotations = map[string]string{key: value} }
	}
	permitted := func(change func(*facts)) func(*facts) {
		return func(f *facts) {
			owned(guard.PermitMemory, "1Gi")(f)
			change(f)
		}
	}
	memory := func(f *facts) corev1.ResourceRequirements { return f.w.Template.Spec.Containers[1].Resources }
	for _, tt := range []struct {
		name   string
		change func(*facts)
		limit  string
		reason string
		says   string
	}{
		{"half as much again", owned(guard.PermitMemory, "1Gi"), "384Mi", "", "384Mi of memory instead of 256Mi"},
		{"no more than is permitted", owned(guard.PermitMemory, "300Mi"), "300Mi", "", ""},
		{"all that is permitted is there", owned(guard.PermitMemory, "256Mi"), "", "AtMaximum", "no more than 256Mi"},
		{"nothing permits it", func(*facts) {}, "", "NotPermitted", guard.PermitMemory},
		{"the pod itself permits it", func(f *facts) { f.f.Pod.Annotations = map[string]string{guard.PermitMemory: "1Gi"} }, "", "NotPermitted", ""},
		{"the namespace permits it", func(f *facts) {
			f.f.Namespace = &guard.Object{Kind: "Namespace", ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{guard.PermitMemory: "1Gi"}}}
		}, "384Mi", "", ""},
		{"no quantity permits it", owned(guard.PermitMemory, "plenty"), "", "NotPermitted", "plenty"},
		{"it has no limit", permitted(func(f *facts) { delete(memory(f).Limits, corev1.ResourceMemory) }), "", "NoMemoryLimit", "the node"},
		{"its template gives it more already", permitted(func(f *facts) { memory(f).Limits[corev1.ResourceMemory] = resource.MustParse("512Mi") }), "", "AlreadyResized", "still has 256Mi"},
		{"its template has no such container", permitted(func(f *facts) { f.w.Template.Spec.Containers = f.w.Template.Spec.Containers[:1] }), "", "ContainerUnknown", ""},
		{"it is in Git", permitted(func(f *facts) { f.w.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "x"} }), "", "ManagedByGitOps",
			"kubectl set resources deployment/web -n shop -c app --limits=memory=384Mi"},
		{"it is an operator's", permitted(func(f *facts) {
			f.w.OwnerReferences = []metav1.OwnerReference{{Kind: "Shop", Name: "main", Controller: new(true)}}
		}), "", "ManagedByController", "Shop main"},
	} {
		containers := func() []corev1.Container {
			return []corev1.Container{{Name: "proxy"}, {Name: "app", Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
				Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}}}}
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p1"}, Spec: corev1.PodSpec{Containers: containers()}}
		f := facts{
			f: guard.Facts{
				Now: noon, Pod: pod, Owners: []guard.Owner{{Object: guard.Object{Kind: "Deployment", ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "d1"}}}},
				Decision: heal.Decision{ID: "d-1", Failure: heal.Failure{Metadata: map[string]string{"container": "app"}}},
			},
			w: guard.Templated{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: containers()}}},
		}
		tt.change(&f)
		f.f.Live = &guard.Object{Kind: "Pod", ObjectMeta: pod.ObjectMeta}
		r, v := judgeResize(f.f, f.w, target)
		if r.Limit != tt.limit || v.Reason != tt.reason || !strings.Contains(v.Detail, tt.says) {
			t.Errorf("%s: gets %q, reason %q (%s), want %q, %q, saying %q", tt.name, r.Limit, v.Reason, v.Detail, tt.limit, tt.reason, tt.says)
		}
	}
}
