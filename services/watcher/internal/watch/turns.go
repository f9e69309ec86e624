package watch

import "github.com/selfheal/selfheal/services/watcher/internal/episode"

// A turn is an episode about which something is to be done.
type turn struct {
	Key       episode.Key
	Namespace string // empty for what belongs to the whole cluster
}

// turns is what waits for its turn: of each namespace in the order in which it
// came, and the namespaces one after the other. However much fails at once in
// one of them, what fails in another, or a node, does not wait for that. It is
// a workqueue.Queue; the zero value is empty.
type turns struct {
	lines map[string][]turn // by namespace; none is empty
	next  []string          // namespaces that have a line
	len   int
}

// Touch is for what waits already: it keeps its place.
func (t *turns) Touch(turn) {}

func (t *turns) Len() int { return t.len }

func (t *turns) Push(item turn) {
	if t.lines == nil {
		t.lines = map[string][]turn{}
	}
	line := t.lines[item.Namespace]
	if len(line) == 0 {
		t.next = append(t.next, item.Namespace)
	}
	t.lines[item.Namespace] = append(line, item)
	t.len++
}

// Pop is called only if there is something.
func (t *turns) Pop() turn {
	namespace := t.next[0]
	t.next = t.next[1:]
	line := t.lines[namespace]
	item := line[0]
	if line = line[1:]; len(line) == 0 {
		delete(t.lines, namespace)
	} else {
		t.lines[namespace] = line
		t.next = append(t.next, namespace)
	}
	t.len--
	return item
}
