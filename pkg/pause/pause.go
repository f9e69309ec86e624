// Package pause waits for time to pass, and no longer than it is wanted.
package pause

import (
	"context"
	"time"
)

// For returns after d, or earlier when ctx is done; then, and only then, it
// reports false. Of a d that is not positive nothing is waited for.
func For(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
