package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestKubeletOfAVersionThatTheServerDoesNotSupportIsFound(t *testing.T) {
	node := func(version string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: version}}}
	}
	for name, tt := range map[string]struct {
		kubelet, server, newest string
		behind                  string // of the finding; empty: none
	}{
		"the same":                                     {"v1.36.3", "v1.36.3", "v1.36.3", ""},
		"a patch newer":                                {"v1.36.5", "v1.36.3", "v1.36.5", ""},
		"three minor versions older":                   {"v1.33.0", "v1.36.3", "v1.36.3", ""},
		"four minor versions older":                    {"v1.32.9", "v1.36.3", "v1.36.3", "4"},
		"newer than the server":                        {"v1.37.0", "v1.36.3", "v1.37.0", "-1"},
		"as vendors write it":                          {"v1.32.1-eks-1a2b3c", "v1.36.3-gke.100", "v1.36.3", "4"},
		"the server is not known, and the other newer": {"v1.32.1", "", "v1.36.0", "4"},
		"the server is not known, and none is newer":   {"v1.32.1", "", "v1.32.1", ""},
		"nothing is known":                             {"v1.32.1", "", "", ""},
		"no version":                                   {"latest", "v1.36.3", "v1.36.3", ""},
		"of another age":                               {"v2.0.0", "v1.36.3", "v2.0.0", ""},
	} {
		found := kubeletSkew.Find(node(tt.kubelet), Facts{Now: noon, ServerVersion: tt.server, NewestKubelet: tt.newest})
		if tt.behind == "" {
			if found != nil {
				t.Errorf("%s: found %+v, want nothing", name, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Metadata["minor_versions_behind"] != tt.behind {
			t.Errorf("%s: found %+v, want one that is %s behind", name, found, tt.behind)
		}
	}
	want := []Finding{{
		Reason: "KubeletVersionSkew", Hold: time.Hour,
		Description: "the kubelet of node n1 (v1.31.0) is 5 minor versions older than the API server (v1.36.3); Kubernetes supports 3",
		Evidence:    []heal.Evidence{{Path: "status.nodeInfo.kubeletVersion", Value: "v1.31.0"}},
		Metadata:    map[string]string{"kubelet_version": "v1.31.0", "compared_with": "v1.36.3", "minor_versions_behind": "5"},
	}}
	if diff := cmp.Diff(want, kubeletSkew.Find(node("v1.31.0"), Facts{Now: noon, ServerVersion: "v1.36.3"})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}
