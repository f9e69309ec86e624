package cluster

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/selfheal/selfheal/dev/cluster/internal/component"
)

// flags returns the command line of each part.
func (s State) flags(dir string) map[string][]string {
	c := s.Config
	etcd := fmt.Sprintf("http://127.0.0.1:%d", s.EtcdPort)
	pki := func(name string) string { return filepath.Join(dir, "pki", name) }
	flags := map[string][]string{
		component.Etcd: {
			"--name=default",
			"--data-dir=" + filepath.Join(dir, "etcd"),
			"--listen-client-urls=" + etcd,
			"--advertise-client-urls=" + etcd,
			// One member: nobody ever connects to its peer address.
			"--listen-peer-urls=http://127.0.0.1:0",
			"--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=default=http://127.0.0.1:2380",
			"--socket-reuse-port=true",
			"--unsafe-no-fsync=true",
			"--log-level=warn",
			// A hundred thousand pods, and a few versions of each until the API server has them compacted.
			"--quota-backend-bytes=8589934592",
		},
		component.APIServer: {
			"--etcd-servers=" + etcd,
			"--bind-address=127.0.0.1",
			"--advertise-address=127.0.0.1",
			"--secure-port=" + strconv.Itoa(s.APIPort),
			"--permit-port-sharing=true",
			"--tls-cert-file=" + pki("apiserver.crt"),
			"--tls-private-key-file=" + pki("apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"),
			"--token-auth-file=" + pki("tokens.csv"),
			"--authorization-mode=Node,RBAC",
			"--service-cluster-ip-range=10.96.0.0/16",
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("sa.pub"),
			"--service-account-signing-key-file=" + pki("sa.key"),
			"--endpoint-reconciler-type=none",
			"--allow-privileged=true",
			"--default-not-ready-toleration-seconds=" + strconv.Itoa(c.NotReadyToleration),
			"--default-unreachable-toleration-seconds=" + strconv.Itoa(c.UnreachableToleration),
			"--audit-policy-file=" + filepath.Join(dir, "audit-policy.yaml"),
			"--audit-log-path=" + AuditLog(dir),
			// Blocking: a request that has been answered is in the log.
			"--audit-log-mode=blocking",
			"--audit-log-maxsize=4096",
		},
		component.ControllerManager: {
			"--kubeconfig=" + pki("controller-manager.kubeconfig"),
			"--leader-elect=false",
			"--secure-port=0",
			"--use-service-account-credentials=true",
			"--service-account-private-key-file=" + pki("sa.key"),
			"--root-ca-file=" + pki("ca.crt"),
			"--cluster-signing-cert-file=" + pki("ca.crt"),
			"--cluster-signing-key-file=" + pki("ca.key"),
			"--node-monitor-period=1s",
			"--node-monitor-grace-period=" + c.monitorGrace().String(),
			"--kube-api-qps=2000",
			"--kube-api-burst=4000",
			"--concurrent-deployment-syncs=20",
			"--concurrent-replicaset-syncs=20",
		},
		component.Scheduler: {
			"--kubeconfig=" + pki("scheduler.kubeconfig"),
			"--leader-elect=false",
			"--secure-port=0",
			"--kube-api-qps=2000",
			"--kube-api-burst=4000",
		},
		component.Simulator: {
			"--kubeconfig=" + pki("simulator.kubeconfig"),
			"--heartbeat=" + c.heartbeat().String(),
			"--lease-duration=" + c.monitorGrace().String(),
			"--backoff-base=" + c.BackoffBase.String(),
			"--backoff-cap=" + c.BackoffCap.String(),
			"--node-cpu=" + c.NodeCPU,
			"--node-memory=" + c.NodeMemory,
			"--node-pods=" + c.NodePods,
		},
		component.Heartbeat: {
			"--etcd-port=" + strconv.Itoa(s.EtcdPort),
		},
	}
	for name := range flags {
		flags[name] = append(flags[name], c.extra(name)...) // of a flag given twice the last counts
	}
	return flags
}
