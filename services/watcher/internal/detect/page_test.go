package detect

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/failures.md")

const page = "../../../../docs/failures.md"

const preface = `# What is detected

Generated from the list of detectors in ` + "`services/watcher/internal/detect`" + `; do not edit it, run
` + "`go test ./internal/detect -update`" + ` in ` + "`services/watcher`" + `.

A detector looks at one object at a time, as the API server shows it. What it finds must last for the hold, by the
watcher's own clock, before it is announced; it is announced again while it lasts, and once more when it is over. While an
excuse holds, nothing begins. One detector speaks for one state of a container; the package's documentation says which.

| row of the catalogue | detector | type | reason | hold | excuse |
|---|---|---|---|---|---|
`

func rows[T any](list []Detector[T]) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | `%s` | %s | %s |\n", d.Row, d.Name, d.Type, strings.Join(d.Reasons, "`, `"), d.Hold, d.Excused)
	}
	return b.String()
}

func TestPageOfFailuresIsCurrent(t *testing.T) {
	want := preface + rows(Pods) + rows(Nodes) + rows(Deployments) +
		rows(StatefulSets) + rows(DaemonSets) + rows(Jobs) + rows(CronJobs) + rows(Autoscalers) + rows(Budgets) +
		rows(Services) + rows(ValidatingWebhooks) + rows(MutatingWebhooks) + rows(APIServices) +
		rows(Claims) + rows(Volumes) + rows(Attachments) + rows(Quotas) + rows(Namespaces)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/failures.md is out of date; run the test with -update (-want +got):\n%s", diff)
	}
}
