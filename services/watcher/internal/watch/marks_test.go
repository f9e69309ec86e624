package watch

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func annotated(key, value string) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{Annotations: map[string]string{key: value}}
}

func TestWhatSpeaksAgainstActingIsTold(t *testing.T) {
	for title, tt := range map[string]struct {
		obj  *metav1.ObjectMeta
		want routing
	}{
		"a mode":                {annotated(heal.AnnotationMode, "observe"), routing{"mode": "observe"}},
		"a mode that is none":   {annotated(heal.AnnotationMode, "no\nthanks"), routing{"mode": "no thanks"}},
		"a mode of nothing":     {annotated(heal.AnnotationMode, ""), routing{"mode": "(empty)"}},
		"a hold":                {annotated(heal.AnnotationHoldUntil, "2026-11-22T12:00:00Z"), routing{"hold_until": "2026-11-22T12:00:00Z"}},
		"a hold of a long text": {annotated(heal.AnnotationHoldUntil, strings.Repeat("x", 999)), routing{"hold_until": clip(strings.Repeat("x", 999))}},
		"Argo CD":               {annotated("argocd.argoproj.io/tracking-id", "shop:x"), routing{"managed_by": "Argo CD (argocd.argoproj.io/tracking-id: shop:x)"}},
		"Flux":                  {&metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}, {Manager: "helm-controller"}}}, routing{"managed_by": "Flux (field manager helm-controller)"}},
		"a person's writing":    {&metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}}, routing{}},
	} {
		t.Run(title, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, routingOf(tt.obj)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestANamespacesMarksAreKept(t *testing.T) {
	m := annotated(heal.AnnotationMode, "off")
	m.Annotations[heal.AnnotationHoldUntil], m.Annotations["argocd.argoproj.io/tracking-id"] = "", "canary"
	got := onNamespace(slimNamespace(&corev1.Namespace{ObjectMeta: *m}).(*corev1.Namespace))
	if diff := cmp.Diff(routing{"mode": "off", "hold_until": "(empty)"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheTighterMarkCounts(t *testing.T) {
	for _, tt := range []struct{ key, far, near, want string }{
		{"mode", "", "", ""},
		{"mode", "observe", "", "observe"},
		{"mode", "", "observe", "observe"},
		{"mode", "observe", "auto", "observe"},
		{"mode", "approve", "off", "off"},
		{"mode", "off", "what", "what"},
		{"mode", "(empty)", "off", "(empty)"},
		{"hold_until", "2026-11-22T12:00:00Z", "2026-11-22T13:00:00Z", "2026-11-22T13:00:00Z"},
		{"hold_until", "2026-11-22T13:00:00Z", "2026-11-22T14:00:00+02:00", "2026-11-22T13:00:00Z"},
		{"hold_until", "for ever", "2026-11-22T13:00:00Z", "for ever"},
		{"team", "shop", "web", "web"}, // which is no mark
	} {
		r, near := routing{}, routing{}
		tell(r, tt.key, tt.far)
		tell(near, tt.key, tt.near)
		if r.nearer(near); r[tt.key] != tt.want {
			t.Errorf("%s of %q and, nearer, %q is %q, want %q", tt.key, tt.far, tt.near, r[tt.key], tt.want)
		}
	}
}
