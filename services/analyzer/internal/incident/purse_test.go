package incident

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestADecisionSpendsOnceAndNeverMoreThanThereIs(t *testing.T) {
	const per = time.Hour
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		now, p := noon, Purse{}
		acting := map[string]time.Time{} // what a naive book holds
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1200).Draw(t, "seconds")) * time.Second)
			id := fmt.Sprint("d-", rapid.IntRange(0, 20).Draw(t, "decision"))
			others := 0
			for other, at := range acting {
				if other != id && now.Sub(at) < per {
					others++
				}
			}
			if got := p.Used(id, now, per); got != others {
				t.Fatalf("%d used, want %d", got, others)
			}
			if rapid.Bool().Draw(t, "give back") {
				p = p.GiveBack(id)
				delete(acting, id)
				continue
			}
			next, paid := p.Spend(id, now, limit, per)
			if paid != (others < limit) {
				t.Fatalf("paid %v with %d of %d used", paid, others, limit)
			}
			if _, before := acting[id]; paid && (!before || now.Sub(acting[id]) >= per) && len(next.Spent) > 0 && next.Spent[len(next.Spent)-1].At.Equal(now) {
				acting[id] = now
			}
			p = next
		}
		if !p.Idle(now.Add(8 * 24 * time.Hour)) {
			t.Fatal("it is never forgotten")
		}
	})
}
