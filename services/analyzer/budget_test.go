package analyzer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestTheBudgetOfARuleIsSharedByAllAnalyzers(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := "rules:\n- {name: shop, match: failure.namespace == \"shop\", budget: {actions: 3, per: 1h}}\nguards: {actions_per_minute: 100}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Mode: heal.ModeAuto, PolicyFile: file}
	p.analyzer(t, cfg, Deps{})
	p.analyzer(t, cfg, Deps{})

	const failures = 24
	want := map[string]bool{}
	for i := range failures {
		f := podFailure(fmt.Sprint("app", i), fmt.Sprint("e", i), 1, time.Now())
		want[heal.MakeDecisionID(f)] = true
		p.announce(t, f)
	}
	acting, refused := 0, 0
	for _, d := range p.await(t, want) {
		switch {
		case d.Acts():
			acting++
		case d.Reason == "RuleBudget":
			refused++
		}
	}
	if acting != 3 || refused != failures-3 {
		t.Errorf("%d act and %d are refused for the budget; want 3 and %d", acting, refused, failures-3)
	}
}
