package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

const overQuota = `pods "web-5d8f9-" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2`

func refused(message string) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: message}
}

func TestDeploymentWhosePodsAreRefusedIsFoundWithWhoRefusesThem(t *testing.T) {
	want := []Finding{{
		Reason: "FailedCreate", Hold: 2 * time.Minute,
		Description: "deployment web is refused pods by a quota: 2 of 3 replicas available, 1 of the latest revision",
		Evidence: []heal.Evidence{
			{Path: "status.conditions[1].status", Value: "True"},
			{Path: "status.conditions[1].reason", Value: "FailedCreate"},
			{Path: "status.conditions[1].message", Value: overQuota},
			{Path: "status.availableReplicas", Value: "2"},
			{Path: "status.updatedReplicas", Value: "1"},
		},
		Metadata: map[string]string{
			"revision": "2", "available": "2", "desired": "3", "updated": "1", "refused_by": "quota", "refused_by_name": "few",
		},
	}}
	if diff := cmp.Diff(want, replicasRefused.Find(rollout(2, available, refused(overQuota)), Facts{Now: noon})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	deleteFailed := refused("no")
	deleteFailed.Reason = "FailedDelete"
	for name, c := range map[string]appsv1.DeploymentCondition{
		"a replica too many":               deleteFailed,
		"its namespace is being deleted":   refused(`pods "web-5d8f9-" is forbidden: unable to create new content in namespace shop because it is being terminated`),
		"nothing is wrong with creating":   progressing,
		"the condition is not true (now)":  {Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionFalse, Reason: "FailedCreate"},
		"the roll-out has stalled instead": stalled,
	} {
		if got := replicasRefused.Find(rollout(2, c), Facts{Now: noon}); got != nil {
			t.Errorf("%s: found %+v, want nothing", name, got)
		}
	}
}

func TestWhoRefusesPodsIsToldFromTheAPIServersWords(t *testing.T) {
	forbidden := `pods "web-5d8f9-" is forbidden: `
	for message, want := range map[string]refusal{
		overQuota: {"quota", "a quota", "few"},
		forbidden + `failed quota: compute: must specify limits.cpu for: app`:                                                          {"quota", "a quota", "compute"},
		forbidden + `[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Pod is 1Gi, but limit is 2Gi]`:    {"limit_range", "a limit range", ""},
		forbidden + `cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000`:                                {"limit_range", "a limit range", ""},
		forbidden + `error looking up service account shop/robot: serviceaccount "robot" not found`:                                    {"service_account", "its service account, which is not there", "robot"},
		forbidden + `violates PodSecurity "restricted:latest": runAsNonRoot != true (pod or container "app" must set it)`:              {"pod_security", "pod security", "restricted:latest"},
		forbidden + `no PriorityClass with name urgent was found`:                                                                      {"priority_class", "its priority class, which is not there", "urgent"},
		forbidden + `ValidatingAdmissionPolicy 'no-latest' with binding 'all' denied request: use a tag`:                               {"admission_policy", "an admission policy", "no-latest"},
		`admission webhook "images.example.com" denied the request: exceeded quota: of patience`:                                       {"webhook", "a webhook", "images.example.com"},
		`Internal error occurred: failed calling webhook "inject.example.com": failed to call webhook: Post "https://x": no endpoints`: {"webhook_unavailable", "a webhook that cannot be called", "inject.example.com"},
		`Pod "web-5d8f9-x" is invalid: spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to limit`: {"validation", "the API's rules", ""},
		`etcdserver: request timed out`: {"unknown", "the API server", ""},
		``:                              {"unknown", "the API server", ""},
	} {
		if got := refusalOf(message); got != want {
			t.Errorf("%q: %+v, want %+v", message, got, want)
		}
	}
}

func TestOnlyReplicasRefusedSpeaksWhileReplicasAreRefused(t *testing.T) {
	for name, d := range map[string]*appsv1.Deployment{
		"and its roll-out has stalled": rollout(2, stalled, refused(overQuota)),
		"and nothing is available":     rollout(0, unavailable, refused(overQuota)),
		"and some replicas are absent": degraded(2, refused(overQuota)),
	} {
		var got []string
		for _, det := range Deployments {
			if len(det.Find(d, Facts{Now: noon, Thresholds: defaults})) > 0 {
				got = append(got, det.Name)
			}
		}
		if diff := cmp.Diff([]string{"replicas_refused"}, got); diff != "" {
			t.Errorf("%s: who speaks (-want +got):\n%s", name, diff)
		}
	}
	for _, det := range []Detector[*appsv1.Deployment]{deploymentStalled, deploymentUnavailable, deploymentDegraded} {
		if det.Well(rollout(0, stalled, unavailable, refused(overQuota)), "") {
			t.Errorf("%s takes the deployment for well because replicas are refused as well", det.Name)
		}
	}
	if replicasRefused.Well(rollout(0, refused(overQuota)), "") || !replicasRefused.Well(rollout(0, unavailable), "") {
		t.Error("replicas_refused is over when replicas are not refused any more, and not before")
	}
}

func TestRefusalIsExcusedLikeAnythingElseOfADeployment(t *testing.T) {
	paused, gone, none := rollout(2, refused(overQuota)), rollout(2, refused(overQuota)), rollout(2, refused(overQuota))
	paused.Spec.Paused = true
	gone.DeletionTimestamp = &metav1.Time{Time: noon}
	none.Spec.Replicas = new(int32)
	for name, d := range map[string]*appsv1.Deployment{"paused": paused, "deleted": gone, "scaled to zero": none} {
		if got := replicasRefused.Excuse(d, Facts{Now: noon}); got != Leaving {
			t.Errorf("%s: excuse %v, want %v", name, got, Leaving)
		}
	}
}
