package actuator_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// nodes adds two nodes that only the test's pods run on.
func (r *rig) nodes() (a, b string) {
	r.t.Helper()
	a, b = "a-"+r.ns, "b-"+r.ns
	for _, name := range []string{a, b} {
		r.addNode(name)
	}
	return a, b
}

func (r *rig) addNode(name string) {
	r.t.Helper()
	if err := r.cluster.AddNode(r.t.Context(), name, "zone-of-"+r.ns, map[string]string{"only": r.ns}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		// The other tests must find no node that is down.
		if err := r.admin.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			r.t.Error(err)
		}
	})
	r.untilNode(name, "Ready", nodeReady)
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func (r *rig) node(name string) *corev1.Node {
	r.t.Helper()
	n, err := r.admin.CoreV1().Nodes().Get(r.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *rig) untilNode(name, what string, as func(*corev1.Node) bool) *corev1.Node {
	r.t.Helper()
	return await(r, name, what, as, r.admin.CoreV1().Nodes().Get)
}

// down silences a node and waits until Kubernetes has noticed.
func (r *rig) down(name string) *corev1.Node {
	r.t.Helper()
	if err := r.cluster.StopNode(r.t.Context(), name); err != nil {
		r.t.Fatal(err)
	}
	return r.untilNode(name, "down", func(n *corev1.Node) bool { return !nodeReady(n) })
}

// here makes a Deployment run on the test's nodes.
func (r *rig) here(d *appsv1.Deployment) {
	d.Spec.Template.Spec.NodeSelector = map[string]string{"only": r.ns}
}

// untouched reports whether a node carries nothing of ours.
func untouched(n *corev1.Node) bool {
	if n.Spec.Unschedulable {
		return false
	}
	for key := range n.Annotations {
		if strings.HasPrefix(key, heal.Domain+"/") {
			return false
		}
	}
	return !slices.ContainsFunc(n.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == heal.FieldManager })
}

func drainOf(n *corev1.Node) heal.Decision {
	return decide(nodeTarget(n), heal.NodeFailure, heal.DrainAndReplace)
}

func TestADeadNodeIsCordonedAndDrainedAndUncordonedOnceItIsBack(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 8 * time.Second
	r.start(cfg)
	dead, alive := r.nodes()
	cordon(t, r, alive, true) // all pods start on the one that dies
	pods := r.ready(r.deploy("web", "shop/api:good", 4, r.here))
	cordon(t, r, alive, false)
	bare, err := r.admin.CoreV1().Pods(r.ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bare"},
		Spec:       corev1.PodSpec{NodeName: dead, Containers: []corev1.Container{{Name: "app", Image: "good"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node := r.down(dead)

	d := drainOf(node)
	res := r.carryOut(d)

	if got, want := end(res), (ended{heal.Failed, "NodeStillDown"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	for _, part := range []string{dead, "cordoned and drained, but for 1 pod", "runs elsewhere", "needs a person"} {
		if !strings.Contains(res.Message, part) {
			t.Errorf("message %q does not say %q", res.Message, part)
		}
	}
	if want := "kubectl uncordon " + dead; res.Undo == nil || res.Undo.Command != want {
		t.Errorf("undo = %+v, want the command %q", res.Undo, want)
	}
	steps := map[string]heal.Step{}
	for _, s := range res.Steps {
		steps[s.Name] = s
	}
	if s := steps["drain"]; !strings.Contains(s.Detail, bare.Name) || s.Status != heal.StepOK {
		t.Errorf("drain step %+v does not name the pod that was left", s)
	}
	if s := steps["replace"]; s.Status != heal.StepSkipped || !strings.Contains(s.Detail, "no provider") {
		t.Errorf("replace step = %+v", s)
	}
	evicted, want := map[string]string{}, map[string]string{}
	for _, e := range r.writes() {
		switch {
		case e.Subresource == "eviction":
			evicted[e.Name] = e.UID
		case e.Verb == "patch" && e.Resource == "nodes" && e.Name == dead && e.UID == string(node.UID):
		default:
			t.Errorf("sent %s", e)
		}
	}
	for _, p := range pods {
		want[p.Name] = string(p.UID)
	}
	if diff := cmp.Diff(want, evicted); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		ready := 0
		for i := range list.Items {
			if p := &list.Items[i]; p.Spec.NodeName == alive && isReady(p) {
				ready++
			}
		}
		if ready != 4 {
			return fmt.Errorf("%d pods are Ready on %s", ready, alive)
		}
		return nil
	})
	now := r.node(dead)
	got := []string{fmt.Sprint(now.Spec.Unschedulable), now.Annotations[heal.AnnotationOwnedBy], now.Annotations[heal.AnnotationDecisionID]}
	if diff := cmp.Diff([]string{"true", heal.FieldManager, d.ID}, got); diff != "" {
		t.Errorf("the node's cordon (-want +got):\n%s", diff)
	}

	if err := r.cluster.StartNode(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	r.untilNode(dead, "as if we had never been there", untouched)
}

func TestANodeThatIsReadyAndBrokenIsDrainedUntilItIsWell(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, b := r.nodes()
	cordon(t, r, b, true) // all pods start on the other
	pods := r.ready(r.deploy("web", "shop/api:good", 2, r.here))
	cordon(t, r, b, false)
	says := func(status corev1.ConditionStatus) *corev1.Node { // as node-problem-detector does
		body := fmt.Sprintf(`{"status":{"conditions":[{"type":"ReadonlyFilesystem","status":%q,"reason":"FilesystemIsReadOnly"}]}}`, status)
		n, err := r.admin.CoreV1().Nodes().Patch(t.Context(), a, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	d := decide(nodeTarget(says(corev1.ConditionTrue)), heal.NodeFailure, heal.DrainAndReplace)
	d.Failure.Reason, d.Failure.Detector = "ReadonlyFilesystem", "node_problem"
	r.publish(d)
	for i := range pods {
		kubetest.Eventually(t, 40*time.Second, r.gone(&pods[i]))
	}
	says(corev1.ConditionFalse)
	res := r.result(d, time.Minute)
	if got := end(res); got != verified {
		t.Errorf("ended %v, want %v: %s", got, verified, res.Message)
	}
	if diff := cmp.Diff([]string{"patch nodes", "create pods/eviction", "create pods/eviction", "patch nodes"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if n := r.node(a); !untouched(n) {
		t.Errorf("left behind: unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
	}
}

func TestANodeThatComesBackMeanwhileIsASuccess(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	var patches atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil && req.Method == http.MethodPatch && patches.Add(1) == 2 { // the cordon, after its dry run
			_ = resp.Body.Close()
			return nil, syscall.ECONNRESET // that its answer is lost does no harm
		}
		return resp, err
	}).between)
	a, _ := r.nodes()
	node := r.down(a)
	d := decide(nodeTarget(node), heal.NodeFailure, heal.EmergencyReplace)
	r.publish(d)
	r.untilNode(a, "cordoned", func(n *corev1.Node) bool { return n.Spec.Unschedulable })
	if err := r.cluster.StartNode(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !slices.ContainsFunc(res.Steps, func(s heal.Step) bool {
		return s.Name == "emergency_replace" && strings.Contains(s.Detail, "no proof")
	}) {
		t.Errorf("steps %+v do not say why nothing was replaced", res.Steps)
	}
	if n := r.node(a); !untouched(n) {
		t.Errorf("left behind: unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
	}
	if got := len(r.writes()); got != 2 {
		t.Errorf("%d writes, want a cordon and its end", got)
	}
}

func TestANodeThatIsTakenAwayIsASuccessOnceItsWorkloadsRunElsewhere(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, b := r.nodes()
	pods := r.ready(r.deploy("web", "shop/api:good", 1, r.here))
	at, other := pods[0].Spec.NodeName, a
	if at == a {
		other = b
	}
	d := drainOf(r.down(at))
	r.publish(d)
	r.until(&pods[0], "terminating", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if err := r.cluster.RemoveNode(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "NodeReplaced"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if n := r.node(other); n.Spec.Unschedulable {
		t.Errorf("%s is cordoned", other)
	}
}

func TestAPersonsCordonIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, _ := r.nodes()
	cordon(t, r, a, true)
	res := r.carryOut(drainOf(r.down(a)))
	if got, want := end(res), (ended{heal.Rejected, "CordonedByOther"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "kubectl-person") {
		t.Errorf("message %q does not say who cordoned it", res.Message)
	}
	r.noWrites()
}

// cordon does what kubectl cordon and uncordon do.
func cordon(t *testing.T, r *rig, node string, on bool) {
	t.Helper()
	value := "null"
	if on {
		value = "true"
	}
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%s}}`, value)
	if _, err := r.admin.CoreV1().Nodes().Patch(t.Context(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-person"}); err != nil {
		t.Fatal(err)
	}
}

func TestAPersonsCordonOnTopOfOursOutlivesIt(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, _ := r.nodes()
	node := r.down(a)
	d := drainOf(node)
	r.publish(d)
	r.untilNode(a, "cordoned", func(n *corev1.Node) bool { return n.Spec.Unschedulable })
	ours := corev1ac.Node(a).WithSpec(corev1ac.NodeSpec().WithUnschedulable(true))
	if _, err := r.admin.CoreV1().Nodes().Apply(t.Context(), ours, metav1.ApplyOptions{FieldManager: "person"}); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.StartNode(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		n, err := r.admin.CoreV1().Nodes().Get(ctx, a, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if _, marked := n.Annotations[heal.AnnotationDecisionID]; marked {
			return fmt.Errorf("still marked as ours after %v", end(res))
		}
		return nil
	})
	if n := r.node(a); !n.Spec.Unschedulable {
		t.Error("the person's cordon is gone")
	}
}

func TestANodeThatAPersonUncordonedIsNotCordonedAgain(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 5 * time.Second
	r.start(cfg)
	a, _ := r.nodes()
	node := r.down(a)
	first := drainOf(node)
	r.publish(first)
	r.untilNode(a, "cordoned", func(n *corev1.Node) bool { return n.Spec.Unschedulable })
	cordon(t, r, a, false)

	second := r.carryOut(drainOf(node))
	if got, want := end(second), (ended{heal.Rejected, "UncordonedByOther"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, second.Message)
	}
	r.result(first, time.Minute)
	r.untilNode(a, "free of our marks", func(n *corev1.Node) bool {
		_, marked := n.Annotations[heal.AnnotationDecisionID]
		return !marked && !n.Spec.Unschedulable
	})
	third := r.carryOut(drainOf(node))
	if got, want := end(third), (ended{heal.Rejected, "UncordonedByOther"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, third.Message)
	}
	cordons := 0
	for _, e := range r.writes() {
		if e.Resource == "nodes" && strings.Contains(string(e.RequestObject), `"unschedulable":true`) {
			cordons++
		}
	}
	if cordons != 1 {
		t.Errorf("cordoned %d times, want 1", cordons)
	}
}

func TestNoSecondNodeIsDisrupted(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 4 * time.Second
	r.start(cfg)
	r.start(cfg)
	a, b := r.nodes()
	for i := range 6 { // so many that two of them are no storm
		r.addNode(fmt.Sprintf("c%d-%s", i, r.ns))
	}
	first, second := r.down(a), r.down(b)
	// At the same moment, with two actuators.
	both := []heal.Decision{drainOf(first), drainOf(second)}
	for _, d := range both {
		r.publish(d)
	}
	reasons := map[string]int{}
	for _, d := range both {
		res := r.result(d, time.Minute)
		reasons[res.Reason]++
	}
	if diff := cmp.Diff(map[string]int{"NodeStillDown": 1, "NodeBudget": 1}, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	touched := map[string]bool{}
	for _, e := range r.writes() {
		touched[e.Name] = true
	}
	if len(touched) != 1 {
		t.Errorf("changed nodes %v, want one", touched)
	}
}

func TestInAStormNoNodeIsTouched(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, b := r.nodes()
	r.down(b)
	res := r.carryOut(drainOf(r.down(a)))
	if got, want := end(res), (ended{heal.Rejected, "Storm"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "2 of 5 nodes") {
		t.Errorf("message %q does not say the numbers", res.Message)
	}
	r.noWrites()
}

func TestAHealthyOrProtectedNodeIsNotTouched(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, _ := r.nodes()
	res := r.carryOut(drainOf(r.node(a)))
	if got, want := end(res), (ended{heal.Skipped, "Recovered"}); got != want {
		t.Errorf("a healthy node: ended %v, want %v: %s", got, want, res.Message)
	}
	node := r.down(a)
	label := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`)
	if _, err := r.admin.CoreV1().Nodes().Patch(t.Context(), a, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	res = r.carryOut(drainOf(node))
	if got, want := end(res), (ended{heal.Rejected, "ProtectedNode"}); got != want {
		t.Errorf("a control-plane node: ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestWithoutRoomElsewhereANodeIsOnlyCordoned(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 4 * time.Second
	r.start(cfg)
	a := "a-" + r.ns
	r.addNode(a) // no other takes its pods
	r.ready(r.deploy("web", "shop/api:good", 1, r.here))
	res := r.carryOut(drainOf(r.down(a)))
	if got, want := end(res), (ended{heal.Failed, "NoRoom"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	for _, e := range r.writes() {
		if e.Resource != "nodes" {
			t.Errorf("sent %s", e)
		}
	}
}

func TestADrainKeepsBudgetsMarksAndTheLastReadyPod(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 10 * time.Second
	r.start(cfg)
	a, b := r.nodes()
	cordon(t, r, b, true) // all pods start on a
	budgeted := r.ready(r.deploy("budgeted", "shop/api:good", 2, r.here))
	r.budget("budgeted", intstr.FromInt32(2))
	marked := r.ready(r.deploy("marked", "shop/api:good", 2, r.here, func(d *appsv1.Deployment) {
		d.Annotations = map[string]string{heal.AnnotationMode: "off"}
	}))
	single := r.ready(r.deploy("single", "shop/api:good", 1, r.here))
	plain := r.ready(r.deploy("plain", "shop/api:good", 2, r.here))
	cordon(t, r, b, false)
	// Its kubelet is alive and says that it is not well; its pods serve on.
	if err := r.cluster.SetNotReady(t.Context(), a, "the container runtime is down"); err != nil {
		t.Fatal(err)
	}
	node := r.untilNode(a, "not Ready", func(n *corev1.Node) bool { return !nodeReady(n) })
	res := r.carryOut(drainOf(node))

	if got, want := end(res), (ended{heal.Failed, "NodeStillDown"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	var drain string
	for _, s := range res.Steps {
		if s.Name == "drain" {
			drain = s.Detail
		}
	}
	for _, part := range []string{
		"2 pods evicted", "2 left alone", "Deployment/marked carries", "3 not evicted in time",
		"PodDisruptionBudget " + r.ns + "/budgeted allows 0 disruptions", "Pod/" + single[0].Name + " is Ready",
	} {
		if !strings.Contains(drain, part) {
			t.Errorf("the drain's detail %q does not say %q", drain, part)
		}
	}
	evicted := map[string]bool{}
	for _, e := range r.writes() {
		if e.Subresource == "eviction" {
			evicted[e.Name] = true
		}
	}
	for _, p := range slices.Concat(budgeted, marked, single) {
		if evicted[p.Name] {
			t.Errorf("%s was evicted", p.Name)
		}
	}
	for _, p := range plain {
		if !evicted[p.Name] {
			t.Errorf("%s was not evicted", p.Name)
		}
	}
}

func TestTheNodeThatCarriesTheLastActuatorIsNotTakenAway(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	home := r.cluster.Namespace(t)
	cfg := quick()
	cfg.Protected = []string{home}
	cfg.RecoveryTimeout = 4 * time.Second
	r.start(cfg)
	a, b := r.nodes()
	run := func(node string) {
		t.Helper()
		pod, err := r.admin.CoreV1().Pods(home).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "actuator-", Labels: map[string]string{
				"app.kubernetes.io/name": "self-healing", "app.kubernetes.io/component": "actuator",
			}},
			Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "actuator", Image: "good"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.until(pod, "Ready", isReady)
	}
	run(a)
	node := r.down(a)
	res := r.carryOut(drainOf(node))
	if got, want := end(res), (ended{heal.Rejected, "OwnNode"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()

	run(b)
	res = r.carryOut(drainOf(node))
	if got, want := end(res), (ended{heal.Failed, "NodeStillDown"}); got != want {
		t.Errorf("with another elsewhere: ended %v, want %v: %s", got, want, res.Message)
	}
}
