// Package compose holds docker-compose.yaml, what it mounts and the targets
// that run it against their own rules, without Docker: everything that they
// name exists, is understood by who reads it, and is told of where people look.
package compose

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/test/harness"
)

func file(t testing.TB, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(at(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func at(t testing.TB, path ...string) string {
	t.Helper()
	return filepath.Join(append([]string{harness.RepositoryRoot(t)}, path...)...)
}

func project(t testing.TB) *types.Project {
	t.Helper()
	root := harness.RepositoryRoot(t)
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yaml")}, cli.WithWorkingDirectory(root))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func service(t testing.TB, p *types.Project, name string) types.ServiceConfig {
	t.Helper()
	s, err := p.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mount is the file of this repository that a service finds at target.
func mount(t testing.TB, s types.ServiceConfig, target string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, inside := strings.CutPrefix(target, v.Target); v.Type == types.VolumeTypeBind && inside && (rest == "" || rest[0] == '/') {
			return v.Source + rest
		}
	}
	t.Fatalf("%s: nothing is mounted at %s", s.Name, target)
	return ""
}

func TestTheServicesTakeTheSettingsOfTheComposeFile(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	known := []string{"GOMEMLIMIT"}
	for _, row := range config.Rows() {
		for _, name := range []string{row.Env, row.Env + "_FILE"} {
			known = append(known, name, "SELFHEAL_"+strings.TrimPrefix(name, "SELFHEAL_"))
		}
	}
	p := project(t)
	for _, name := range harness.Services {
		s := service(t, p, name)
		var environ []string
		for key, value := range s.Environment {
			if value == nil {
				t.Errorf("%s: %s has no value", name, key)
				continue
			}
			if !slices.Contains(known, key) {
				t.Errorf("%s: nobody reads %s", name, key)
			}
			if key == "KUBECONFIG" {
				if !slices.ContainsFunc(s.Configs, func(c types.ServiceConfigObjConfig) bool { return c.Target == *value }) {
					t.Errorf("%s: nothing is mounted at %s", name, *value)
				}
				*value = kubeconfig
			}
			environ = append(environ, key+"="+*value)
		}
		got, _, err := config.Load(config.Loader{Service: name, Environ: environ})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.Cluster != "kind" || got.NATSURL != "nats://nats:4222" || got.Mode != "auto" {
			t.Errorf("%s: cluster %q, NATS %q, mode %q", name, got.Cluster, got.NATSURL, got.Mode)
		}
		if !s.ReadOnly || s.User != "65532:65532" || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
		if s.MemLimit != 256<<20 || s.CPUS != 0.2 {
			t.Errorf("%s has %d bytes and %v of a processor, want the chart's limits", name, s.MemLimit, s.CPUS)
		}
		if s.Build == nil || s.Build.Args["SERVICE"] == nil || *s.Build.Args["SERVICE"] != name {
			t.Errorf("%s is not built from its own sources", name)
		}
		_, kube := s.Environment["KUBECONFIG"]
		_, network := s.Networks["kind"]
		if wants := name == "watcher" || name == "actuator"; kube != wants || network != wants {
			t.Errorf("%s: reaches the API server: %v, %v; want %v", name, kube, network, wants)
		}
	}
}

func TestEverythingThatIsMountedExistsAndNothingIsChangedThroughIt(t *testing.T) {
	p := project(t)
	for _, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeVolume {
				if _, declared := p.Volumes[v.Source]; !declared {
					t.Errorf("%s: volume %s is not declared", s.Name, v.Source)
				}
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s may change %s", s.Name, v.Source)
			}
		}
		for _, c := range s.Configs {
			if _, declared := p.Configs[c.Source]; !declared {
				t.Errorf("%s: config %s is not declared", s.Name, c.Source)
			}
		}
	}
	if kubeconfig, want := p.Configs["kubeconfig"].File, at(t, ".cache", "kind.kubeconfig"); kubeconfig != want {
		t.Errorf("the kubeconfig is %s, but make up writes %s", kubeconfig, want)
	}
	if !strings.Contains(file(t, "Makefile"), "> .cache/kind.kubeconfig") {
		t.Error("make up writes no .cache/kind.kubeconfig")
	}
}

// listens are the ports that a program listens on, besides those that the file says.
var listens = map[string][]int{
	"watcher": {8080}, "analyzer": {8080}, "actuator": {8080}, "notifier": {8080},
	"nats": {4222, 8222}, "mail": {1025, 8025}, "prometheus": {9090}, "grafana": {3000}, "webhook": {8083},
}

func TestNoTwoThingsListenOnOnePortAndOnlyThisMachineGetsIn(t *testing.T) {
	p := project(t)
	published := map[string]string{}
	inside := map[string]string{} // network namespace and port to who listens
	for _, s := range p.Services {
		namespace := s.Name
		if other, shared := strings.CutPrefix(s.NetworkMode, "service:"); shared {
			namespace = other
		}
		ports, known := listens[s.Name]
		if !known {
			t.Errorf("%s: the test does not know where it listens", s.Name)
		}
		for _, port := range ports {
			key := namespace + ":" + strconv.Itoa(port)
			if other := inside[key]; other != "" {
				t.Errorf("%s and %s both listen on %s", s.Name, other, key)
			}
			inside[key] = s.Name
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", s.Name, port.Published)
			}
			if other := published[port.Published]; other != "" {
				t.Errorf("%s and %s both publish %s", s.Name, other, port.Published)
			}
			published[port.Published] = s.Name + ":" + strconv.Itoa(int(port.Target))
		}
	}
	for port, target := range published {
		if inside[target] == "" {
			t.Errorf("port %s leads to %s, where nobody listens", port, target)
		}
	}
	var told []string
	for _, m := range regexp.MustCompile(`http://localhost:(\d+)`).FindAllStringSubmatch(file(t, "deploy", "compose", "where.txt"), -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	if want := slices.Sorted(maps.Keys(published)); !slices.Equal(told, want) {
		t.Errorf("people are told of ports %v, want %v", told, want)
	}
}

func TestTheWebhookGoesWhereItsViewerShowsIt(t *testing.T) {
	p := project(t)
	to, err := url.Parse(*service(t, p, "notifier").Environment["WEBHOOK_URL"])
	if err != nil {
		t.Fatal(err)
	}
	if port := *service(t, p, "webhook").Environment["HTTP_PORT"]; to.Hostname() != "127.0.0.1" || to.Port() != port {
		t.Errorf("the webhook goes to %s, its viewer listens on %s of the same host", to, port)
	}
	page := fmt.Sprintf("http://localhost:%s/s%s\n", to.Port(), to.Path)
	if !strings.Contains(file(t, "deploy", "compose", "where.txt"), page) {
		t.Errorf("nobody is told of %s", page)
	}
	if !regexp.MustCompile(`^/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(to.Path) {
		t.Errorf("%s is no UUID, which the viewer asks for", to.Path)
	}
}

func TestVariablesOfTheFileAreDocumentedAndHaveDefaults(t *testing.T) {
	page := file(t, "docs", "compose.md")
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+)(:-[^}]*)?}`).FindAllStringSubmatch(file(t, "docker-compose.yaml"), -1) {
		names[m[1]] = true
		if m[2] == "" {
			t.Errorf("%s has no default", m[1])
		}
	}
	for name := range names {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/compose.md does not say what %s is", name)
		}
	}
	if len(names) == 0 {
		t.Error("no variable was found")
	}
}

func TestVersionsOfWhatIsPulledAreFixed(t *testing.T) {
	for _, s := range project(t).Services {
		name, tag, tagged := strings.Cut(s.Image, ":")
		if !tagged || tag == "latest" || !strings.Contains(name, "/") || !strings.Contains(name, ".") {
			t.Errorf("%s: image %q, want registry/name:version", s.Name, s.Image)
		}
		if s.Name == "nats" && !strings.Contains(file(t, "test", "go.mod"), "github.com/nats-io/nats-server/v2 v"+tag+"\n") {
			t.Errorf("nats-server %s is not the version that the tests run", tag)
		}
	}
}
