package watch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/test/bench/internal/request"
	"github.com/selfheal/selfheal/test/harness"
)

// A cluster is a static control plane on a copy of loaded objects.
type cluster struct {
	Size
	dir        string
	kubeconfig string // of what is measured; the API server records what it asks for
	log        request.Log
	kube       kubernetes.Interface // the benchmark's own; not recorded
	stop       func()
}

// auditPolicy records what is measured, completely, and nothing else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, users: [system:supervisor, system:apiserver]}
  - {level: Metadata}
`

// openCluster starts a control plane with the objects of a size. They are
// loaded once and kept, and every run works on a copy.
func openCluster(b *testing.B, s Size) *cluster {
	b.Helper()
	root := harness.RepositoryRoot(b)
	binary := filepath.Join(root, "bin", "devcluster")
	kept := filepath.Join(root, ".cache", "bench", fmt.Sprintf("%d-pods", s.Pods))
	load(b, binary, kept, s)

	dir := filepath.Join(root, ".cache", "bench", "run")
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	run(b, "cp", "-a", "--reflink=auto", filepath.Join(kept, "cluster"), dir)
	policy := filepath.Join(b.TempDir(), "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	p := start(b, binary, "run", "--rm", "--static", "--dir", dir, "--arg", "kube-apiserver=--audit-policy-file="+policy)
	say("%s: the control plane is up after %s", s, time.Since(began).Round(100*time.Millisecond))
	return &cluster{
		Size: s, dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig"), log: request.Log{Path: filepath.Join(dir, "audit.log")},
		kube: client(b, dir), stop: p.stop,
	}
}

// load fills kept, unless it holds what today's generator makes.
func load(b *testing.B, binary, kept string, s Size) {
	b.Helper()
	mark, want := filepath.Join(kept, "loaded"), generator(b)
	if have, err := os.ReadFile(mark); err == nil && string(have) == want {
		return
	}
	say("%s: loading the objects, once; kept in %s", s, kept)
	if err := os.RemoveAll(kept); err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(kept, "cluster")
	p := start(b, binary, "run", "--static", "--dir", dir)
	run(b, binary, "load", "--dir", dir, "--pods", strconv.Itoa(s.Pods), "--nodes", strconv.Itoa(s.Nodes))
	// What only a real API server can tell: that it reads all of them, and can write one.
	kube := client(b, dir)
	harness.WaitFor(b, 5*time.Minute, "the API server to show every pod", func() error {
		list, err := kube.CoreV1().Pods("").List(b.Context(), metav1.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		n := int64(len(list.Items))
		if list.RemainingItemCount != nil {
			n += *list.RemainingItemCount
		}
		if n != int64(s.Pods) {
			return fmt.Errorf("it shows %d of %d", n, s.Pods)
		}
		_, err = kube.CoreV1().Pods(list.Items[0].Namespace).UpdateStatus(b.Context(), &list.Items[0], metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
	p.stop()
	for _, junk := range []string{"logs", "audit.log", "lock"} {
		if err := os.RemoveAll(filepath.Join(dir, junk)); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(mark, []byte(want), 0o644); err != nil {
		b.Fatal(err)
	}
}

// generator is a digest of the code that makes the objects.
func generator(b *testing.B) string {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(harness.RepositoryRoot(b), "dev", "cluster", "internal", "fleet", "*.go"))
	if err != nil || len(files) == 0 {
		b.Fatalf("no code that makes the objects: %v", err)
	}
	h := sha256.New()
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		code, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		h.Write(code)
	}
	return fmt.Sprintf("%x\n", h.Sum(nil))
}

func client(b *testing.B, dir string) kubernetes.Interface {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "pki", "supervisor.kubeconfig"))
	if err != nil {
		b.Fatal(err)
	}
	config.QPS, config.UserAgent = -1, "bench"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = config.ContentType + ",application/json"
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	return kube
}

func run(b *testing.B, name string, args ...string) []byte {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), name, args...).Output() // what it warns of is not for us
	if err != nil {
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			out = append(out, ended.Stderr...)
		}
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// start starts a control plane that ends with the benchmark, and waits until it says "ready".
func start(b *testing.B, name string, args ...string) *child {
	b.Helper()
	p := startLines(b, nil, name, args...)
	b.Cleanup(p.stop)
	if line, ok := <-p.lines; !ok || strings.TrimSpace(line.text) != "ready" {
		p.stop()
		b.Fatalf("%s %s ended before it was ready: %s", name, strings.Join(args, " "), p.stderr.String())
	}
	return p
}

// A child is a process that says lines, and ends when its stdin is closed.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	lines  chan line // closed when it has ended
	stderr *bytes.Buffer
	began  time.Time
}

type line struct {
	text string
	at   time.Time
}

func startLines(b *testing.B, env []string, name string, args ...string) *child {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	p := &child{cmd: cmd, lines: make(chan line, 64<<10), stderr: &bytes.Buffer{}} // so many lines that a slow reader delays nobody
	cmd.Stderr = p.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.stdin, p.began = stdin, time.Now()
	if err := harness.StartChild(cmd); err != nil {
		b.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.lines)
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			p.lines <- line{s.Text(), time.Now()}
		}
		_ = cmd.Wait() // its stderr says more
	}()
	return p
}

func (p *child) stop() {
	_ = p.stdin.Close()
	for range p.lines { // until it has ended
	}
}

// A said is what the reference program says.
type said struct {
	Synced    bool   `json:"synced"`
	Objects   int    `json:"objects"`
	Bytes     int64  `json:"bytes"`
	Unhealthy string `json:"unhealthy"`
}

// reference starts the reference program.
func (b *bench) reference(args ...string) *child {
	return startLines(b.B, []string{"KUBECONFIG=" + b.cluster.kubeconfig}, b.stock, args...)
}

// until waits for the line that is asked for, and returns when it came, from the start of the process on.
func (b *bench) until(p *child, want func(said) bool) (time.Duration, said) {
	b.Helper()
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				b.Fatalf("the reference ended: %s", p.stderr.String())
			}
			var s said
			if err := json.Unmarshal([]byte(l.text), &s); err != nil {
				b.Fatalf("the reference said %q: %v", l.text, err)
			}
			if want(s) {
				return l.at.Sub(p.began), s
			}
		case <-limit.C:
			b.Fatal("the reference does not say what it should")
		}
	}
}

func synced(s said) bool { return s.Synced }

// A victim is a pod that a benchmark makes fail, and well again.
type victim struct {
	whole, broken *corev1.Pod
}

func (v victim) uid() string { return string(v.whole.UID) }

// victims are n pods, no one given out twice, on different nodes and of different workloads as far as there are so many.
func (b *bench) victims(n int) []victim {
	b.Helper()
	const apart = 21 // pods of a workload come one after the other, 20 of them
	list, err := b.cluster.kube.CoreV1().Pods("").List(b.Context(), metav1.ListOptions{Limit: 5000})
	if err != nil {
		b.Fatal(err)
	}
	out := make([]victim, n)
	for i := range out {
		p := &list.Items[(b.spare+i)*apart%len(list.Items)]
		p.ResourceVersion = "" // whatever has happened to it since
		p.ManagedFields = nil
		out[i] = victim{whole: p, broken: invalid(p)}
	}
	b.spare += n
	return out
}

// invalid is a pod as its kubelet reports it when an image's name has become
// invalid: a failure that counts at once, for what can be seen now.
func invalid(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	c := &p.Status.ContainerStatuses[0]
	c.Ready = false
	c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "InvalidImageName", Message: "invalid reference format"}}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
			c.Status, c.Reason, c.LastTransitionTime = corev1.ConditionFalse, "ContainersNotReady", metav1.Now()
		}
	}
	return p
}

func (b *bench) write(ctx context.Context, p *corev1.Pod) {
	b.Helper()
	if _, err := b.cluster.kube.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		b.Fatalf("write the status of %s/%s: %v", p.Namespace, p.Name, err)
	}
}
