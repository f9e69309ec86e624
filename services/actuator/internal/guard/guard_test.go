package guard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var now = time.Date(2026, 11, 22, 12, 20, 0, 0, time.UTC)

// pod is a crash-looping pod of a Deployment, as it is just now.
func pod(change ...func(*Facts)) Facts {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u1", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "r1", Controller: &yes},
		}},
		Spec: corev1.PodSpec{NodeName: "a", RestartPolicy: corev1.RestartPolicyAlways},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "api", RestartCount: 7, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		}}},
	}
	f := Facts{
		Now: now,
		Decision: heal.Decision{
			Type: heal.PodFailure, Mode: heal.ModeAuto, Failure: heal.Failure{Reason: "CrashLoopBackOff"},
		},
		Target: heal.Target{Kind: "Pod", Namespace: "shop", Name: "web-1", UID: "u1"},
		Pod:    p,
		Owners: []Owner{
			{Object: Object{"ReplicaSet", metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "r1"}}},
			{Object: Object{"Deployment", metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "d1"}}},
		},
		Namespace: &Object{"Namespace", metav1.ObjectMeta{Name: "shop"}},
		Reserved:  []string{"self-healing"},
		Sight:     heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"},
	}
	f.Live = &Object{"Pod", p.ObjectMeta}
	for _, c := range change {
		c(&f)
	}
	if f.Live != nil && f.Pod != nil {
		f.Live.ObjectMeta = f.Pod.ObjectMeta
	}
	return f
}

// node is a node that is down, one of five.
func node(change ...func(*Facts)) Facts {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z1"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}}},
	}
	f := Facts{
		Now: now, Decision: heal.Decision{Type: heal.NodeFailure, Mode: heal.ModeAuto, Failure: heal.Failure{Reason: "NodeStatusUnknown"}},
		Target: heal.Target{Kind: "Node", Name: "a", UID: "n1"},
		Node:   n, Live: &Object{"Node", n.ObjectMeta},
		Nodes: []NodeState{{Name: "a", Zone: "z1"}},
		Sight: heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"},
	}
	for i := range 4 {
		f.Nodes = append(f.Nodes, NodeState{Name: fmt.Sprint("b", i), Zone: "z2", Ready: true})
	}
	for _, c := range change {
		c(&f)
	}
	f.Live.ObjectMeta = f.Node.ObjectMeta
	return f
}

// permitted makes it a pod without a controller that may be made anew.
func permitted(f *Facts) {
	f.Pod.OwnerReferences, f.Owners, f.Decision.Target = nil, nil, f.Target
	annotate(&f.Pod.ObjectMeta, PermitRecreate, "true")
}

func annotate(o *metav1.ObjectMeta, key, value string) {
	if o.Annotations == nil {
		o.Annotations = map[string]string{}
	}
	o.Annotations[key] = value
}

func cordonedBy(n *corev1.Node, manager string, op metav1.ManagedFieldsOperationType) {
	n.Spec.Unschedulable = true
	n.ManagedFields = append(n.ManagedFields, metav1.ManagedFieldsEntry{
		Manager: manager, Operation: op, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:unschedulable":{}}}`),
	})
}

func ready(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
}

func states(ready, down int, zone string) []NodeState {
	var all []NodeState
	for i := range ready + down {
		all = append(all, NodeState{Name: fmt.Sprint(zone, i), Zone: zone, Ready: i < ready})
	}
	return all
}

func TestWhetherADecisionMayBeCarriedOut(t *testing.T) {
	deleted := metav1.NewTime(now.Add(-time.Second))
	for _, tt := range []struct {
		name   string
		facts  Facts
		guard  string // empty: nobody has anything against it
		reason string
		moot   bool
		says   string
	}{
		{name: "a crash-looping pod of a Deployment", facts: pod()},
		{name: "a pod that is gone", facts: pod(func(f *Facts) { f.Live, f.Pod = nil, nil }), guard: "identity", reason: "TargetGone", moot: true},
		{name: "another pod of its name", facts: pod(func(f *Facts) { f.Pod.UID = "u2" }), guard: "identity", reason: "TargetReplaced", moot: true, says: "u2"},
		{name: "a pod on its way out", facts: pod(func(f *Facts) { f.Pod.DeletionTimestamp = &deleted }), guard: "identity", reason: "TargetTerminating", moot: true},
		{name: "a namespace on its way out", facts: pod(func(f *Facts) { f.Namespace.DeletionTimestamp = &deleted }), guard: "identity", reason: "TargetTerminating", moot: true},

		{name: "a pod of kube-system", facts: pod(func(f *Facts) { f.Target.Namespace = "kube-system" }), guard: "protected", reason: "ProtectedNamespace"},
		{name: "a pod of our own", facts: pod(func(f *Facts) { f.Target.Namespace = "self-healing" }), guard: "protected", reason: "ProtectedNamespace"},

		{name: "a pod without a controller", facts: pod(func(f *Facts) { f.Pod.OwnerReferences = nil }), guard: "owned", reason: "BarePod"},
		{name: "a pod without a controller that permits to be made anew", facts: pod(permitted)},
		{name: "one that permits it in other words", facts: pod(permitted, func(f *Facts) { annotate(&f.Pod.ObjectMeta, PermitRecreate, "yes") }), guard: "owned", reason: "BarePod"},
		{name: "one that is not meant to run again", facts: pod(permitted, func(f *Facts) { f.Pod.Spec.RestartPolicy = corev1.RestartPolicyNever }), guard: "owned", reason: "RestartNever"},
		{name: "one that is not what was decided about", facts: pod(permitted, func(f *Facts) { f.Decision.Target.Name = "another" }), guard: "owned", reason: "BarePod"},
		{name: "a pod with a controller that permits it", facts: pod(func(f *Facts) {
			annotate(&f.Pod.ObjectMeta, PermitRecreate, "true")
			f.Pod.OwnerReferences[0].Kind = "Sandbox"
		}), guard: "owned", reason: "UnknownOwner"},
		{name: "a static pod", facts: pod(func(f *Facts) { annotate(&f.Pod.ObjectMeta, corev1.MirrorPodAnnotationKey, "x") }), guard: "owned", reason: "MirrorPod"},
		{name: "a pod of a Job", facts: pod(func(f *Facts) {
			f.Pod.OwnerReferences[0].APIVersion, f.Pod.OwnerReferences[0].Kind = "batch/v1", "Job"
		}), guard: "owned", reason: "JobPod"},
		{name: "a pod of a controller of the same kind but another group", facts: pod(func(f *Facts) {
			f.Pod.OwnerReferences[0].APIVersion = "apps.kruise.io/v1beta1"
		}), guard: "owned", reason: "UnknownOwner", says: "apps.kruise.io/v1beta1"},
		{name: "a pod that runs once", facts: pod(func(f *Facts) { f.Pod.Spec.RestartPolicy = corev1.RestartPolicyNever }), guard: "owned", reason: "RestartNever"},
		{name: "a pod whose owner is gone", facts: pod(func(f *Facts) { f.Gap = "its owner ReplicaSet web is gone" }), guard: "owned", reason: "OwnerGone"},
		{name: "a pod whose Deployment is on its way out", facts: pod(func(f *Facts) { f.Owners[1].DeletionTimestamp = &deleted }), guard: "owned", reason: "NoLongerWanted", moot: true},

		{name: "the pod is marked", facts: pod(func(f *Facts) { annotate(&f.Pod.ObjectMeta, heal.AnnotationMode, "observe") }), guard: "marks", reason: "MarkedObserve", says: "shop/Pod/web-1"},
		{name: "its Deployment is marked", facts: pod(func(f *Facts) { annotate(&f.Owners[1].ObjectMeta, heal.AnnotationMode, "off") }), guard: "marks", reason: "MarkedOff", says: "Deployment"},
		{name: "a ReplicaSet still carries what its Deployment once did", facts: pod(func(f *Facts) { annotate(&f.Owners[0].ObjectMeta, heal.AnnotationMode, "off") })},
		{name: "a mark cannot loosen that of the namespace", facts: pod(func(f *Facts) {
			annotate(&f.Pod.ObjectMeta, heal.AnnotationMode, "auto")
			annotate(&f.Namespace.ObjectMeta, heal.AnnotationMode, "observe")
		}), guard: "marks", reason: "MarkedObserve", says: "Namespace/shop"},
		{name: "a mark with a typing error is the tightest", facts: pod(func(f *Facts) { annotate(&f.Namespace.ObjectMeta, heal.AnnotationMode, "atuo") }), guard: "marks", reason: "MarkedOff", says: `"atuo"`},
		{name: "a mark that asks for approval", facts: pod(func(f *Facts) { annotate(&f.Namespace.ObjectMeta, heal.AnnotationMode, "approve") }), guard: "marks", reason: "MarkedApprove"},
		{name: "a hold", facts: pod(func(f *Facts) {
			annotate(&f.Namespace.ObjectMeta, heal.AnnotationHoldUntil, now.Add(time.Hour).Format(time.RFC3339))
		}), guard: "marks", reason: "Held", says: "1h0m0s"},
		{name: "a hold that is over", facts: pod(func(f *Facts) {
			annotate(&f.Namespace.ObjectMeta, heal.AnnotationHoldUntil, now.Add(-time.Hour).Format(time.RFC3339))
		})},
		{name: "a hold that cannot be read is for ever", facts: pod(func(f *Facts) { annotate(&f.Pod.ObjectMeta, heal.AnnotationHoldUntil, "5pm") }), guard: "marks", reason: "Held", says: `"5pm"`},

		{name: "a pod that is well again", facts: pod(func(f *Facts) { ready(f.Pod) }), guard: "symptom", reason: "Recovered", moot: true, says: "it is Ready"},
		{name: "a pod that has just started", facts: pod(func(f *Facts) {
			f.Pod.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "api", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		}), guard: "symptom", reason: "Recovered", moot: true, says: "no container fails"},
		{name: "a pod that has crashed and is about to again", facts: pod(func(f *Facts) {
			c := &f.Pod.Status.ContainerStatuses[0]
			c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
			c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}
		})},
		{name: "an init container that fails", facts: pod(func(f *Facts) {
			f.Pod.Status.InitContainerStatuses, f.Pod.Status.ContainerStatuses = f.Pod.Status.ContainerStatuses, nil
		})},
		{name: "a failure that cannot be checked", facts: pod(func(f *Facts) { f.Decision.Type = "other_failure" }), guard: "symptom", reason: "SymptomUnknown"},

		{name: "a node that is down", facts: node()},
		{name: "a node that is Ready", facts: node(func(f *Facts) { f.Node.Status.Conditions[0].Status = corev1.ConditionTrue }), guard: "symptom", reason: "Recovered", moot: true},
		{name: "a control-plane node", facts: node(func(f *Facts) { f.Node.Labels["node-role.kubernetes.io/control-plane"] = "" }), guard: "protected", reason: "ProtectedNode"},
		{name: "a node that a person cordoned", facts: node(func(f *Facts) { cordonedBy(f.Node, "kubectl-cordon", metav1.ManagedFieldsOperationUpdate) }), guard: "foreign_cordon", reason: "CordonedByOther", says: "kubectl-cordon"},
		{name: "a node that was cordoned when it was made", facts: node(func(f *Facts) { f.Node.Spec.Unschedulable = true }), guard: "foreign_cordon", reason: "CordonedByOther"},
		{name: "a node that we cordoned", facts: node(func(f *Facts) { cordonedBy(f.Node, heal.FieldManager, metav1.ManagedFieldsOperationApply) })},
		{name: "a node that we and a person cordoned", facts: node(func(f *Facts) {
			cordonedBy(f.Node, heal.FieldManager, metav1.ManagedFieldsOperationApply)
			cordonedBy(f.Node, "person", metav1.ManagedFieldsOperationApply)
		}), guard: "foreign_cordon", reason: "CordonedByOther", says: "person"},
		{name: "somebody wrote under our name", facts: node(func(f *Facts) { cordonedBy(f.Node, heal.FieldManager, metav1.ManagedFieldsOperationUpdate) }), guard: "foreign_cordon", reason: "CordonedByOther"},
		{name: "a node whose cordon of ours was just taken away", facts: node(func(f *Facts) {
			annotate(&f.Node.ObjectMeta, heal.AnnotationOwnedBy, heal.FieldManager)
			annotate(&f.Node.ObjectMeta, heal.AnnotationDecisionID, "d-1")
		}), guard: "foreign_cordon", reason: "UncordonedByOther", says: "d-1"},
		{name: "a node whose cordon of ours was taken away today", facts: node(func(f *Facts) {
			annotate(&f.Node.ObjectMeta, AnnotationUncordonSeen, now.Add(-23*time.Hour).Format(time.RFC3339))
		}), guard: "foreign_cordon", reason: "UncordonedByOther"},
		{name: "a node whose cordon of ours was taken away the day before", facts: node(func(f *Facts) {
			annotate(&f.Node.ObjectMeta, AnnotationUncordonSeen, now.Add(-25*time.Hour).Format(time.RFC3339))
		})},
		{name: "another node is cordoned by us", facts: node(func(f *Facts) { f.Nodes[1].Ours, f.Nodes[1].Decision = true, "d-2" }), guard: "one_node", reason: NodeBudget, says: "Node/b0"},
		{name: "another node is cordoned by a person", facts: node(func(f *Facts) { f.Nodes[1].Cordoned = true })},

		{name: "the watchers doubt what they see", facts: pod(func(f *Facts) {
			f.Sight = heal.Sight{Reason: heal.ReasonBlind, Detail: "pods fell from 100 to 0 in one resync"}
		}), guard: "blind", reason: "Blind", says: "from 100 to 0"},
		{name: "the watchers have just begun", facts: node(func(f *Facts) {
			f.Sight = heal.Sight{Reason: heal.ReasonSettling, Detail: "4s, less than 30s"}
		}), guard: "blind", reason: "Settling", says: "less than 30s"},
		{name: "nobody knows what the watchers see", facts: pod(func(f *Facts) { f.Sight = heal.Sight{} }), guard: "blind", reason: "Blind"},
		{name: "the watchers doubt, and the pod is well again", facts: pod(func(f *Facts) { f.Sight = heal.Sight{}; ready(f.Pod) }), guard: "symptom", reason: "Recovered", moot: true},

		{name: "the only node is down", facts: node(func(f *Facts) { f.Nodes = f.Nodes[:1] })},
		{name: "two of five nodes are down", facts: node(func(f *Facts) { f.Nodes[1].Ready = false }), guard: "storm", reason: "Storm", says: "2 of 5"},
		{name: "two of ten nodes are down", facts: node(func(f *Facts) { f.Nodes = states(8, 2, "z") })},
		{name: "three of ten nodes are down", facts: node(func(f *Facts) { f.Nodes = states(7, 3, "z") }), guard: "storm", reason: "Storm", says: "3 of 10"},
		{name: "most of a zone is down", facts: node(func(f *Facts) {
			f.Nodes = append(states(20, 0, "z2"), states(1, 2, "z1")...)
		}), guard: "storm", reason: "Storm", says: "2 of 3 nodes of zone z1"},
		{name: "one of a zone of two is down", facts: node(func(f *Facts) {
			f.Nodes = append(states(20, 0, "z2"), states(1, 1, "z1")...)
		})},
		{name: "all of another zone is down, which is few", facts: node(func(f *Facts) {
			f.Nodes = append(states(20, 1, "z1"), states(0, 3, "z2")...)
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said, refusal := Judge(tt.facts, Decided)
			if len(said) == 0 {
				t.Error("nothing was said")
			}
			got := Refusal{}
			if refusal != nil {
				got = *refusal
			}
			if got.Guard != tt.guard || got.Reason != tt.reason || !strings.Contains(got.Detail, tt.says) {
				t.Fatalf("refused by %q because %q: %q; want %q, %q, saying %q", got.Guard, got.Reason, got.Detail, tt.guard, tt.reason, tt.says)
			}
			if refusal != nil && (got.Outcome == heal.Skipped) != tt.moot {
				t.Errorf("outcome %q, moot %v", got.Outcome, tt.moot)
			}
		})
	}
}

func TestAPodThatCrashedAMinuteAgoIsNotBelievedToBeWellYet(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ran   time.Duration
		again bool
	}{
		{"it runs for ten seconds", 10 * time.Second, true},
		{"it runs for two minutes", 2 * time.Minute, false},
	} {
		f := pod(func(f *Facts) {
			ready(f.Pod)
			c := &f.Pod.Status.ContainerStatuses[0]
			c.RestartCount = 3
			c.State.Running.StartedAt = metav1.NewTime(now.Add(-tt.ran))
			c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1}
		})
		_, refusal := Judge(f, Decided)
		if refusal == nil || refusal.Reason != "Recovered" || (refusal.Again > 0) != tt.again {
			t.Errorf("%s: %v, again %v, want again %v", tt.name, refusal, refusal.Again, tt.again)
		}
	}
}

func TestANodeThatIsReadyMayBeBrokenAllTheSame(t *testing.T) {
	says := func(reason string, conditions ...corev1.NodeCondition) Facts {
		return node(func(f *Facts) {
			f.Decision.Failure.Reason = reason
			f.Node.Status.Conditions = append([]corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}, conditions...)
		})
	}
	heard := func(c corev1.NodeConditionType, ago time.Duration) corev1.NodeCondition {
		return corev1.NodeCondition{Type: c, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(now.Add(-ago))}
	}
	for _, tt := range []struct {
		name  string
		facts Facts
		sick  bool
	}{
		{"it says so", says("ReadonlyFilesystem", heard("ReadonlyFilesystem", time.Minute)), true},
		{"it said so long ago, and who says it may be dead", says("ReadonlyFilesystem", heard("ReadonlyFilesystem", time.Hour)), false},
		{"it says something else", says("ReadonlyFilesystem", heard("KernelDeadlock", time.Minute)), false},
		{"its network is not there", says("NetworkUnavailable", heard(corev1.NodeNetworkUnavailable, 0)), true},
		{"a condition that is good when it is True", says("Ready"), false},
		{"a condition that nobody announces", says("MemoryPressure", heard(corev1.NodeMemoryPressure, 0)), false},
		{"it is well", says("ReadonlyFilesystem"), false},
	} {
		if sick, seen := nodeSymptom(tt.facts); sick != tt.sick {
			t.Errorf("%s: sick %v, want %v (%s)", tt.name, sick, tt.sick, seen)
		}
	}
}

func TestAPodThatGetsMoreMemoryIsNotTakenAway(t *testing.T) {
	only := pod(func(f *Facts) {
		ready(f.Pod)
		f.Workload = Workload{Wanted: 1, Ready: 1}
	})
	if v := floor.Judge(only); v.Reason != Floor {
		t.Errorf("the only Ready pod may be taken away: %q", v.Detail)
	}
	only.Decision.Strategy = heal.Resize
	if v := floor.Judge(only); !v.Allowed() {
		t.Errorf("refused: %s", v.Detail)
	}
}

func TestWhichPodsADrainEvicts(t *testing.T) {
	owner := func(version, kind string) func(*Facts) {
		return func(f *Facts) {
			f.Pod.OwnerReferences[0].APIVersion, f.Pod.OwnerReferences[0].Kind = version, kind
			f.Owners = f.Owners[:1]
		}
	}
	workload := func(ready, wanted int) func(*Facts) {
		return func(f *Facts) {
			f.Pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			f.Workload = Workload{Wanted: wanted, Ready: ready}
		}
	}
	for _, tt := range []struct {
		name   string
		facts  Facts
		reason string
	}{
		{"one that is not Ready", pod(), ""},
		{"one of a Job", pod(owner("batch/v1", "Job")), ""},
		{"one of a StatefulSet", pod(owner("apps/v1", "StatefulSet")), ""},
		{"one of a DaemonSet", pod(owner("apps/v1", "DaemonSet")), "DaemonSetPod"},
		{"one without a controller", pod(func(f *Facts) { f.Pod.OwnerReferences = nil }), "BarePod"},
		{"one of an unknown controller", pod(owner("example.com/v1", "Game")), "UnknownOwner"},
		{"a static one", pod(func(f *Facts) { annotate(&f.Pod.ObjectMeta, corev1.MirrorPodAnnotationKey, "x") }), "MirrorPod"},
		{"one that has ended", pod(func(f *Facts) { f.Pod.Status.Phase = corev1.PodSucceeded }), "Completed"},
		{"one of kube-system", pod(func(f *Facts) { f.Target.Namespace = "kube-system" }), "ProtectedNamespace"},
		{"one of a marked namespace", pod(func(f *Facts) { annotate(&f.Namespace.ObjectMeta, heal.AnnotationMode, "off") }), "MarkedOff"},
		{"the only Ready one", pod(workload(1, 1)), Floor},
		{"one of two", pod(workload(2, 2)), ""},
		{"the last of two", pod(workload(1, 2)), Floor},
		{"one of three", pod(workload(3, 3)), ""},
		{"a second of three", pod(workload(2, 3)), Floor},
		{"one of more than are wanted", pod(workload(4, 3)), ""},
		{"a Ready one of which nothing is known", pod(workload(0, 0)), Floor},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reason := ""
			if _, refusal := Judge(tt.facts, Drained); refusal != nil {
				reason = refusal.Reason
			}
			if reason != tt.reason {
				t.Errorf("refused because of %q, want %q", reason, tt.reason)
			}
		})
	}
}
