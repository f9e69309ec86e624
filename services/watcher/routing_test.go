package watcher_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher"
)

// routes is what a failure says of whom to tell.
func routes(f heal.Failure) map[string]string {
	said := map[string]string{}
	for _, key := range []string{heal.MetadataTeam, heal.MetadataRunbook, heal.MetadataLabel + "app", heal.MetadataLabel + "tier", heal.MetadataLabel + "note"} {
		if value, ok := f.Metadata[key]; ok {
			said[key] = value
		}
	}
	return said
}

func TestAFailureTellsTeamRunbookAndLabelsOfWhatItAffects(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	d, n := deployment(), node(corev1.ConditionTrue)
	d.Labels = map[string]string{"app": "checkout", "tier": "gold", "note": "canary"}
	d.Annotations = map[string]string{heal.AnnotationTeam: "payments"}
	n.Annotations = map[string]string{heal.AnnotationTeam: "platform", heal.AnnotationRunbook: "javascript:alert(1)"}
	c := newCluster(t, d, n)
	annotate := func(value string) {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s,%q:%[2]s}}}`, heal.AnnotationRunbook, value, heal.AnnotationTeam)
		_, err := c.CoreV1().Namespaces().Patch(t.Context(), "shop", types.MergePatchType, patch, metav1.PatchOptions{})
		c.must(err)
	}
	annotate(`"https://runbooks.example.com/shop"`)
	defer annotate("null")
	set := replicaSet()
	set.OwnerReferences = controlledBy("apps/v1", "Deployment", "checkout", string(d.UID))
	_, err := c.AppsV1().ReplicaSets("shop").Create(t.Context(), set, metav1.CreateOptions{})
	c.must(err)
	pod := healthyPod()
	c.create(pod)
	sees(t, run(t, slow, c.as("router", watcher.Rules()), server.Bus(t, watcher.Name)))

	c.update(crashing(pod, 7))
	want := map[string]string{"team": "payments", "runbook": "https://runbooks.example.com/shop", "label.app": "checkout", "label.tier": "gold"}
	if diff := cmp.Diff(want, routes(events.wait(1)[0])); diff != "" {
		t.Errorf("the pod's failure (-want +got):\n%s", diff)
	}
	c.delete(pod)
	if diff := cmp.Diff(want, routes(events.wait(2)[1])); diff != "" {
		t.Errorf("its end (-want +got):\n%s", diff)
	}

	broken := n.DeepCopy()
	broken.Status.Conditions = append(broken.Status.Conditions, corev1.NodeCondition{
		Type: "ReadonlyFilesystem", Status: corev1.ConditionTrue, Reason: "FilesystemIsReadOnly", LastHeartbeatTime: metav1.Now(),
	})
	c.updateNode(broken)
	if diff := cmp.Diff(map[string]string{"team": "platform"}, routes(events.wait(3)[2])); diff != "" {
		t.Errorf("the node's failure (-want +got):\n%s", diff)
	}
}
