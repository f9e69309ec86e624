package detect

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
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

// elsewhere are the rows of the catalogue for which there is no detector, with why.
var elsewhere = [][2]string{
	{"P17", "A pod on a node that is not heard of is its node's failure (`node_not_ready`): what is found in it does not count meanwhile."},
	{"N12", "Not a failure by itself: a finding about a node of the control plane has `control_plane` in its metadata."},
	{"S6", "A recovery: what is found is `service_unavailable`, with `standby` in its metadata if the service declares one."},
	{"V5", "The API shows no error of a volume's file system; a node's is `node_problem` (`ReadonlyFilesystem`), a pod that suffers from it is `crash_loop` or `not_ready`."},
	{"R3", "A watcher that sees late or not at all doubts itself, and nothing is done meanwhile: see [blind](blind.md)."},
	{"R5", "Certificates lie in Secrets, which are never read. Those of cert-manager are the example in [own-detectors](own-detectors.md), those of kubelets `kubelet_certificate`."},
}

const postface = `
## What has no detector

| row of the catalogue | why |
|---|---|
`

var more = `
## What is not seen with ` + "`namespaces`" + `

With the setting ` + "`namespaces`" + ` a watcher has rights in these namespaces alone. What belongs to the whole cluster is then not watched, and
no failure of it found: nodes and what depends on knowing them (` + "`node_suspected`, `headroom_lost`" + `, the part of drains in holds and excuses),
usage, volumes and attachments, storage classes, webhooks, aggregated APIs, and that a namespace is being deleted. It says so once
in its log when it starts, and always in ` + "`/status`" + ` under ` + "`unseen`" + `, where a kind stands as well that the API server does not serve or show.

## What a pod's failure says of its roll-out

| metadata | meaning |
|---|---|
| ` + "`pod_template_hash`, `controller_revision_hash`" + ` | the template that the pod was made of |
| ` + "`revision`, `newest_revision`" + ` | the roll-out of its owner that the pod is of, and the newest; absent when the owner does not bring its pods to the newest by itself (paused, OnDelete, partition) |
| ` + "`workload_available`" + ` | pods of the owner that are available, of whatever revision |
| ` + "`workload_updated`" + ` | pods of the newest revision, whether they work or not |
| ` + "`flapping`" + ` | how often the same has ended within an hour, from three times on |

A container's termination message is shown as evidence; what looks like a secret in it is masked.

## What a failure says of whom to tell

| metadata | from |
|---|---|
| ` + "`team`, `runbook`" + ` | the annotations ` + "`" + heal.AnnotationTeam + "`, `" + heal.AnnotationRunbook + "`" + ` |
| ` + "`label.<name>`" + ` | the labels ` + "`" + strings.Join(heal.RoutingLabels, "`, `") + "`" + `, and no other |

They are those of the owner: the top controller of a pod, or else the object itself, as a node, a service or a volume claim. Where the owner is
of a kind that is not watched, or gone, those of the object. An annotation that it has not is taken from its namespace (not with
` + "`namespaces`" + `, where namespaces themselves cannot be read). A runbook is an http or https link without a password in it, of at most 256 bytes, or else none.
They are asked for when a failure is announced, at most once in ten minutes for each object. Who hears of what is [notifications](notifications.md).
`

func rows[T any](list []Detector[T]) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | `%s` | %s | %s |\n", d.Row, d.Name, d.Type, strings.Join(d.Reasons, "`, `"), d.Hold, d.Excused)
	}
	return b.String()
}

func TestPageOfFailuresIsCurrent(t *testing.T) {
	want := preface + rows(Pods) + rows(Nodes) + rows(Deployments) + rows(ReplicaSets) +
		rows(StatefulSets) + rows(DaemonSets) + rows(Jobs) + rows(CronJobs) + rows(Autoscalers) + rows(Budgets) +
		rows(Services) + rows(ValidatingWebhooks) + rows(MutatingWebhooks) + rows(APIServices) +
		rows(Claims) + rows(Volumes) + rows(Attachments) + rows(Quotas) + rows(Namespaces)
	want += postface
	for _, e := range elsewhere {
		want += fmt.Sprintf("| %s | %s |\n", e[0], e[1])
	}
	want += more
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

func covered[T any](list []Detector[T]) (all []string) {
	for _, d := range list {
		all = append(all, strings.Split(d.Row, ", ")...)
	}
	return all
}

func TestEveryRowOfTheCatalogueHasADetectorOrAReasonWhyNot(t *testing.T) {
	have := slices.Concat(covered(Pods), covered(Nodes), covered(Deployments), covered(ReplicaSets),
		covered(StatefulSets), covered(DaemonSets), covered(Jobs), covered(CronJobs), covered(Autoscalers), covered(Budgets),
		covered(Services), covered(ValidatingWebhooks), covered(MutatingWebhooks), covered(APIServices),
		covered(Claims), covered(Volumes), covered(Attachments), covered(Quotas), covered(Namespaces))
	for _, e := range elsewhere {
		if slices.Contains(have, e[0]) {
			t.Errorf("row %s has a detector, and a reason why it has none", e[0])
		}
		have = append(have, e[0])
	}
	for letter, last := range map[string]int{"P": 20, "N": 13, "W": 12, "S": 7, "V": 5, "R": 5} {
		for n := 1; n <= last; n++ {
			if row := fmt.Sprintf("%s%d", letter, n); !slices.Contains(have, row) {
				t.Errorf("row %s has neither", row)
			}
		}
	}
}
