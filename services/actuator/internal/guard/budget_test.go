package guard

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNoMinuteHoldsMoreActionsThanAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Namespace: rapid.IntRange(1, 4).Draw(t, "namespace"), Cluster: rapid.IntRange(1, 8).Draw(t, "cluster")}
		at := now
		var w Window
		type taken struct {
			at time.Time
			ns string
		}
		var all []taken
		for range rapid.IntRange(1, 200).Draw(t, "tries") {
			at = at.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			ns := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "ns")
			next, wait, v := w.Take(at, ns, limits)
			w = next
			if v.Allowed() {
				all = append(all, taken{at, ns})
				continue
			}
			if _, _, again := w.Take(at.Add(wait), ns, limits); !again.Allowed() {
				t.Fatalf("told to wait %s, and there is no room then: %s", wait, again.Detail)
			}
		}
		for i, first := range all {
			cluster, namespace := 0, 0
			for _, x := range all[i:] {
				if x.at.Sub(first.at) > time.Minute {
					break
				}
				cluster++
				if x.ns == first.ns {
					namespace++
				}
			}
			if cluster > limits.Cluster || namespace > limits.Namespace {
				t.Fatalf("within a minute %d of the cluster and %d of %s, limits %+v", cluster, namespace, first.ns, limits)
			}
		}
	})
}

func TestARefusedTakeSaysTheNumbersAndChangesNothing(t *testing.T) {
	w, _, _ := Window{}.Take(now, "shop", Limits{1, 10})
	next, wait, v := w.Take(now.Add(20*time.Second), "shop", Limits{1, 10})
	if v.Reason != "Budget" || v.Detail != "1 pods of namespace shop were acted on within a minute, and 1 may be" {
		t.Errorf("said %q: %q", v.Reason, v.Detail)
	}
	if wait != span-20*time.Second || len(next.Taken["shop"]) != 1 {
		t.Errorf("wait %s, taken %v", wait, next.Taken)
	}
	if _, _, v := next.Take(now, "shop", Limits{0, 0}); v.Allowed() {
		t.Error("a limit of none lets one through")
	}
}
