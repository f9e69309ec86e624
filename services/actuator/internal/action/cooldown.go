package action

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// Cooldowns are the disruption budgets that must not be asked for a while. An
// eviction that fails after its dry run has passed may have taken its budget's
// room with it, which the API server gives back only after two minutes: asking
// again takes it from those whose turn it is. It is safe for concurrent use.
type Cooldowns struct {
	mu    sync.Mutex // guards until
	until map[types.UID]time.Time
}

// NewCooldowns returns a list without any.
func NewCooldowns() *Cooldowns { return &Cooldowns{until: map[types.UID]time.Time{}} }

// cooldown is a little more than the API server's own two minutes.
const cooldown = 130 * time.Second

// start lets the budgets that cover the pod rest.
func (c *Cooldowns) start(ctx context.Context, r live.Reader, pod *corev1.Pod) {
	if pod == nil {
		return
	}
	budgets, err := r.Budgets(ctx, pod)
	if err != nil {
		return // nothing is known to rest
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, until := range c.until {
		if now.After(until) {
			delete(c.until, uid)
		}
	}
	for _, b := range budgets {
		c.until[b.UID] = now.Add(cooldown)
	}
}

// check refuses for now an eviction of a pod with a budget that rests.
func (c *Cooldowns) check(ctx context.Context, r live.Reader, pod *corev1.Pod, target heal.Target) error {
	if c.none(time.Now()) || pod == nil {
		return nil
	}
	budgets, err := r.Budgets(ctx, pod)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range budgets {
		if left := time.Until(c.until[b.UID]); left > 0 {
			return &Wait{left, guard.Refuse("pdb", guard.Veto("PDB", "%s is not evicted: an eviction that %s covers failed %s ago, and it rests for %s",
				target, b.Name(), (cooldown-left).Round(time.Second), cooldown))}
		}
	}
	return nil
}

// none spares the reading of budgets, as nearly always none rests.
func (c *Cooldowns) none(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, until := range c.until {
		if now.Before(until) {
			return false
		}
	}
	return true
}
