package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var began = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// story plays one pod: it judges, writes the status, and moves the clock to where the verdict asks to be woken.
type story struct {
	facts   Facts
	memory  Memory
	now     time.Time
	deleted bool
	trace   []string // one line for every status written
	events  []string
}

func tell(pod *corev1.Pod) *story {
	return &story{now: began, facts: Facts{Pod: pod, NodeAlive: true, NodeIP: "172.18.0.2", PodIP: "10.128.0.1"}}
}

// until plays on for a time, and stands at its end.
func (s *story) until(d time.Duration) *story {
	end := s.now.Add(d)
	for !s.deleted {
		wake := s.judge()
		if wake.IsZero() || wake.After(end) {
			break
		}
		s.now = wake
	}
	s.now = end
	return s
}

func (s *story) judge() time.Time {
	v := Judge(DefaultTiming(), s.facts, s.memory, s.now)
	s.memory = v.Memory
	for _, e := range v.Events {
		s.events = append(s.events, e.Reason)
	}
	if v.Status != nil {
		pod := s.facts.Pod.DeepCopy()
		pod.Status = *v.Status
		s.facts.Pod = pod
		s.trace = append(s.trace, "+"+s.now.Sub(began).String()+" "+summary(&pod.Status))
	}
	if v.Delete {
		s.deleted = true
		s.trace = append(s.trace, "+"+s.now.Sub(began).String()+" deleted")
	}
	return v.Wake
}

// change edits the object as another client would.
func (s *story) change(edit func(*corev1.Pod)) *story {
	pod := s.facts.Pod.DeepCopy()
	edit(pod)
	s.facts.Pod = pod
	return s
}

// summary is a status in one line, like a row of kubectl get pods.
func summary(s *corev1.PodStatus) string {
	parts := []string{string(s.Phase)}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for _, c := range list {
			parts = append(parts, state(c))
		}
	}
	if c := condition(s, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		parts = append(parts, "Ready")
	}
	return strings.Join(parts, " ")
}

func state(c corev1.ContainerStatus) string {
	name := fmt.Sprintf("%s=", c.Name)
	restarts := ""
	if c.RestartCount > 0 {
		restarts = fmt.Sprintf("(%d)", c.RestartCount)
	}
	switch {
	case c.State.Waiting != nil:
		return name + c.State.Waiting.Reason + restarts
	case c.State.Running != nil:
		return name + "running" + restarts
	case c.State.Terminated != nil:
		return fmt.Sprintf("%sexit%d%s", name, c.State.Terminated.ExitCode, restarts)
	}
	return name + "?"
}

func pod(images ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "uid-1", Generation: 1},
		Spec:       corev1.PodSpec{NodeName: "node-1", RestartPolicy: corev1.RestartPolicyAlways},
		Status:     corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}},
	}
	for i, image := range images {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: string(rune('a' + i)), Image: image})
	}
	return p
}

func with(p *corev1.Pod, edits ...func(*corev1.Pod)) *corev1.Pod {
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func policy(r corev1.RestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = r }
}

func annotate(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations = map[string]string{AnnotationBehaviour: value}
	}
}

func initBy(images ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i, image := range images {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: fmt.Sprintf("i%d", i), Image: image})
		}
	}
}

func limit(memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
	}
}

func deleted(grace int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		at := metav1.NewTime(began)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &grace
	}
}

func TestAPodFaresAsItsImagesSay(t *testing.T) {
	for _, test := range []struct {
		name  string
		pod   *corev1.Pod
		lasts time.Duration
		want  []string
	}{
		{"good runs and is ready", pod("shop/api:1.0"), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running Ready",
		}},
		{"broken restarts at once, then after ten seconds, then twice as long", pod("registry.example/shop/api:broken"), time.Minute, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
			"+300ms Running a=running(1)",
			"+400ms Running a=CrashLoopBackOff(1)",
			"+10.4s Running a=running(2)",
			"+10.5s Running a=CrashLoopBackOff(2)",
			"+30.5s Running a=running(3)",
			"+30.6s Running a=CrashLoopBackOff(3)",
		}},
		{"broken beside good", pod("good", "broken"), time.Second, []string{
			"+0s Pending a=ContainerCreating b=ContainerCreating",
			"+200ms Running a=running b=running",
			"+300ms Running a=running b=running(1)",
			"+400ms Running a=running b=CrashLoopBackOff(1)",
		}},
		{"crash-times-2 recovers by itself", pod("api:crash-times-2"), time.Minute, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
			"+300ms Running a=running(1)",
			"+400ms Running a=CrashLoopBackOff(1)",
			"+10.4s Running a=running(2) Ready",
		}},
		{"missing alternates between pulling and backing off", pod("api:missing"), 35 * time.Second, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Pending a=ErrImagePull",
			"+1.2s Pending a=ImagePullBackOff",
			"+10.2s Pending a=ErrImagePull",
			"+11.2s Pending a=ImagePullBackOff",
			"+30.2s Pending a=ErrImagePull",
			"+31.2s Pending a=ImagePullBackOff",
		}},
		{"invalid image", pod("api:invalid-image"), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Pending a=InvalidImageName",
		}},
		{"config error", pod("api:config-error"), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Pending a=CreateContainerConfigError",
		}},
		{"unready runs", pod("api:unready"), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
		}},
		{"stuck creating", pod("api:stuck-creating"), time.Hour, []string{"+0s Pending a=ContainerCreating"}},
		{"liveness is ready until it is killed", pod("api:liveness"), 52 * time.Second, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running Ready",
			"+20.2s Running a=running(1) Ready",
			"+40.2s Running a=CrashLoopBackOff(1)",
			"+50.2s Running a=running(2) Ready",
		}},
		{"a job that completes", with(pod("job:complete"), policy(corev1.RestartPolicyNever)), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
			"+300ms Succeeded a=exit0",
		}},
		{"a job that fails for good", with(pod("job:exit-3"), policy(corev1.RestartPolicyNever)), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
			"+300ms Failed a=exit3",
		}},
		{"a job that is tried again", with(pod("job:crash"), policy(corev1.RestartPolicyOnFailure)), time.Second, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
			"+300ms Running a=running(1)",
			"+400ms Running a=CrashLoopBackOff(1)",
		}},
		{"init containers run one after another", with(pod("good"), initBy("one", "two")), time.Hour, []string{
			"+0s Pending i0=PodInitializing i1=PodInitializing a=PodInitializing",
			"+200ms Pending i0=running i1=PodInitializing a=PodInitializing",
			"+300ms Pending i0=exit0 i1=PodInitializing a=PodInitializing",
			"+500ms Pending i0=exit0 i1=running a=PodInitializing",
			"+600ms Pending i0=exit0 i1=exit0 a=PodInitializing",
			"+800ms Running i0=exit0 i1=exit0 a=running Ready",
		}},
		{"a broken init container holds the pod", with(pod("good"), initBy("broken")), time.Second, []string{
			"+0s Pending i0=PodInitializing a=PodInitializing",
			"+200ms Pending i0=running a=PodInitializing",
			"+300ms Pending i0=running(1) a=PodInitializing",
			"+400ms Pending i0=CrashLoopBackOff(1) a=PodInitializing",
		}},
		{"oom until its limit is high enough", with(pod("api:oom-needs-256Mi"), limit("128Mi")), time.Second, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running",
			"+300ms Running a=running(1)",
			"+400ms Running a=CrashLoopBackOff(1)",
		}},
		{"oom with enough memory", with(pod("api:oom-needs-256Mi"), limit("1Gi")), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running Ready",
		}},
		{"one that grows runs until its limit is reached", with(pod("api:grows-to-256Mi"), limit("128Mi")), 41 * time.Second, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running Ready",
			"+20.2s Running a=running(1) Ready",
			"+40.2s Running a=CrashLoopBackOff(1)",
		}},
		{"one that grows has enough memory", with(pod("api:grows-to-256Mi"), limit("1Gi")), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running Ready",
		}},
		{"the annotation outweighs the image", with(pod("api:broken"), annotate("good")), time.Hour, []string{
			"+0s Pending a=ContainerCreating",
			"+200ms Running a=running Ready",
		}},
		{"evicted by its kubelet", with(pod("api:good"), annotate("evicted")), time.Hour, []string{"+0s Failed"}},
		{"deleted before it ran", with(pod("api:missing"), deleted(30)), time.Hour, []string{"+0s deleted"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := tell(test.pod).until(test.lasts).trace
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatHappensToARunningPod(t *testing.T) {
	image := func(image string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Image = image }
	}
	finalizer := func(p *corev1.Pod) { p.Finalizers = []string{"batch.kubernetes.io/job-tracking"} }
	for _, test := range []struct {
		name  string
		pod   *corev1.Pod
		edit  func(*corev1.Pod)
		lasts time.Duration
		want  []string // from a minute on
	}{
		{"an image changed in place restarts the container", pod("api:1"), image("api:2"), time.Second, []string{
			"+1m0s Running a=running(1) Ready",
		}},
		{"a good image ends a crash loop at once", pod("api:broken"), image("api:2"), time.Second, []string{
			"+1m0s Running a=running(4) Ready",
		}},
		{"a broken annotation breaks it at once", pod("api:1"), annotate("broken"), time.Second, []string{
			"+1m0s Running a=running(1)",
			"+1m0.1s Running a=CrashLoopBackOff(1)",
		}},
		{"an annotation that makes it unready", pod("api:1"), annotate("unready"), time.Second, []string{"+1m0s Running a=running"}},
		{"an annotation that takes its image away", pod("api:1"), annotate("missing"), time.Second, []string{
			"+1m0s Running a=ErrImagePull",
			"+1m1s Running a=ImagePullBackOff",
		}},
		{"deletion takes its readiness, then the pod", pod("api:1"), deleted(30), time.Second, []string{
			"+1m0s Running a=running",
			"+1m0.3s deleted",
		}},
		{"deletion without grace", pod("api:1"), func(p *corev1.Pod) { deleted(0)(p); p.Finalizers = []string{"x/y"} }, time.Second, nil},
		{"a finalizer sees a last status", with(pod("api:1"), finalizer), deleted(30), time.Second, []string{
			"+1m0s Running a=running",
			"+1m0.3s Failed a=exit143",
			"+1m0.3s deleted",
		}},
		{"stuck terminating never goes", pod("api:stuck-terminating"), deleted(30), time.Hour, nil},
		{"a crash loop can be deleted at once", pod("api:broken"), deleted(30), time.Second, []string{"+1m0s deleted"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := tell(test.pod).until(time.Minute)
			s.trace = nil
			got := s.change(test.edit).until(test.lasts).trace
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPodOnADeadNodeStaysAsItIs(t *testing.T) {
	s := tell(pod("api:broken")).until(5 * time.Second)
	s.trace, s.facts.NodeAlive = nil, false
	s.change(deleted(30)).until(time.Hour)
	if len(s.trace) > 0 || s.deleted {
		t.Errorf("on the dead node: %v", s.trace)
	}
	s.facts.NodeAlive = true
	if s.until(time.Second); !s.deleted {
		t.Errorf("the node came back and did not end the pod: %v", s.trace)
	}
}

func TestASimulatorThatStartsAgainGoesOnFromTheStatus(t *testing.T) {
	s := tell(pod("api:broken")).until(35 * time.Second)
	s.trace, s.memory = nil, Memory{}
	want := []string{"+1m10s Running a=running(4)", "+1m10.1s Running a=CrashLoopBackOff(4)"}
	if diff := cmp.Diff(want, s.until(40*time.Second).trace); diff != "" {
		t.Errorf("after the restart (-want +got):\n%s", diff)
	}
}

func TestBackOffStartsAnewAfterALongGoodRun(t *testing.T) {
	s := tell(pod("api:broken")).until(35 * time.Second).change(annotate("good")).until(time.Hour)
	s.trace = nil
	want := []string{"+1h0m35s Running a=running(5)", "+1h0m35.1s Running a=CrashLoopBackOff(5)", "+1h0m45.1s Running a=running(6)"}
	if diff := cmp.Diff(want, s.change(annotate("broken")).until(10150*time.Millisecond).trace); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}

func TestWhatIsMissingHoldsAContainerUntilItAppears(t *testing.T) {
	s := tell(pod("api:1"))
	s.facts.MissingConfig = map[string]string{"a": `configmap "settings" not found`}
	s.until(time.Minute)
	waiting := s.facts.Pod.Status.ContainerStatuses[0].State.Waiting
	want := &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `configmap "settings" not found`}
	if diff := cmp.Diff(want, waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	s.facts.MissingConfig = nil
	s.trace = nil
	if diff := cmp.Diff([]string{"+1m0s Running a=running Ready"}, s.until(time.Second).trace); diff != "" {
		t.Errorf("once it is there (-want +got):\n%s", diff)
	}
}

func TestACrashLoopLooksAsTheKubeletReportsIt(t *testing.T) {
	s := tell(pod("api:oom")).until(time.Second)
	got := s.facts.Pod.Status.ContainerStatuses[0]
	end := metav1.NewTime(began)
	want := corev1.ContainerStatus{
		Name: "a", Image: "api:oom", ImageID: imageID("api:oom"), RestartCount: 1, Started: new(bool),
		ContainerID: got.ContainerID, Resources: &corev1.ResourceRequirements{},
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff", Message: "back-off 10s restarting failed container=a pod=web_shop(uid-1)",
		}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 137, Reason: "OOMKilled", StartedAt: end, FinishedAt: end, ContainerID: got.ContainerID,
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("container status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"BackOff"}, s.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestAReadinessGateKeepsAPodUnready(t *testing.T) {
	p := pod("api:1")
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "lb/ready"}}
	s := tell(p).until(time.Second)
	if c := condition(&s.facts.Pod.Status, corev1.PodReady); c.Reason != "ReadinessGatesNotReady" {
		t.Errorf("Ready is %s %s, want ReadinessGatesNotReady", c.Status, c.Reason)
	}
	s.change(func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "lb/ready", Status: corev1.ConditionTrue})
	}).until(time.Second)
	if c := condition(&s.facts.Pod.Status, corev1.PodReady); c.Status != corev1.ConditionTrue {
		t.Errorf("Ready is %s %s after the gate opened", c.Status, c.Message)
	}
}

func TestAResizeInPlaceShowsInTheStatus(t *testing.T) {
	s := tell(with(pod("api:1"), limit("128Mi"))).until(time.Second).change(limit("256Mi")).until(time.Second)
	c := s.facts.Pod.Status.ContainerStatuses[0]
	if got := c.Resources.Limits.Memory().String(); got != "256Mi" || c.RestartCount != 0 {
		t.Errorf("limit %s after %d restarts, want 256Mi after none", got, c.RestartCount)
	}
	s.change(func(p *corev1.Pod) {
		p.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
		limit("512Mi")(p)
	}).until(time.Second)
	if c := s.facts.Pod.Status.ContainerStatuses[0]; c.Resources.Limits.Memory().String() != "512Mi" || c.RestartCount != 1 {
		t.Errorf("limit %s after %d restarts, want 512Mi after one", c.Resources.Limits.Memory(), c.RestartCount)
	}
}

func TestASidecarRunsBesideAndEndsWithThePod(t *testing.T) {
	p := with(pod("job:complete"), initBy("proxy"), policy(corev1.RestartPolicyNever))
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers[0].RestartPolicy = &always
	want := []string{
		"+0s Pending i0=PodInitializing a=PodInitializing",
		"+200ms Pending i0=running a=PodInitializing",
		"+400ms Running i0=running a=running",
		"+500ms Succeeded i0=exit0 a=exit0",
	}
	if diff := cmp.Diff(want, tell(p).until(time.Minute).trace); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}
