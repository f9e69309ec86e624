package policy

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/selfheal/selfheal/pkg/heal"
)

// lines knows where in a document its fields stand, so that an error can say.
type lines struct{ root *yaml.Node }

func linesOf(data []byte) lines {
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) == 0 {
		return lines{}
	}
	return lines{doc.Content[0]}
}

// unknown finds the keys that t has no field for.
func (l lines) unknown(t reflect.Type) error {
	if l.root == nil {
		return nil
	}
	return errors.Join(unknownKeys(l.root, t, t)...)
}

// unknownKeys looks in n, which is to become a t, as a part of a root.
func unknownKeys(n *yaml.Node, t, root reflect.Type) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var errs []error
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, item := range n.Content {
			errs = append(errs, unknownKeys(item, t.Elem(), root)...)
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for i := 1; i < len(n.Content); i += 2 {
			errs = append(errs, unknownKeys(n.Content[i], t.Elem(), root)...)
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct && t != reflect.TypeFor[Duration]():
		known := structFields(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			field, ok := known[key.Value]
			if !ok {
				names := make([]string, 0, len(known))
				for name := range known {
					names = append(names, name)
				}
				slices.Sort(names)
				hint := didYouMean(key.Value, names)
				if hint == "" {
					hint = didYouMean(key.Value, fields(root))
				}
				errs = append(errs, fmt.Errorf("unknown field %q (line %d)%s", heal.Clean(key.Value, 64), key.Line, hint))
				continue
			}
			errs = append(errs, unknownKeys(n.Content[i+1], field, root)...)
		}
	}
	return errs
}

// structFields are the fields of a struct by the names that they are written
// with, those of embedded ones among them.
func structFields(t reflect.Type) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			for inner, of := range structFields(f.Type) {
				all[inner] = of
			}
			continue
		}
		all[name] = f.Type
	}
	return all
}

var step = regexp.MustCompile(`[^.\[\]]+`)

// line is where the field of a path such as "rules[0].window.from" stands, or
// the last part of it that is there; 0 if none is.
func (l lines) line(path string) int {
	n, line := l.root, 0
	for _, name := range step.FindAllString(path, -1) {
		next := child(n, name)
		if next == nil {
			break
		}
		n, line = next, next.Line
	}
	return line
}

// of is " (line 12)" for the same; nothing if none is.
func (l lines) of(path string) string {
	if line := l.line(path); line != 0 {
		return fmt.Sprintf(" (line %d)", line)
	}
	return ""
}

func child(n *yaml.Node, name string) *yaml.Node {
	switch {
	case n == nil:
	case n.Kind == yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

// Locate adds to each error of a joined one the line of data's field that it is
// about. They begin with the field's path.
func Locate(data []byte, err error) error { return linesOf(data).locate(err) }

// locate adds to each error of a joined one the line of the field that it is
// about. They begin with the field's path.
func (l lines) locate(err error) error {
	if err == nil || l.root == nil {
		return err
	}
	var located []error
	for _, e := range flat(err) {
		path, _, _ := strings.Cut(e.Error(), ": ")
		located = append(located, fmt.Errorf("%w%s", e, l.of(path)))
	}
	return errors.Join(located...)
}

func flat(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // it is the joining that is taken apart
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flat(e)...)
	}
	return all
}
