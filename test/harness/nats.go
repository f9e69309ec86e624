package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The environment that turns the test binary into a NATS server, so that the
// server is a process of its own and can be killed like one.
const (
	envStore = "HARNESS_NATS_STORE"
	envPort  = "HARNESS_NATS_PORT"
)

// NATS is a real nats-server with JetStream on disk, in a process of its own.
type NATS struct {
	URL   string
	store string
	port  int
	cmd   *exec.Cmd
}

// StartNATS starts a server that ends with the test.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	n := &NATS{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), store: t.TempDir(), port: port}
	n.Start(t)
	t.Cleanup(n.Kill)
	return n
}

// Start starts the process again after Kill, on the same port and store.
func (n *NATS) Start(t testing.TB) {
	t.Helper()
	n.cmd = exec.Command(os.Args[0])
	n.cmd.Env = append(os.Environ(), envStore+"="+n.store, envPort+"="+strconv.Itoa(n.port))
	n.cmd.Stdout, n.cmd.Stderr = t.Output(), t.Output()
	if err := StartChild(n.cmd); err != nil {
		t.Fatalf("start nats-server: %v", err)
	}
	WaitFor(t, 10*time.Second, "nats-server to listen", func() error {
		c, err := net.DialTimeout("tcp", n.URL[len("nats://"):], time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// PID is the server's process.
func (n *NATS) PID() int { return n.cmd.Process.Pid }

// Kill is a power cut: SIGKILL.
func (n *NATS) Kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait() // its status is "killed", which is what we did
		n.cmd = nil
	}
}

// Keep copies what the server has stored, while it is killed, and returns what
// takes it back to that, while it is killed again: what a server finds after a
// power cut whose disk had not kept what it promised.
func (n *NATS) Keep(t testing.TB) (rewind func()) {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(kept, os.DirFS(n.store)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.RemoveAll(n.store); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(n.store, os.DirFS(kept)); err != nil {
			t.Fatal(err)
		}
	}
}

// serveNATS is the server's process.
func serveNATS() int {
	port, err := strconv.Atoi(os.Getenv(envPort))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", envPort, err)
		return 2
	}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: os.Getenv(envStore), NoSigs: true,
		SyncAlways: true, // a store that may be killed must not lose what it acknowledged
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	srv.Start()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	srv.Shutdown()
	srv.WaitForShutdown()
	return 0
}

// FreePort is a port of the loopback interface on which nobody listens.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
