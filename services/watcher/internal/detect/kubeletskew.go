package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/selfheal/selfheal/pkg/heal"
)

// kubeletSkew finds nodes whose kubelet is of a version that Kubernetes does
// not support with that of the API server: newer, or more than three minor
// versions older (https://kubernetes.io/releases/version-skew-policy). Such a
// node mostly works, until it does not; nothing fails now.
var kubeletSkew = Detector[*corev1.Node]{
	Name:     "kubelet_skew",
	Row:      "N13",
	Type:     heal.NodeFailure,
	Severity: heal.Low,

	Reasons: []string{"KubeletVersionSkew"},
	Hold:    "1 h: an upgrade takes its time",
	Excused: conditionExcused,

	Find:   findKubeletSkew,
	Excuse: conditionExcuse,
}

const (
	skewHold    = time.Hour
	supportedBy = 3 // minor versions
)

func findKubeletSkew(node *corev1.Node, facts Facts) []Finding {
	text := node.Status.NodeInfo.KubeletVersion
	kubelet, err := version.ParseGeneric(text)
	if err != nil {
		return nil
	}
	// No kubelet may be newer than the server: without a word of the server
	// itself, the newest kubelet is the least that it can be.
	server, whose := facts.ServerVersion, "the API server"
	reference, err := version.ParseGeneric(server)
	if err != nil {
		server, whose = facts.NewestKubelet, "another node's kubelet"
		if reference, err = version.ParseGeneric(server); err != nil {
			return nil
		}
	}
	if kubelet.Major() != reference.Major() {
		return nil // which is no matter of counting
	}
	behind := int(reference.Minor()) - int(kubelet.Minor())
	var what string
	switch {
	case behind > supportedBy:
		what = fmt.Sprintf("%s older than %s (%s); Kubernetes supports %d", count(behind, "minor version"), whose, server, supportedBy)
	case behind < 0:
		what = fmt.Sprintf("newer than %s (%s), which Kubernetes does not support", whose, server)
	default:
		return nil
	}
	return []Finding{{
		Reason: "KubeletVersionSkew", Hold: skewHold,
		Description: fmt.Sprintf("the kubelet of node %s (%s) is %s", node.Name, text, what),
		Evidence:    []heal.Evidence{{Path: "status.nodeInfo.kubeletVersion", Value: text}},
		Metadata:    map[string]string{"kubelet_version": text, "compared_with": server, "minor_versions_behind": strconv.Itoa(behind)},
	}}
}
