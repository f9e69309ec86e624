package local

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestTheBannerSaysWhatWillBeDoneToWhat(t *testing.T) {
	base := about{
		settings: config.Settings{Cluster: "default", NotificationEnabled: true},
		where:    where{config: &rest.Config{Host: "https://10.0.0.1:6443"}, context: "kind-staging"},
		dataDir:  "/home/me/.local/share/selfheal", log: "/home/me/.local/share/selfheal/logs/selfheal.log",
		nats:      "nats://127.0.0.1:41000",
		addresses: []string{"127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083", "127.0.0.1:40001"},
		moved:     []int{8084},
	}
	tests := []struct {
		file   string
		change func(*about)
	}{
		{"observe.txt", func(a *about) { a.settings.Mode = "observe" }},
		{"approve.txt", func(a *about) { a.settings.Mode = "approve"; a.settings.NotificationEnabled = false }},
		{"auto.txt", func(a *about) {
			a.settings.Mode = "auto"
			a.settings.SlackWebhookURL, a.settings.SlackChannel, a.settings.SlackIncidentChannel = "https://secret", "#monitoring", "#incidents"
			a.settings.WebhookURL = "https://secret"
			a.where.context, a.moved, a.monitor = "", nil, "http://127.0.0.1:8222"
		}},
		{"dryrun.txt", func(a *about) { a.settings.Mode, a.settings.DryRun = "auto", true }},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			a := base
			tt.change(&a)
			got := banner(screen.Paint{}, 100, a)
			path := filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the banner differs (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "secret") {
				t.Error("it shows a secret")
			}
		})
	}
}

func TestEachClusterHasItsOwnFolder(t *testing.T) {
	for context, want := range map[string]string{
		"kind-staging":                           "kind-staging",
		"arn:aws:eks:eu-west-1:123:cluster/prod": "arn-aws-eks-eu-west-1-123-cluster-prod",
		"../../etc":                              "etc",
		"":                                       "default",
	} {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":%q,"clusters":[{"name":"c","cluster":{"server":"https://a"}}],
"contexts":[{"name":%q,"context":{"cluster":"c"}}]}`, context, context)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := DirName(path, ""); got != want {
			t.Errorf("context %q lies in %q, want %q", context, got, want)
		}
	}
	if got := DirName(filepath.Join(t.TempDir(), "missing"), ""); got != "default" {
		t.Errorf("without a kubeconfig it lies in %q", got)
	}
}

func TestTakenPortsAreReplacedByFreeOnes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port

	addresses, moved, err := listenAddresses(t.Context(), port, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(moved, []int{port}) || addresses[0] == taken.Addr().String() {
		t.Errorf("got %v, moved %v; want another port than %d, and to be told so", addresses, moved, port)
	}

	addresses, moved, err = listenAddresses(t.Context(), 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addresses)
	if len(slices.Compact(addresses)) != 4 || len(moved) != 0 {
		t.Errorf("got %v, moved %v; want four different ones", addresses, moved)
	}
}

func TestTheStateOfTheServerIsSaidOnce(t *testing.T) {
	const host = "https://10.0.0.1:6443"
	refused := &url.Error{Op: "Get", URL: host + "/version?timeout=5s", Err: errors.New("connect: connection refused")}
	for _, tt := range []struct {
		name string
		v    *version.Info
		err  error
		want string
	}{
		{"it answers", &version.Info{GitVersion: "v1.36.3"}, nil, "API server https://10.0.0.1:6443 answers: Kubernetes v1.36.3"},
		{"it does not", nil, refused, "API server https://10.0.0.1:6443 cannot be used: connect: connection refused; trying again until it can"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state, text := serverState(host, tt.v, tt.err)
			again, _ := serverState(host, tt.v, tt.err)
			if text != tt.want || again != state || state == "" {
				t.Errorf("got %q (%q, then %q), want %q", text, state, again, tt.want)
			}
		})
	}
}

func TestAnEndlessLogIsPutAside(t *testing.T) {
	dir := t.TempDir()
	_, f, err := OpenLog(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(maxLog + 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	_, f, err = OpenLog(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != 0 {
		t.Errorf("the log goes on with %d bytes (%v), want a new one", info.Size(), err)
	}
	if _, err := os.Stat(f.Name() + ".1"); err != nil {
		t.Errorf("the old one is lost: %v", err)
	}
}
