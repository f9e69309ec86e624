package detect

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// imagePull finds containers whose image cannot be fetched. The kubelet shows
// the attempt and the wait for the next in turn; both are the same failure and
// have the same reason.
var imagePull = Detector[*corev1.Pod]{
	Name: "image_pull",
	Row:  "P4",
	Type: heal.PodFailure,

	Reasons: []string{imagePullBackOff},
	Hold:    "120 s",
	Excused: podExcused,

	Find: func(pod *corev1.Pod, _ Facts) []Finding {
		return findWaiting(pod, []string{"ErrImagePull", imagePullBackOff, "RegistryUnavailable", "ImageInspectError"}, describeImagePull)
	},
	Excuse: podExcuse,
	Well:   containerStarted,

	BlamesNode: true,
}

const (
	imagePullBackOff = "ImagePullBackOff"
	imagePullHold    = 120 * time.Second
)

func describeImagePull(c container, message string) Finding {
	why := pullError(message)
	return Finding{
		Reason:      imagePullBackOff,
		Hold:        imagePullHold,
		Description: fmt.Sprintf("%s cannot be started: its image cannot be pulled (%s)", c, strings.ReplaceAll(why, "_", " ")),
		Metadata:    map[string]string{"pull_error": why},
	}
}

// pullErrors tells from the runtime's words what hinders a pull. The first
// that fits counts: registries answer "not found" to who may not know.
var pullErrors = []struct {
	why   string
	words []string
}{
	{"unauthorized", []string{"unauthorized", "denied", "authentication required", "no basic auth", "forbidden"}},
	{"rate_limited", []string{"toomanyrequests", "too many requests", "rate limit"}},
	{"not_found", []string{"manifest unknown", "not found", "does not exist", "name unknown"}},
	{"registry_unreachable", []string{
		"timeout", "timed out", "connection refused", "connection reset", "no such host", "tls handshake", "unreachable",
		"500 internal", "502 bad gateway", "503 service", "504 gateway", "registryunavailable",
	}},
}

func pullError(message string) string {
	message = strings.ToLower(message)
	for _, e := range pullErrors {
		for _, word := range e.words {
			if strings.Contains(message, word) {
				return e.why
			}
		}
	}
	return "unknown_error"
}
