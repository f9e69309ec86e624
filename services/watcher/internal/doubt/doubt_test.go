package doubt

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// well is a cluster of 100 pods and 4 nodes, seen well since the process
// began, which took over from another.
func well(up time.Duration) Facts {
	return Facts{
		Now: noon.Add(up), Up: up, Before: time.Second, Settle: 30 * time.Second,
		Kinds: []Kind{
			{Resource: "pods", Synced: true, Count: 100, Resyncs: 1},
			{Resource: "nodes", Synced: true, Count: 4, Resyncs: 1},
			{Resource: "horizontalpodautoscalers", Optional: true, Count: -1, Unseen: time.Hour},
		},
		Nodes: nodesOf(4, 0),
	}
}

func nodesOf(ready, silent int) []Node {
	var all []Node
	for i := range ready + silent {
		all = append(all, Node{UID: fmt.Sprint(i), Ready: i < ready, Unknown: i >= ready})
	}
	return all
}

// look judges the steps one after another, and returns what the last came to.
func look(t *testing.T, m *Mind, steps ...Facts) (heal.Observer, Wish) {
	t.Helper()
	var o heal.Observer
	var w Wish
	for _, f := range steps {
		o, _, w = m.Judge(f)
		if err := o.Validate(); err != nil {
			t.Errorf("at %s: %v", f.Up, err)
		}
	}
	return o, w
}

func changed(up time.Duration, change func(*Facts)) Facts {
	f := well(up)
	change(&f)
	return f
}

// details is what the doubts of o say, by name.
func details(o heal.Observer) map[string]string {
	all := map[string]string{}
	for _, d := range o.Doubts {
		all[d.Name] = d.Detail
	}
	return all
}

func TestWhatIsDoubted(t *testing.T) {
	const s = time.Second
	cold := func(f *Facts) { f.Before = -1 }
	for _, tt := range []struct {
		name  string
		steps []Facts
		want  map[string]string
	}{
		{"all is well", []Facts{well(s), well(2 * s)}, map[string]string{}},

		{"a cold start", []Facts{changed(s, cold)}, map[string]string{"settling": "this watcher has seen the whole cluster for 0s, less than 30s"}},
		{"a cold start, not synced yet", []Facts{changed(s, func(f *Facts) { cold(f); f.Kinds[0].Synced = false; f.Kinds[0].Unseen = s })},
			map[string]string{"settling": "this watcher has just begun and has not seen everything yet"}},
		{"a cold start, not synced for long", []Facts{changed(2*time.Minute, func(f *Facts) { cold(f); f.Kinds[0].Synced = false; f.Kinds[0].Unseen = 2 * time.Minute })},
			map[string]string{"settling": "this watcher has just begun and has not seen everything yet"}},
		{"half a minute after a cold start", []Facts{changed(s, cold), changed(16*s, cold), changed(31*s, cold)}, map[string]string{}},
		{"a start long after the last watcher", []Facts{changed(s, func(f *Facts) { f.Before = 6 * time.Minute })},
			map[string]string{"settling": "this watcher has seen the whole cluster for 0s, less than 30s"}},

		{"a watch lost just now", []Facts{changed(s, func(f *Facts) { f.Kinds[0].Unseen = time.Minute })}, map[string]string{}},
		{"a watch lost for long", []Facts{changed(s, func(f *Facts) { f.Kinds[0].Unseen, f.Kinds[0].Err = 65*s, "connection refused" })},
			map[string]string{"watch": "no watch of pods for 1m5s: connection refused"}},
		{"a watch without an error", []Facts{changed(s, func(f *Facts) { f.Kinds[1].Unseen = 61 * s })}, map[string]string{"watch": "no watch of nodes for 1m1s"}},
		{"after a restart, not synced yet", []Facts{changed(2*s, func(f *Facts) { f.Kinds[0].Synced, f.Kinds[0].Unseen = false, 2*s })}, map[string]string{}},
		{"after a restart that took a while, not synced yet", []Facts{changed(2*s, func(f *Facts) { f.Kinds[0].Synced, f.Kinds[0].Unseen, f.Before = false, 2*s, time.Minute })},
			map[string]string{"watch": "no watch of pods for 1m2s"}},

		{"all pods gone by a resync", []Facts{well(s), changed(2*s, func(f *Facts) { f.Kinds[0].Count, f.Kinds[0].Resyncs = 0, 2 })},
			map[string]string{"inventory": "pods fell from 100 to 0 in one resync; not confirmed yet"}},
		{"all pods gone one by one", []Facts{well(s), changed(2*s, func(f *Facts) { f.Kinds[0].Count = 0 })}, map[string]string{}},
		{"a fifth of the pods gone", []Facts{well(s), changed(2*s, func(f *Facts) { f.Kinds[0].Count, f.Kinds[0].Resyncs = 80, 2 })}, map[string]string{}},
		{"more than a fifth", []Facts{well(s), changed(2*s, func(f *Facts) { f.Kinds[0].Count, f.Kinds[0].Resyncs = 79, 2 })},
			map[string]string{"inventory": "pods fell from 100 to 79 in one resync; not confirmed yet"}},
		{"one node of four", []Facts{well(s), changed(2*s, func(f *Facts) { f.Kinds[1].Count, f.Kinds[1].Resyncs = 3, 2 })}, map[string]string{}},
		{"four nodes of four", []Facts{well(s), changed(2*s, func(f *Facts) { f.Kinds[1].Count, f.Kinds[1].Resyncs = 0, 2 })},
			map[string]string{"inventory": "nodes fell from 4 to 0 in one resync; not confirmed yet"}},

		{"half of the nodes silent", []Facts{changed(s, func(f *Facts) { f.Nodes = nodesOf(2, 2) })}, map[string]string{}},
		{"most nodes silent", []Facts{changed(s, func(f *Facts) { f.Nodes = nodesOf(1, 3) })}, map[string]string{"nodes": "3 of 4 nodes are not ready at once"}},
		{"all nodes silent", []Facts{changed(s, func(f *Facts) { f.Nodes = nodesOf(0, 2) })}, map[string]string{"nodes": "2 of 2 nodes are not ready at once"}},
		{"the only node silent", []Facts{changed(s, func(f *Facts) { f.Nodes = nodesOf(0, 1) })}, map[string]string{}},
		{"many young nodes beside two ready ones", []Facts{changed(s, func(f *Facts) {
			f.Nodes = nodesOf(2, 8)
			for i := range f.Nodes {
				f.Nodes[i].Young = true
			}
		})}, map[string]string{}},
		{"young nodes that were ready", []Facts{well(s), changed(2*s, func(f *Facts) {
			f.Nodes = nodesOf(0, 4)
			for i := range f.Nodes {
				f.Nodes[i].Young = true
			}
		})}, map[string]string{"nodes": "4 of 4 nodes are not ready at once"}},

		{"half of the leases stale", []Facts{changed(s, func(f *Facts) { f.Leases = Leases{Up: s, All: 4, Stale: 2} })}, map[string]string{}},
		{"most leases stale", []Facts{changed(s, func(f *Facts) { f.Leases = Leases{Up: s, All: 4, Stale: 3} })},
			map[string]string{"leases": "3 of 4 nodes have not renewed their leases for 40s, together"}},
		{"most leases stale, read long ago", []Facts{changed(2*time.Minute, func(f *Facts) { f.Leases = Leases{Up: s, All: 4, Stale: 3} })},
			map[string]string{}},

		{"the clock jumps ahead", []Facts{well(s), changed(2*s, func(f *Facts) { f.Now = f.Now.Add(time.Hour) })}, map[string]string{"clock": "the clock of this watcher jumped by 1h0m0s"}},
		{"the clock jumps back", []Facts{well(s), changed(2*s, func(f *Facts) { f.Now = f.Now.Add(-31 * s) })}, map[string]string{"clock": "the clock of this watcher jumped by -31s"}},
		{"the clock is set a little", []Facts{well(s), changed(2*s, func(f *Facts) { f.Now = f.Now.Add(30 * s) })}, map[string]string{}},

		{"the process stood still", []Facts{well(s), well(32 * s)}, map[string]string{"stall": "this watcher stood still for 31s"}},

		{"a clock ahead of the API server's", []Facts{changed(s, func(f *Facts) { f.Skew, f.SkewKnown = 94*s, true })},
			map[string]string{"api_clock": "the clock of this watcher is 1m34s ahead of the API server's"}},
		{"a clock behind it", []Facts{changed(s, func(f *Facts) { f.Skew, f.SkewKnown = -94*s, true })},
			map[string]string{"api_clock": "the clock of this watcher is 1m34s behind the API server's"}},
		{"clocks that differ a little", []Facts{changed(s, func(f *Facts) { f.Skew, f.SkewKnown = 30*s, true })}, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, _ := look(t, NewMind("o-1", nil), tt.steps...)
			if diff := cmp.Diff(details(o), tt.want); diff != "" {
				t.Errorf("doubts (-got +want)\n%s", diff)
			}
		})
	}
}

func TestADoubtSaysWhomItIsAboutAndSinceWhen(t *testing.T) {
	m := NewMind("o-1", nil)
	look(t, m, well(time.Second))
	silent := func(up time.Duration) Facts { return changed(up, func(f *Facts) { f.Nodes = nodesOf(0, 4) }) }
	look(t, m, silent(2*time.Second))
	got, _ := look(t, m, changed(3*time.Second, func(f *Facts) {
		f.Nodes = nodesOf(0, 4)
		f.Skew, f.SkewKnown = time.Hour, true
	}))
	want := heal.Observer{
		ID: "o-1", State: heal.ObserverBlind, Since: noon.Add(2 * time.Second), SeenAt: noon.Add(3 * time.Second),
		Doubts: []heal.Doubt{
			{Name: "nodes", Cluster: true, Detail: "4 of 4 nodes are not ready at once", Since: noon.Add(2 * time.Second)},
			{Name: "api_clock", Detail: "the clock of this watcher is 1h0m0s ahead of the API server's", Since: noon.Add(3 * time.Second)},
		},
		Inventory: map[string]int{"pods": 100, "nodes": 4},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestAnObserverSaysWhatIsNews(t *testing.T) {
	m := NewMind("o-1", nil)
	silent := func(f *Facts) { f.Nodes = nodesOf(0, 4) }
	for i, step := range []struct {
		facts Facts
		state heal.ObserverState
		news  bool
	}{
		{well(1 * time.Second), heal.ObserverClear, true},
		{well(2 * time.Second), heal.ObserverClear, false},
		{changed(3*time.Second, silent), heal.ObserverBlind, true},
		{changed(4*time.Second, silent), heal.ObserverBlind, false},
		{well(5 * time.Second), heal.ObserverBlind, false}, // it comes back in steps
		{changed(25*time.Second, silent), heal.ObserverBlind, false},
		{well(50 * time.Second), heal.ObserverBlind, false},
		{well(75 * time.Second), heal.ObserverBlind, false},
		{well(100 * time.Second), heal.ObserverBlind, false},
		{well(125 * time.Second), heal.ObserverBlind, false},
		{well(145 * time.Second), heal.ObserverClear, true}, // two minutes after it was last so
	} {
		o, news, _ := m.Judge(step.facts)
		if o.State != step.state || news != step.news {
			t.Errorf("step %d: %s, news %v; want %s, %v", i, o.State, news, step.state, step.news)
		}
	}
}

// The Reddit incident: half-migrated data read by the one who then acted on it.
func TestInventoryCliffFreezes(t *testing.T) {
	const s = time.Second
	lost := func(up time.Duration, count, resyncs int) Facts {
		return changed(up, func(f *Facts) { f.Kinds[0].Count, f.Kinds[0].Resyncs = count, resyncs })
	}
	begin := func() *Mind {
		m := NewMind("o-1", nil)
		look(t, m, well(s))
		return m
	}
	t.Run("until all is read again, and says the same", func(t *testing.T) {
		m := begin()
		o, wish := look(t, m, lost(2*s, 3, 2))
		if o.State != heal.ObserverBlind || len(wish.Again) > 0 {
			t.Fatalf("at once: %s, and wishes to read %v", o.State, wish.Again)
		}
		if o.Inventory["pods"] != 100 {
			t.Errorf("a successor would believe in %d pods, want 100", o.Inventory["pods"])
		}
		if o, _ := look(t, m, lost(30*s, 0, 3)); o.State != heal.ObserverBlind {
			t.Errorf("a resync soon after: %s", o.State)
		}
		if o, wish = look(t, m, lost(58*s, 3, 3), lost(62*s, 3, 3)); o.State != heal.ObserverBlind || !cmp.Equal(wish.Again, []string{"pods"}) {
			t.Fatalf("later: %s, and wishes to read %v; want blind and pods", o.State, wish.Again)
		}
		if _, wish = look(t, m, lost(63*s, 3, 3)); len(wish.Again) > 0 {
			t.Errorf("wishes to read %v again, a second later", wish.Again)
		}
		o, _ = look(t, m, lost(64*s, 3, 4))
		if diff := cmp.Diff(o, heal.Observer{ID: "o-1", State: heal.ObserverClear, Doubts: []heal.Doubt{}, Since: noon.Add(64 * s), SeenAt: noon.Add(64 * s),
			Inventory: map[string]int{"pods": 3, "nodes": 4}}); diff != "" {
			t.Errorf("confirmed: (-got +want)\n%s", diff)
		}
	})
	t.Run("until all is there again", func(t *testing.T) {
		m := begin()
		if o, _ := look(t, m, lost(2*s, 0, 2), lost(3*s, 40, 2)); o.State != heal.ObserverBlind {
			t.Errorf("some is there again: %s", o.State)
		}
		if o, _ := look(t, m, lost(20*s, 99, 3)); o.State != heal.ObserverClear {
			t.Errorf("all is there again: %s", o.State)
		}
	})
	t.Run("also across a restart", func(t *testing.T) {
		o, _ := look(t, NewMind("o-2", map[string]int{"pods": 100}), lost(s, 0, 1))
		want := map[string]string{"inventory": "pods fell from 100 to 0 in one resync; not confirmed yet"}
		if diff := cmp.Diff(details(o), want); diff != "" {
			t.Errorf("(-got +want)\n%s", diff)
		}
	})
}

// The GitHub incident: a partition was taken for a failure of what was behind it.
func TestPartitionedObserverHolds(t *testing.T) {
	m := NewMind("cut-off", nil)
	look(t, m, well(time.Second))
	cut := changed(62*time.Second, func(f *Facts) {
		for i := range f.Kinds {
			f.Kinds[i].Unseen = 61 * time.Second
		}
	})
	o, _ := look(t, m, well(20*time.Second), well(40*time.Second), cut)
	alone := heal.JudgeSight([]heal.Heard{{Observer: o, At: noon}}, noon, noon)
	if diff := cmp.Diff(alone, heal.Sight{Reason: heal.ReasonBlind, Detail: "none of 1 watchers sees clearly: no watch of pods for 1m1s"}); diff != "" {
		t.Errorf("alone (-got +want)\n%s", diff)
	}
	other, _ := look(t, NewMind("other", nil), well(time.Second))
	both := heal.JudgeSight([]heal.Heard{{Observer: o, At: noon}, {Observer: other, At: noon}}, noon, noon)
	if !both.Clear {
		t.Errorf("beside one that sees: %+v", both)
	}
}

// The Facebook incident: everything judged itself unhealthy at once, and withdrew.
func TestAllUnhealthyMeansNone(t *testing.T) {
	for _, size := range []int{2, 3, 5, 100, 1000} {
		o, _ := look(t, NewMind("o-1", nil), well(time.Second), changed(2*time.Second, func(f *Facts) { f.Nodes = nodesOf(0, size) }))
		other, _ := look(t, NewMind("o-2", nil), well(time.Second)) // slower to see
		got := heal.JudgeSight([]heal.Heard{{Observer: o, At: noon}, {Observer: other, At: noon}}, noon, noon)
		want := heal.Sight{Reason: heal.ReasonBlind, Detail: fmt.Sprintf("%d of %d nodes are not ready at once", size, size)}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%d nodes (-got +want)\n%s", size, diff)
		}
	}
}

func TestLeasesAreReadOnlyWhenNodesLookUnwell(t *testing.T) {
	for _, tt := range []struct {
		name          string
		ready, silent int
		read          time.Duration // when they were read last; 0 for never
		want          bool
	}{
		{"all are well", 100, 0, 0, false},
		{"one of two", 1, 1, 0, false},
		{"two of ten", 8, 2, 0, true},
		{"two of eleven", 9, 2, 0, false},
		{"a quarter of many", 75, 25, 0, true},
		{"read just now", 75, 25, 71 * time.Second, false},
		{"read half a minute ago", 75, 25, 70 * time.Second, true},
	} {
		_, wish := look(t, NewMind("o-1", nil), changed(100*time.Second, func(f *Facts) {
			f.Nodes = nodesOf(tt.ready, tt.silent)
			f.Leases = Leases{Up: tt.read, All: 100}
		}))
		if wish.Leases != tt.want {
			t.Errorf("%s: wishes for leases: %v, want %v", tt.name, wish.Leases, tt.want)
		}
	}
}

func TestSlowDriftIsNoJump(t *testing.T) {
	m := NewMind("o-1", nil)
	for i := range 3600 { // an hour, 0.05 % fast: 1.8 s
		up := time.Duration(i) * time.Second
		o, _ := look(t, m, changed(up, func(f *Facts) { f.Now = f.Now.Add(up / 2000) }))
		if o.State != heal.ObserverClear {
			t.Fatalf("after %s: %v", up, details(o))
		}
	}
}

func TestADoubtIsOverSomeTimeAfterItsReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMind("o-1", nil)
		up := time.Duration(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			up += time.Duration(rapid.IntRange(1, 90).Draw(t, "pause")) * time.Second
			f := well(up)
			f.Nodes = nodesOf(rapid.IntRange(0, 4).Draw(t, "ready"), rapid.IntRange(0, 4).Draw(t, "silent"))
			f.Kinds[0].Count = rapid.IntRange(-1, 200).Draw(t, "pods")
			f.Kinds[0].Resyncs = rapid.IntRange(0, 5).Draw(t, "resyncs")
			f.Kinds[0].Synced = rapid.Bool().Draw(t, "synced")
			f.Now = f.Now.Add(time.Duration(rapid.IntRange(-3600, 3600).Draw(t, "jump")) * time.Second)
			o, _, _ := m.Judge(f)
			if err := o.Validate(); err != nil {
				t.Fatalf("at %s: %v", up, err)
			}
		}
		var o heal.Observer
		for range 300 { // five minutes of calm, everything read anew and counted at the end
			up += time.Second
			f := well(up)
			f.Kinds[0].Resyncs = int(up / time.Second)
			o, _, _ = m.Judge(f)
		}
		if diff := cmp.Diff(details(o), map[string]string{}, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("after five calm minutes (-got +want)\n%s", diff)
		}
	})
}
