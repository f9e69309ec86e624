package bus

import "time"

// Linear returns a backoff that grows by step with each attempt, up to limit.
func Linear(step, limit time.Duration) func(attempt uint64) time.Duration {
	return func(attempt uint64) time.Duration {
		if step <= 0 || attempt > uint64(limit/step) {
			return limit // and no overflow, however many attempts
		}
		return time.Duration(attempt) * step
	}
}
