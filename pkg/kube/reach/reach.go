// Package reach finds the API server and says how to talk to it, without any of
// the typed clients: those bring every type that Kubernetes has into memory,
// which the watcher cannot afford.
package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/selfheal/selfheal/pkg/config"
)

// Config finds the API server: the kubeconfig file if one is named, else the
// cluster that this pod runs in, else $KUBECONFIG, else ~/.kube/config. A
// kubeconfig may be a list of files, as in $KUBECONFIG. An error is
// config.ErrSettings and says what was looked for, in that order.
func Config(kubeconfig, userAgent string) (*rest.Config, error) {
	c, err := find(kubeconfig)
	if err != nil {
		return nil, config.Invalid(err)
	}
	c.UserAgent = userAgent
	return c, nil
}

// LogTo sends what client-go logs by itself to log, for the whole process:
// klog, which it uses, has one logger for all. Without it those lines are not JSON.
func LogTo(log *slog.Logger) { klog.SetSlogLogger(log) }

func find(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return fromFiles("kubeconfig", kubeconfig)
	}
	c, err := rest.InClusterConfig()
	if err == nil {
		return c, nil
	}
	notFound := []string{"kubeconfig is not set", inClusterReason(err)}

	if list := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); list != "" {
		return fromFiles("$KUBECONFIG", list)
	}
	notFound = append(notFound, "$KUBECONFIG is not set")

	home, err := os.UserHomeDir()
	if err != nil {
		notFound = append(notFound, "there is no home directory for ~/.kube/config")
	} else {
		file := filepath.Join(home, ".kube", "config")
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return fromFiles("~/.kube/config", file)
		}
		notFound = append(notFound, file+" does not exist")
	}
	return nil, fmt.Errorf("no API server found: %s; name a kubeconfig file with KUBECONFIG or --kubeconfig", strings.Join(notFound, "; "))
}

func inClusterReason(err error) string {
	if errors.Is(err, rest.ErrNotInCluster) {
		return "this is no pod (KUBERNETES_SERVICE_HOST is not set)"
	}
	return fmt.Sprintf("this is a pod without a service account's token (%v)", err)
}

// fromFiles reads a kubeconfig, or several that kubectl would merge. Of
// several, all but one may be missing.
func fromFiles(source, list string) (*rest.Config, error) {
	rules := &clientcmd.ClientConfigLoadingRules{}
	var missing []string
	for _, file := range filepath.SplitList(list) {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, strings.TrimPrefix(err.Error(), "stat "))
		} else {
			rules.Precedence = append(rules.Precedence, file)
		}
	}
	if len(rules.Precedence) == 0 {
		return nil, fmt.Errorf("%s %q: %s", source, list, strings.Join(missing, "; "))
	}
	loaded, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", source, list, err)
	}
	// Not the deferred client config of kubectl: for an empty file that one
	// goes looking for a cluster by itself.
	c, err := clientcmd.NewDefaultClientConfig(*loaded, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", source, list, err)
	}
	return c, nil
}
