package chart

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/analyzer"
	"github.com/selfheal/selfheal/services/notifier"
	"github.com/selfheal/selfheal/services/watcher"
	"github.com/selfheal/selfheal/test/harness"
)

// The services run as the chart would have them: with its service accounts'
// tokens, its NATS accounts, and no other right. A pod that crashes is
// replaced, and the result told.
func TestTheServicesHealWithTheChartsRightsAlone(t *testing.T) {
	for _, tt := range []struct {
		name, values, namespaces string
	}{
		{"in the whole cluster", "small", ""},
		{"in two namespaces", "namespaced", "shop,billing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := kubetest.Get(t)
			k := c.Client(t)
			for _, ns := range []string{"shop", "billing"} {
				namespace(t, ns, nil)
			}
			file := ciFiles(t)[tt.values]
			install(t, "self-healing", "-f", file)
			nats, seeds := natsOf(t, file)
			work := map[string]string{
				"SELFHEAL_CLUSTER": "default", "SELFHEAL_MODE": "auto", "SELFHEAL_NATS_URL": nats.URL(), "SELFHEAL_NAMESPACES": tt.namespaces,
				"HEALTH_CHECK_INTERVAL": "1", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "60", "VERIFY_WINDOW": "3", "SELFHEAL_SETTLE_TIME": "1",
			}
			if tt.namespaces == "" {
				delete(work, "SELFHEAL_NAMESPACES")
			}
			run(t, work, seeds)

			app := "checkout-" + tt.values
			harness.Deploy(t, k, "shop", harness.Deployment(app, "shop/checkout:1", 3))
			victim := harness.Pods(t, k, "shop", app)[0]
			operator := nats.Connect(t, bus.Options{URL: nats.URL(), Service: "selfheal", Cluster: "default", NKeyFile: seeds["operator"]})
			if err := c.SetBehaviour(t.Context(), "shop", victim.Name, "crash"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			healed := errors.New("healed")
			var said []string
			err := operator.Tail(ctx, time.Time{}, func(r bus.Raw) error {
				if r.Stream != bus.Results.Stream {
					return nil
				}
				e, err := heal.Decode[heal.Result](r.Data)
				if err != nil {
					return err
				}
				said = append(said, fmt.Sprintf("%s: %s %s: %s", e.Data.Decision.Target, e.Data.Outcome, e.Data.Reason, e.Data.Message))
				if e.Data.Outcome == heal.Succeeded && e.Data.Decision.Failure.Owner.Name == app {
					return healed
				}
				return nil
			})
			if !errors.Is(err, healed) {
				t.Fatalf("not healed: %v; results:\n%s", err, strings.Join(said, "\n"))
			}
			for _, e := range kubetest.Mutations(c.Audit(t), "selfheal-") {
				if e.Code == http.StatusForbidden || e.User != "system:serviceaccount:self-healing:self-healing-actuator" {
					t.Errorf("%s by %s", e, e.User)
				}
			}
		})
	}
}

// natsOf is a server with the configuration that the chart renders, and the
// files with the seeds of its clients.
func natsOf(t *testing.T, values string) (*bustest.Server, map[string]string) {
	t.Helper()
	dir := t.TempDir()
	seeds := map[string]string{}
	for _, name := range []string{"watcher", "analyzer", "actuator", "notifier", "operator", "admin"} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(strings.ToUpper(name)+"_NKEY", public)
		seeds[name] = filepath.Join(dir, name)
		if err := os.WriteFile(seeds[name], seed, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("POD_NAME", "self-healing-nats-0")
	all := objects(t, render(t, "-f", values, "--set", "settings.cluster=default"))
	conf := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(conf, []byte(as[corev1.ConfigMap](t, all, "ConfigMap self-healing-nats").Data["nats.conf"]), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
	return bustest.Configure(t, *opts), seeds
}

// run runs the four services until the test ends, and returns when all are ready.
func run(t *testing.T, settings, seeds map[string]string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 4)
	services := []daemon.Service{watcher.Service(), analyzer.Service(), actuator.Service(), notifier.Service()}
	t.Cleanup(func() {
		stop()
		for range services {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			data, _ := os.ReadFile(log.Name()) // it is only for reading along
			t.Logf("log:\n%s", data[max(0, len(data)-8000):])
		}
	})
	addrs := map[string]string{}
	for _, s := range services {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[s.Name] = l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		environ := []string{"SELFHEAL_HTTP_ADDR=" + addrs[s.Name], "SELFHEAL_NATS_NKEY=" + seeds[s.Name]}
		for key, value := range settings {
			environ = append(environ, key+"="+value)
		}
		if s.Name == "watcher" || s.Name == "actuator" {
			environ = append(environ, "KUBECONFIG="+kubeconfigOf(t, s.Name))
		}
		loaded, _, err := config.Load(config.Loader{Service: s.Name, Environ: environ})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			err := daemon.Run(ctx, s, loaded, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				err = fmt.Errorf("%s: %w", s.Name, err)
			}
			ended <- err
		}()
	}
	for name, addr := range addrs {
		harness.WaitFor(t, 30*time.Second, name+" to be ready", func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }() // only its status counts
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
}

// kubeconfigOf is what a pod of the service would have: its account's token.
func kubeconfigOf(t *testing.T, service string) string {
	t.Helper()
	c := kubetest.Get(t)
	seconds := int64(3600)
	token, err := c.Client(t).CoreV1().ServiceAccounts("self-healing").CreateToken(t.Context(), "self-healing-"+service,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for name := range admin.AuthInfos {
		admin.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	path := filepath.Join(t.TempDir(), service+".kubeconfig")
	if err := clientcmd.WriteToFile(*admin, path); err != nil {
		t.Fatal(err)
	}
	return path
}
