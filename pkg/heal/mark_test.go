package heal

import "testing"

func TestWhoPutsBackWhatIsChanged(t *testing.T) {
	for _, tt := range []struct {
		name                string
		labels, annotations map[string]string
		fields              []string
		who, seen           string
	}{
		{name: "nobody", labels: map[string]string{"app": "web"}, annotations: map[string]string{"argocd": "x"}, fields: []string{"kubectl"}},
		{name: "Argo CD by a label", labels: map[string]string{"app": "web", "argocd.argoproj.io/instance": "shop"}, who: "Argo CD", seen: "argocd.argoproj.io/instance: shop"},
		{name: "Argo CD by an annotation", annotations: map[string]string{"argocd.argoproj.io/tracking-id": "shop:apps/Deployment"}, who: "Argo CD", seen: "argocd.argoproj.io/tracking-id: shop:apps/Deployment"},
		{name: "Argo CD by its writing", fields: []string{"kubectl", "argocd-controller"}, who: "Argo CD", seen: "field manager argocd-controller"},
		{name: "Flux by a label", labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop"}, who: "Flux", seen: "kustomize.toolkit.fluxcd.io/name: shop"},
		{name: "Flux by a release", labels: map[string]string{"helm.toolkit.fluxcd.io/name": "sh\nop"}, who: "Flux", seen: "helm.toolkit.fluxcd.io/name: sh op"},
	} {
		if who, seen := ManagedBy(tt.labels, tt.annotations, tt.fields); who != tt.who || seen != tt.seen {
			t.Errorf("%s: %q (%q), want %q (%q)", tt.name, who, seen, tt.who, tt.seen)
		}
	}
}
