package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func waitingFor(reason, message string) *corev1.Pod {
	return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
		{Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}},
	}}}
}

func TestWhatAContainerWaitsForIsFoundWithItsMessage(t *testing.T) {
	evidence := func(reason, message string) []heal.Evidence {
		e := []heal.Evidence{{Path: "status.containerStatuses[0].state.waiting.reason", Value: reason}}
		if message != "" {
			e = append(e, heal.Evidence{Path: "status.containerStatuses[0].state.waiting.message", Value: message})
		}
		return e
	}
	tests := []struct {
		name            string
		detector        Detector[*corev1.Pod]
		reason, message string
		want            Finding
	}{
		{
			name: "a failed pull", detector: imagePull, reason: "ErrImagePull", message: "manifest unknown",
			want: Finding{
				Part: "api", Reason: "ImagePullBackOff", Hold: 2 * time.Minute,
				Description: "container api cannot be started: its image cannot be pulled (not found)",
				Metadata:    map[string]string{"container": "api", "pull_error": "not_found"},
			},
		},
		{
			name: "the wait after it", detector: imagePull, reason: "ImagePullBackOff",
			want: Finding{
				Part: "api", Reason: "ImagePullBackOff", Hold: 2 * time.Minute,
				Description: "container api cannot be started: its image cannot be pulled (unknown error)",
				Metadata:    map[string]string{"container": "api", "pull_error": "unknown_error"},
			},
		},
		{
			name: "no name", detector: imageInvalid, reason: "InvalidImageName", message: "couldn't parse image",
			want: Finding{
				Part: "api", Reason: "InvalidImageName",
				Description: "container api cannot be started: its image's name is not valid",
				Metadata:    map[string]string{"container": "api"},
			},
		},
		{
			name: "never pulled", detector: imageInvalid, reason: "ErrImageNeverPull",
			want: Finding{
				Part: "api", Reason: "ErrImageNeverPull",
				Description: "container api cannot be started: its image is not on the node, and must not be pulled",
				Metadata:    map[string]string{"container": "api"},
			},
		},
		{
			name: "a Secret that is missing", detector: configError, reason: "CreateContainerConfigError", message: `secret "db" not found`,
			want: Finding{
				Part: "api", Reason: "CreateContainerConfigError", Hold: time.Minute,
				Description: "container api cannot be started: Secret db is missing",
				Metadata:    map[string]string{"container": "api", "missing": "Secret db"},
			},
		},
		{
			name: "something else in its configuration", detector: configError, reason: "CreateContainerConfigError", message: "container has runAsNonRoot and image will run as root",
			want: Finding{
				Part: "api", Reason: "CreateContainerConfigError", Hold: time.Minute,
				Description: "container api cannot be started: its configuration is not complete",
				Metadata:    map[string]string{"container": "api"},
			},
		},
		{
			name: "refused by the runtime", detector: containerCreateError, reason: "RunContainerError", message: "exec format error",
			want: Finding{
				Part: "api", Reason: "CreateContainerError", Hold: time.Minute,
				Description: "container api cannot be started: the container runtime refuses it (RunContainerError)",
				Metadata:    map[string]string{"container": "api"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Evidence = evidence(tt.reason, tt.message)
			got := tt.detector.Find(waitingFor(tt.reason, tt.message), Facts{Thresholds: defaults})
			if diff := cmp.Diff([]Finding{tt.want}, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			ended := waitingFor(tt.reason, tt.message)
			ended.Status.Phase = corev1.PodFailed
			if got := tt.detector.Find(ended, Facts{}); got != nil {
				t.Errorf("found in a pod that has ended: %v", got)
			}
		})
	}
}

func TestAContainerThatWaitedIsWellOnceItWasStarted(t *testing.T) {
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"it runs":               {&corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{running("api", false)}}}, true},
		"it ran, and crashed":   {waitingFor("CrashLoopBackOff", ""), true},
		"it is being created":   {waitingFor("ContainerCreating", ""), false},
		"its image is tried on": {waitingFor("ErrImagePull", ""), false},
		"it is not there":       {&corev1.Pod{}, true},
		"its pod has ended":     {&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: waitingFor("ErrImagePull", "").Status.ContainerStatuses}}, true},
	} {
		if got := imagePull.Well(tt.pod, "api"); got != tt.want {
			t.Errorf("%s: Well = %v, want %v", name, got, tt.want)
		}
	}
}

// The messages are those of kubelet, containerd and CRI-O.
func TestMessagesOfTheKubeletTellWhatIsWrong(t *testing.T) {
	for message, want := range map[string]string{
		`rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/x/y:1": not found`: "not_found",
		`reading manifest 1 in quay.io/x/y: manifest unknown`:                                            "not_found",
		`failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized`:      "unauthorized",
		`pull access denied, repository does not exist or may require authorization`:                     "unauthorized",
		`429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit`: "rate_limited",
		`dial tcp: lookup registry.example: no such host`:                                                "registry_unreachable",
		`net/http: TLS handshake timeout`:                                                                "registry_unreachable",
		`Back-off pulling image "x"`:                                                                     "unknown_error",
	} {
		if got := pullError(message); got != want {
			t.Errorf("%s: %s, want %s", message, got, want)
		}
	}
	for message, want := range map[string]string{
		`secret "db-credentials" not found`:                     "Secret db-credentials",
		`configmap "web.conf" not found`:                        "ConfigMap web.conf",
		`couldn't find key url in ConfigMap shop/web`:           "key url of ConfigMap web",
		`couldn't find key PASSWORD in Secret shop/db`:          "key PASSWORD of Secret db",
		`couldn't find key a/../b in Secret shop/db`:            "",
		"secret \"db\u202e\" not found":                         "",
		`container has runAsNonRoot and image will run as root`: "",
	} {
		if got := missingObject(message); got != want {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
	for message, want := range map[string]string{
		"0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. preemption: 0/3 nodes are available.": "cpu,memory",
		"0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: db}, 2 node(s) were unschedulable.":  "taint,cordon",
		"0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.":                            "affinity",
		"0/3 nodes are available: 3 node(s) had volume node affinity conflict.":                                    "affinity,volume",
		"": "",
	} {
		if got := obstacles(message); got != want {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
}

func TestAPodAsAWholeIsFoundWithItsOwnHold(t *testing.T) {
	creating := waitingFor("ContainerCreating", "")
	creating.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse}}
	claiming := waitingFor("ContainerCreating", "")
	claiming.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	pending := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient cpu."},
	}}}
	grace := int64(30)
	leaving := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: noon}, DeletionGracePeriodSeconds: &grace}}
	held := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: noon}, Finalizers: []string{"example.com/backup"}}}
	waits := heal.Evidence{Path: "status.containerStatuses[0].state.waiting.reason", Value: "ContainerCreating"}
	tests := []struct {
		name     string
		detector Detector[*corev1.Pod]
		pod      *corev1.Pod
		want     Finding
	}{
		{
			name: "without a sandbox", detector: stuckCreating, pod: creating,
			want: Finding{
				Reason: "StuckCreating", Hold: 5 * time.Minute, Description: "1 container not created: api; its sandbox, network or volumes are not there",
				Evidence: []heal.Evidence{{Path: "status.conditions[0].status", Value: "False"}, waits},
				Metadata: map[string]string{"ready_to_start_containers": "False"},
			},
		},
		{
			name: "with a claim", detector: stuckCreating, pod: claiming,
			want: Finding{
				Reason: "StuckCreating", Hold: 10 * time.Minute, Description: "1 container not created: api",
				Evidence: []heal.Evidence{waits}, Metadata: map[string]string{"volume_claims": "data"},
			},
		},
		{
			name: "without a node", detector: unschedulable, pod: pending,
			want: Finding{
				Reason: "Unschedulable", Hold: 5 * time.Minute, Description: "no node can take the pod: 0/3 nodes are available: 3 Insufficient cpu.",
				Evidence: []heal.Evidence{
					{Path: "status.conditions[0].reason", Value: "Unschedulable"},
					{Path: "status.conditions[0].message", Value: "0/3 nodes are available: 3 Insufficient cpu."},
				},
				Metadata: map[string]string{"obstacles": "cpu"},
			},
		},
		{
			name: "to go", detector: stuckTerminating, pod: leaving,
			want: Finding{
				Reason: "StuckTerminating", Hold: 5*time.Minute + 30*time.Second, Description: "the pod was deleted, but does not go",
				Evidence: []heal.Evidence{
					{Path: "metadata.deletionTimestamp", Value: "2026-11-22T12:00:00Z"},
					{Path: "metadata.deletionGracePeriodSeconds", Value: "30"},
				},
				Metadata: map[string]string{},
			},
		},
		{
			name: "held by a finalizer", detector: stuckTerminating, pod: held,
			want: Finding{
				Reason: "StuckTerminating", Hold: 5 * time.Minute, Description: "the pod was deleted, but is held by example.com/backup",
				Evidence: []heal.Evidence{
					{Path: "metadata.deletionTimestamp", Value: "2026-11-22T12:00:00Z"},
					{Path: "metadata.finalizers", Value: "example.com/backup"},
				},
				Metadata: map[string]string{"finalizers": "example.com/backup"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff([]Finding{tt.want}, tt.detector.Find(tt.pod, Facts{})); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodThatIsToGoIsExcusedFromAllButThat(t *testing.T) {
	mirror := map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: noon}}}
	for _, d := range Pods {
		want := Leaving
		if d.Name == "stuck_terminating" {
			want = None
		}
		if got := d.Excuse(pod, Facts{}); got != want {
			t.Errorf("%s: excuse %v of a pod that is to go, want %v", d.Name, got, want)
		}
		if got := d.Excuse(&corev1.Pod{}, Facts{NodeFailing: true}); got != Masked {
			t.Errorf("%s: excuse %v on a node that fails itself, want %v", d.Name, got, Masked)
		}
		want = Leaving
		if d.Name == "static_pod_failing" {
			want = None
		}
		if got := d.Excuse(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: mirror}}, Facts{}); got != want {
			t.Errorf("%s: excuse %v of a mirror pod, want %v", d.Name, got, want)
		}
	}
}
