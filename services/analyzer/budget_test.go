package analyzer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

// threeAnHour has a policy of which one rule sets off three actions an hour.
func threeAnHour(t *testing.T) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := "rules:\n- {name: shop, match: failure.namespace == \"shop\", budget: {actions: 3, per: 1h}}\nguards: {actions_per_minute: 100}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Mode: heal.ModeAuto, PolicyFile: file}
}

func TestTheBudgetOfARuleOutlivesAnalyzersAndTheirMemory(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	cfg := threeAnHour(t)
	n := 0
	decided := func() string {
		t.Helper()
		n++
		p.announce(t, podFailure(fmt.Sprint("app", n), fmt.Sprint("e", n), 1, time.Now()))
		d := p.next(t)
		p.quiet(t)
		if d.Acts() {
			return "acts"
		}
		return d.Reason
	}
	var got []string
	stop := p.analyzer(t, cfg, Deps{})
	got = append(got, decided(), decided())
	stop()
	stop = p.analyzer(t, cfg, Deps{}) // which remembers nothing itself
	got = append(got, decided(), decided())
	stop()
	p.forget(t) // nor does the bucket
	p.analyzer(t, cfg, Deps{})
	got = append(got, decided())
	if diff := cmp.Diff(got, []string{"acts", "acts", "acts", "RuleBudget", "RuleBudget"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestTheBudgetOfARuleIsSharedByAllAnalyzers(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	cfg := threeAnHour(t)
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
