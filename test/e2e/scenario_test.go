package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/watcher"
	"github.com/selfheal/selfheal/test/harness"
)

var (
	long   = flag.Bool("long", false, "also play what takes minutes")
	only   = flag.String("scenario", "", "play only the scenarios whose names contain this")
	update = flag.Bool("update", false, "write docs/scenarios.md anew; needs -long")
)

// A scenario breaks something, and knows what must become of it.
type scenario struct {
	name   string
	proves string // one line for docs/scenarios.md
	long   bool   // takes more than a minute

	// What the policy says of its failures, if not what the built-in one does: a match (%q is its namespace), and its severity.
	rule     string
	severity heal.Severity

	homes int // nodes of its own to begin with: workloads that fail on one node would make that suspect
	play  func(*stage)
}

// scenarios are played side by side on one cluster, by one pipeline. To add
// one, write it in a file of its own and list it here.
var scenarios = []scenario{
	badImage,
	outOfMemory,
	badConfig,
	stuckStatefulSet,
	badDaemonSet,
	deadNodeWithProvider,
	deadNodeWithoutProvider,
	disruptionBudget,
	declaredStandby,
	surgeOfOne,
	volumeFull,
	gitOps,
	nodeUnderPressure,
}

// chosen are those that this run plays.
func chosen() []scenario {
	var all []scenario
	for _, s := range scenarios {
		if strings.Contains(s.name, *only) && (*long || !s.long) {
			all = append(all, s)
		}
	}
	return all
}

// A stage is where one scenario is played: a namespace and the nodes that are its own.
type stage struct {
	*testing.T
	cluster *kubetest.Cluster
	kube    kubernetes.Interface // a person's, who deploys and breaks
	ns      string
	record  *harness.Record
	all     *testing.T    // that of all scenarios
	turn    chan struct{} // whoever takes a node away waits for it

	nodes  []string // of its own
	broken time.Time
	acts   []act
}

// An act is one result that a scenario waited for, as a line of the table.
type act struct {
	Strategy heal.Strategy
	Target   string // kind
	Outcome  heal.Outcome
	Reason   string

	Seen     time.Duration // from the break to the first sight of the failure
	Written  time.Duration // from then to the first write; 0 if nothing was written
	Verified time.Duration // from the break to the result
	Writes   []string
}

// TestScenarios plays the scenarios: each breaks something in its own way, the
// four services heal it, with the rights that they ask for and no more, and
// the API server's audit log says what they did. Without -long only those are
// played that take less than a minute.
func TestScenarios(t *testing.T) {
	if *update && (!*long || *only != "") {
		t.Fatal("-update needs all scenarios: -long, and no -scenario")
	}
	c, began := kubetest.Get(t), time.Now()
	kube := c.Client(t)
	all := chosen()
	stages := make([]*stage, len(all))
	turn := make(chan struct{}, 1)
	for i := range all {
		stages[i] = &stage{all: t, cluster: c, kube: kube, ns: c.Namespace(t), turn: turn}
	}
	p := harness.Prepare(t, account(t, c), map[string]string{
		"SELFHEAL_POLICY_FILE":  policyFor(t, all, stages),
		"HEALTH_CHECK_INTERVAL": "1", "NODE_CHECK_INTERVAL": "1", "NODE_FAILURE_THRESHOLD": "2",
		"POD_CHECK_INTERVAL": "12", // what ended twice for want of memory, and waited for 10 s, must count as that and not as a crash loop
		"RECOVERY_TIMEOUT":   "60", "VERIFY_WINDOW": "5", "SELFHEAL_VOLUME_STATS": "true",
		"MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000",
	}, harness.Services...)
	for _, name := range harness.Services {
		p.Run(t, name)
	}
	p.WaitReady(t)
	record := harness.Listen(t, p.Bus(t))

	t.Run("play", func(t *testing.T) {
		for i, sc := range all {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				stages[i].T, stages[i].record = t, record
				for n := range sc.homes {
					stages[i].addNode(fmt.Sprintf("home-%d-%s", n, stages[i].ns))
				}
				sc.play(stages[i])
			})
		}
	})
	judgeAll(t, c, stages, began)
	table := tableOf(all, stages)
	t.Logf("\n%s", table)
	for i, s := range stages {
		if *update && len(s.acts) == 0 {
			t.Errorf("%s was not played: %s stays as it is", all[i].name, page)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(filepath.Join(harness.RepositoryRoot(t), page), []byte(pageOf(table)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// policyFor is the built-in policy in a hurry, with what a scenario asks for.
func policyFor(t *testing.T, all []scenario, stages []*stage) string {
	t.Helper()
	text := "name: scenarios\nguards:\n  actions_per_minute: 3000\n  backoff: {first: 2, longest: 4}\n  storm: {share: 0.5, cooldown: 1}\nrules:\n"
	for i, sc := range all {
		if sc.rule != "" {
			text += fmt.Sprintf("- name: %s\n  match: %s\n  severity: %s\n", sc.name, fmt.Sprintf(sc.rule, stages[i].ns), sc.severity)
		}
	}
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// services is whom the API server knows the pipeline as.
const services = "system:serviceaccount:self-healing:services"

// account makes the pipeline's account, with the rights that watcher and
// actuator ask for, and returns its kubeconfig.
func account(t *testing.T, c *kubetest.Cluster) string {
	t.Helper()
	ctx, kube := t.Context(), c.Client(t)
	ignore := metav1.CreateOptions{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: heal.Product}}, ignore)
	must(err)
	_, err = kube.CoreV1().ServiceAccounts(heal.Product).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "services"}}, ignore)
	must(err)
	rules := slices.Concat(watcher.Rules(), actuator.Rules(), []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes/proxy"}, Verbs: []string{"get"}}, // for volume_stats, as in the chart
	})
	_, err = kube.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "services"}, Rules: rules}, ignore)
	must(err)
	_, err = kube.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "services"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "services"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: heal.Product, Name: "services"}},
	}, ignore)
	must(err)
	t.Cleanup(func() {
		ctx := context.Background()
		_ = kube.RbacV1().ClusterRoleBindings().Delete(ctx, "services", metav1.DeleteOptions{}) // what is left goes with the cluster
		_ = kube.RbacV1().ClusterRoles().Delete(ctx, "services", metav1.DeleteOptions{})
		_ = kube.CoreV1().Namespaces().Delete(ctx, heal.Product, metav1.DeleteOptions{})
	})
	seconds := int64(2 * 3600)
	token, err := kube.CoreV1().ServiceAccounts(heal.Product).CreateToken(ctx, "services",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, ignore)
	must(err)
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	must(err)
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(clientcmd.WriteToFile(*config, path))
	return path
}

// breaks does what breaks it, and notes when.
func (s *stage) breaks(do func() error) {
	s.Helper()
	s.broken = time.Now()
	if err := do(); err != nil {
		s.Fatal(err)
	}
}

// An end is what a scenario waits for.
type end struct {
	strategy heal.Strategy
	kind     string // of the target
	outcome  heal.Outcome
	reason   string
	writes   []string // up to then, as verb and resource, without those that earlier ends named; with a "?", one that need not be
}

// fit is what is wanted, of that which need not be only what was done.
func fit(want, got []string) (all []string) {
	for _, w := range want {
		w, optional := strings.CutSuffix(w, "?")
		if !optional || len(all) < len(got) && got[len(all)] == w {
			all = append(all, w)
		}
	}
	return all
}

// ends waits for the first result of that strategy about that kind in the
// scenario's namespace or on its nodes that has not been waited for, and
// fails the test unless it is what is wanted, with these writes and no more.
func (s *stage) ends(within time.Duration, want end) heal.Result {
	s.Helper()
	var found heal.Event[heal.Result]
	harness.WaitFor(s.T, within, fmt.Sprintf("a result of %s of a %s: %s %s", want.strategy, want.kind, want.outcome, want.reason), func() error {
		var said []string
		for _, e := range s.record.Results() {
			r := e.Data
			if !s.owns(r.Decision.Target) && !s.owns(r.Decision.Failure.Target) {
				continue
			}
			if r.Decision.Strategy == want.strategy && r.Decision.Target.Kind == want.kind && r.Outcome == want.outcome && r.Reason == want.reason && e.Time.After(s.broken) {
				found = e
				return nil
			}
			said = append(said, fmt.Sprintf("%s of %s for %s: %s %s: %s", r.Decision.Strategy, r.Decision.Target, r.Decision.Failure.Reason, r.Outcome, r.Reason, r.Message))
		}
		return fmt.Errorf("%d results:\n%s", len(said), strings.Join(said, "\n"))
	})
	writes := s.writes()[s.counted():]
	a := act{
		Strategy: want.strategy, Target: want.kind, Outcome: want.outcome, Reason: want.reason,
		Seen: found.Data.Decision.Failure.FirstSeen.Sub(s.broken), Verified: found.Time.Sub(s.broken),
	}
	for _, w := range writes {
		a.Writes = append(a.Writes, did(w))
		if a.Written <= 0 { // one before may be about another pod
			a.Written = w.Time.Sub(found.Data.Decision.Failure.FirstSeen)
		}
	}
	if diff := gocmp.Diff(fit(want.writes, a.Writes), a.Writes); diff != "" {
		s.Errorf("writes (-want +got):\n%s", diff)
	}
	s.acts = append(s.acts, a)
	return found.Data
}

// counted is how many writes were named by the ends so far.
func (s *stage) counted() int {
	n := 0
	for _, a := range s.acts {
		n += len(a.Writes)
	}
	return n
}

// later waits for writes that come after a result, such as what takes a
// change back, and adds them to the last line.
func (s *stage) later(within time.Duration, want ...string) {
	s.Helper()
	var got []string
	harness.WaitFor(s.T, within, fmt.Sprintf("the writes %v", want), func() error {
		got = nil
		for _, w := range s.writes()[s.counted():] {
			got = append(got, did(w))
		}
		if len(got) < len(want) {
			return fmt.Errorf("so far %v", got)
		}
		return nil
	})
	if diff := gocmp.Diff(want, got); diff != "" {
		s.Errorf("later writes (-want +got):\n%s", diff)
	}
	last := &s.acts[len(s.acts)-1]
	last.Writes = append(last.Writes, got...)
}

// stays fails the test if anything more was written by now.
func (s *stage) stays() {
	s.Helper()
	for _, w := range s.writes()[s.counted():] {
		s.Errorf("written besides: %s uid %s", w, uidOf(w))
	}
}

// did is verb and resource of a write.
func did(e kubetest.AuditEvent) string {
	if e.Subresource != "" {
		return e.Verb + " " + e.Resource + "/" + e.Subresource
	}
	return e.Verb + " " + e.Resource
}

func (s *stage) owns(t heal.Target) bool {
	return t.Namespace == s.ns || t.Kind == "Node" && slices.Contains(s.nodes, t.Name)
}

func (s *stage) wrote(e kubetest.AuditEvent) bool {
	return e.Namespace == s.ns || e.Namespace == "" && e.Resource == "nodes" && slices.Contains(s.nodes, e.Name)
}

// writes are what the services have changed here, in order.
func (s *stage) writes() []kubetest.AuditEvent {
	s.Helper()
	return slices.DeleteFunc(written(s.T, s.cluster), func(e kubetest.AuditEvent) bool { return !s.wrote(e) })
}

// written is all that the services have changed, in the order in which it was asked for.
func written(t testing.TB, c *kubetest.Cluster) []kubetest.AuditEvent {
	t.Helper()
	all := slices.DeleteFunc(kubetest.Mutations(c.Audit(t), ""), func(e kubetest.AuditEvent) bool {
		return e.User != services || e.DryRun || e.Code >= 300
	})
	slices.SortStableFunc(all, func(a, b kubetest.AuditEvent) int { return a.Time.Compare(b.Time) })
	return all
}

// uidOf is the UID that a write names: as a precondition, in the object that
// is applied, or tested by a JSON patch.
func uidOf(e kubetest.AuditEvent) string {
	if e.UID != "" {
		return e.UID
	}
	var patch []struct {
		Op, Path string
		Value    any
	}
	if json.Unmarshal(e.RequestObject, &patch) != nil {
		return ""
	}
	for _, p := range patch {
		if uid, ok := p.Value.(string); ok && p.Op == "test" && p.Path == "/metadata/uid" {
			return uid
		}
	}
	return ""
}

// judgeAll looks at what all scenarios together have left.
func judgeAll(t *testing.T, c *kubetest.Cluster, stages []*stage, began time.Time) {
	t.Helper()
	for _, e := range written(t, c) {
		if !slices.ContainsFunc(stages, func(s *stage) bool { return s.wrote(e) }) {
			t.Errorf("written where nothing was broken: %s", e)
		}
		if uidOf(e) == "" {
			t.Errorf("a write that names no UID: %s %s", e, e.RequestObject)
		}
	}
	for _, e := range kubetest.Mutations(c.Audit(t), "selfheal-") {
		if e.Time.After(began) && (e.User != services || e.Code == http.StatusForbidden) {
			t.Errorf("%s by %s", e, e.User)
		}
	}
	nodes, err := c.Client(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		for _, taint := range n.Spec.Taints {
			if strings.HasPrefix(taint.Key, heal.Domain+"/") || taint.Value == heal.FieldManager {
				t.Errorf("node %s is left with the taint %s", n.Name, taint.ToString())
			}
		}
		if n.Spec.Unschedulable || n.Annotations[heal.AnnotationOwnedBy] != "" {
			t.Errorf("node %s is left unschedulable: %v, annotations %v", n.Name, n.Spec.Unschedulable, n.Annotations)
		}
	}
}

// page is where the table goes.
const page = "docs/scenarios.md"

const pageHead = `# Scenarios

Generated by ` + "`make e2e UPDATE=1`" + ` (` + "`test/e2e`" + `); do not edit it. Each scenario breaks a real Kubernetes control plane (` + "`dev/cluster`" + `: only the
kubelets are played), the four binaries heal it, with the rights that they ask for, and the API server's audit log is the judge: these
writes by the services' account and no others, each naming its object by UID, and nothing left behind. A run fails otherwise; the times are only shown.

The settings are in a hurry: a ` + "`pod_check_interval`" + ` of 12 s, a ` + "`verify_window`" + ` of 5 s, a ` + "`recovery_timeout`" + ` of 60 s. What a detector waits for by itself
(10 minutes of pressure, 60 s of a missing configuration), it waits for here too, between the first sight and the first write: see [failures](failures.md).

`

func pageOf(table string) string { return pageHead + table }

// tableOf is what was seen, in Markdown.
func tableOf(all []scenario, stages []*stage) string {
	var b strings.Builder
	b.WriteString("| scenario | what became of it | writes | broken → first seen | first seen → first write | broken → result | proves |\n|---|---|---|---|---|---|---|\n")
	for i, sc := range all {
		for j, a := range stages[i].acts {
			name, proves := sc.name, sc.proves
			if j > 0 {
				name, proves = "", ""
			}
			fmt.Fprintf(&b, "| %s | `%s` of the %s: %s, `%s` | %s | %s | %s | %s | %s |\n", name, a.Strategy, a.Target, a.Outcome, a.Reason,
				cmp.Or(tally(a.Writes), "none"), seconds(a.Seen), seconds(a.Written), seconds(a.Verified), proves)
		}
	}
	return b.String()
}

// tally counts writes that follow each other: "1: patch nodes; 3: create pods/eviction".
func tally(writes []string) string {
	if len(writes) == 0 {
		return ""
	}
	var parts []string
	for i := 0; i < len(writes); {
		n := 1
		for i+n < len(writes) && writes[i+n] == writes[i] {
			n++
		}
		part := writes[i]
		if n > 1 {
			part = fmt.Sprintf("%d × %s", n, part)
		}
		parts = append(parts, part)
		i += n
	}
	return fmt.Sprintf("%d: %s", len(writes), strings.Join(parts, ", "))
}

func seconds(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// TestThePageListsTheScenarios keeps the page in step with what is played, but
// for the figures.
func TestThePageListsTheScenarios(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.RepositoryRoot(t), page))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), pageHead) {
		t.Errorf("the head of %s is another: run make e2e UPDATE=1", page)
	}
	type row struct{ name, proves string }
	var got, want []row
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if name := strings.TrimPrefix(cells[0], "| "); len(cells) == 7 && name != "" && name != "scenario" {
			got = append(got, row{name, strings.TrimSuffix(strings.TrimSpace(cells[6]), " |")})
		}
	}
	for _, sc := range scenarios {
		want = append(want, row{sc.name, sc.proves})
	}
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", page, diff)
	}
}

// alone waits until no other scenario takes a node away.
func (s *stage) alone() (done func()) {
	s.turn <- struct{}{}
	return sync.OnceFunc(func() { <-s.turn })
}
