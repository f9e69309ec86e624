// Package e2e breaks a real control plane and watches the four real binaries
// heal it, judged by the API server's audit log and by the messages on the bus.
package e2e

import (
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, kubetest.Options{Nodes: 5})) }

var createOptions = metav1.CreateOptions{}
