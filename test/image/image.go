// Package image makes a service's image as the Dockerfile says and without a
// container engine: it runs the first stage's commands in a copy of the
// sources, and puts together what the last stage names. So what is in an image,
// and that it can be built, is known where there is no engine, and `make image`
// makes images there.
//
// It understands as much of a Dockerfile as ours says, and refuses the rest.
// The same sources, arguments and version of Go give the same image, byte by
// byte.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// A Recipe is a Dockerfile of two stages: one that compiles, and the image.
type Recipe struct {
	Global       []instructions.ArgCommand // before the first stage
	Build, Final instructions.Stage
}

// Read reads a Dockerfile. An error says what is not as expected.
func Read(file string) (Recipe, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Recipe{}, err
	}
	tree, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return Recipe{}, fmt.Errorf("%s: %w", file, err)
	}
	stages, global, err := instructions.Parse(tree.AST, nil)
	if err != nil {
		return Recipe{}, fmt.Errorf("%s: %w", file, err)
	}
	if len(stages) != 2 {
		return Recipe{}, fmt.Errorf("%s: has %d stages, want 2: one that compiles, and the image", file, len(stages))
	}
	return Recipe{Global: global, Build: stages[0], Final: stages[1]}, nil
}

// Options are what an image is made from.
type Options struct {
	Root string            // the folder with the sources and .dockerignore
	Dir  string            // an empty folder to work in
	Args map[string]string // build arguments, such as SERVICE
	// The certificates of public authorities, in the place of those that the
	// first stage's image has. Default: this machine's, where Debian keeps them.
	Authorities string
}

const authorities = "/etc/ssl/certs/ca-certificates.crt"

// Make makes the image.
func (r Recipe) Make(ctx context.Context, o Options) (v1.Image, error) {
	if o.Authorities == "" {
		o.Authorities = authorities
	}
	b := builder{Options: o, known: map[string]string{"TARGETOS": "linux", "TARGETARCH": runtime.GOARCH}, values: map[string]string{}}
	maps.Copy(b.known, o.Args)
	if err := b.stage(ctx, r.Build); err != nil {
		return nil, fmt.Errorf("stage %s: %w", r.Build.Name, err)
	}
	b.values = map[string]string{}
	img, err := b.assemble(r.Final)
	if err != nil {
		return nil, fmt.Errorf("the image: %w", err)
	}
	return img, nil
}

// A builder is one image in the making.
type builder struct {
	Options
	known  map[string]string // arguments that were given
	values map[string]string // arguments that the stage has declared
	cwd    string            // of the stage, from its root on
}

func (b *builder) declare(c *instructions.ArgCommand) {
	for _, a := range c.Args {
		value, given := b.known[a.Key]
		if !given && a.Value != nil {
			value = *a.Value
		}
		b.values[a.Key] = value
	}
}

// inside is where the path of a stage lies on this machine.
func (b *builder) inside(p string) string {
	if !path.IsAbs(p) {
		p = path.Join("/", b.cwd, p)
	}
	return filepath.Join(b.Dir, filepath.FromSlash(p))
}

func (b *builder) stage(ctx context.Context, s instructions.Stage) error {
	for _, c := range s.Commands {
		var err error
		switch c := c.(type) {
		case *instructions.ArgCommand:
			b.declare(c)
		case *instructions.WorkdirCommand:
			b.cwd = c.Path
			err = os.MkdirAll(b.inside(""), 0o755)
		case *instructions.CopyCommand:
			for _, source := range c.SourcePaths {
				err = errors.Join(err, b.copyIn(source, c.DestPath))
			}
		case *instructions.RunCommand:
			err = b.run(ctx, c)
		default:
			err = errors.New("not understood here")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name(), err)
		}
	}
	return nil
}

// copyIn copies a folder of the sources, without what .dockerignore keeps out.
func (b *builder) copyIn(source, to string) error {
	list, err := os.Open(filepath.Join(b.Root, ".dockerignore"))
	if err != nil {
		return err
	}
	defer list.Close()
	patterns, err := ignorefile.ReadAll(list)
	if err != nil {
		return err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(b.Root, source), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(b.Root, file)
		if err != nil {
			return err
		}
		if out, err := ignored.MatchesOrParentMatches(name); err != nil || out {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(source, name)
		if err != nil {
			return err
		}
		copied := filepath.Join(b.inside(to), rest)
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return err
		}
		return os.WriteFile(copied, data, 0o644)
	})
}

// run runs a command of the stage with Go's caches of this machine, without
// version control, and with nothing to get modules from but the proxy. The one
// absolute path that the command has leads into the working folder.
func (b *builder) run(ctx context.Context, c *instructions.RunCommand) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	env := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(env) != 5 {
		return fmt.Errorf("go env says %q", env)
	}
	proxies := slices.DeleteFunc(strings.FieldsFunc(env[3], func(r rune) bool { return r == ',' || r == '|' }), func(p string) bool { return p == "direct" })
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", strings.ReplaceAll(strings.Join(c.CmdLine, " "), " /out/", " "+filepath.Join(b.Dir, "out")+"/"))
	cmd.Dir = b.inside("")
	cmd.Env = []string{
		"PATH=" + filepath.Join(env[0], "bin") + ":/usr/bin:/bin", "HOME=" + b.Dir, "GOCACHE=" + env[1], "GOMODCACHE=" + env[2],
		"GOPROXY=" + strings.Join(proxies, ","), "GOSUMDB=" + env[4], "GOVCS=*:off", "GOTOOLCHAIN=local", "GOFLAGS=",
	}
	for _, name := range slices.Sorted(maps.Keys(b.values)) {
		cmd.Env = append(cmd.Env, name+"="+b.values[name])
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

// assemble puts together what the last stage names.
func (b *builder) assemble(s instructions.Stage) (v1.Image, error) {
	if s.BaseName != "scratch" {
		return nil, fmt.Errorf("FROM %s: want scratch, as no other can be had without a registry", s.BaseName)
	}
	config := v1.ConfigFile{OS: "linux", Architecture: b.known["TARGETARCH"], Config: v1.Config{Labels: map[string]string{}, ExposedPorts: map[string]struct{}{}}}
	img := empty.Image
	for _, c := range s.Commands {
		var err error
		switch c := c.(type) {
		case *instructions.ArgCommand:
			b.declare(c)
		case *instructions.LabelCommand:
			for _, l := range c.Labels {
				config.Config.Labels[l.Key] = b.expand(l.Value)
			}
		case *instructions.UserCommand:
			config.Config.User = c.User
		case *instructions.ExposeCommand:
			for _, port := range c.Ports {
				config.Config.ExposedPorts[port+"/tcp"] = struct{}{}
			}
		case *instructions.EntrypointCommand:
			config.Config.Entrypoint = c.CmdLine
		case *instructions.CopyCommand:
			img, err = b.add(img, c)
		default:
			err = errors.New("not understood here")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name(), err)
		}
	}
	had, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.RootFS, config.History = had.RootFS, had.History
	return mutate.ConfigFile(img, &config)
}

// expand is a word with its variables filled in and without its quotes.
func (b *builder) expand(word string) string {
	return os.Expand(strings.Trim(word, `"`), func(name string) string { return b.values[name] })
}

// add adds a layer with the file that a COPY --from names.
func (b *builder) add(img v1.Image, c *instructions.CopyCommand) (v1.Image, error) {
	if c.From == "" || len(c.SourcePaths) != 1 {
		return nil, errors.New("want one file of the first stage")
	}
	file, mode := filepath.Join(b.Dir, filepath.FromSlash(c.SourcePaths[0])), int64(0o755)
	if c.SourcePaths[0] == authorities {
		file, mode = b.Authorities, 0o644
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	archive, err := archived(c.DestPath, mode, data)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: c.String()}})
}

// archived is a file and the folders above it, of root and of no time.
func archived(name string, mode int64, data []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	name = strings.TrimPrefix(name, "/")
	for i, r := range name {
		if r == '/' {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name[:i+1], Mode: 0o755}); err != nil {
				return nil, err
			}
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err := w.Close()
	return b.Bytes(), err
}

// Weight is how many bytes are sent when somebody pulls the image's layers.
func Weight(img v1.Image) (int64, error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, l := range layers {
		size, err := l.Size()
		if err != nil {
			return 0, err
		}
		sum += size
	}
	return sum, nil
}
