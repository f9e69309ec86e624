package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Loader holds what settings are read from. Nothing else of the process is
// looked at, except the files that these name.
type Loader struct {
	// Service is whose settings they are. Only for the notifier, and for no
	// name, must the notification channels be complete: the other services
	// share its ConfigMap, but not its secrets.
	Service string

	Args    []string // the command line without the program's name
	Environ []string // NAME=value, as os.Environ gives it

	// Defaults replace built-in defaults, by key: `selfheal up` observes
	// unless told otherwise.
	Defaults map[string]string
}

// A given is a value that a layer gives to a setting.
type given struct {
	key   string
	value string
	from  string // the layer, as people are told of it: environment DRY_RUN
	path  bool   // value names the file that holds the secret
}

// Load reads all layers and returns the settings with where each came from.
// The error, if any, joins everything that is wrong with them and is
// ErrSettings, or it is ErrHelp or ErrVersion. The settings are usable only
// without an error.
func Load(l Loader) (Settings, *Origins, error) {
	files := &files{seen: sha256.New()}
	line, errs := parseArgs(l.Args)
	if line.help {
		return Settings{}, &Origins{}, ErrHelp
	}
	if line.version {
		return Settings{}, &Origins{}, ErrVersion
	}
	env, envErrs := readEnv(l.Environ)
	errs = append(errs, envErrs...)

	all := l.defaults()
	add := func(more []given, found []error) {
		all = append(all, more...)
		errs = append(errs, found...)
	}
	if name := firstOf(line.config, env.config); name != "" {
		add(readYAML(files, name))
	}
	if name := firstOf(line.configDir, env.configDir); name != "" {
		add(readDir(files, name))
	}
	add(env.given, nil)
	add(line.given, nil)

	s, origins, applyErrs := apply(all, files)
	errs = append(errs, applyErrs...)
	files.seen.Sum(origins.sum[:0])
	errs = append(errs, check(s, origins, l.Service)...)
	if len(errs) > 0 {
		return s, origins, Invalid(errors.Join(errs...))
	}
	return s, origins, nil
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// defaults is the first layer.
func (l Loader) defaults() []given {
	var all []given
	for _, t := range table(new(Settings)) {
		if def, ok := l.Defaults[t.key]; ok {
			all = append(all, given{key: t.key, value: def, from: "default"})
		} else if t.def != "" {
			all = append(all, given{key: t.key, value: t.def, from: "default"})
		}
	}
	return all
}

// apply sets the fields, a later value over an earlier one, and fills in the
// defaults that follow from other settings. A bad value is an error even where
// a later layer overrides it: it would bite when that layer goes away.
func apply(all []given, files *files) (Settings, *Origins, []error) {
	var s Settings
	var errs []error
	fields := table(&s)
	from := map[string]string{}
	for _, g := range all {
		i := slices.IndexFunc(fields, func(t setting) bool { return t.key == g.key })
		value, err := g.text(files)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, p := range fields[i].kind.set(value) {
			errs = append(errs, fmt.Errorf("%s%s (%s): %s", g.key, p.at, g.from, p.text))
		}
		from[g.key] = g.from // of a bad value too, so that no default seems to be in force
	}
	follow := func(key, source string, set func()) {
		if from[key] == "" {
			set()
			from[key] = "default, as " + source
		}
	}
	follow("node_check_interval", "health_check_interval", func() { s.NodeCheckInterval = s.HealthCheckInterval })
	follow("pod_check_interval", "health_check_interval", func() { s.PodCheckInterval = s.HealthCheckInterval })
	if from["verify_window"] == "" {
		s.VerifyWindow, from["verify_window"] = min(defaultVerifyWindow, s.RecoveryTimeout), "default"
	}
	if badAddress(s.EmailUsername) == "" {
		follow("email_from", "email_username", func() { s.EmailFrom = s.EmailUsername })
	}

	origins := &Origins{}
	for _, t := range fields {
		o := Origin{Key: t.key, Value: t.kind.text(), From: firstOf(from[t.key], "default")}
		if t.kind.secret {
			o.Value = Secret(o.Value).String()
		}
		origins.all = append(origins.all, o)
	}
	return s, origins, errs
}

const defaultVerifyWindow = 60 * time.Second

// text is the value, read from its file if it names one.
func (g given) text(files *files) (string, error) {
	if !g.path {
		return g.value, nil
	}
	data, err := files.read(g.value)
	if err != nil {
		return "", fmt.Errorf("%s (%s): file %q cannot be read: %s", g.key, g.from, heal.Clean(g.value, 256), reason(err))
	}
	text := trimNewline(string(data))
	if text == "" {
		return "", fmt.Errorf("%s (%s): file %q is empty", g.key, g.from, heal.Clean(g.value, 256))
	}
	return text, nil
}

// trimNewline takes away the one line break that editors and shells add.
func trimNewline(text string) string {
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
}

// files reads files and remembers what it saw, so that Watch can tell whether
// another look saw the same.
type files struct{ seen hash.Hash }

func (f *files) read(name string) ([]byte, error) {
	data, err := readFile(name)
	f.saw(name, data, err)
	return data, err
}

// saw remembers what was found under that name.
func (f *files) saw(name string, data []byte, err error) {
	_, _ = fmt.Fprintf(f.seen, "%q %q %v\n", name, data, err) // a hash takes everything
}

// maxFile is far above any settings file: a ConfigMap holds at most 1 MiB.
const maxFile = 1 << 20

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("it is larger than 1 MiB")
	}
	return data, err
}

// reason is err without the path and the call, which the message already names.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return err.Error()
}

// find returns the setting with that key.
func find(key string) (setting, bool) {
	all := table(new(Settings))
	i := slices.IndexFunc(all, func(t setting) bool { return t.key == key })
	if i < 0 {
		return setting{}, false
	}
	return all[i], true
}

// keys is every key that a file may hold.
func keys() []string {
	var all []string
	for _, t := range table(new(Settings)) {
		all = append(all, t.key)
		if t.kind.secret {
			all = append(all, t.key+"_file")
		}
	}
	return all
}
