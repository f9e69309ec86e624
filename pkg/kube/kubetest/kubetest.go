// Package kubetest gives a test a real Kubernetes control plane with simulated nodes: API server, controllers and
// scheduler are Kubernetes' own, only the kubelets are played (see dev/cluster/README.md for what a pod does, by its
// image). A test package starts one cluster and shares it; tests keep apart by namespace.
//
//	func TestMain(m *testing.M) { os.Exit(kubetest.Main(m, kubetest.Options{})) }
//
//	func TestSomething(t *testing.T) {
//		c := kubetest.Get(t)
//		ns := c.Namespace(t)
//		…
//
// The cluster runs as a child process that stops, and deletes its folder, when the test process ends, however it ends.
package kubetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say what the cluster is like. The zero value is three nodes in three zones.
type Options struct {
	Nodes int
	Zones int
	Args  []string // further flags of `devcluster run`, such as --backoff-base=1s
}

// Cluster is a running control plane. Its methods may be called from several goroutines.
type Cluster struct {
	Dir        string
	Kubeconfig string // path of the administrator's kubeconfig
	AuditLog   string // path of the API server's audit log; Audit reads it

	binary string
	stdin  io.Closer
	exited chan struct{} // closed when the child is gone
	once   sync.Once
}

const (
	startWithin = 2 * time.Minute // on a busy machine; usually 5 s
	stopWithin  = 20 * time.Second
)

// shared is the cluster of the test package: set by Main before any test runs, and not changed until all have.
var shared *Cluster

// Main starts the package's cluster, runs its tests, stops the cluster, and returns the exit code for TestMain.
func Main(m *testing.M, opts Options) int {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	c, err := Start(ctx, opts)
	if err != nil {
		fmt.Fprintf(os.Stderr, "kubetest: %v\n", err)
		return 1
	}
	defer c.Stop()
	shared = c
	return m.Run()
}

// Get returns the cluster that Main has started.
func Get(t testing.TB) *Cluster {
	t.Helper()
	if shared == nil {
		t.Fatal("no cluster: the package's TestMain must call kubetest.Main")
	}
	return shared
}

// Start starts a cluster and waits until pods can be created and run. The caller stops it.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	binary, err := findBinary()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kubetest-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		Dir:        dir,
		Kubeconfig: filepath.Join(dir, "kubeconfig"),
		AuditLog:   filepath.Join(dir, "audit.log"),
		binary:     binary,
		exited:     make(chan struct{}),
	}
	if err := c.start(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), os.RemoveAll(dir))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, opts Options) error {
	args := []string{"run", "--rm", "--dir", c.Dir}
	if opts.Nodes > 0 {
		args = append(args, "--nodes", strconv.Itoa(opts.Nodes))
	}
	if opts.Zones > 0 {
		args = append(args, "--zones", strconv.Itoa(opts.Zones))
	}
	cmd := exec.Command(c.binary, append(args, opts.Args...)...)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.stdin = stdin

	ready := make(chan bool, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		ready <- strings.TrimSpace(line) == "ready"
		_ = cmd.Wait()
		close(c.exited)
	}()
	select {
	case ok := <-ready:
		if ok {
			return nil
		}
		<-c.exited
		return fmt.Errorf("devcluster ended: %s", strings.TrimSpace(messages.String()))
	case <-ctx.Done():
		c.Stop()
		return ctx.Err()
	}
}

// Stop stops the cluster and deletes its folder. Later calls do nothing.
func (c *Cluster) Stop() {
	c.once.Do(func() {
		_ = c.stdin.Close() // what the child waits for
		select {
		case <-c.exited:
		case <-time.After(stopWithin):
			fmt.Fprintf(os.Stderr, "kubetest: the cluster in %s has not stopped within %s\n", c.Dir, stopWithin)
		}
	})
}

// RESTConfig is a new client configuration of the administrator, without a rate limit.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// Client is a new client of the administrator, with the user agent "kubetest".
func (c *Cluster) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	k, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "kubetest"
	return kubernetes.NewForConfig(config)
}

// Namespace creates a namespace for one test and deletes it when the test ends. Pods can be created in it at once.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	k := c.Client(t)
	ns, err := k.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create namespace: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context is over. What is left behind goes with the cluster.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := k.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Logf("delete namespace %s: %v", ns.Name, err)
		}
	})
	// Usually at once. After an API server's kill, the controllers' watches may take half a minute to come back.
	Eventually(t, time.Minute, func(ctx context.Context) error {
		_, err := k.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// Signal sends KILL, STOP, CONT or TERM to a component: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
// or node-simulator. One that ends is started again after half a second.
func (c *Cluster) Signal(component, signal string) error {
	out, err := exec.Command(c.binary, "signal", "--dir", c.Dir, component, signal).CombinedOutput()
	if err != nil {
		return fmt.Errorf("signal %s %s: %w: %s", component, signal, err, bytes.TrimSpace(out))
	}
	return nil
}

// Eventually asks until check returns nil, and fails the test with its last answer when that takes too long.
func Eventually(t testing.TB, within time.Duration, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // the answer before time ran out says more than "deadline exceeded"
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", within, last)
		case <-tick.C:
		}
	}
}

// findBinary looks for bin/devcluster in the repository that the working directory is part of.
func findBinary() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.work here or above: not inside the repository")
		}
		dir = parent
	}
	binary := filepath.Join(dir, "bin", "devcluster")
	if _, err := os.Stat(binary); err != nil {
		return "", errors.New(`bin/devcluster is missing; run "make bin/devcluster"`)
	}
	return binary, nil
}
