// Package e2e breaks a real control plane and watches the four real binaries
// heal it, judged by the API server's audit log and by the messages on the bus.
package e2e

import (
	"flag"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// workers is how many nodes there are beside those that a scenario adds.
const workers = 5

func TestMain(m *testing.M) {
	flag.Parse()
	parallel()
	os.Exit(harness.Main(m, kubetest.Options{Nodes: workers}))
}

// parallel lets all scenarios be played at once, as they mostly wait.
func parallel() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "32"); err != nil {
			panic(err) // the package testing has the flag
		}
	}
}

var createOptions = metav1.CreateOptions{}
