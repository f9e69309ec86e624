package guard

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Rollbacks are the roll-backs of one workload, oldest first. They are shared
// by all replicas, so they are a value: taking returns a new one.
type Rollbacks struct {
	Done []Rollback `json:"done"`
}

// A Rollback is that a template was taken back.
type Rollback struct {
	Decision string    `json:"decision"`
	Hash     string    `json:"hash"` // of the bad template
	At       time.Time `json:"at"`
}

const (
	// RollbackOncePerDay is the reason why a workload is not rolled back again
	// so soon.
	RollbackOncePerDay = "RollbackOncePerDay"

	rollbackRest = 24 * time.Hour
	mostKept     = 100 // of the roll-backs of one workload
)

// JudgeRollback refuses to take back a template a second time, which means
// that somebody puts it there again and again, and to roll a workload back
// twice a day. What was done for the decision itself does not count.
func JudgeRollback(now time.Time, target heal.Target, hash string, r Rollbacks, decision string) Verdict {
	for _, done := range slices.Backward(r.Done) {
		switch ago := now.Sub(done.At); {
		case decision != "" && done.Decision == decision:
		case done.Hash == hash:
			return Veto("RolledBackBefore", "the same template (hash %s) of %s was taken back %s ago, and somebody brought it again: repair or remove it at its source",
				heal.Clean(hash, 32), target, ago.Round(time.Second))
		case ago < rollbackRest:
			return Veto(RollbackOncePerDay, "%s was rolled back %s ago, and once in %s is enough: a person must look", target, ago.Round(time.Second), rollbackRest)
		}
	}
	return Allow("%s was rolled back %d times, none of them within %s", target, len(r.Done), rollbackRest)
}

// Take adds a roll-back for decision, unless JudgeRollback is against it.
func (r Rollbacks) Take(now time.Time, target heal.Target, hash, decision string) (Rollbacks, Verdict) {
	v := JudgeRollback(now, target, hash, r, decision)
	if !v.Allowed() {
		return r, v
	}
	next := r.Without(decision)
	next.Done = append(next.Done, Rollback{Decision: decision, Hash: hash, At: now.UTC()})
	next.Done = next.Done[max(0, len(next.Done)-mostKept):]
	return next, v
}

// Without is r without what was taken for decision.
func (r Rollbacks) Without(decision string) Rollbacks {
	return Rollbacks{Done: slices.DeleteFunc(slices.Clone(r.Done), func(done Rollback) bool { return done.Decision == decision })}
}
