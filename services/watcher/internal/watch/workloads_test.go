package watch

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNothingSecretOfAWorkloadIsKept(t *testing.T) {
	meta := metav1.ObjectMeta{Name: "web", Labels: map[string]string{"note": "canary"}, Annotations: map[string]string{"note": "canary"}}
	template := corev1.PodTemplateSpec{ObjectMeta: meta, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "app", Image: "canary", Command: []string{"canary"}, Env: []corev1.EnvVar{{Name: "TOKEN", Value: "canary"}},
	}}}}
	long := strings.Repeat("long ", 1000)
	for _, tt := range []struct {
		kind kind
		full object
	}{
		{deployments, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: template},
			Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{{Message: long}}}}},
		{statefulSets, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: template, ServiceName: "canary"}}},
		{daemonSets, &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template}}},
		{jobs, &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: template},
			Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Message: long}}}}},
		{cronJobs, &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: long, TimeZone: &long, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}},
			Status: batchv1.CronJobStatus{Active: []corev1.ObjectReference{{Name: "canary"}}}}},
		{autoscalers, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta, Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Message: long}},
		}}},
		{budgets, &policyv1.PodDisruptionBudget{ObjectMeta: meta, Status: policyv1.PodDisruptionBudgetStatus{
			Conditions: []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Message: long}},
		}}},
	} {
		data, err := json.Marshal(tt.kind.Slim(tt.full))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "canary") {
			t.Errorf("of a %s this is kept: %s", tt.kind.Kind, data)
		}
		if strings.Contains(string(data), long) {
			t.Errorf("of a %s a text of any length is kept", tt.kind.Kind)
		}
		if got := tt.kind.Slim("anything"); got != "anything" {
			t.Errorf("%s: Slim makes %v of what it does not know", tt.kind.Kind, got)
		}
	}
}
