package incident

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// perFingerprint is how many of the recorded failures are similar to each other.
const perFingerprint = 50

// BenchmarkSimilar counts the failures that are similar to one, with so many
// recorded in the window, all of them by their groups and, as a reference, by
// a scan of a list of them. Only the count is timed: p99-ns is of single ones.
func BenchmarkSimilar(b *testing.B) {
	type recorded struct {
		of          heal.FailureType
		fingerprint string
		at          time.Time
	}
	for _, n := range []int{1e3, 1e4, 1e5, 1e6} {
		groups, list := map[string]Group{}, make([]recorded, 0, n)
		failures := make([]heal.Failure, n/perFingerprint)
		for i := range failures {
			f := failure("e", 1, noon)
			f.Owner.Name = fmt.Sprint("app-", i)
			f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, f.Owner, "api", f.Reason)
			var s State
			for k := range perFingerprint {
				at := noon.Add(time.Duration(k*60) * time.Second)
				s.History = s.History.Add(at, window)
				list = append(list, recorded{f.Type, f.Fingerprint, at})
			}
			groups[GroupKey(f)] = Group{States: map[string]State{Key(f): s}}
			f.Timestamp = heal.Unix{Time: noon.Add(50 * time.Minute)}
			failures[i] = f
		}
		b.Run(fmt.Sprintf("recorded=%d", n), func(b *testing.B) {
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f := failures[i*7919%len(failures)] // which whoever asks has at hand
				began := time.Now()
				got, _ := groups[GroupKey(f)].States[Key(f)].History.Within(f.Timestamp.Time, window)
				if len(took) < cap(took) {
					took = append(took, time.Since(began))
				}
				if got != perFingerprint {
					b.Fatalf("%d similar, want %d", got, perFingerprint)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		})
		b.Run(fmt.Sprintf("recorded=%d/scan", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				f, got := &failures[i*7919%len(failures)], 0
				for j := range list {
					r := &list[j]
					if r.of == f.Type && r.at.Sub(f.Timestamp.Time).Abs() < window && r.fingerprint == f.Fingerprint {
						got++
					}
				}
				if got != perFingerprint {
					b.Fatalf("%d similar, want %d", got, perFingerprint)
				}
			}
		})
	}
}

// BenchmarkObserve enters an announcement into a group that has recorded so
// many of the same fingerprint already.
func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{1e3, 1e4, 1e5, 1e6} {
		b.Run(fmt.Sprintf("same_fingerprint=%d", n), func(b *testing.B) {
			var g Group
			for i := range n {
				if i < n-3*maxHistory { // what is so old is gone, whatever it was
					continue
				}
				now := noon.Add(time.Duration(i) * time.Millisecond)
				g = g.observe(failure(fmt.Sprint("e", i), 1, now), now)
			}
			now := noon.Add(time.Duration(n) * time.Millisecond)
			f := failure("next", 1, now)
			b.ReportAllocs()
			for b.Loop() {
				g.observe(f, now)
			}
		})
	}
}
