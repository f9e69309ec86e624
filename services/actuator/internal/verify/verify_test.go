package verify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

func good(subject string) Sight { return Sight{State: Good, Reason: "Verified", Subject: subject} }

var pending = Sight{State: Pending, Message: "not yet"}

func TestWhatIsSeenOverTimeDecidesHowItEnds(t *testing.T) {
	type seen struct {
		at    time.Duration
		sight Sight
	}
	for _, tt := range []struct {
		name   string
		sights []seen // each holds until the next
		want   Conclusion
		after  time.Duration
	}{
		{"good from the start", []seen{{0, good("a")}}, Conclusion{Outcome: heal.Succeeded, Reason: "Verified"}, 60 * time.Second},
		{"good after a while", []seen{{0, pending}, {30 * time.Second, good("a")}}, Conclusion{Outcome: heal.Succeeded, Reason: "Verified"}, 90 * time.Second},
		{"a restart begins the window anew", []seen{{0, good("a/0")}, {40 * time.Second, good("a/1")}}, Conclusion{Outcome: heal.Succeeded, Reason: "Verified"}, 100 * time.Second},
		{"so does a moment of not being good", []seen{{0, good("a")}, {40 * time.Second, pending}, {45 * time.Second, good("a")}}, Conclusion{Outcome: heal.Succeeded, Reason: "Verified"}, 105 * time.Second},
		{"what fails ends it at once", []seen{{0, pending}, {7 * time.Second, Sight{State: Bad, Reason: "NotFixed"}}}, Conclusion{Outcome: heal.Failed, Reason: "NotFixed"}, 7 * time.Second},
		{"also within the window", []seen{{0, good("a")}, {50 * time.Second, Sight{State: Bad, Reason: "NotFixed"}}}, Conclusion{Outcome: heal.Failed, Reason: "NotFixed"}, 50 * time.Second},
		{"what nobody wants ends it at once", []seen{{0, Sight{State: Moot, Reason: "NoLongerWanted"}}}, Conclusion{Outcome: heal.Skipped, Reason: "NoLongerWanted"}, 0},
		{"nothing in time", []seen{{0, pending}}, Conclusion{Outcome: heal.TimedOut, Reason: "VerificationTimedOut"}, 300 * time.Second},
		{"good too late", []seen{{0, pending}, {290 * time.Second, good("a")}}, Conclusion{Outcome: heal.TimedOut, Reason: "VerificationTimedOut"}, 300 * time.Second},
		{"late means what the sight says", []seen{{0, Sight{State: Pending, Late: &Conclusion{Outcome: heal.Failed, Reason: "NodeStillDown"}}}}, Conclusion{Outcome: heal.Failed, Reason: "NodeStillDown"}, 300 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				got, err := Wait(t.Context(), Plan{
					Window: time.Minute, Deadline: begin.Add(5 * time.Minute),
					Look: func(context.Context) (Sight, error) {
						for _, s := range slices.Backward(tt.sights) {
							if time.Since(begin) >= s.at {
								return s.sight, nil
							}
						}
						return Sight{}, errors.New("nothing to see")
					},
					Follow: func(ctx context.Context, changed chan<- struct{}) {
						for _, s := range tt.sights {
							select {
							case <-time.After(s.at - time.Since(begin)):
							case <-ctx.Done():
								return
							}
							select {
							case changed <- struct{}{}:
							case <-ctx.Done():
								return
							}
						}
					},
				}, Progress{})
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(begin)
				got.Message, got.Checks = "", nil
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("conclusion (-want +got):\n%s", diff)
				}
				if took < tt.after || took > tt.after+time.Second {
					t.Errorf("took %s, want %s", took, tt.after)
				}
			})
		})
	}
}

func TestAVerificationThatIsTakenOverGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		plan := Plan{
			Window: time.Minute, Deadline: begin.Add(5 * time.Minute),
			Look: func(context.Context) (Sight, error) { return good("a"), nil },
		}
		if _, err := Wait(t.Context(), plan, Progress{Subject: "a", Since: begin.Add(-50 * time.Second)}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("took %s, want the 10 s that were left", took)
		}
	})
}

func TestWithoutChangesItLooksRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		if _, err := Wait(t.Context(), Plan{
			Window: time.Minute, Deadline: time.Now().Add(5 * time.Minute),
			Look: func(context.Context) (Sight, error) { looks++; return pending, nil },
		}, Progress{}); err != nil {
			t.Fatal(err)
		}
		if looks > 62 {
			t.Errorf("looked %d times in 5 minutes", looks)
		}
	})
}

func TestAFloodOfChangesIsLookedAtFourTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		if _, err := Wait(t.Context(), Plan{
			Window: time.Minute, Deadline: time.Now().Add(10 * time.Second),
			Look: func(context.Context) (Sight, error) { looks++; return pending, nil },
			Follow: func(ctx context.Context, changed chan<- struct{}) {
				for {
					select {
					case changed <- struct{}{}:
					case <-ctx.Done():
						return
					}
				}
			},
		}, Progress{}); err != nil {
			t.Fatal(err)
		}
		if looks > 42 {
			t.Errorf("looked %d times in 10 s", looks)
		}
	})
}

func TestALookThatFailsIsTriedAgainAndNamedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := Wait(t.Context(), Plan{
			Window: time.Minute, Deadline: time.Now().Add(time.Minute),
			Look: func(context.Context) (Sight, error) { return Sight{}, errors.New("connection refused") },
		}, Progress{})
		if err != nil || got.Outcome != heal.TimedOut || !strings.Contains(got.Message, "connection refused") {
			t.Errorf("ended %+v, %v", got, err)
		}
	})
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := errors.New("stopping")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(stopping) })
		_, err := Wait(ctx, Plan{
			Window: time.Minute, Deadline: time.Now().Add(time.Hour),
			Look:   func(context.Context) (Sight, error) { return pending, nil },
			Follow: func(ctx context.Context, _ chan<- struct{}) { <-ctx.Done() },
		}, Progress{})
		if !errors.Is(err, stopping) {
			t.Errorf("err = %v, want the cause", err)
		}
	})
}
