package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/selfheal/selfheal/pkg/heal"
)

// readYAML is the layer of the config file: one flat mapping of keys to values.
func readYAML(files *files, name string) ([]given, []error) {
	data, err := files.read(name)
	if err != nil {
		return nil, []error{fmt.Errorf("file %s: cannot be read: %s", name, reason(err))}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil // an empty file sets nothing
	} else if err != nil {
		return nil, []error{fmt.Errorf("file %s: is not YAML: %s", name, heal.Clean(strings.TrimPrefix(err.Error(), "yaml: "), heal.MaxText))}
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil // nothing but comments
	}
	if root.Kind != yaml.MappingNode {
		return nil, []error{fmt.Errorf("file %s line %d: want one `key: value` per line", name, root.Line)}
	}
	var all []given
	var errs []error
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		errs = append(errs, fmt.Errorf("file %s: want one YAML document, got more", name))
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		from := fmt.Sprintf("file %s line %d", name, key.Line)
		if first := lines[key.Value]; first > 0 {
			errs = append(errs, fmt.Errorf("file %s: key %q given twice (lines %d and %d)", name, heal.Clean(key.Value, 64), first, key.Line))
			continue
		}
		lines[key.Value] = key.Line
		g, err := fileKey(key.Value, from)
		if err == nil && !g.path {
			if t, _ := find(g.key); t.kind.secret {
				err = fmt.Errorf("%s (%s): give %s_file with the path of a file, or the environment %s, not the secret itself", g.key, from, g.key, t.contractEnv())
			}
		}
		if err == nil {
			g.value, err = plainValue(g, value)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, g)
	}
	return all, errs
}

// fileKey finds the setting that a key in a file stands for.
func fileKey(key, from string) (given, error) {
	if _, ok := find(key); ok {
		return given{key: key, from: from}, nil
	}
	if base, ok := strings.CutSuffix(key, "_file"); ok {
		if t, ok := find(base); ok && t.kind.secret {
			return given{key: base, from: from, path: true}, nil
		}
	}
	return given{}, fmt.Errorf("%s: unknown key %q%s", from, heal.Clean(key, 64), didYouMean(key, keys()))
}

// plainValue is the text of a YAML value, just as it was written.
func plainValue(g given, n *yaml.Node) (string, error) {
	t, _ := find(g.key)
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", nil
	case n.Kind == yaml.ScalarNode:
		return n.Value, nil
	case n.Kind == yaml.SequenceNode && t.kind.list:
		var parts []string
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", fmt.Errorf("%s[%d] (%s): want a plain value", g.key, i, g.from)
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("%s (%s): want %s, got a nested value", g.key, g.from, t.kind.want)
}

// readDir is the layer of a mounted ConfigMap or Secret: one file per key.
// Kubernetes' own entries begin with two dots, and editors' with one.
func readDir(files *files, name string) ([]given, []error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		files.saw(name, nil, err)
		return nil, []error{fmt.Errorf("directory %s: cannot be read: %s", name, reason(err))}
	}
	var all []given
	var errs []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		file := filepath.Join(name, entry.Name())
		g, err := fileKey(entry.Name(), "file "+file)
		if err != nil {
			files.saw(file, nil, nil)
			errs = append(errs, err)
			continue
		}
		data, err := files.read(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): cannot be read: %s", g.key, g.from, reason(err)))
			continue
		}
		g.value = trimNewline(string(data))
		all = append(all, g)
	}
	return all, errs
}

// The names by which the environment tells where the files are.
const (
	envConfig    = heal.EnvPrefix + "CONFIG"
	envConfigDir = heal.EnvPrefix + "CONFIG_DIR"
)

// An environment is what the layer of the environment gives.
type environment struct {
	given             []given
	config, configDir string
}

// serviceLink matches the variables that Kubernetes makes for every Service of
// the namespace: one called selfheal-nats would fill our prefix with them.
var serviceLink = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_[0-9]+_(TCP|UDP|SCTP)(_|$)`)

func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

func readEnv(environ []string) (environment, []error) {
	values := map[string]string{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			values[name] = value
		}
	}
	env := environment{config: values[envConfig], configDir: values[envConfigDir]}
	known := []string{envConfig, envConfigDir}
	var errs []error
	for _, t := range table(new(Settings)) {
		for _, name := range t.env() {
			known = append(known, name)
			value, ok := values[name]
			if ok {
				env.given = append(env.given, given{key: t.key, value: value, from: "environment " + name})
			}
			if !t.kind.secret {
				continue
			}
			known = append(known, name+"_FILE")
			path, fileToo := values[name+"_FILE"]
			if ok && fileToo {
				errs = append(errs, fmt.Errorf("%s (environment %s): given twice, as %s too; give one", t.key, name, name+"_FILE"))
			} else if fileToo {
				env.given = append(env.given, given{key: t.key, value: path, from: "environment " + name + "_FILE", path: true})
			}
		}
	}
	var unknown []string
	for name, value := range values {
		if strings.HasPrefix(name, heal.EnvPrefix) && !slices.Contains(known, name) && !isServiceLink(name, value) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	known = slices.DeleteFunc(known, func(name string) bool { return !strings.HasPrefix(name, heal.EnvPrefix) })
	for _, name := range unknown {
		errs = append(errs, fmt.Errorf("environment %s: unknown name%s", heal.Clean(name, 64), didYouMean(name, known)))
	}
	return env, errs
}

// A commandLine is what the layer of the flags gives.
type commandLine struct {
	given             []given
	config, configDir string
	help, version     bool
}

// parseArgs reads --name value and --name=value; a switch needs no value. It
// is not pflag because that stops at the first mistake.
func parseArgs(args []string) (commandLine, []error) {
	var line commandLine
	var errs []error
	flags := map[string]setting{}
	known := []string{"--config", "--config-dir", "--help", "--version"}
	for _, t := range table(new(Settings)) {
		flags[t.flag()] = t
		known = append(known, "--"+t.flag())
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "-h" || arg == "--help" {
			line.help = true
			continue
		}
		if arg == "--version" {
			line.version = true
			continue
		}
		name, value, hasValue := strings.Cut(arg, "=")
		bare, isFlag := strings.CutPrefix(name, "--")
		if !isFlag || bare == "" {
			errs = append(errs, fmt.Errorf("argument %q: nothing is expected but flags%s", heal.Clean(arg, 64), didYouMean("--"+strings.TrimLeft(name, "-"), known)))
			continue
		}
		t, ok := flags[bare]
		takesOne := !hasValue && len(args) > 0 && !strings.HasPrefix(args[0], "--")
		if takesOne && ok && t.kind.flag {
			// --dry-run yes would read as a switch and a stray word, so a switch
			// takes its value only behind "=".
			takesOne = false
		}
		if takesOne {
			// Of an unknown flag too: its value might be a secret, and must not
			// be reported as a stray argument.
			value, hasValue, args = args[0], true, args[1:]
		}
		from := "flag " + name
		switch {
		case bare == "config" && hasValue:
			line.config = value
		case bare == "config-dir" && hasValue:
			line.configDir = value
		case bare == "config" || bare == "config-dir" || ok && !hasValue && !t.kind.flag:
			errs = append(errs, fmt.Errorf("%s: needs a value", from))
		case ok && !hasValue:
			line.given = append(line.given, given{key: t.key, value: "true", from: from})
		case ok:
			line.given = append(line.given, given{key: t.key, value: value, from: from, path: t.kind.secret})
		default:
			errs = append(errs, unknownFlag(bare, known))
		}
	}
	return line, errs
}

func unknownFlag(bare string, known []string) error {
	if t, ok := find(strings.ReplaceAll(bare, "-", "_")); ok && t.kind.secret {
		return fmt.Errorf("flag --%s: a secret must not stand on the command line, where every process can read it; use --%s or the environment %s", bare, t.flag(), t.contractEnv())
	}
	return fmt.Errorf("flag --%s: unknown%s", heal.Clean(bare, 64), didYouMean("--"+bare, known))
}
