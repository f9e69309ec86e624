package sim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnImageReferenceSaysHowItsContainerFares(t *testing.T) {
	for _, test := range []struct {
		image string
		want  Behaviour
	}{
		{"registry.example/shop/api:1.4.2", Behaviour{Kind: Good}},
		{"registry.example/shop/api:broken", Behaviour{Kind: Broken}},
		{"registry.example/shop/api:v2-broken@sha256:0123", Behaviour{Kind: Broken}},
		{"crashloop", Behaviour{Kind: Crash}},
		{"shop/api:crash-times-3", Behaviour{Kind: CrashTimes, Times: 3}},
		{"shop/api:exit-127", Behaviour{Kind: Exit, Code: 127}},
		{"shop/api:oom", Behaviour{Kind: OOM}},
		{"shop/api:oom-needs-256Mi", Behaviour{Kind: OOMNeeds, Needs: resource.MustParse("256Mi")}},
		{"shop/api:grows-to-160Mi", Behaviour{Kind: GrowsTo, Needs: resource.MustParse("160Mi")}},
		{"shop/api:invalid-image", Behaviour{Kind: InvalidImage}},
		{"room/broom:1", Behaviour{Kind: Good}},
		{"autocomplete:1", Behaviour{Kind: Good}},
	} {
		t.Run(test.image, func(t *testing.T) {
			if diff := cmp.Diff(test.want, behaviourOf(test.image)); diff != "" {
				t.Errorf("behaviour (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatAPodRefersToAndIsMissing(t *testing.T) {
	exists := func(r reference) (map[string]bool, bool) {
		return map[string]bool{"url": true}, r == reference{"configmap", "shop", "here"}
	}
	env := func(name, key string, optional bool) corev1.Container {
		return corev1.Container{Name: "a", Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: &optional,
		}}}}}
	}
	secret := corev1.Container{Name: "a", EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "gone"},
	}}}}
	for _, test := range []struct {
		name      string
		container corev1.Container
		want      string
	}{
		{"a key that is there", env("here", "url", false), ""},
		{"a key that is not", env("here", "port", false), "couldn't find key port in ConfigMap shop/here"},
		{"a ConfigMap that is not", env("gone", "url", false), `configmap "gone" not found`},
		{"one that need not be", env("gone", "url", true), ""},
		{"a Secret that is not", secret, `secret "gone" not found`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: corev1.PodSpec{Containers: []corev1.Container{test.container}}}
			config, _ := missing(p, exists)
			if got := config["a"]; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
