// Package container holds what runs without Helm against its own rules: the
// compose file, the Dockerfile and ko's settings.
package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/test/harness"
)

func project(t *testing.T) *types.Project {
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

func TestTheServicesTakeTheSettingsOfTheComposeFile(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := project(t)
	for _, name := range harness.Services {
		s, err := p.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		var environ []string
		for key, value := range s.Environment {
			if value == nil {
				t.Errorf("%s: %s has no value", name, key)
				continue
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
		if !s.ReadOnly || s.User != "65532:65532" || !slices.Contains(s.CapDrop, "ALL") {
			t.Errorf("%s may do more than it needs", name)
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
	for _, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", s.Name, port.Published)
			}
		}
	}
}

func TestTheImageIsAsSmallAndAsPowerlessAsItCanBe(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(harness.RepositoryRoot(t), "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	last := text[strings.LastIndex(text, "\nFROM "):]
	for _, want := range []string{"FROM scratch\n", "\nUSER 65532:65532\n", "\nENTRYPOINT [\"/selfhealing\"]", "org.opencontainers.image.revision="} {
		if !strings.Contains(last, want) {
			t.Errorf("the image lacks %q", want)
		}
	}
	if n := strings.Count(last, "\nCOPY "); n != 2 {
		t.Errorf("the image holds %d things, want the binary and the certificates", n)
	}
	for _, want := range []string{"CGO_ENABLED=0", "GOWORK=off", "-trimpath", "-buildvcs=false", `-ldflags "-s -w `} {
		if !strings.Contains(text, want) {
			t.Errorf("the build lacks %s", want)
		}
	}
}

func TestKoBuildsEveryBinary(t *testing.T) {
	root := harness.RepositoryRoot(t)
	data, err := os.ReadFile(filepath.Join(root, ".ko.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var ko struct {
		DefaultBaseImage string
		DefaultPlatforms []string
		DefaultEnv       []string
		DefaultFlags     []string
		DefaultLdflags   []string
		Builds           []struct{ ID, Dir, Main string }
	}
	if err := yaml.UnmarshalStrict(data, &ko); err != nil {
		t.Fatal(err)
	}
	var built []string
	for _, b := range ko.Builds {
		built = append(built, b.ID)
		if _, err := os.Stat(filepath.Join(root, b.Dir, b.Main, "main.go")); err != nil {
			t.Errorf("%s: %v", b.ID, err)
		}
	}
	if want := append(slices.Clone(harness.Services), "selfheal"); !slices.Equal(built, want) {
		t.Errorf("it builds %v, want %v", built, want)
	}
}
