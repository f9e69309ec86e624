package cluster

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/dev/cluster/internal/component"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*Config)
		want string // empty: valid
	}{
		{"default", func(*Config) {}, ""},
		{"no nodes yet", func(c *Config) { c.Nodes = 0 }, ""},
		{"negative nodes", func(c *Config) { c.Nodes = -1 }, "--nodes is -1, want 0 or more"},
		{"no zones", func(c *Config) { c.Zones = 0 }, "--zones is 0, want 1 or more"},
		{"memory", func(c *Config) { c.NodeMemory = "lots" }, `--node-memory is "lots", want a quantity such as 32 or 64Gi`},
		{"slow heartbeat", func(c *Config) { c.Heartbeat, c.MonitorGrace = 9*time.Second, 8*time.Second },
			"--heartbeat 9s is not shorter than --node-monitor-grace-period 8s"},
		{"back-off", func(c *Config) { c.BackoffCap = time.Second }, "--backoff-base 10s and --backoff-cap 1s: want 0 < base <= cap"},
		{"component flag", func(c *Config) { c.Args = []string{"etcd=--max-txn-ops=1"} }, ""},
		{"unknown component", func(c *Config) { c.Args = []string{"kubelet=--v=2"} },
			`--arg "kubelet=--v=2": want COMPONENT=--flag=value, COMPONENT one of etcd, kube-apiserver, kube-controller-manager, kube-scheduler, node-simulator, node-heartbeat`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Default()
			test.edit(&c)
			if got := text(c.Validate()); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestHeartbeatsSlowDownWithManyNodes(t *testing.T) {
	for _, test := range []struct {
		nodes            int
		heartbeat, grace time.Duration
	}{
		{3, 2 * time.Second, 8 * time.Second},
		{50, 2 * time.Second, 8 * time.Second},
		{500, 20 * time.Second, 80 * time.Second},
	} {
		t.Run(strconv.Itoa(test.nodes), func(t *testing.T) {
			c := Default()
			c.Nodes = test.nodes
			if h, g := c.heartbeat(), c.monitorGrace(); h != test.heartbeat || g != test.grace {
				t.Errorf("got %s and %s, want %s and %s", h, g, test.heartbeat, test.grace)
			}
		})
	}
}

func TestAReservedPortIsLeftToItsServer(t *testing.T) {
	r, err := reserve(0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))

	if l, err := net.Listen("tcp", address); err == nil {
		l.Close()
		t.Errorf("a stranger can listen on the reserved port %d", r.port)
	}
	if other, err := reserve(r.port); err != nil || other.port == r.port {
		t.Errorf("reserved twice: %v, %v", other, err)
	} else {
		other.release()
	}
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect without a server: %v, want connection refused", err)
	}
	server := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	l, err := server.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("its server cannot listen: %v", err)
	}
	l.Close()
}

func TestAKeptFolderKeepsItsKeysAndTokens(t *testing.T) {
	dir := t.TempDir()
	read := func() (token, ca string) {
		if err := (pki{filepath.Join(dir, "pki")}).ensure(); err != nil {
			t.Fatal(err)
		}
		if err := writeFiles(dir, "x", 1234); err != nil {
			t.Fatal(err)
		}
		c, err := clientcmd.LoadFromFile(Kubeconfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		return c.AuthInfos["kubernetes-admin"].Token, string(c.Clusters["devcluster-x"].CertificateAuthorityData)
	}
	token, ca := read()
	if again, caAgain := read(); token == "" || token != again || ca != caAgain {
		t.Errorf("token %q became %q, or the authority changed", token, again)
	}
}

func TestOnlyOneSupervisorRunsAFolder(t *testing.T) {
	dir := t.TempDir()
	if Up(dir) {
		t.Error("a folder that nobody runs is up")
	}
	s, err := prepare(dir, Default())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(dir, Default()); !errors.Is(err, ErrUp) {
		t.Errorf("the second got %v, want %v", err, ErrUp)
	}
	if !Up(dir) {
		t.Error("it is not up")
	}
	s.close()
	if Up(dir) {
		t.Error("it is still up after its end")
	}
	kept, err := Load(dir)
	if err != nil || kept.APIPort != s.state.APIPort {
		t.Errorf("state %+v, %v; want port %d", kept, err, s.state.APIPort)
	}
}

func TestAStaticClusterHasNobodyWhoChangesObjects(t *testing.T) {
	c := Default()
	if got, want := c.Parts(), component.Names()[:5]; !slices.Equal(got, want) {
		t.Errorf("parts are %q, want %q", got, want)
	}
	c.Static = true
	if got, want := c.Parts(), []string{component.Etcd, component.APIServer, component.Heartbeat}; !slices.Equal(got, want) {
		t.Errorf("parts of a static one are %q, want %q", got, want)
	}
	for _, name := range c.Parts() {
		if len(State{Config: c}.flags("/d")[name]) == 0 {
			t.Errorf("%s has no flags", name)
		}
	}
}

func TestFurtherFlagsComeLast(t *testing.T) {
	c := Default()
	c.Args = []string{"etcd=--log-level=debug", "kube-scheduler=--v=2"}
	etcd := State{Config: c}.flags("/d")[component.Etcd]
	if last := etcd[len(etcd)-1]; last != "--log-level=debug" || slices.Contains(etcd, "--v=2") {
		t.Errorf("flags of etcd are %q", etcd)
	}
}

func TestAliveIsOnlyTheSupervisorsOwnChild(t *testing.T) {
	cmd := exec.Command("cat") // waits for its stdin
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := Process{PID: cmd.Process.Pid}
	if !Alive(State{Supervisor: os.Getpid()}, p) {
		t.Error("our child is not alive")
	}
	if Alive(State{Supervisor: 1}, p) {
		t.Error("our child passes for another's")
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if Alive(State{Supervisor: os.Getpid()}, p) {
		t.Error("it is alive after its end")
	}
}
