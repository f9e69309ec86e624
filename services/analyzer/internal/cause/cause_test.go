package cause

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestWhatNothingSpeaksForIsUnknown(t *testing.T) {
	if diff := cmp.Diff(Find(Facts{}), heal.Cause{Kind: heal.CauseUnknown}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}
