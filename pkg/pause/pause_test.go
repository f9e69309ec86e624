package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selfheal/selfheal/pkg/pause"
)

func TestAPauseIsAsLongAsItIsWanted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		d      time.Duration
		cancel time.Duration // of the context, after this; negative: before
		want   bool
		took   time.Duration
	}{
		{"to its end", time.Hour, 2 * time.Hour, true, time.Hour},
		{"until nobody wants it any more", time.Hour, time.Minute, false, time.Minute},
		{"none", 0, time.Hour, true, 0},
		{"none, and nobody wants it", -time.Second, -1, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.cancel)
				defer cancel()
				began := time.Now()
				if got := pause.For(ctx, tt.d); got != tt.want {
					t.Errorf("got %t, want %t", got, tt.want)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
		})
	}
}
