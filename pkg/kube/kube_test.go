package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder answers like an API server, and keeps what it was asked.
type recorder struct {
	*httptest.Server
	answer http.HandlerFunc

	mu   sync.Mutex // guards all below
	seen []*http.Request
}

func record(t *testing.T, answer http.HandlerFunc) *recorder {
	r := &recorder{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, req)
		r.mu.Unlock()
		r.answer(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*http.Request{}, r.seen...)
}

func client(t *testing.T, make func(*rest.Config) (kubernetes.Interface, error), r *recorder) kubernetes.Interface {
	t.Helper()
	c, err := make(&rest.Config{Host: r.URL, UserAgent: "selfheal-actuator/v0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pod(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "shop", UID: "0f3c"},
	})
}

var writes = map[string]func(context.Context, kubernetes.Interface) error{
	"eviction": func(ctx context.Context, c kubernetes.Interface) error {
		return c.PolicyV1().Evictions("shop").Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "shop"}})
	},
	"create": func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Pods("shop").Create(ctx, &corev1.Pod{}, metav1.CreateOptions{})
		return err
	},
	"update": func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Nodes().Update(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.UpdateOptions{})
		return err
	},
	"patch": func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.AppsV1().Deployments("shop").Patch(ctx, "web", types.JSONPatchType, []byte(`[]`), metav1.PatchOptions{})
		return err
	},
	"delete": func(ctx context.Context, c kubernetes.Interface) error {
		return c.CoreV1().Pods("shop").Delete(ctx, "web-1", metav1.DeleteOptions{})
	},
}

func TestWriteIsSentOnceWhateverTheServerAsksFor(t *testing.T) {
	overloaded := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { // as priority and fairness answers
			w.Header().Set("Retry-After", "7")
			http.Error(w, "Too many requests, please try again later.", code)
		}
	}
	budget := func(w http.ResponseWriter, _ *http.Request) { // as the eviction API answers
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 7)
		err.ErrStatus.Kind, err.ErrStatus.APIVersion = "Status", "v1"
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "web needs 2 healthy pods"}}
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(err.ErrStatus)
	}
	answers := map[string]struct {
		answer      http.HandlerFunc
		wantTooMany bool
		wantBudget  bool
	}{
		"429 as text":   {overloaded(429), true, false},
		"503 as text":   {overloaded(503), false, false},
		"500 as text":   {overloaded(500), false, false},
		"429 as Status": {budget, true, true},
	}
	for answer, tt := range answers {
		for verb, write := range writes {
			t.Run(verb+" with "+answer, func(t *testing.T) {
				server := record(t, tt.answer)
				err := write(t.Context(), client(t, Client, server))
				if err == nil {
					t.Fatal("got no error")
				}
				if got := len(server.requests()); got != 1 {
					t.Errorf("got %d requests, want exactly 1", got)
				}
				if got := apierrors.IsTooManyRequests(err); got != tt.wantTooMany {
					t.Errorf("IsTooManyRequests(%v) is %t, want %t", err, got, tt.wantTooMany)
				}
				if got := apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause); got != tt.wantBudget {
					t.Errorf("cause DisruptionBudget is %t, want %t", got, tt.wantBudget)
				}
				var status apierrors.APIStatus
				if !errors.As(err, &status) || status.Status().Details == nil || status.Status().Details.RetryAfterSeconds != 7 {
					t.Errorf("got %#v, want an error that says to wait 7 seconds", err)
				}
			})
		}
	}
}

func TestReadIsTriedAgainWhenTheServerAsksForIt(t *testing.T) {
	var refused sync.Once
	server := record(t, func(w http.ResponseWriter, r *http.Request) {
		again := false
		refused.Do(func() {
			again = true
			w.Header().Set("Retry-After", "0")
			http.Error(w, "wait", http.StatusTooManyRequests)
		})
		if !again {
			pod(w, r)
		}
	})
	if _, err := client(t, Client, server).CoreV1().Pods("shop").Get(t.Context(), "web-1", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := len(server.requests()); got != 2 {
		t.Errorf("got %d requests, want 2", got)
	}
}

func TestRequestSaysWhoAsksInProtobufAndForHowLong(t *testing.T) {
	type request struct{ UserAgent, Accept, Timeout string }
	tests := map[string]struct {
		make func(*rest.Config) (kubernetes.Interface, error)
		want request
	}{
		"acting":   {Client, request{"selfheal-actuator/v0.1.0", "application/vnd.kubernetes.protobuf,application/json", "10s"}},
		"watching": {WatchClient, request{"selfheal-actuator/v0.1.0", "application/vnd.kubernetes.protobuf,application/json", ""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server := record(t, pod)
			got, err := client(t, tt.make, server).CoreV1().Pods("shop").Get(t.Context(), "web-1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err) // the answer is JSON
			}
			if got.UID != "0f3c" {
				t.Errorf("got UID %q, want 0f3c", got.UID)
			}
			r := server.requests()[0]
			if diff := cmp.Diff(request{r.UserAgent(), r.Header.Get("Accept"), r.URL.Query().Get("timeout")}, tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestBodiesAreProtobuf(t *testing.T) {
	server := record(t, pod)
	if err := writes["create"](t.Context(), client(t, Client, server)); err != nil {
		t.Fatal(err)
	}
	if got, want := server.requests()[0].Header.Get("Content-Type"), "application/vnd.kubernetes.protobuf"; got != want {
		t.Errorf("got Content-Type %q, want %q", got, want)
	}
}

func TestClientsDoNotShareAConnection(t *testing.T) {
	server := record(t, pod)
	for _, c := range []kubernetes.Interface{client(t, Client, server), client(t, WatchClient, server), client(t, Client, server)} {
		for range 2 {
			if _, err := c.CoreV1().Pods("shop").Get(t.Context(), "web-1", metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var from []string
	for _, r := range server.requests() {
		from = append(from, r.RemoteAddr)
	}
	if from[0] != from[1] || from[2] != from[3] || from[0] == from[2] || from[2] == from[4] {
		t.Errorf("got connections from %v, want the same for each client and another for the next", from)
	}
}

func TestGivenConfigIsLeftAsItWas(t *testing.T) {
	given := &rest.Config{Host: "https://127.0.0.1:1"}
	if _, err := Client(given); err != nil {
		t.Fatal(err)
	}
	if given.QPS != 0 || given.Timeout != 0 || given.Dial != nil || given.WrapTransport != nil {
		t.Errorf("got %+v, want it unchanged", given)
	}
}

const kubeconfigText = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://HOST:6443"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`

// kubeconfig writes a kubeconfig for https://host:6443.
func kubeconfig(t *testing.T, file, host string) string {
	t.Helper()
	return write(t, file, strings.ReplaceAll(kubeconfigText, "HOST", host))
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAPIServerIsFoundInTheDocumentedOrder(t *testing.T) {
	dir := t.TempDir()
	named := kubeconfig(t, filepath.Join(dir, "named"), "named")
	fromEnv := kubeconfig(t, filepath.Join(dir, "env"), "env")
	home := filepath.Join(dir, "home")
	kubeconfig(t, filepath.Join(home, ".kube", "config"), "home")
	gone := filepath.Join(dir, "gone")

	tests := map[string]struct {
		kubeconfig, env, home string
		want                  string
	}{
		"a named file before everything":       {named, fromEnv, home, "https://named:6443"},
		"a list, of which one is missing":      {gone + string(os.PathListSeparator) + named, fromEnv, home, "https://named:6443"},
		"then the environment":                 {"", fromEnv, home, "https://env:6443"},
		"the environment, also a list":         {"", gone + string(os.PathListSeparator) + fromEnv, home, "https://env:6443"},
		"then the file in the home directory":  {"", "", home, "https://home:6443"},
		"an empty environment names no file":   {"", "", home, "https://home:6443"},
		"of two files, the first one's server": {named + string(os.PathListSeparator) + fromEnv, "", home, "https://named:6443"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			t.Setenv("KUBECONFIG", tt.env)
			t.Setenv("HOME", tt.home)
			got, err := Config(tt.kubeconfig, "selfheal-watcher/v1")
			if err != nil {
				t.Fatal(err)
			}
			if got.Host != tt.want || got.UserAgent != "selfheal-watcher/v1" {
				t.Errorf("got %s as %q, want %s", got.Host, got.UserAgent, tt.want)
			}
		})
	}
}

func TestErrorSaysWhatWasLookedForAndWhere(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	broken := write(t, filepath.Join(dir, "broken"), "clusters: [")
	empty := write(t, filepath.Join(dir, "empty"), "")
	tests := map[string]struct {
		kubeconfig, env, service string
		want                     []string
	}{
		"nothing anywhere": {"", "", "", []string{
			"no API server found: kubeconfig is not set; this is no pod (KUBERNETES_SERVICE_HOST is not set); $KUBECONFIG is not set; " +
				filepath.Join(dir, ".kube", "config") + " does not exist; name a kubeconfig file with KUBECONFIG or --kubeconfig"}},
		"a pod without a token":       {"", "", "10.0.0.1", []string{"this is a pod without a service account's token", "$KUBECONFIG is not set"}},
		"the named file is missing":   {gone, "", "", []string{"kubeconfig ", gone, "no such file"}},
		"the environment's file is":   {"", gone, "", []string{"$KUBECONFIG ", gone, "no such file"}},
		"the file is not YAML":        {broken, "", "", []string{"kubeconfig ", broken}},
		"the file holds no cluster":   {empty, "", "", []string{"kubeconfig ", empty, "no configuration has been provided"}},
		"the named file is a folder":  {dir, "", "", []string{"kubeconfig ", dir, "is a directory"}},
		"all files of a list missing": {gone + ":" + gone + "2", "", "", []string{gone + ": no such file", gone + "2: no such file"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", tt.service)
			t.Setenv("KUBERNETES_SERVICE_PORT", "443")
			t.Setenv("KUBECONFIG", tt.env)
			t.Setenv("HOME", dir)
			_, err := Config(tt.kubeconfig, "")
			if !errors.Is(err, config.ErrSettings) {
				t.Fatalf("got %v, want an error of the settings", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %q in it", err, want)
				}
			}
		})
	}
}
