package channel

import (
	"errors"
	"testing"
	"time"
)

func TestASocketThatFailsIsTriedAgainLessAndLessOften(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name        string
		failed      int
		err         error
		least, most time.Duration
	}{
		{"ended by Slack after it stood for long", 0, nil, 0, 0},
		{"first", 1, broken, 750 * time.Millisecond, 1250 * time.Millisecond},
		{"second", 2, broken, 1500 * time.Millisecond, 2500 * time.Millisecond},
		{"seventh", 7, broken, 45 * time.Second, 75 * time.Second},
		{"for ever", 1 << 40, broken, 45 * time.Second, 75 * time.Second},
		{"ended by Slack at once, again and again", 3, nil, 3 * time.Second, 5 * time.Second},
		{"asked to wait", 1, &SendError{After: 30 * time.Second}, 30 * time.Second, 30 * time.Second},
		{"a token that was revoked", 1, &slackError{SendError{Reason: "x"}, "token_revoked"}, 225 * time.Second, 375 * time.Second},
	} {
		for range 100 {
			if got := pauseAfter(tt.failed, tt.err); got < tt.least || got > tt.most {
				t.Errorf("%s: %s, want %s to %s", tt.name, got, tt.least, tt.most)
			}
		}
	}
}
