package contract

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root     = "github.com/selfheal/selfheal/"
	natsGo   = "github.com/nats-io/nats.go"
	clientGo = "k8s.io/client-go"
)

// A pack is a package, as go list tells it: without its tests.
type pack struct {
	ImportPath string
	Standard   bool
	Imports    []string // direct
	Deps       []string // all
	Error      *struct{ Err string }
}

// listPackages returns the packages of the workspace by their paths without
// root, and which of all the packages they need are the standard library's.
func listPackages(t *testing.T) (ours map[string]pack, standard map[string]bool) {
	t.Helper()
	work, err := filepath.Abs("../../go.work")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports,Deps,Error", root+"...")
	cmd.Env = append(os.Environ(), "GOWORK="+work, "GOFLAGS=-mod=readonly")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ours, standard = map[string]pack{}, map[string]bool{}
	for dec := json.NewDecoder(out); ; {
		var p pack
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		standard[p.ImportPath] = p.Standard
		if path, ok := strings.CutPrefix(p.ImportPath, root); ok {
			ours[path] = p
			if p.Error != nil {
				t.Errorf("%s: %s", path, p.Error.Err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return ours, standard
}

func within(path, module string) bool { return path == module || strings.HasPrefix(path, module+"/") }

func TestPackagesImportWhatTheyMay(t *testing.T) {
	ours, standard := listPackages(t)
	for _, path := range []string{"pkg/heal", "pkg/bus", "services/watcher", "services/analyzer", "services/actuator", "services/notifier"} {
		if _, ok := ours[path]; !ok {
			t.Errorf("no package %s: the rules below prove nothing about it", path)
		}
	}
	service := regexp.MustCompile(`^services/([a-z]+)`)
	pure := regexp.MustCompile(`^services/[a-z]+/internal/(detect|doubt|cause|policy|guard|route|story)(/|$)`)
	client := regexp.MustCompile(`^(pkg/kube|pkg/kube/.+|services/[a-z]+|services/[a-z]+/cmd/.+|services/watcher/internal/watch|services/actuator/internal/(live|action|actuate)|cli(/.+)?)$`)
	production := regexp.MustCompile(`^(pkg|services|cli)(/|$)`)

	for path, p := range ours {
		if !production.MatchString(path) {
			continue
		}
		importing := func(module string) bool {
			return slices.ContainsFunc(p.Imports, func(i string) bool { return within(i, module) })
		}
		needing := func(module string) bool {
			return slices.ContainsFunc(p.Deps, func(i string) bool { return within(i, module) })
		}
		if path == "pkg/heal" {
			for _, dep := range p.Deps {
				if !standard[dep] {
					t.Errorf("%s needs %s; want only the standard library", path, dep)
				}
			}
		}
		if importing(natsGo) && !within(path, "pkg/bus") {
			t.Errorf("%s imports %s; only pkg/bus knows NATS", path, natsGo)
		}
		if importing(clientGo) && !client.MatchString(path) {
			t.Errorf("%s imports %s; only pkg/kube, watch, live, action, actuate, and the services' and tools' wiring may", path, clientGo)
		}
		if within(path, "pkg") && (needing(root+"services") || needing(root+"cli")) {
			t.Errorf("%s needs a service or a tool; want it the other way round", path)
		}
		if m := service.FindStringSubmatch(path); m != nil {
			for _, dep := range p.Deps {
				rest := strings.TrimPrefix(dep, root)
				if other := service.FindStringSubmatch(rest); rest != dep && other != nil && other[1] != m[1] {
					t.Errorf("%s needs %s; services know each other only by their messages", path, rest)
				}
			}
		}
		if (within(path, "services/analyzer") || within(path, "services/notifier")) && needing(clientGo) {
			t.Errorf("%s links %s; it has no business with the API server", path, clientGo)
		}
		if pure.MatchString(path) {
			for _, client := range []string{root + "pkg/bus", root + "pkg/kube", root + "pkg/daemon", clientGo, natsGo} {
				if needing(client) {
					t.Errorf("%s needs %s; want it pure", path, strings.TrimPrefix(client, root))
				}
			}
			for _, effect := range []string{"log", "log/slog", "os", "net", "net/http", "context", "math/rand", "math/rand/v2"} {
				if slices.Contains(p.Imports, effect) {
					t.Errorf("%s imports %s; want it pure", path, effect)
				}
			}
		}
	}
}

// The order of the shared packages: heal below bus and config, those below
// daemon; kube beside daemon.
func TestSharedPackagesAreInOrder(t *testing.T) {
	ours, _ := listPackages(t)
	for path, never := range map[string][]string{
		"pkg/heal":   {"pkg/bus", "pkg/config", "pkg/kube", "pkg/daemon"},
		"pkg/bus":    {"pkg/config", "pkg/kube", "pkg/daemon"},
		"pkg/config": {"pkg/bus", "pkg/kube", "pkg/daemon"},
		"pkg/kube":   {"pkg/bus", "pkg/daemon"},
		"pkg/daemon": {"pkg/kube"},
	} {
		for _, other := range never {
			if slices.Contains(ours[path].Deps, root+other) {
				t.Errorf("%s needs %s", path, other)
			}
		}
	}
}
