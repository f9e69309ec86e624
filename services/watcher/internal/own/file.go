package own

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	maxFile       = 1 << 20
	maxRules      = 200
	maxExpression = 4 << 10
	maxPaths      = 16

	// maxCost is what one evaluation may cost, in CEL's own measure: about a
	// millisecond.
	maxCost = 100_000
	maxHold = 24 * time.Hour
)

// A rule is one entry of the file.
type rule struct {
	Name       string   `yaml:"name"`
	Version    string   `yaml:"version"`
	Kind       string   `yaml:"kind"`
	Resource   string   `yaml:"resource"`
	Namespaced *bool    `yaml:"namespaced"`
	Type       string   `yaml:"type"`
	Reason     string   `yaml:"reason"`
	Hold       duration `yaml:"hold"`
	Clear      duration `yaml:"clear"`

	Expression  text   `yaml:"expression"`
	Excuse      text   `yaml:"excuse"`
	Description text   `yaml:"description"`
	Evidence    []text `yaml:"evidence"`

	line                            int
	expression, excuse, description expression
	paths                           []path
}

// A text remembers where it stands.
type text struct {
	value string
	line  int
}

func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: want a text", n.Line)
	}
	t.value, t.line = n.Value, n.Line
	return nil
}

// A duration is written as in "90s" and "10m".
type duration struct{ time.Duration }

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 || v > maxHold {
		return fmt.Errorf("line %d: %q is not a duration between 0s and %s; write it as in 90s or 10m", n.Line, heal.Clean(n.Value, 32), maxHold)
	}
	d.Duration = v
	return nil
}

// Load reads a file of detectors. known are kinds of which the resource is
// known, and so checked.
func Load(file string, known []Kind, trouble Trouble) ([]Kind, error) {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%d bytes, want at most %d", info.Size(), maxFile)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
	if err == nil {
		var kinds []Kind
		if kinds, err = Parse(data, known, trouble); err == nil {
			return kinds, nil
		}
	}
	return nil, fmt.Errorf("detectors_file %s: %w", file, err)
}

// Parse reads the text of such a file. All that is wrong is said at once.
func Parse(data []byte, known []Kind, trouble Trouble) ([]Kind, error) {
	rules, err := decode(data)
	if err != nil {
		return nil, err
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	var errs []error
	seen := map[string]int{}
	for i := range rules {
		r := &rules[i]
		errs = append(errs, r.check(env, known)...)
		if first, ok := seen[r.Name]; ok && r.Name != "" {
			errs = append(errs, r.wrong("name: there is another %q in line %d", r.Name, first))
		}
		seen[r.Name] = r.line
	}
	kinds, disagree := group(rules, trouble)
	if err := errors.Join(append(errs, disagree...)...); err != nil {
		return nil, err
	}
	return kinds, nil
}

// decode reads the entries, strictly.
func decode(data []byte) ([]rule, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, plain(err)
	}
	if len(doc.Content) == 0 {
		return nil, errors.New("it is empty; want a list under the key detectors")
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	dec.KnownFields(true)
	var file struct {
		Detectors []rule `yaml:"detectors"`
	}
	if err := dec.Decode(&file); err != nil {
		return nil, plain(err)
	}
	if err := dec.Decode(new(yaml.Node)); err == nil {
		return nil, errors.New("it has a second document; want one")
	}
	if n := len(file.Detectors); n == 0 || n > maxRules {
		return nil, fmt.Errorf("%d detectors; want 1 to %d, as a list under the key detectors", n, maxRules)
	}
	for i, line := range entryLines(doc.Content[0]) {
		file.Detectors[i].line = line
	}
	return file.Detectors, nil
}

// entryLines is where each entry of the list begins.
func entryLines(root *yaml.Node) []int {
	var lines []int
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "detectors" {
			for _, entry := range root.Content[i+1].Content {
				lines = append(lines, entry.Line)
			}
		}
	}
	return lines
}

var unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)

// plain is an error of the YAML library in the words of this file.
func plain(err error) error {
	var many *yaml.TypeError
	if !errors.As(err, &many) {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var errs []error
	for _, e := range many.Errors {
		e = unknownField.ReplaceAllString(e, "unknown field $1; want "+strings.Join(fields(), ", "))
		errs = append(errs, errors.New(e))
	}
	return errors.Join(errs...)
}

func fields() []string {
	return []string{"name", "version", "kind", "resource", "namespaced", "type", "reason", "hold", "clear", "expression", "excuse", "description", "evidence"}
}

func (r *rule) namespaced() bool { return r.Namespaced == nil || *r.Namespaced }

func (r *rule) wrong(format string, args ...any) error {
	return fmt.Errorf("line %d: detector %q: %s", r.line, heal.Clean(r.Name, 64), fmt.Sprintf(format, args...))
}

var (
	nameForm     = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	kindForm     = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	resourceForm = regexp.MustCompile(`^[a-z][a-z0-9]{0,62}$`)
	versionForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,30}$`)
)

// check reports everything that is wrong with r, and compiles it.
func (r *rule) check(env *cel.Env, known []Kind) []error {
	var errs []error
	form := func(field, value string, form *regexp.Regexp, want string) {
		if !form.MatchString(value) {
			errs = append(errs, r.wrong("%s: %q is not %s", field, heal.Clean(value, 64), want))
		}
	}
	form("name", r.Name, nameForm, "a name in lower case, digits and underscores, as in certificate_not_ready")
	form("version", r.Version, versionForm, "a group and version, as in cert-manager.io/v1")
	form("kind", r.Kind, kindForm, "a kind, as in Certificate")
	form("resource", r.Resource, resourceForm, "the plural in lower case, as in certificates")
	form("reason", r.Reason, kindForm, "one word in camel case, as in CertificateNotReady")
	if strings.EqualFold(r.Kind, "Secret") || r.Resource == "secrets" {
		errs = append(errs, r.wrong("kind: Secrets are never read"))
	}
	for _, k := range known {
		if k.Version != r.Version || k.Kind != r.Kind {
			continue
		}
		if r.Resource != k.Resource && resourceForm.MatchString(r.Resource) {
			errs = append(errs, r.wrong("resource: %q is not that of %s; want %s", heal.Clean(r.Resource, 64), k.Kind, k.Resource))
		}
		if r.namespaced() != k.Namespaced {
			errs = append(errs, r.wrong("namespaced: %v is not true of %s; want %v", r.namespaced(), k.Kind, k.Namespaced))
		}
	}
	if !slices.Contains(heal.FailureTypes, heal.FailureType(r.Type)) {
		errs = append(errs, r.wrong("type: %q is not known; want one of %v", heal.Clean(r.Type, 64), heal.FailureTypes))
	}
	compile := func(field string, t text, want *cel.Type, required bool, to *expression) {
		if strings.TrimSpace(t.value) == "" {
			if required {
				errs = append(errs, r.wrong("%s: is empty; want an expression that is true while an object fails", field))
			}
			return
		}
		program, err := compiled(env, t.value, want)
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: detector %q: %s: %w", t.line, heal.Clean(r.Name, 64), field, err))
			return
		}
		to.program = program
	}
	compile("expression", r.Expression, cel.BoolType, true, &r.expression)
	compile("excuse", r.Excuse, cel.BoolType, false, &r.excuse)
	compile("description", r.Description, cel.StringType, false, &r.description)
	if len(r.Evidence) > maxPaths {
		errs = append(errs, r.wrong("evidence: %d paths; want at most %d", len(r.Evidence), maxPaths))
	}
	for _, t := range r.Evidence {
		p, err := parsePath(t.value)
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: detector %q: evidence: %w", t.line, heal.Clean(r.Name, 64), err))
		}
		r.paths = append(r.paths, p)
	}
	return errs
}

// environment is what expressions may use: the object, CEL's standard library,
// its optional values and its functions for strings.
func environment() (*cel.Env, error) {
	env, err := cel.NewEnv(
		cel.Variable("object", cel.MapType(cel.StringType, cel.DynType)),
		cel.OptionalTypes(),
		cel.HomogeneousAggregateLiterals(),
		ext.Strings(),
	)
	if err != nil {
		return nil, fmt.Errorf("expressions: %w", err)
	}
	return env, nil
}

// compiled parses and type-checks an expression, and says where it is wrong.
func compiled(env *cel.Env, source string, want *cel.Type) (cel.Program, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("%d bytes; want at most %d", len(source), maxExpression)
	}
	ast, issues := env.Compile(source)
	if err := issues.Err(); err != nil {
		var errs []error
		for _, e := range issues.Errors() {
			errs = append(errs, fmt.Errorf("line %d, column %d of the expression: %s", e.Location.Line(), e.Location.Column()+1, e.Message))
		}
		return nil, errors.Join(errs...)
	}
	if got := ast.OutputType(); !got.IsExactType(want) {
		hint := ""
		if got.IsExactType(types.DynType) {
			hint = fmt.Sprintf("; what an object holds has no type until it is compared or converted, as in == true or string(…), want %s", want)
		}
		return nil, fmt.Errorf("it comes to %s, want %s%s", got, want, hint)
	}
	return env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
}

// group gathers the rules by kind, in the order of the file.
func group(rules []rule, trouble Trouble) (kinds []Kind, errs []error) {
	first := map[string]*rule{}
	at := map[string]int{}
	for i := range rules {
		r := &rules[i]
		key := r.Version + "/" + r.Kind
		k := Kind{Version: r.Version, Kind: r.Kind, Resource: r.Resource, Namespaced: r.namespaced()}
		if gv, err := schema.ParseGroupVersion(r.Version); err == nil {
			k.Group = gv.Group
		}
		n, known := at[key]
		if !known {
			n = len(kinds)
			at[key], first[key] = n, r
			kinds = append(kinds, k)
		}
		if kinds[n].Resource != k.Resource || kinds[n].Namespaced != k.Namespaced {
			errs = append(errs, r.wrong("resource, namespaced: another than those of detector %q in line %d, for the same kind", first[key].Name, first[key].line))
		}
		kinds[n].Detectors = append(kinds[n].Detectors, r.detector(trouble))
	}
	return kinds, errs
}

// A path names a field of an object: status.conditions[0].reason.
type path struct {
	text  string
	steps []any // string or int
}

var stepForm = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_-]*)((?:\[[0-9]{1,6}\])*)$`)

func parsePath(s string) (path, error) {
	p := path{text: s}
	for step := range strings.SplitSeq(s, ".") {
		m := stepForm.FindStringSubmatch(step)
		if m == nil || len(s) > 256 {
			return p, fmt.Errorf("%q is not a path of fields, as in status.conditions[0].reason", heal.Clean(s, 64))
		}
		p.steps = append(p.steps, m[1])
		for index := range strings.SplitSeq(strings.Trim(m[2], "[]"), "][") {
			if n, err := strconv.Atoi(index); err == nil {
				p.steps = append(p.steps, n)
			}
		}
	}
	return p, nil
}

// in is what object holds there.
func (p path) in(object map[string]any) (any, bool) {
	var v any = object
	for _, step := range p.steps {
		switch s := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil, false
			}
			if v, ok = m[s]; !ok {
				return nil, false
			}
		case int:
			list, ok := v.([]any)
			if !ok || s >= len(list) {
				return nil, false
			}
			v = list[s]
		}
	}
	return v, true
}
