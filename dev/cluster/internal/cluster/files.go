package cluster

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

//go:embed audit-policy.yaml
var auditPolicy []byte

// identity is a user known to the API server by a token.
type identity struct {
	kubeconfig string // file name in DIR or DIR/pki
	user       string
	group      string
}

var identities = []identity{
	{kubeconfig: "kubeconfig", user: "kubernetes-admin", group: "system:masters"},
	{kubeconfig: "pki/supervisor.kubeconfig", user: "system:supervisor", group: "system:masters"},
	{kubeconfig: "pki/controller-manager.kubeconfig", user: "system:kube-controller-manager"},
	{kubeconfig: "pki/scheduler.kubeconfig", user: "system:kube-scheduler"},
	// system:masters also because API priority and fairness never queues it: thousands of pods start at once.
	{kubeconfig: "pki/simulator.kubeconfig", user: "system:node-simulator", group: "system:masters"},
}

// writeFiles writes the token file, the kubeconfigs and the audit policy for an API server on the given port.
// Tokens stay what they were.
func writeFiles(dir string, name string, port int) error {
	ca, err := os.ReadFile(filepath.Join(dir, "pki", "ca.crt"))
	if err != nil {
		return err
	}
	var tokens strings.Builder
	for _, id := range identities {
		path := filepath.Join(dir, id.kubeconfig)
		token := keptToken(path)
		if err := writeKubeconfig(path, name, port, ca, id.user, token); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, id.user, id.user, id.group)
	}
	if err := writeFile(filepath.Join(dir, "pki", "tokens.csv"), []byte(tokens.String()), 0o600); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "audit-policy.yaml"), auditPolicy, 0o644)
}

func keptToken(path string) string {
	if c, err := clientcmd.LoadFromFile(path); err == nil {
		for _, u := range c.AuthInfos {
			if u.Token != "" {
				return u.Token
			}
		}
	}
	return newToken()
}

func writeKubeconfig(path, name string, port int, ca []byte, user, token string) error {
	context := "devcluster-" + name
	c := clientcmdapi.NewConfig()
	c.Clusters[context] = &clientcmdapi.Cluster{
		Server:                   fmt.Sprintf("https://127.0.0.1:%d", port),
		CertificateAuthorityData: ca,
	}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts[context] = &clientcmdapi.Context{Cluster: context, AuthInfo: user}
	c.CurrentContext = context
	b, err := clientcmd.Write(*c)
	if err != nil {
		return err
	}
	return writeFile(path, b, 0o600)
}
