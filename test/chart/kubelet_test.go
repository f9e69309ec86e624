package chart

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// A kubelet does what the simulated ones cannot: it runs the pods of a release
// that run once, with the real program, the arguments that the chart gives it,
// the token of its service account, and the files of its volumes.
type kubelet struct {
	t      testing.TB
	in     string                  // the namespace
	rename func(arg string) string // of what is elsewhere here, such as NATS
	mu     sync.Mutex              // guards what follows
	ran    map[string]run          // by component, the last one
	seen   map[string]bool         // pods, by uid
	client kubernetes.Interface    // of the administrator
	stop   context.CancelFunc
	done   chan struct{}
}

// A run is what became of a pod that runs once.
type run struct {
	out string
	err error
}

// component is the label that says what a pod is.
const component = "app.kubernetes.io/component"

// runsOnce are the components of pods that run once.
var runsOnce = []string{"provision", "remove", "test"}

// startKubelet runs what appears in the namespace until the test ends.
func startKubelet(t testing.TB, namespace string, rename func(string) string) *kubelet {
	t.Helper()
	if rename == nil {
		rename = func(arg string) string { return arg }
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &kubelet{
		t: t, in: namespace, rename: rename, ran: map[string]run{}, seen: map[string]bool{},
		client: kubetest.Get(t).Client(t), stop: stop, done: make(chan struct{}),
	}
	go func() {
		defer close(k.done)
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				k.look(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-k.done })
	return k
}

func (k *kubelet) look(ctx context.Context) {
	pods, err := k.client.CoreV1().Pods(k.in).List(ctx, metav1.ListOptions{LabelSelector: component + " in (" + strings.Join(runsOnce, ",") + ")"})
	if err != nil {
		return // it looks again
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if k.seen[string(p.UID)] || p.Status.Phase != corev1.PodRunning {
			continue
		}
		k.seen[string(p.UID)] = true
		out, err := k.execute(ctx, p)
		k.mu.Lock()
		k.ran[p.Labels[component]] = run{out, err}
		k.mu.Unlock()
		ended := "complete"
		if err != nil {
			ended = "exit-1"
		}
		if err := kubetest.Get(k.t).SetBehaviour(ctx, k.in, p.Name, ended); err != nil && ctx.Err() == nil {
			k.t.Errorf("%s: %v", p.Name, err)
		}
	}
}

// last is what became of the component's last pod.
func (k *kubelet) last(component string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.ran[component]
	if !ok {
		return "", errors.New("no pod of " + component + " ran")
	}
	return r.out, r.err
}

// execute runs the pod's one container to its end.
func (k *kubelet) execute(ctx context.Context, p *corev1.Pod) (string, error) {
	root, err := os.MkdirTemp("", "pod-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(root) }() // it lies among temporary files
	if err := k.mount(ctx, p.Spec, root); err != nil {
		return "", err
	}
	args := k.arguments(p.Spec, root)
	if p.Spec.AutomountServiceAccountToken != nil && *p.Spec.AutomountServiceAccountToken {
		kubeconfig, err := k.kubeconfig(ctx, p.Spec.ServiceAccountName, root)
		if err != nil {
			return "", err
		}
		args = append(args, "--kubeconfig="+kubeconfig)
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(harness.RepositoryRoot(k.t), "bin", "selfheal"), args...)
	cmd.Env = []string{"HOME=" + root, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("selfheal %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// arguments are those of the first container, with its files below root.
func (k *kubelet) arguments(spec corev1.PodSpec, root string) []string {
	args := slices.Clone(spec.Containers[0].Args)
	for i, arg := range args {
		args[i] = k.rename(strings.ReplaceAll(arg, "=/etc/", "="+root+"/etc/"))
	}
	return args
}

// mount writes the Secrets and ConfigMaps of the first container's volumes
// below root, with what they say about their own places made true.
func (k *kubelet) mount(ctx context.Context, spec corev1.PodSpec, root string) error {
	for _, m := range spec.Containers[0].VolumeMounts {
		i := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return fmt.Errorf("there is no volume %s", m.Name)
		}
		for _, source := range sources(spec.Volumes[i]) {
			files, err := k.files(ctx, source)
			if err != nil {
				return fmt.Errorf("volume %s: %w", m.Name, err)
			}
			for path, data := range files {
				path = filepath.Join(root, m.MountPath, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					return err
				}
				text := k.rename(strings.ReplaceAll(string(data), "/etc/self-healing", root+"/etc/self-healing"))
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sources are what a volume is made of.
func sources(v corev1.Volume) []corev1.VolumeProjection {
	switch {
	case v.Projected != nil:
		return v.Projected.Sources
	case v.Secret != nil:
		return []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: v.Secret.SecretName}, Items: v.Secret.Items}}}
	case v.ConfigMap != nil:
		return []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: v.ConfigMap.LocalObjectReference, Items: v.ConfigMap.Items}}}
	}
	return nil
}

// files are those of a source, by their paths.
func (k *kubelet) files(ctx context.Context, source corev1.VolumeProjection) (map[string][]byte, error) {
	all := map[string][]byte{}
	switch {
	case source.Secret != nil:
		s, err := k.client.CoreV1().Secrets(k.in).Get(ctx, source.Secret.Name, metav1.GetOptions{})
		optional := source.Secret.Optional != nil && *source.Secret.Optional
		if apierrors.IsNotFound(err) && optional {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, item := range source.Secret.Items {
			data, ok := s.Data[item.Key]
			if !ok && !optional {
				return nil, fmt.Errorf("secret %s has no %s, it has %v", s.Name, item.Key, slices.Sorted(maps.Keys(s.Data)))
			}
			if ok {
				all[item.Path] = data
			}
		}
	case source.ConfigMap != nil:
		c, err := k.client.CoreV1().ConfigMaps(k.in).Get(ctx, source.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		for key, text := range c.Data {
			all[key] = []byte(text)
		}
	}
	return all, nil
}

// kubeconfig is what a pod of the account would have: its token.
func (k *kubelet) kubeconfig(ctx context.Context, account, folder string) (string, error) {
	seconds := int64(3600)
	token, err := k.client.CoreV1().ServiceAccounts(k.in).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	admin, err := clientcmd.LoadFromFile(kubetest.Get(k.t).Kubeconfig)
	if err != nil {
		return "", err
	}
	for name := range admin.AuthInfos {
		admin.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	path := filepath.Join(folder, account+".kubeconfig")
	return path, clientcmd.WriteToFile(*admin, path)
}
