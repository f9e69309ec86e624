package action

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A meddler puts a taint of its own on a node just before our patch arrives.
type meddler struct {
	next    http.RoundTripper
	admin   kubernetes.Interface
	node    string
	meddled atomic.Int64
}

func (m *meddler) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPatch && m.meddled.Add(1) == 1 {
		n, err := m.admin.CoreV1().Nodes().Get(r.Context(), m.node, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		n.Spec.Taints = append([]corev1.Taint{{Key: "theirs/late", Effect: corev1.TaintEffectPreferNoSchedule}}, n.Spec.Taints...)
		if _, err := m.admin.CoreV1().Nodes().Update(r.Context(), n, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	}
	return m.next.RoundTrip(r)
}

func TestATaintOfOursTakesNobodyElsesAway(t *testing.T) {
	t.Parallel()
	c := kubetest.Get(t)
	admin := c.Client(t)
	theirs := corev1.Taint{Key: "theirs/early", Effect: corev1.TaintEffectPreferNoSchedule}
	suspect := suspectTaint("d-0")
	for name, tt := range map[string]struct {
		before []corev1.Taint
		change func(context.Context, *Job) error
		want   []string // besides the meddler's
	}{
		"suspected": {[]corev1.Taint{theirs}, func(ctx context.Context, j *Job) error {
			return patchNode(ctx, j.Kube, j.Reader, j.Decision.Target, nil, func(n *corev1.Node, p *patch) { p.add("/spec/taints", "-", suspect) })
		}, []string{theirs.Key, suspect.Key}},
		"trusted again": {[]corev1.Taint{theirs, suspect}, func(ctx context.Context, j *Job) error {
			what, err := json.Marshal(mistrust{j.Decision.Target})
			if err != nil {
				return err
			}
			return takeTaintBack(ctx, j.Kube, j.Reader, Leftover{Kind: leftTaint, Decision: "d-0", What: what})
		}, []string{theirs.Key}},
		"out of service": {[]corev1.Taint{theirs}, func(ctx context.Context, j *Job) error {
			return changeTaint(ctx, j, true, nil)
		}, []string{ourTaint.Key, theirs.Key}},
		"in service again": {[]corev1.Taint{theirs, ourTaint}, func(ctx context.Context, j *Job) error {
			return changeTaint(ctx, j, false, nil)
		}, []string{theirs.Key}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := admin.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "tainted-"}, Spec: corev1.NodeSpec{Taints: tt.before},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			config, err := c.RESTConfig()
			if err != nil {
				t.Fatal(err)
			}
			m := &meddler{admin: admin, node: n.Name}
			config.Wrap(func(next http.RoundTripper) http.RoundTripper { m.next = next; return m })
			k, err := kube.Client(config)
			if err != nil {
				t.Fatal(err)
			}
			target := heal.Target{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: string(n.UID)}
			if err := tt.change(t.Context(), &Job{Decision: heal.Decision{Target: target}, Kube: k, Reader: live.Reader{Kube: k}}); err != nil {
				t.Fatal(err)
			}
			now, err := admin.CoreV1().Nodes().Patch(t.Context(), n.Name, types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, taint := range now.Spec.Taints {
				// Kubernetes' own controllers taint a node that nobody has heard of.
				if taint.Key == ourTaint.Key || taint.Key == suspect.Key || taint.Key == theirs.Key || taint.Key == "theirs/late" {
					got = append(got, taint.Key)
				}
			}
			want := append(slices.Clone(tt.want), "theirs/late")
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("taints (-want +got):\n%s", diff)
			}
		})
	}
}
