package action

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
}

// set is a ReplicaSet, made an hour ago.
func set(number int, image string, available int32) appsv1.ReplicaSet {
	name, hash := fmt.Sprintf("web-%d", number), fmt.Sprintf("hash%d", number)
	rs := appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("u" + fmt.Sprint(number)), Labels: map[string]string{"pod-template-hash": hash},
			Annotations: map[string]string{revisionAnnotation: fmt.Sprint(number)}, CreationTimestamp: metav1.Time{Time: noon.Add(-time.Hour)}},
		Spec:   appsv1.ReplicaSetSpec{Template: template(image)},
		Status: appsv1.ReplicaSetStatus{Replicas: max(1, available), AvailableReplicas: available},
	}
	rs.Spec.Template.Labels["pod-template-hash"] = hash
	return rs
}

// situation is a Deployment that has stalled at revision 4, and its ReplicaSets.
type situation struct {
	decision   heal.Decision
	deployment *appsv1.Deployment
	sets       []appsv1.ReplicaSet
	pods       []corev1.Pod
}

// podIn is a pod of a ReplicaSet, that is Ready or else in a crash loop.
func podIn(rs appsv1.ReplicaSet, ready bool) corev1.Pod {
	p := podOf(rs.Name, ready)
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: rs.Name, UID: rs.UID, Controller: new(true)}}
	return p
}

func stalled(change ...func(*situation)) situation {
	s := situation{
		decision: heal.Decision{ID: "d-1", Target: heal.Target{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "d1"},
			Failure: heal.Failure{Timestamp: heal.Unix{Time: noon.Add(-time.Minute)}}},
		deployment: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "d1", ResourceVersion: "77"},
			Spec:       appsv1.DeploymentSpec{Replicas: new(int32(3)), Template: template("v4")},
			Status: appsv1.DeploymentStatus{AvailableReplicas: 3, UpdatedReplicas: 1, Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}},
		},
		sets: []appsv1.ReplicaSet{set(1, "v1", 1), set(4, "v4", 0), set(2, "v2", 2), set(3, "v3", 0)},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func TestARollbackGoesToTheNewestRevisionThatWorksOrNowhere(t *testing.T) {
	writer := func(s *situation, at time.Time) {
		s.deployment.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Time: &metav1.Time{Time: at},
			FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:template":{}}}`)}}
	}
	rollingOut := func(s *situation) {
		s.deployment.Status.Conditions[0] = appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "ReplicaSetUpdated"}
	}
	rolledBack := func(text string) func(*situation) {
		return func(s *situation) { s.deployment.Annotations = map[string]string{annotationRolledBack: text} }
	}
	surely := func(change func(*situation)) func(*situation) {
		return func(s *situation) {
			rollingOut(s)
			s.decision.Cause = heal.Cause{Kind: heal.CauseRollout, Confidence: 0.8}
			s.pods = []corev1.Pod{podIn(s.sets[1], false), podIn(s.sets[2], true)}
			change(s)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*situation)
		to     string // name of the ReplicaSet
		reason string
		says   string
	}{
		{"not the one before, which is as bad", func(*situation) {}, "web-2", "", "web-2"},
		{"none of them has a pod", func(s *situation) { s.sets[0].Status, s.sets[2].Status = s.sets[3].Status, s.sets[3].Status },
			"", "NoHealthyRevision", "3 older revisions are kept, of which 3 have no available pod"},
		{"there is none", func(s *situation) { s.sets = s.sets[1:2] }, "", "NoHealthyRevision", "0 older revisions"},
		{"the only one that works has the same template", func(s *situation) {
			s.sets = []appsv1.ReplicaSet{s.sets[1], set(2, "v4", 2)}
			s.sets[1].CreationTimestamp.Time = noon.Add(-time.Minute)
		}, "", "NoHealthyRevision", "1 the same template"},
		{"a newer one works, which was left on purpose", func(s *situation) { s.sets = append(s.sets[1:2], set(5, "v5", 3)) }, "", "NoHealthyRevision", ""},
		{"one of no number works", func(s *situation) {
			s.sets = append(s.sets[1:2], set(2, "v2", 3))
			s.sets[1].Annotations = nil
		}, "", "NoHealthyRevision", ""},
		{"the controller has made no ReplicaSet", func(s *situation) { s.sets = s.sets[2:] }, "", "StatusBehind", ""},
		{"still within its deadline", rollingOut, "", "RolloutUnderWay", "3 of 3 replicas are available"},
		{"still within its deadline, but nothing serves", func(s *situation) {
			rollingOut(s)
			s.deployment.Status.AvailableReplicas = 0
		}, "web-2", "", ""},
		{"still within its deadline, but it is sure that the template is to blame", surely(func(*situation) {}), "web-2", "", "before its deadline, as of-web-4"},
		{"within its deadline, and not sure enough", surely(func(s *situation) { s.decision.Cause.Confidence = 0.7 }), "", "RolloutUnderWay", ""},
		{"within its deadline, and sure of another cause", surely(func(s *situation) { s.decision.Cause.Kind = heal.CauseNode }), "", "RolloutUnderWay", ""},
		{"within its deadline, and a pod of it works", surely(func(s *situation) { s.sets[1].Status.AvailableReplicas = 1 }), "", "RolloutUnderWay", "1 of these available"},
		{"within its deadline, and no pod of it fails", surely(func(s *situation) { s.pods = []corev1.Pod{podIn(s.sets[1], true)} }), "", "RolloutUnderWay", ""},
		{"within its deadline, and one of another revision fails", surely(func(s *situation) { s.pods = []corev1.Pod{podIn(s.sets[2], false)} }), "", "RolloutUnderWay", ""},
		{"sure, but in Git", surely(func(s *situation) { s.deployment.Labels = map[string]string{"argocd.argoproj.io/instance": "shop"} }), "", "ManagedByGitOps", ""},
		{"sure, but rolled back yesterday", surely(rolledBack("2026-11-21T13:00:00Z hash9")), "", guard.RollbackOncePerDay, ""},
		{"sure, but taken back before", surely(rolledBack("2026-01-01T13:00:00Z hash4")), "", "RolledBackBefore", ""},
		{"sure, but nothing else works", surely(func(s *situation) { s.sets = s.sets[1:2] }), "", "NoHealthyRevision", ""},
		{"written since the failure was seen", func(s *situation) { writer(s, noon) }, "", "RolledOutSince", "by kubectl 1m0s after"},
		{"written before", func(s *situation) { writer(s, noon.Add(-2*time.Minute)) }, "web-2", "", ""},
		{"new since the failure was seen", func(s *situation) { s.sets[1].CreationTimestamp.Time = noon }, "", "RolledOutSince", "1m0s after"},
		{"in Git", func(s *situation) { s.deployment.Labels = map[string]string{"argocd.argoproj.io/instance": "shop"} },
			"", "ManagedByGitOps", "kubectl rollout undo deployment/web -n shop --to-revision=2"},
		{"of an operator", func(s *situation) {
			s.deployment.OwnerReferences = []metav1.OwnerReference{{APIVersion: "shop.example/v1", Kind: "Shop", Name: "main", Controller: new(true)}}
		}, "", "ManagedByController", "Shop main"},
		{"with another service account", func(s *situation) { s.sets[2].Spec.Template.Spec.ServiceAccountName = "admin" }, "", "PowerDiffers", `"admin"`},
		{"with the network of the host", func(s *situation) { s.sets[2].Spec.Template.Spec.HostNetwork = true }, "", "PowerDiffers", "host"},
		{"rolled back yesterday", rolledBack("2026-11-21T13:00:00Z hash9"), "", guard.RollbackOncePerDay, "23h0m0s ago"},
		{"rolled back the day before", rolledBack("2026-11-20T13:00:00Z hash9"), "web-2", "", ""},
		{"the same was rolled back once", rolledBack("2026-01-01T13:00:00Z hash4"), "", "RolledBackBefore", ""},
		{"rolled back, nobody knows when", rolledBack("lately"), "", guard.RollbackOncePerDay, "counts as now"},
	} {
		s := stalled(tt.change)
		c, v := judgeRollback(noon, s.decision, s.deployment, s.sets, s.pods)
		if c.To.Set != tt.to || v.Reason != tt.reason || !strings.Contains(v.Detail, tt.says) {
			t.Errorf("%s: to %q, %+v; want %q, %q, %q", tt.name, c.To.Set, v, tt.to, tt.reason, tt.says)
		}
	}
	s := stalled()
	got, _ := judgeRollback(noon, s.decision, s.deployment, s.sets, s.pods)
	want := templateChange{Version: "77", From: revision{Number: 4, Hash: "hash4", Set: "web-4", UID: "u4"}, To: revision{Number: 2, Hash: "hash2", Set: "web-2", UID: "u2"}, Digest: digest(template("v2"))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestARestartNeedsOneRevisionAndPodsToSpare(t *testing.T) {
	rolling := func(away string) appsv1.DeploymentStrategy {
		return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.Parse(away))}}
	}
	for _, tt := range []struct {
		name              string
		wanted, available int32
		strategy          appsv1.DeploymentStrategy
		change            func(*situation)
		want              string
	}{
		{"one of four is missing", 4, 3, rolling("25%"), nil, ""},
		{"the strategy takes two at once", 4, 3, rolling("50%"), nil, guard.Floor},
		{"of a large one, too", 10, 9, rolling("25%"), nil, guard.Floor},
		{"of which half are gone anyway", 10, 5, rolling("25%"), nil, ""},
		{"the strategy takes all at once", 3, 1, appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, nil, guard.Floor},
		{"of which none serves", 3, 0, appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, nil, ""},
		{"another revision has pods", 4, 3, rolling("25%"), func(s *situation) { s.sets = append(s.sets, set(2, "v2", 1)) }, "SeveralRevisions"},
		{"being rolled out", 4, 3, rolling("25%"), func(s *situation) {
			s.deployment.Status.Conditions[0] = appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "ReplicaSetUpdated"}
		}, "RolloutUnderWay"},
		{"no ReplicaSet yet", 4, 3, rolling("25%"), func(s *situation) { s.sets = nil }, "StatusBehind"},
	} {
		s := stalled(func(s *situation) {
			s.sets = s.sets[1:2]
			s.deployment.Spec.Replicas, s.deployment.Status.AvailableReplicas, s.deployment.Spec.Strategy = &tt.wanted, tt.available, tt.strategy
			if tt.change != nil {
				tt.change(s)
			}
		})
		if v := judgeRestart(s.decision.Target, s.deployment, s.sets); v.Reason != tt.want {
			t.Errorf("%s: %+v, want %q", tt.name, v, tt.want)
		}
	}
}

func TestReferencesAreWhatAPodCannotStartWithout(t *testing.T) {
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	spec := corev1.PodSpec{
		InitContainers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("init")}}}}},
		Containers: []corev1.Container{{
			EnvFrom: []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("optional"), Optional: new(true)}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("token")}},
			},
			Env: []corev1.EnvVar{
				{Name: "PLAIN", Value: "x"},
				{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref("init")}}},
				{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref("key")}}},
			},
		}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("files")}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "tls"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("root-ca")}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: ref("maybe"), Optional: new(true)}},
			}}}},
		},
	}
	configMaps, secrets := references(spec)
	if diff := cmp.Diff([][]string{{"files", "init", "root-ca"}, {"key", "tls", "token"}}, [][]string{configMaps, secrets}); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
}
