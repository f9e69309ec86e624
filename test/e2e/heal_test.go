package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// quick makes the pipeline impatient and its caps wide; the defaults wait as
// production should.
func quick(t testing.TB, more map[string]string) map[string]string {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: quick\nguards:\n  actions_per_minute: 3000\n  backoff: {first: 2, longest: 4}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := map[string]string{
		"SELFHEAL_POLICY_FILE":   policy,
		"HEALTH_CHECK_INTERVAL":  "1",
		"POD_RESTART_THRESHOLD":  "1",
		"NODE_FAILURE_THRESHOLD": "2",
		"RECOVERY_TIMEOUT":       "60",
		"VERIFY_WINDOW":          "3",
	}
	for k, v := range more {
		s[k] = v
	}
	return s
}

// inbox is where notifications arrive.
func inbox(t testing.TB) (url string, received <-chan []byte) {
	bodies := make(chan []byte, 1000) // more than any test sends: the handler must not block
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			bodies <- body
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, bodies
}

// effective are the writes of the actuator that changed something about an object in namespace.
func effective(t testing.TB, c *kubetest.Cluster, namespace string) []kubetest.AuditEvent {
	t.Helper()
	var writes []kubetest.AuditEvent
	for _, e := range kubetest.Mutations(c.Audit(t), "selfheal-actuator/") {
		if e.Namespace == namespace && !e.DryRun && e.Code < 300 {
			writes = append(writes, e)
		}
	}
	return writes
}

// resultsFor are the results about the targets of a workload.
func resultsFor(r *harness.Record, namespace, owner string) []heal.Result {
	var found []heal.Result
	for _, e := range r.Results() {
		if f := e.Data.Decision.Failure; f.Target.Namespace == namespace && f.Owner.Name == owner {
			found = append(found, e.Data)
		}
	}
	return found
}

func TestCrashingPodIsReplacedVerifiedAndTold(t *testing.T) {
	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	harness.Deploy(t, kube, ns, harness.Deployment("checkout", "shop/checkout:1", 3))
	url, told := inbox(t)
	p := harness.Start(t, c, quick(t, map[string]string{"WEBHOOK_URL": url}))
	record := harness.Listen(t, p.Bus(t))

	victim := harness.Pods(t, kube, ns, "checkout")[0]
	if err := c.SetBehaviour(t.Context(), ns, victim.Name, "crash"); err != nil {
		t.Fatal(err)
	}
	var result heal.Result
	harness.WaitFor(t, 60*time.Second, "a successful result", func() error {
		for _, r := range resultsFor(record, ns, "checkout") {
			if r.Outcome == heal.Succeeded {
				result = r
				return nil
			}
		}
		return fmt.Errorf("%d results so far", len(record.Results()))
	})

	if got := result.Decision.Target.UID; got != string(victim.UID) {
		t.Errorf("target uid = %s, want %s", got, victim.UID)
	}
	if d := result.Decision; d.Strategy != heal.Restart || d.Severity != heal.Medium {
		t.Errorf("decided %s at severity %s, want restart at medium", d.Strategy, d.Severity)
	}
	if result.Verification == nil || !result.Verification.Passed {
		t.Errorf("verification = %+v, want passed", result.Verification)
	}
	harness.WaitAvailable(t, kube, ns, "checkout", 3)
	writes := effective(t, c, ns)
	if len(writes) != 1 || writes[0].UID != string(victim.UID) || writes[0].Name != victim.Name {
		t.Errorf("effective writes = %v, want one, on uid %s", writes, victim.UID)
	}
	harness.WaitFor(t, 20*time.Second, "failure.resolved", func() error {
		for _, e := range record.Failures() {
			if e.Data.Resolved() && e.Data.Target.UID == string(victim.UID) {
				return nil
			}
		}
		return fmt.Errorf("%d failure events", len(record.Failures()))
	})

	patience := time.After(20 * time.Second)
	for heard := false; !heard; { // that a second detector found a recovery under way may be told before
		select {
		case body := <-told:
			var e heal.Event[heal.Result]
			if err := json.Unmarshal(body, &e); err != nil {
				t.Errorf("webhook was told %s: %v", body, err)
			}
			heard = e.ID == heal.MakeResultID(result.Decision.ID)
		case <-patience:
			t.Fatal("nobody was told of the success")
		}
	}
	if dead := record.DeadLetters(); len(dead) > 0 {
		t.Errorf("dead letters: %s", dead)
	}
}

func TestBrokenImageThatNeverWorkedIsNotHealedByRestartsAndGoesToPeople(t *testing.T) {
	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	p := harness.Start(t, c, quick(t, nil))
	record := harness.Listen(t, p.Bus(t))

	d := harness.Deployment("cart", "shop/cart:broken", 1) // there is nothing to roll back to
	if _, err := kube.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, 90*time.Second, "restarts that did not help, and giving up", func() error {
		var failed, refused bool
		for _, r := range resultsFor(record, ns, "cart") {
			failed = failed || r.Outcome == heal.Failed
			refused = refused || r.Outcome == heal.Rejected && r.Reason == heal.ReasonGivenUp
		}
		if !failed || !refused {
			return fmt.Errorf("failed: %v, refused: %v", failed, refused)
		}
		return nil
	})
	for _, r := range resultsFor(record, ns, "cart") {
		if r.Outcome == heal.Succeeded {
			t.Errorf("a restart of a broken image was called a success: %s", r.Message)
		}
	}
}

func TestDeadNodeIsCordonedDrainedAndReplaced(t *testing.T) {
	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	harness.Deploy(t, kube, ns, harness.Deployment("web", "shop/web:1", 5))
	p := harness.Start(t, c, quick(t, nil))
	record := harness.Listen(t, p.Bus(t))

	dead := harness.Pods(t, kube, ns, "web")[0].Spec.NodeName
	t.Cleanup(func() { removeAndReplace(t, c, dead) })
	if err := c.StopNode(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, 60*time.Second, "the node to be cordoned by us", func() error {
		n, err := kube.CoreV1().Nodes().Get(t.Context(), dead, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !n.Spec.Unschedulable || n.Annotations[heal.AnnotationOwnedBy] == "" {
			return fmt.Errorf("unschedulable: %v, annotations: %v", n.Spec.Unschedulable, n.Annotations)
		}
		return nil
	})
	harness.WaitFor(t, 60*time.Second, "5 ready pods on living nodes", func() error {
		ready := 0
		for _, pod := range harness.Pods(t, kube, ns, "web") {
			if pod.Spec.NodeName != dead && isReady(pod) {
				ready++
			}
		}
		if ready != 5 {
			return fmt.Errorf("%d ready", ready)
		}
		return nil
	})
	removeAndReplace(t, c, dead)
	harness.WaitFor(t, 60*time.Second, "the node's result", func() error {
		for _, e := range record.Results() {
			if e.Data.Decision.Target.Kind == "Node" && e.Data.Outcome == heal.Succeeded {
				if got := e.Data.Decision.Strategy; got != heal.EmergencyReplace { // without proof of death it is drained
					t.Errorf("strategy = %s, want emergency_replace", got)
				}
				return nil
			}
		}
		return fmt.Errorf("%d results", len(record.Results()))
	})
}

func TestNodeThatComesBackIsReleased(t *testing.T) {
	c := kubetest.Get(t)
	kube := c.Client(t)
	p := harness.Start(t, c, quick(t, nil))
	record := harness.Listen(t, p.Bus(t))
	nodes, err := kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := nodes.Items[0].Name
	if err := c.SetNotReady(t.Context(), node, "container runtime is down"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.SetNotReady(context.Background(), node, ""); err != nil {
			t.Error(err)
		}
	})
	harness.WaitFor(t, 60*time.Second, "the cordon", func() error {
		n, err := kube.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err == nil && !n.Spec.Unschedulable {
			err = fmt.Errorf("still schedulable")
		}
		return err
	})
	if err := c.SetNotReady(t.Context(), node, ""); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, 60*time.Second, "the cordon's release, and no mark of ours left", func() error {
		n, err := kube.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if n.Spec.Unschedulable || n.Annotations[heal.AnnotationOwnedBy] != "" || n.Annotations[heal.AnnotationDecisionID] != "" {
			return fmt.Errorf("unschedulable: %v, annotations: %v", n.Spec.Unschedulable, n.Annotations)
		}
		return nil
	})
	harness.WaitFor(t, 30*time.Second, "failure.resolved of the node", func() error {
		for _, e := range record.Failures() {
			if e.Data.Resolved() && e.Data.Target.Name == node {
				return nil
			}
		}
		return fmt.Errorf("%d failure events", len(record.Failures()))
	})
}

// removeAndReplace is what a cloud provider does about a dead machine.
func removeAndReplace(t testing.TB, c *kubetest.Cluster, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kube := c.Client(t)
	n, err := kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return // already replaced
	}
	if err := c.RemoveNode(ctx, name); err != nil {
		t.Error(err)
	}
	if err := c.AddNode(ctx, name+"-r", n.Labels[corev1.LabelTopologyZone], nil); err != nil {
		t.Error(err)
	}
}

func isReady(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestServicesThatAreAskedToStopFinishAndExitZero(t *testing.T) {
	c := kubetest.Get(t)
	kube := c.Client(t)
	ns := c.Namespace(t)
	harness.Deploy(t, kube, ns, harness.Deployment("checkout", "shop/checkout:1", 2))
	p := harness.Start(t, c, quick(t, map[string]string{"VERIFY_WINDOW": "30"}))
	record := harness.Listen(t, p.Bus(t))
	if err := c.SetBehaviour(t.Context(), ns, harness.Pods(t, kube, ns, "checkout")[0].Name, "crash"); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, 60*time.Second, "a write, with its verification under way", func() error {
		if len(effective(t, c, ns)) == 0 {
			return fmt.Errorf("%d decisions", len(record.Decisions()))
		}
		return nil
	})
	for _, name := range harness.Services {
		if code := p.Stop(name); code != 0 {
			t.Errorf("%s: exit code %d, want 0", name, code)
		}
	}

	// What was under way is taken up again, and told once.
	for _, name := range harness.Services {
		p.Run(t, name)
	}
	harness.WaitFor(t, 90*time.Second, "the result of what was under way", func() error {
		for _, r := range resultsFor(record, ns, "checkout") {
			if r.Outcome == heal.Succeeded {
				return nil
			}
		}
		return fmt.Errorf("%d results", len(record.Results()))
	})
	if writes := effective(t, c, ns); len(writes) != 1 {
		t.Errorf("effective writes = %v, want one", writes)
	}
}
