package guard

import (
	"maps"
	"slices"
	"time"
)

// A Window is when pods were acted on, by namespace. It is shared by all
// replicas, so it is a value: taking returns a new one.
type Window struct {
	Taken map[string][]int64 `json:"taken"` // milliseconds since 1970, oldest first
}

// Limits are how many pods may be acted on within a minute.
type Limits struct {
	Namespace int
	Cluster   int
}

// span is a minute and a little: the requests reach the API server later than
// they are taken here, one more so than the other, and no minute of its audit
// log may hold too many.
const span = time.Minute + time.Second

// Take takes one action on a pod of namespace, if there is room for it at now.
// If there is none it returns w as it is, how long to wait before asking
// again, and a verdict that says so.
func (w Window) Take(now time.Time, namespace string, l Limits) (Window, time.Duration, Verdict) {
	since := now.Add(-span).UnixMilli()
	next := Window{Taken: map[string][]int64{}}
	var all []int64
	for ns, times := range w.Taken {
		if recent := after(times, since); len(recent) > 0 {
			next.Taken[ns] = recent
			all = append(all, recent...)
		}
	}
	slices.Sort(all)
	for _, room := range []struct {
		taken []int64
		limit int
		where string
	}{
		{next.Taken[namespace], l.Namespace, "namespace " + namespace},
		{all, l.Cluster, "the cluster"},
	} {
		if len(room.taken) < room.limit {
			continue
		}
		wait := span // a limit below 1 never lets anything through
		if room.limit > 0 {
			wait = time.UnixMilli(room.taken[len(room.taken)-room.limit]).Add(span).Sub(now)
		}
		return w, max(wait, time.Second), Veto("Budget", "%d pods of %s were acted on within a minute, and %d may be", len(room.taken), room.where, room.limit)
	}
	next.Taken = maps.Clone(next.Taken)
	next.Taken[namespace] = append(slices.Clone(next.Taken[namespace]), now.UnixMilli())
	return next, 0, Allow("%d of %d pods of namespace %s, %d of %d of the cluster were acted on within a minute",
		len(next.Taken[namespace]), l.Namespace, namespace, len(all)+1, l.Cluster)
}

// after is the part of times, which is sorted, that lies after since.
func after(times []int64, since int64) []int64 {
	i, _ := slices.BinarySearch(times, since+1)
	return times[i:]
}
