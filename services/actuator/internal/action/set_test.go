package action

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// podOf is a pod of a revision, that is Ready or else in a crash loop.
func podOf(label string, ready bool) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "of-" + label, Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: label}}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if !ready {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	}
	return p
}

func TestWhatASetIsRolledBackTo(t *testing.T) {
	made := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	now := made.Add(time.Hour)
	target := heal.Target{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: "shop", Name: "db", UID: "u1"}
	rev := func(n int64, image string) kept {
		t := template(image)
		name := "db-" + image
		return kept{revision: revision{Number: n, Hash: digest(t), Set: name, UID: "uid-" + image, Kind: "ControllerRevision"}, Label: name, Template: live.Template{Typed: t}, Made: made}
	}
	for _, tt := range []struct {
		name   string
		change func(*podSet, *heal.Decision)
		to     string
		reason string
	}{
		{name: "the revision that has a Ready pod, not the one before", to: "db-v1"},
		{name: "the revision that all pods had", change: func(s *podSet, _ *heal.Decision) { s.Pods, s.Complete = s.Pods[1:], "db-v2" }, to: "db-v2"},
		{name: "none has a Ready pod", change: func(s *podSet, _ *heal.Decision) { s.Pods = s.Pods[1:] }, reason: "NoHealthyRevision"},
		{name: "no pod is stuck", change: func(s *podSet, _ *heal.Decision) { s.Pods = s.Pods[:1] }, reason: "RolloutUnderWay"},
		{name: "a pod is slow", change: func(s *podSet, _ *heal.Decision) {
			s.Pods[1].Status.ContainerStatuses = nil
			s.Pods[1].CreationTimestamp = metav1.NewTime(now.Add(-time.Minute))
		}, reason: "RolloutUnderWay"},
		{name: "a pod is very slow", change: func(s *podSet, _ *heal.Decision) {
			s.Pods[1].Status.ContainerStatuses = nil
			s.Pods[1].CreationTimestamp = metav1.NewTime(now.Add(-10 * time.Minute))
		}, to: "db-v1"},
		{name: "no revision has its template", change: func(s *podSet, _ *heal.Decision) { s.Template = template("v9") }, reason: "StatusBehind"},
		{name: "on delete", change: func(s *podSet, _ *heal.Decision) { s.Idle = "its update strategy is OnDelete" }, reason: "NotRolledOut"},
		{name: "GitOps", change: func(s *podSet, _ *heal.Decision) {
			s.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "x"}
		}, reason: "ManagedByGitOps"},
		{name: "changed since", change: func(_ *podSet, d *heal.Decision) { d.Failure.Timestamp.Time = made.Add(-time.Minute) }, reason: "RolledOutSince"},
		{name: "another service account", change: func(s *podSet, _ *heal.Decision) { s.Revisions[2].Template.Typed.Spec.ServiceAccountName = "admin" }, reason: "PowerDiffers"},
		{name: "rolled back an hour ago", change: func(s *podSet, _ *heal.Decision) {
			s.Annotations = map[string]string{annotationRolledBack: made.Format(time.RFC3339) + " another"}
		}, reason: "RollbackOncePerDay"},
	} {
		s := podSet{
			Templated: guard.Templated{Object: guard.Object{Kind: "StatefulSet"}, Template: template("v3")},
			Revisions: []kept{rev(3, "v3"), rev(2, "v2"), rev(1, "v1")},
			Pods:      []corev1.Pod{podOf("db-v1", true), podOf("db-v3", false)},
			Wanted:    2, Ready: 1,
		}
		d := heal.Decision{Target: target}
		d.Failure.Timestamp.Time = now
		if tt.change != nil {
			tt.change(&s, &d)
		}
		c, _, v := judgeSetRollback(now, d, s)
		if c.To.Set != tt.to || v.Reason != tt.reason {
			t.Errorf("%s: to %q, %+v; want %q, %q", tt.name, c.To.Set, v, tt.to, tt.reason)
		}
	}
}

func TestHowManyPodsASetKeeps(t *testing.T) {
	for _, tt := range []struct {
		name   string
		away   *intstr.IntOrString
		wanted int
		want   int
	}{
		{"by default", nil, 3, 2},
		{"by number", new(intstr.FromInt32(2)), 3, 1},
		{"by share", new(intstr.FromString("10%")), 15, 13},
		{"by what nobody can read", new(intstr.FromString("some")), 3, 0},
	} {
		o := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: tt.away}}}}
		if got, idle := daemonSetKeeps(o, tt.wanted); got != tt.want || idle != "" {
			t.Errorf("%s: %d of %d, %q; want %d", tt.name, got, tt.wanted, idle, tt.want)
		}
	}
	partition := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{UpdateStrategy: appsv1.StatefulSetUpdateStrategy{RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(1))}}}}
	if why := idleStatefulSet(partition); !strings.Contains(why, "partition 1") {
		t.Errorf("with a partition: %q", why)
	}
}
