package actuator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

// custom sends an object of a kind that there is no type for, as the
// administrator, and returns what came of it.
func (r *rig) custom(verb, path string, body any) map[string]any {
	r.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	kind := "application/json"
	if verb == http.MethodPatch {
		kind = string(types.MergePatchType)
	}
	var answer map[string]any
	kubetest.Eventually(r.t, 20*time.Second, func(ctx context.Context) error { // a new kind takes a moment to be served
		raw, err := r.admin.Discovery().RESTClient().Verb(verb).AbsPath(path).
			SetHeader("Accept", "application/json").SetHeader("Content-Type", kind).Body(data).DoRaw(ctx)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", verb, path, err, raw)
		}
		return json.Unmarshal(raw, &answer)
	})
	return answer
}

// define makes the API server serve a kind, whatever is in it.
func (r *rig) define(group, version, kind, scope string) {
	r.t.Helper()
	plural := strings.ToLower(kind) + "s"
	r.custom(http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + "." + group, "annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, for a test"}},
		"spec": map[string]any{
			"group": group, "scope": scope, "names": map[string]any{"kind": kind, "plural": plural, "singular": strings.ToLower(kind)},
			"versions": []any{map[string]any{"name": version, "served": true, "storage": true, "schema": map[string]any{
				"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
			}}},
		},
	})
}

const machines = "/apis/cluster.x-k8s.io/v1beta1/namespaces/%s/"

// capi makes the node one of Cluster API's, and returns its Machine's path.
func (r *rig) capi(node string) string {
	r.t.Helper()
	for _, kind := range []string{"Machine", "Cluster", "MachineHealthCheck"} {
		r.define("cluster.x-k8s.io", "v1beta1", kind, "Namespaced")
	}
	in := fmt.Sprintf(machines, r.ns)
	r.custom(http.MethodPost, in+"machines", map[string]any{
		"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "Machine",
		"metadata": map[string]any{
			"name": "m-1", "finalizers": []string{"machine.cluster.x-k8s.io"}, "labels": map[string]any{"pool": "workers"},
			"ownerReferences": []any{map[string]any{"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineSet", "name": "pool", "uid": "1-2-3", "controller": true}},
		},
		"spec":   map[string]any{"clusterName": "prod"},
		"status": map[string]any{"nodeRef": map[string]any{"name": node}},
	})
	r.annotate("Node", node, "cluster.x-k8s.io/machine", "m-1")
	r.annotate("Node", node, "cluster.x-k8s.io/cluster-namespace", r.ns)
	r.t.Cleanup(func() { // the namespace cannot go before
		_, _ = r.admin.Discovery().RESTClient().Patch(types.MergePatchType).AbsPath(in + "machines/m-1").
			Body([]byte(`{"metadata":{"finalizers":null}}`)).DoRaw(context.Background())
	})
	return in + "machines/m-1"
}

// deleting waits until what path names is being deleted.
func (r *rig) deleting(path string) {
	r.t.Helper()
	kubetest.Eventually(r.t, time.Minute, func(ctx context.Context) error {
		raw, err := r.admin.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
		var o struct{ Metadata metav1.ObjectMeta }
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = json.Unmarshal(raw, &o)
		}
		if err == nil && o.Metadata.DeletionTimestamp == nil {
			err = fmt.Errorf("%s is not being deleted", path)
		}
		return err
	})
}

// replaceNode does what a provider does once a machine is given up.
func (r *rig) replaceNode(old string) string {
	r.t.Helper()
	r.addNode("new-" + r.ns)
	if err := r.cluster.RemoveNode(r.t.Context(), old); err != nil {
		r.t.Fatal(err)
	}
	return "new-" + r.ns
}

// patient is how long a machine may take to be replaced.
const patient = time.Minute

// sent are the writes but evictions, as verb, resource, name and UID.
func (r *rig) sent() (all []string) {
	r.t.Helper()
	for _, e := range r.writes() {
		if e.Subresource != "eviction" {
			all = append(all, strings.Join([]string{e.Verb, e.Resource, e.Name, e.UID}, " "))
		}
	}
	return all
}

func TestADeadNodesMachineIsReplacedByClusterAPI(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = patient
	r.start(cfg)
	dead, alive := r.nodes()
	cordon(t, r, alive, true) // all pods start on the one that dies
	r.ready(r.deploy("web", "shop/api:good", 2, r.here))
	cordon(t, r, alive, false)
	path := r.capi(dead)
	var machine struct{ Metadata metav1.ObjectMeta }
	raw, err := r.admin.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &machine); err != nil {
		t.Fatal(err)
	}
	node := r.down(dead)
	d := drainOf(node)
	r.publish(d)
	r.deleting(path)
	successor := r.replaceNode(dead)

	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "NodeReplaced"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "Node/"+successor+" is Ready") {
		t.Errorf("message %q does not name the new node", res.Message)
	}
	if diff := cmp.Diff([]string{
		"patch nodes " + dead + " " + string(node.UID),
		"delete machines m-1 " + string(machine.Metadata.UID),
	}, r.sent()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestAMachineThatSomebodyElseLooksAfterIsLeftToIt(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	dead, _ := r.nodes()
	path := r.capi(dead)
	r.custom(http.MethodPost, fmt.Sprintf(machines, r.ns)+"machinehealthchecks", map[string]any{
		"apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineHealthCheck", "metadata": map[string]any{"name": "workers"},
		"spec": map[string]any{"clusterName": "prod", "selector": map[string]any{"matchLabels": map[string]any{"pool": "workers"}}},
	})
	node := r.down(dead)
	for _, tt := range []struct {
		name   string
		change func()
		want   string
		says   string
	}{
		{"by a health check", func() {}, "RepairedByOther", "MachineHealthCheck workers"},
		{"of the control plane", func() {
			r.custom(http.MethodPatch, path, map[string]any{"metadata": map[string]any{"labels": map[string]any{"cluster.x-k8s.io/control-plane": ""}}})
		}, "ProtectedNode", "control plane"},
		{"paused", func() {
			r.custom(http.MethodPatch, path, map[string]any{"metadata": map[string]any{
				"labels": map[string]any{"cluster.x-k8s.io/control-plane": nil}, "annotations": map[string]any{"cluster.x-k8s.io/paused": "true"},
			}})
		}, "ProviderPaused", "paused"},
		{"of another node", func() {
			r.custom(http.MethodPatch, path, map[string]any{"status": map[string]any{"nodeRef": map[string]any{"name": "x"}}})
		}, "ProviderDisagrees", `node "x"`},
	} {
		tt.change()
		res := r.carryOut(drainOf(node))
		if got, want := end(res), (ended{heal.Rejected, tt.want}); got != want || !strings.Contains(res.Message, tt.says) {
			t.Errorf("%s: ended %v, want %v, saying %q: %s", tt.name, got, want, tt.says, res.Message)
		}
	}
	if got := r.writes(); len(got) > 0 {
		t.Errorf("sent %v, want nothing", got)
	}
}

func TestADeadNodesClaimIsReplacedByKarpenterThoughItsActuatorDies(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.BeforeAPI + ":2", crash.AfterAPIBeforeRecord + ":2"} { // the second request deletes the NodeClaim
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), ward(t))
			dead, _ := r.nodes()
			claim := r.nodeClaim(dead)
			r.survives(at, drainOf(r.down(dead)), ended{heal.Succeeded, "NodeReplaced"}, func() { claim.replaced(dead) })
			if n := claim.deletions(); n != 1 {
				t.Errorf("the NodeClaim was deleted %d times, want once", n)
			}
		})
	}
}

// A nodeClaim is what Karpenter has a node from.
type nodeClaim struct {
	*rig
	uid  string
	path string
}

// nodeClaim makes the node one of Karpenter's.
func (r *rig) nodeClaim(node string) *nodeClaim {
	r.t.Helper()
	r.define("karpenter.sh", "v1", "NodeClaim", "Cluster")
	made := r.custom(http.MethodPost, "/apis/karpenter.sh/v1/nodeclaims", map[string]any{
		"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
		"metadata": map[string]any{"name": "claim-" + r.ns, "labels": map[string]any{"karpenter.sh/nodepool": "default"}, "finalizers": []string{"karpenter.sh/termination"}},
		"status":   map[string]any{"nodeName": node},
	})
	c := &nodeClaim{rig: r, uid: made["metadata"].(map[string]any)["uid"].(string), path: "/apis/karpenter.sh/v1/nodeclaims/claim-" + r.ns}
	r.t.Cleanup(c.free)
	owner := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"karpenter.sh/v1","kind":"NodeClaim","name":%q,"uid":%q}]}}`, "claim-"+r.ns, c.uid)
	if _, err := r.admin.CoreV1().Nodes().Patch(r.t.Context(), node, types.MergePatchType, []byte(owner), metav1.PatchOptions{}); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (c *nodeClaim) free() {
	_, _ = c.admin.Discovery().RESTClient().Patch(types.MergePatchType).AbsPath(c.path).Body([]byte(`{"metadata":{"finalizers":null}}`)).DoRaw(context.Background())
}

// replaced waits until it is given up, and takes the node away.
func (c *nodeClaim) replaced(node string) {
	c.t.Helper()
	c.deleting(c.path)
	if err := c.cluster.RemoveNode(c.t.Context(), node); err != nil {
		c.t.Fatal(err)
	}
	c.free()
}

func (c *nodeClaim) deletions() int {
	c.t.Helper()
	n := 0
	for _, e := range c.cluster.MutationsBy(c.t, heal.FieldManager) {
		if e.Resource == "nodeclaims" && e.UID == c.uid && !e.DryRun && e.Code < 300 {
			n++
		}
	}
	return n
}

func TestATaintForAnEmergencySurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		at   crash.Point
		back bool // the node, before another actuator goes on
		want string
	}{
		{crash.BeforeAPI + ":2", false, "NodeReplaced"},
		{crash.AfterAPIBeforeRecord + ":2", false, "NodeReplaced"},
		{crash.AfterAPIBeforeRecord + ":2", true, "Verified"},
	} {
		t.Run(fmt.Sprintf("%s, back %v", tt.at, tt.back), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), ward(t))
			dead, _ := r.nodes()
			claim := r.nodeClaim(dead)
			r.down(dead)
			r.untilNode(dead, "tainted", func(n *corev1.Node) bool { return len(n.Spec.Taints) > 0 })
			// What the cloud's controller says of a machine that is off.
			off := []byte(`[{"op":"add","path":"/spec/taints/-","value":{"key":"node.cloudprovider.kubernetes.io/shutdown","effect":"NoSchedule"}}]`)
			n, err := r.admin.CoreV1().Nodes().Patch(t.Context(), dead, types.JSONPatchType, off, metav1.PatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			d := decide(nodeTarget(n), heal.NodeFailure, heal.EmergencyReplace)
			r.survives(tt.at, d, ended{heal.Succeeded, tt.want}, func() {
				if !tt.back {
					claim.replaced(dead)
					return
				}
				if err := r.cluster.StartNode(t.Context(), dead); err != nil {
					t.Fatal(err)
				}
			})
			want := 1
			if tt.back {
				want = 0
				left := r.untilNode(dead, "uncordoned", func(n *corev1.Node) bool { return !n.Spec.Unschedulable })
				if !untouched(left) || strings.Contains(fmt.Sprint(left.Spec.Taints), corev1.TaintNodeOutOfService) {
					t.Errorf("left behind: taints %v, annotations %v", left.Spec.Taints, left.Annotations)
				}
			}
			if n := claim.deletions(); n != want {
				t.Errorf("the NodeClaim was deleted %d times, want %d", n, want)
			}
			tainted := 0
			for _, e := range r.cluster.MutationsBy(t, heal.FieldManager) {
				if e.Name == dead && !e.DryRun && e.Code < 300 && strings.Contains(string(e.RequestObject), `"`+corev1.TaintNodeOutOfService+`"`) {
					tainted++
				}
			}
			if tainted != 1 {
				t.Errorf("the node was tainted %d times, want once", tainted)
			}
		})
	}
}

// A yard is a double of whoever runs the machines.
type yard struct {
	mu     sync.Mutex // guards what follows
	orders []string   // "verb node key", each key once
	state  string
	runs   string
	given  chan string
}

func (y *yard) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	y.mu.Lock()
	defer y.mu.Unlock()
	state := y.state
	if req.Method == http.MethodPost {
		var o webhook.Order
		if err := json.NewDecoder(req.Body).Decode(&o); err != nil || req.Header.Get("Selfheal-Signature") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if order := o.Verb + " " + o.Node + " " + req.Header.Get("Idempotency-Key"); !slices.Contains(y.orders, order) {
			y.orders = append(y.orders, order)
			y.given <- o.Verb
		}
	} else if len(y.orders) == 0 {
		state = webhook.Unknown
	}
	_, _ = io.WriteString(w, fmt.Sprintf(`{"state":%q,"machine":%q,"message":"rack 7"}`, state, y.runs))
}

// newYard is one, and the client that asks it.
func newYard(t *testing.T, machine string) (*yard, *webhook.Client) {
	t.Helper()
	y := &yard{state: webhook.Accepted, runs: machine, given: make(chan string, 10)}
	srv := httptest.NewServer(y)
	t.Cleanup(srv.Close)
	c, err := webhook.New(config.Secret(srv.URL), "a-secret-of-enough-bytes", "test")
	if err != nil {
		t.Fatal(err)
	}
	return y, c
}

func TestANodeIsRestartedByTheWebhookAndUncordonedOnceItIsBack(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	y, client := newYard(t, webhook.Running)
	cfg := quick()
	cfg.RecoveryTimeout = patient
	r.startWith(cfg, client)
	a, _ := r.nodes()
	d := decide(nodeTarget(r.down(a)), heal.NodeFailure, heal.Restart)
	r.publish(d)
	select {
	case <-y.given:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was asked to restart it")
	}
	if err := r.cluster.StartNode(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"restart " + a + " " + d.ID}, y.orders); diff != "" {
		t.Errorf("orders (-want +got):\n%s", diff)
	}
	r.untilNode(a, "as if we had never been there", untouched)
}

func TestWithoutAWebhookNobodyRestartsANode(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, _ := r.nodes()
	res := r.carryOut(decide(nodeTarget(r.down(a)), heal.NodeFailure, heal.Restart))
	if got, want := end(res), (ended{heal.Rejected, "NoProvider"}); got != want || !strings.Contains(res.Message, "node_webhook_url") {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestAMachineThatFailsToBeReplacedIsSaidToHave(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	y, client := newYard(t, webhook.Running)
	cfg := quick()
	cfg.RecoveryTimeout = patient
	r.startWith(cfg, client)
	a, _ := r.nodes()
	d := drainOf(r.down(a))
	r.publish(d)
	select {
	case <-y.given:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was asked to replace it")
	}
	y.mu.Lock()
	y.state = webhook.Failed
	y.mu.Unlock()
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Failed, "ProviderFailed"}); got != want || !strings.Contains(res.Message, "rack 7") {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
}

func TestAMachineThatIsProvenDeadIsTakenOutOfServiceAndReplaced(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	y, client := newYard(t, webhook.Stopped)
	cfg := quick()
	cfg.RecoveryTimeout = 90 * time.Second
	r.startWith(cfg, client)
	dead, alive := r.nodes()
	cordon(t, r, alive, true) // all pods start on the one that dies
	pods := r.ready(r.deploy("web", "shop/api:good", 2, r.here))
	cordon(t, r, alive, false)
	d := decide(nodeTarget(r.down(dead)), heal.NodeFailure, heal.EmergencyReplace)
	r.publish(d)
	select {
	case <-y.given:
	case <-time.After(80 * time.Second):
		t.Fatal("nobody was asked to replace it")
	}
	// Only the taint gives pods free whose kubelet is silent.
	for i := range pods {
		if _, err := r.admin.CoreV1().Pods(r.ns).Get(t.Context(), pods[i].Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("pod %s is still there when the machine is replaced (%v)", pods[i].Name, err)
		}
	}
	if err := r.cluster.StartNode(t.Context(), dead); err != nil { // replaced in place, under the same name
		t.Fatal(err)
	}
	res := r.result(d, 2*time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	now := r.untilNode(dead, "uncordoned", func(n *corev1.Node) bool { return !n.Spec.Unschedulable })
	if slices.ContainsFunc(now.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == corev1.TaintNodeOutOfService }) {
		t.Errorf("taints %v: ours was left behind", now.Spec.Taints)
	}
	for _, e := range r.writes() {
		if e.Resource != "nodes" {
			t.Errorf("sent %s", e)
		}
	}
}

func TestWithoutProofOfDeathAnEmergencyIsADrain(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 4 * time.Second
	r.start(cfg)
	a, _ := r.nodes()
	res := r.carryOut(decide(nodeTarget(r.down(a)), heal.NodeFailure, heal.EmergencyReplace))
	if got, want := end(res), (ended{heal.Failed, "NodeStillDown"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	i := slices.IndexFunc(res.Steps, func(s heal.Step) bool { return s.Name == string(heal.EmergencyReplace) })
	if i < 0 || !strings.Contains(res.Steps[i].Detail, "no proof") {
		t.Errorf("steps %v do not say why", res.Steps)
	}
	for _, e := range r.writes() {
		if strings.Contains(string(e.RequestObject), corev1.TaintNodeOutOfService) {
			t.Errorf("sent %s: %s", e, e.RequestObject)
		}
	}
}
