package detect

import (
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// kubeletCertificate finds nodes of which somebody reports that the kubelet's
// certificate is about to expire. (That its PLEG is not healthy makes a node
// not ready, and is node_not_ready's.)
var kubeletCertificate = Detector[*corev1.Node]{
	Name: "kubelet_certificate",
	Row:  "N13",
	Type: heal.NodeFailure,

	Reasons: []string{"KubeletCertificateExpiring"},
	Hold:    "5 min",
	Excused: conditionExcused,

	Find: func(node *corev1.Node, _ Facts) []Finding {
		var found []Finding
		for i, c := range node.Status.Conditions {
			if c.Status == corev1.ConditionTrue && certificateExpires.MatchString(string(c.Type)) {
				f := conditionFinding(node, i, certificateHold)
				f.Reason = "KubeletCertificateExpiring"
				found = append(found, f)
			}
		}
		return found
	},
	Excuse: conditionExcuse,
	Well:   conditionOver,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const certificateHold = 5 * time.Minute

// Kubernetes has no such condition itself; these are what plug-ins of
// node-problem-detector and the like call theirs.
var certificateExpires = regexp.MustCompile(`Cert(ificate)?s?(Is|Has|Have|Will|About|To)*Expir(y|e|es|ed|ing|ation)\b`)
