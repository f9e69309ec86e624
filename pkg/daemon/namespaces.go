package daemon

import (
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// OwnNamespaces is the chart's, and the one that this process runs in if it is
// in a cluster and not the same.
func OwnNamespaces() []string {
	own := []string{heal.Product}
	// https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
	name, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if ns := strings.TrimSpace(string(name)); err == nil && ns != "" && ns != heal.Product {
		own = append(own, ns)
	}
	return own
}

// NATSNamespaces finds the namespaces of NATS servers that are named as
// Kubernetes services, such as nats.messaging.svc. A short name, nats, is in
// our own namespace, and nats.messaging may as well be a host of the Internet.
func NATSNamespaces(servers string) []string {
	var found []string
	for server := range strings.SplitSeq(servers, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil {
			continue // the bus says what is wrong with it
		}
		if labels := strings.Split(u.Hostname(), "."); len(labels) > 2 && labels[2] == "svc" && !slices.Contains(found, labels[1]) {
			found = append(found, labels[1])
		}
	}
	return found
}
