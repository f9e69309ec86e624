package bus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestJudge(t *testing.T) {
	boom := errors.New("boom")
	backoff := Linear(time.Second, time.Minute)
	tests := []struct {
		name         string
		err          error
		disconnected bool
		want         fate
	}{
		{"success", nil, false, fate{outcome: outcomeOK}},
		{"success while the bus is away is success", nil, true, fate{outcome: outcomeOK}},
		{"an error", boom, false, fate{outcome: outcomeRetry, delay: 3 * time.Second}},
		{"a panic", panicError{"ouch", nil}, false, fate{outcome: outcomeRetry, delay: 3 * time.Second}},
		{"a timeout", context.DeadlineExceeded, false, fate{outcome: outcomeRetry, delay: 3 * time.Second}},
		{"a lost race", ErrConflict, false, fate{outcome: outcomeRetry, delay: 3 * time.Second}},
		{"a bad message", badMessageError{boom}, false, fate{outcome: outcomeDead, reason: heal.DeadBadMessage}},
		{"a permanent error", fmt.Errorf("x: %w", Permanent(boom)), false, fate{outcome: outcomeDead, reason: heal.DeadRefused}},
		{"a permanent error while the bus is away", Permanent(boom), true, fate{outcome: outcomeDead, reason: heal.DeadRefused}},
		{"a wait", fmt.Errorf("x: %w", Later(boom, time.Hour)), false, fate{outcome: outcomeLater, delay: time.Hour}},
		{"a wait of no length", Later(boom, 0), false, fate{outcome: outcomeLater, delay: 3 * time.Second}},
		{"any error while the bus is away", boom, true, fate{outcome: outcomeLater, delay: 3 * time.Second}},
		{"an error of the bus", fmt.Errorf("x: %w", awayError{boom}), false, fate{outcome: outcomeLater, delay: 3 * time.Second}},
		{"a refusal of the bus", fmt.Errorf("x: %w", ErrPermission), false, fate{outcome: outcomeLater, delay: 3 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := judge(tt.err, 3, tt.disconnected, backoff)
			if fmt.Sprint(got.err) != fmt.Sprint(tt.err) {
				t.Errorf("error: got %v, want %v", got.err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(fate{}), cmpopts.IgnoreFields(fate{}, "err")); diff != "" {
				t.Errorf("fate (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMessageIsSpentAfterEightFailuresOrManyUnknownDeliveries(t *testing.T) {
	tests := []struct {
		name            string
		failures, waits int
		delivered       uint64
		want            bool
		last            string
	}{
		{"never seen", 0, 0, 1, false, "unknown, to another process"},
		{"seven failures", 7, 0, 8, false, "boom"},
		{"eight failures", 8, 0, 9, true, "boom"},
		{"eight failures among waits", 8, 100, 109, true, "boom"},
		{"only waits", 0, 500, 501, false, "unknown, to another process"},
		{"64 deliveries to others", 0, 0, 65, false, "unknown, to another process"},
		{"65 deliveries to others", 0, 0, 66, true, "unknown, to another process"},
		{"64 deliveries to others and waits here", 0, 500, 565, false, "unknown, to another process"},
		{"65 deliveries to others and waits here", 0, 500, 566, true, "unknown, to another process"},
		{"a delivery that the server forgot", 3, 0, 1, false, "boom"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tally := newTally(10)
			for range tt.failures {
				tally.failed(7, errors.New("boom"))
			}
			for range tt.waits {
				tally.waited(7)
			}
			last, spent := tally.spent(7, tt.delivered)
			if spent != tt.want || last != tt.last {
				t.Errorf("got %v, %q; want %v, %q", spent, last, tt.want, tt.last)
			}
		})
	}
}

func TestATallyIsBoundedAndForgetsTheOldest(t *testing.T) {
	tally := newTally(100)
	for seq := range uint64(10_000) {
		tally.failed(seq, errors.New("boom"))
		if seq%2 == 0 {
			tally.forget(seq)
		}
	}
	if n := len(tally.of); n > 100 || len(tally.order) > 100 {
		t.Errorf("keeps %d of %d, want at most 100", n, len(tally.order))
	}
	if tally.of[9_999] == nil {
		t.Error("forgot the newest")
	}
	if tally.of[1] != nil {
		t.Error("keeps the oldest")
	}
}

func TestLinear(t *testing.T) {
	backoff := Linear(2*time.Second, 7*time.Second)
	var got []time.Duration
	for _, attempt := range []uint64{0, 1, 2, 3, 4, 1 << 62, 1<<64 - 1} {
		got = append(got, backoff(attempt))
	}
	want := []time.Duration{0, 2 * time.Second, 4 * time.Second, 6 * time.Second, 7 * time.Second, 7 * time.Second, 7 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
}

func TestMarksSurviveWrappingAndKeepTheirError(t *testing.T) {
	boom := errors.New("boom")
	for name, mark := range map[string]func(error) error{
		"Permanent": Permanent,
		"Later":     func(err error) error { return Later(err, time.Second) },
	} {
		if err := mark(nil); err != nil {
			t.Errorf("%s(nil) is %v", name, err)
		}
		if err := fmt.Errorf("x: %w", mark(boom)); !errors.Is(err, boom) || err.Error() != "x: boom" {
			t.Errorf("%s: got %q", name, err)
		}
	}
	if IsPermanent(boom) || IsPermanent(nil) || !IsPermanent(fmt.Errorf("x: %w", Permanent(boom))) {
		t.Error("IsPermanent is wrong")
	}
}

func TestCheckVersion(t *testing.T) {
	for version, want := range map[string]bool{
		"2.14.0": true, "2.15.2": true, "2.14.0-beta.1": true, "3.0.0": true,
		"2.13.9": false, "2.9.25": false, "1.99.0": false, "": false, "x": false,
	} {
		if err := checkVersion(version); (err == nil) != want {
			t.Errorf("%q: got %v, want ok %v", version, err, want)
		}
	}
}
