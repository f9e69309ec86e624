package detect

import (
	"fmt"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// configError finds containers that wait for a ConfigMap, a Secret, or a key
// in one, and names it. If it appears, the kubelet goes on by itself.
var configError = Detector[*corev1.Pod]{
	Name: "config_error",
	Row:  "P6",
	Type: heal.PodFailure,

	Reasons: []string{createContainerConfigError},
	Hold:    "60 s",
	Excused: podExcused,

	Find: func(pod *corev1.Pod, _ Facts) []Finding {
		return findWaiting(pod, []string{createContainerConfigError}, func(c container, message string) Finding {
			f := Finding{Reason: createContainerConfigError, Hold: createHold, Metadata: map[string]string{}}
			why := "its configuration is not complete"
			if missing := missingObject(message); missing != "" {
				why = missing + " is missing"
				f.Metadata["missing"] = missing
			}
			f.Description = fmt.Sprintf("%s cannot be started: %s", c, why)
			return f
		})
	},
	Excuse: podExcuse,
	Well:   containerStarted,
}

const (
	createContainerConfigError = "CreateContainerConfigError"
	createHold                 = 60 * time.Second
)

// The kubelet's words for what is missing (pkg/kubelet/kubelet_pods.go).
var (
	missingWhole = regexp.MustCompile(`(?i)\b(configmap|secret) "([a-z0-9][a-z0-9.-]{0,252})" not found`)
	missingKey   = regexp.MustCompile(`(?i)couldn't find key ([A-Za-z0-9._-]{1,253}) in (configmap|secret) (?:[a-z0-9-]{1,63}/)?([a-z0-9][a-z0-9.-]{0,252})`)
	kindNames    = map[byte]string{'c': "ConfigMap", 'C': "ConfigMap", 's': "Secret", 'S': "Secret"}
)

// missingObject is what the kubelet says is missing: "Secret db", "key url of
// ConfigMap web", or nothing.
func missingObject(message string) string {
	if m := missingKey.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("key %s of %s %s", m[1], kindNames[m[2][0]], m[3])
	}
	if m := missingWhole.FindStringSubmatch(message); m != nil {
		return kindNames[m[1][0]] + " " + m[2]
	}
	return ""
}
