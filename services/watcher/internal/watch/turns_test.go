package watch

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

func TestNamespacesTakeTurnsAndInEachTheFirstIsFirst(t *testing.T) {
	var q turns
	push := func(namespace string, n ...int) {
		for _, i := range n {
			q.Push(turn{episode.Key{UID: fmt.Sprint(i)}, namespace})
		}
	}
	pop := func(n int) (all []string) {
		for range n {
			item := q.Pop()
			all = append(all, item.Namespace+item.Key.UID)
		}
		return all
	}
	push("flood", 1, 2, 3, 4)
	push("quiet", 1)
	if diff := cmp.Diff([]string{"flood1", "quiet1", "flood2"}, pop(3)); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	push("", 1) // a node's
	push("quiet", 2, 3)
	if diff := cmp.Diff([]string{"flood3", "1", "quiet2", "flood4", "quiet3"}, pop(5)); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	if q.Len() != 0 || len(q.lines) != 0 || len(q.next) != 0 {
		t.Errorf("%d are left, %d lines, %d namespaces; want none", q.Len(), len(q.lines), len(q.next))
	}
}
