package image

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/test/harness"
)

// heaviest is what an image may weigh on its way, in bytes.
const heaviest = 20 << 20

// binaries are all that the Dockerfile can make an image of.
var binaries = append(slices.Clone(harness.Services), "selfheal")

// chosen are those that are made here: the smallest service, or all that
// $IMAGES lists.
func chosen() []string {
	if list := os.Getenv("IMAGES"); list != "" {
		return strings.Split(list, ",")
	}
	return []string{"notifier"}
}

func recipe(t *testing.T) Recipe {
	t.Helper()
	r, err := Read(filepath.Join(harness.RepositoryRoot(t), "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{harness.RepositoryRoot(t)}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheDockerfileCompilesAndThenTakesTwoFilesIntoNothing(t *testing.T) {
	r := recipe(t)
	if r.Build.BaseName != "golang:${GO_VERSION}" || r.Build.Platform != "$BUILDPLATFORM" || r.Final.BaseName != "scratch" {
		t.Errorf("from %s on %s, and %s", r.Build.BaseName, r.Build.Platform, r.Final.BaseName)
	}
	if pinned := *r.Global[0].Args[0].Value; "go"+pinned != runtime.Version() {
		t.Errorf("it compiles with Go %s, the tests with %s", pinned, runtime.Version())
	}
	kinds := map[string]int{}
	for _, c := range r.Final.Commands {
		kinds[c.Name()]++
	}
	if diff := cmp.Diff(map[string]int{"ARG": 3, "LABEL": 1, "COPY": 2, "USER": 1, "EXPOSE": 1, "ENTRYPOINT": 1}, kinds); diff != "" {
		t.Errorf("the last stage (-want +got):\n%s", diff)
	}
	for _, c := range r.Build.Commands {
		if run, ok := c.(*instructions.RunCommand); ok && slices.ContainsFunc(run.FlagsUsed, func(f string) bool { return f != "mount" }) {
			t.Errorf("%s: flags %q", run, run.FlagsUsed)
		}
	}
}

func TestEveryWayToBuildIsTheSame(t *testing.T) {
	for _, file := range []string{"Dockerfile", ".ko.yaml", "Makefile"} {
		text := read(t, file)
		for _, flag := range []string{"-trimpath", "grpcnotrace", "-s -w", "CGO_ENABLED=0", "pkg/daemon.version", "pkg/daemon.commit"} {
			if !strings.Contains(text, flag) {
				t.Errorf("%s builds without %s", file, flag)
			}
		}
	}
}

func TestKoBuildsEveryBinary(t *testing.T) {
	var ko struct {
		DefaultBaseImage string
		DefaultPlatforms []string
		DefaultEnv       []string
		DefaultFlags     []string
		DefaultLdflags   []string
		Builds           []struct{ ID, Dir, Main string }
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, ".ko.yaml")), &ko); err != nil {
		t.Fatal(err)
	}
	var built []string
	for _, b := range ko.Builds {
		built = append(built, b.ID)
		if _, err := os.Stat(filepath.Join(harness.RepositoryRoot(t), b.Dir, b.Main, "main.go")); err != nil {
			t.Errorf("%s: %v", b.ID, err)
		}
	}
	if !slices.Equal(built, binaries) {
		t.Errorf("it builds %v, want %v", built, binaries)
	}
}

func TestAnUnknownServiceIsRefusedByName(t *testing.T) {
	_, err := recipe(t).Make(t.Context(), Options{Root: harness.RepositoryRoot(t), Dir: t.TempDir(), Args: map[string]string{"SERVICE": "wacher"}})
	if err == nil || !strings.Contains(err.Error(), "SERVICE: want watcher, analyzer, actuator, notifier or selfheal, got 'wacher'") {
		t.Errorf("got %v", err)
	}
}

func TestTheSameSourcesGiveTheSameImageAndItHoldsNothingButTheBinary(t *testing.T) {
	for _, service := range chosen() {
		t.Run(service, func(t *testing.T) {
			first, dir := made(t, service)
			again, _ := made(t, service)
			one, err := first.Digest()
			two, err2 := again.Digest()
			if err = errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			if one != two {
				t.Errorf("two builds of the same sources: %s and %s", one, two)
			}
			weight, err := Weight(first)
			if err != nil || weight > heaviest && service != "selfheal" { // which holds the four services
				t.Errorf("it weighs %d bytes (%v), want at most %d", weight, err, heaviest)
			}
			files := contents(t, first)
			documented(t, service, weight, len(files["selfhealing"].data))
			checkConfig(t, service, first)
			if want := []string{"etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "selfhealing"}; !slices.Equal(slices.Sorted(maps.Keys(files)), want) {
				t.Fatalf("it holds %q, want %q", slices.Sorted(maps.Keys(files)), want)
			}
			if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"].data) {
				t.Error("it knows no public authority")
			}
			modules := checkBinary(t, service, dir, files["selfhealing"])
			runs(t, files)
			t.Logf("%s: %.1f MiB to pull, of which the binary is %.1f MiB unpacked; %d modules; %s", service, float64(weight)/(1<<20), float64(len(files["selfhealing"].data))/(1<<20), modules, one)
		})
	}
}

// documented compares what an image weighs with docs/images.md, to the mebibyte.
func documented(t *testing.T, service string, pulled int64, unpacked int) {
	t.Helper()
	row := regexp.MustCompile(`\| ` + service + ` \| (\d+) \| (\d+) \|`).FindStringSubmatch(read(t, "docs", "images.md"))
	if row == nil {
		t.Fatalf("docs/images.md has no row for %s", service)
	}
	for i, bytes := range []float64{float64(pulled), float64(unpacked)} {
		said, err := strconv.ParseFloat(row[i+1], 64)
		if err != nil || math.Abs(said-bytes/(1<<20)) > 1.5 {
			t.Errorf("docs/images.md says %s MiB (%v), it is %.1f", row[i+1], err, bytes/(1<<20))
		}
	}
}

func made(t *testing.T, service string) (v1.Image, string) {
	t.Helper()
	dir := t.TempDir()
	img, err := recipe(t).Make(t.Context(), Options{
		Root: harness.RepositoryRoot(t), Dir: dir, Args: map[string]string{"SERVICE": service, "VERSION": "v1.2.3", "COMMIT": "0123456789ab"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img, dir
}

type entry struct {
	mode os.FileMode
	data []byte
}

// contents are all entries of the image, of which every one must be root's.
func contents(t *testing.T, img v1.Image) map[string]entry {
	t.Helper()
	stream := mutate.Extract(img)
	defer stream.Close()
	files := map[string]entry{}
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.FileInfo().Mode().Perm()&0o022 != 0 || !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s: of user %d, mode %v, time %v", h.Name, h.Uid, h.FileInfo().Mode(), h.ModTime)
		}
		files[h.Name] = entry{h.FileInfo().Mode(), data}
	}
}

func checkConfig(t *testing.T, service string, img v1.Image) {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	labels := file.Config.Labels
	if labels["org.opencontainers.image.description"] == "" {
		t.Error("it has no description")
	}
	delete(labels, "org.opencontainers.image.description")
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/selfhealing"}, ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "self-healing " + service,
			"org.opencontainers.image.source":   "https://github.com/selfheal/selfheal",
			"org.opencontainers.image.version":  "v1.2.3",
			"org.opencontainers.image.revision": "0123456789ab",
		},
	}
	if diff := cmp.Diff(want, file.Config); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if file.OS != "linux" || file.Architecture != runtime.GOARCH || len(file.RootFS.DiffIDs) != 2 {
		t.Errorf("for %s/%s, with %d layers", file.OS, file.Architecture, len(file.RootFS.DiffIDs))
	}
}

// checkBinary looks at the binary, and returns how many modules it lists.
func checkBinary(t *testing.T, service, dir string, binary entry) int {
	t.Helper()
	if binary.mode.Perm() != 0o755 {
		t.Errorf("its mode is %v", binary.mode)
	}
	program, err := elf.NewFile(bytes.NewReader(binary.data))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := program.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("it needs %q", libraries)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it is not static")
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(binary.data))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" || settings["-tags"] != "grpcnotrace" || settings["vcs"] != "" {
		t.Errorf("built with %v", settings)
	}
	for _, place := range []string{dir, harness.RepositoryRoot(t)} {
		if bytes.Contains(binary.data, []byte(place+"/")) {
			t.Errorf("it names %s, where it was built", place)
		}
	}
	for _, d := range info.Deps {
		if d.Replace == nil && (d.Version == "" || d.Sum == "") {
			t.Errorf("module %s has no version or no sum, which a bill of materials needs", d.Path)
		}
	}
	if !strings.HasSuffix(info.Path, "/cmd/"+service) || len(info.Deps) == 0 {
		t.Errorf("it is %s, of %d modules", info.Path, len(info.Deps))
	}
	return len(info.Deps)
}

// runs starts the binary as a container would: nothing but the image's files,
// and its user. That takes root.
func runs(t *testing.T, files map[string]entry) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Log("not run: only root may change the root folder")
		return
	}
	root := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, at := files[name], filepath.Join(root, name)
		var err error
		if f.mode.IsDir() {
			err = os.Mkdir(at, 0o755)
		} else {
			err = os.WriteFile(at, f.data, f.mode.Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for p := root; p != "/" && strings.HasPrefix(p, os.TempDir()+"/"); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil { // for a user that is nobody here
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/selfhealing", "--version")
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(`v1\.2\.3.*0123456789ab`).Match(out) {
		t.Errorf("selfhealing --version: %v: %s", err, out)
	}
}
