package guard

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestWhatRunsOutIsSeenOnTheLiveObject(t *testing.T) {
	resizing := func(typ heal.FailureType, change func(*Facts)) Facts {
		return pod(func(f *Facts) {
			f.Decision.Type, f.Decision.Strategy = typ, heal.Resize
			f.Decision.Failure.Metadata = map[string]string{"container": "api"}
			f.Pod.Spec.Containers = []corev1.Container{{Name: "api", Resources: corev1.ResourceRequirements{
				Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Mi")}}}}
			change(f)
		})
	}
	killed := func(reason string, ago time.Duration) func(*Facts) {
		return func(f *Facts) {
			f.Pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
			f.Pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
				Reason: reason, ExitCode: 137, FinishedAt: metav1.NewTime(now.Add(-ago))}
		}
	}
	using := func(mebi int64) func(*Facts) {
		return func(f *Facts) { f.Usage = map[string]int64{"api": mebi << 20} }
	}
	pressed := func(status corev1.ConditionStatus, reason string) Facts {
		return node(func(f *Facts) {
			f.Decision.Type, f.Decision.Failure.Reason = heal.ResourceExhaustion, reason
			f.Node.Status.Conditions = append(f.Node.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: status})
		})
	}
	claim := func(capacity string, phase corev1.PersistentVolumeClaimPhase, of string) Facts {
		return Facts{
			Now: now, Target: heal.Target{Kind: "PersistentVolumeClaim", Name: "data"},
			Decision: heal.Decision{Type: heal.ResourceExhaustion, Failure: heal.Failure{Metadata: map[string]string{"of": of}}},
			Claim: &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{
				Phase: phase, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(capacity)}}},
		}
	}
	for _, tt := range []struct {
		name  string
		facts Facts
		sick  bool
		says  string
	}{
		{"killed for memory a minute ago", resizing(heal.PodFailure, killed("OOMKilled", time.Minute)), true, "1m0s ago"},
		{"killed for memory long ago", resizing(heal.PodFailure, killed("OOMKilled", time.Hour)), false, "1h0m0s ago"},
		{"killed by somebody", resizing(heal.PodFailure, killed("Error", time.Minute)), false, "no container"},
		{"another container was killed", resizing(heal.PodFailure, func(f *Facts) {
			killed("OOMKilled", time.Minute)(f)
			f.Decision.Failure.Metadata["container"] = "proxy"
		}), false, "no container"},
		{"near its limit", resizing(heal.ResourceExhaustion, using(90)), true, "90 % of its memory limit of 100Mi"},
		{"far from its limit", resizing(heal.ResourceExhaustion, using(20)), false, "20 %"},
		{"nobody knows how much it uses", resizing(heal.ResourceExhaustion, func(*Facts) {}), false, "not known"},
		{"a node under pressure", pressed(corev1.ConditionTrue, "MemoryPressure"), true, "MemoryPressure is True"},
		{"a node that was", pressed(corev1.ConditionFalse, "MemoryPressure"), false, "MemoryPressure is False"},
		{"a node that is not Ready, for which nothing runs out", pressed(corev1.ConditionTrue, "Ready"), false, "no condition Ready"},
		{"a volume as it was", claim("10Gi", corev1.ClaimBound, "10500000000"), true, "10Gi"},
		{"a volume that has grown since", claim("20Gi", corev1.ClaimBound, "10500000000"), false, "20Gi"},
		{"a claim without a volume", claim("10Gi", corev1.ClaimLost, "10500000000"), false, "Lost"},
		{"a failure that does not say how large it was", claim("10Gi", corev1.ClaimBound, ""), false, "does not say"},
	} {
		v := symptom.Judge(tt.facts)
		if v.Allowed() != tt.sick || !strings.Contains(v.Detail, tt.says) {
			t.Errorf("%s: allowed %v (%s), want %v, saying %q", tt.name, v.Allowed(), v.Detail, tt.sick, tt.says)
		}
	}
}

func TestAPermitIsTheNearestOwnersAndNeverThePodsOwn(t *testing.T) {
	on := func(o *metav1.ObjectMeta, value string) { annotate(o, PermitReplicas, value) }
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   string
	}{
		{"of the Deployment", func(f *Facts) { on(&f.Owners[1].ObjectMeta, "3") }, "3 on /Deployment/web"},
		{"of the Deployment before the namespace", func(f *Facts) { on(&f.Owners[1].ObjectMeta, "3"); on(&f.Namespace.ObjectMeta, "9") }, "3 on /Deployment/web"},
		{"of the namespace", func(f *Facts) { on(&f.Namespace.ObjectMeta, "9") }, "9 on Namespace/shop"},
		{"a copy on the ReplicaSet", func(f *Facts) { on(&f.Owners[0].ObjectMeta, "3") }, ""},
		{"of the pod", func(f *Facts) { on(&f.Pod.ObjectMeta, "3") }, ""},
		{"none", func(*Facts) {}, ""},
	} {
		value, carrier, permitted := Permit(pod(tt.change), PermitReplicas)
		got := ""
		if permitted {
			got = value + " on " + strings.Replace(carrier, "shop/", "/", 1)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
