package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

func TestCourseOfAWorkloadIsRememberedByWhatChangesInIt(t *testing.T) {
	type step struct {
		revision       string
		asked, reached int32
	}
	type known struct {
		rolled, scaled, progressed int // steps at which it did, last
		fromZero                   bool
	}
	tests := []struct {
		name  string
		steps []step
		want  known
	}{
		{"new to us", []step{{"1", 3, 3}}, known{}},
		{"nothing changes", []step{{"1", 3, 3}, {"1", 3, 3}}, known{}},
		{"rolled out", []step{{"1", 3, 3}, {"2", 3, 1}}, known{rolled: 1, progressed: 1}},
		{"the roll-out comes further", []step{{"1", 3, 3}, {"2", 3, 1}, {"2", 3, 2}}, known{rolled: 1, progressed: 2}},
		{"a pod is lost and made anew: that is no progress", []step{{"1", 3, 3}, {"2", 3, 2}, {"2", 3, 1}, {"2", 3, 2}}, known{rolled: 1, progressed: 1}},
		{"scaled up", []step{{"1", 3, 3}, {"1", 5, 3}}, known{scaled: 1, progressed: 1}},
		{"scaled down", []step{{"1", 5, 5}, {"1", 3, 5}, {"1", 3, 3}}, known{scaled: 1, progressed: 1}},
		{"woken from zero", []step{{"1", 0, 0}, {"1", 3, 0}, {"1", 3, 2}}, known{scaled: 1, progressed: 2, fromZero: true}},
		{"first seen with none", []step{{"1", 0, 0}}, known{}},
		{"scaled on from there", []step{{"1", 0, 0}, {"1", 3, 0}, {"1", 4, 3}}, known{scaled: 2, progressed: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			at := func(step int) time.Time { return began.Add(time.Duration(step) * time.Minute) }
			c, id := newCourses(began), makeUID([]byte("uid"))
			for i, s := range tt.steps {
				c.note(id, workload{revision: s.revision, asked: s.asked, updated: s.reached}, at(i))
			}
			want := detect.Facts{RolloutSince: at(tt.want.rolled), ScaledSince: at(tt.want.scaled), ProgressSince: at(tt.want.progressed), FromZero: tt.want.fromZero}
			var got detect.Facts
			c.tell(id, &got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what is known (-want +got):\n%s", diff)
			}
			c.forget(id)
			var none detect.Facts
			c.tell(id, &none)
			if diff := cmp.Diff(detect.Facts{}, none); diff != "" || len(c.of) != 0 {
				t.Errorf("still known after it was forgotten:\n%s", diff)
			}
		})
	}
}
