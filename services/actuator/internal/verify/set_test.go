package verify

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func TestASetIsWholeWhenAllItsPodsHaveTheTemplateAndAreReady(t *testing.T) {
	target := heal.Target{Kind: "StatefulSet", Namespace: "shop", Name: "db", UID: "u1"}
	for _, tt := range []struct {
		name   string
		change func(*Set)
		state  State
		reason string
		late   string
		says   string
	}{
		{"whole", func(*Set) {}, Good, "Verified", "", "3 of 3 pods are updated"},
		{"one is not updated", func(s *Set) { s.Updated = 2 }, Pending, "", "", "2 of 3"},
		{"one is not Ready", func(s *Set) { s.Ready = 2 }, Pending, "", "", "2 Ready"},
		{"one is not available", func(s *Set) { s.Available = 2 }, Pending, "", "", "2 available"},
		{"one is stuck", func(s *Set) { s.Ready, s.Stuck = 2, "db-2: container app waits in CrashLoopBackOff" }, Pending, "", "NotFixed", "db: done"},
		{"its status is old", func(s *Set) { s.Object.Observed = 1 }, Pending, "", "", "generation 1 of 2"},
		{"somebody changed it", func(s *Set) { s.InPlace = false }, Bad, "Overridden", "", "hands off"},
		{"it is scaled to zero", func(s *Set) { s.Wanted = 0 }, Moot, "NoLongerWanted", "", "no pods"},
		{"it is gone", func(s *Set) { s.Object = nil }, Moot, "NoLongerWanted", "", "is gone"},
		{"it was replaced", func(s *Set) { s.Object.UID = "u2" }, Moot, "NoLongerWanted", "", "is gone"},
	} {
		o := guard.Templated{Object: guard.Object{Kind: "StatefulSet", ObjectMeta: metav1.ObjectMeta{UID: "u1", Generation: 2}}, Observed: 2}
		s := Set{Target: target, Object: &o, InPlace: true, Done: "done", Wanted: 3, Updated: 3, Ready: 3, Available: 3}
		tt.change(&s)
		got := s.Judge()
		late := ""
		if got.Late != nil {
			late = got.Late.Reason
		}
		if got.State != tt.state || got.Reason != tt.reason || late != tt.late || !strings.Contains(got.Message, tt.says) {
			t.Errorf("%s: %+v, want %s %q late %q, saying %q", tt.name, got, tt.state, tt.reason, tt.late, tt.says)
		}
	}
}

func TestALeftoverIsTidiedUpWhenItIsGone(t *testing.T) {
	r := Replacement{Before: Before{Pod: heal.Target{Name: "web-1", UID: "u1"}, Leftover: true}, Owned: true, Wanted: 2, Now: time.Now()}
	if got := r.Judge(); got.State != Good || got.Reason != "Verified" || !strings.Contains(got.Message, "0 of 2 wanted pods") {
		t.Errorf("gone: %+v", got)
	}
}
