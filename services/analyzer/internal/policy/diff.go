package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Change is a field of which two policies say different things. What one of
// them does not have is empty.
type Change struct {
	Field  string `json:"field"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// String is the change in one line.
func (c Change) String() string {
	switch {
	case c.Before == "":
		return fmt.Sprintf("+ %s: %s", c.Field, c.After)
	case c.After == "":
		return fmt.Sprintf("- %s: %s", c.Field, c.Before)
	}
	return fmt.Sprintf("~ %s: %s -> %s", c.Field, c.Before, c.After)
}

// Diff is what b says otherwise than a, tables and limits first. Rules are
// compared by their names, and their order as one field.
func Diff(a, b Policy) []Change {
	before, after := a.fields(), b.fields()
	for name := range after {
		if _, both := before[name]; !both {
			before[name] = ""
		}
	}
	var changes []Change
	for _, name := range slices.SortedFunc(maps.Keys(before), func(x, y string) int {
		if rx, ry := strings.HasPrefix(x, "rule"), strings.HasPrefix(y, "rule"); rx != ry {
			if ry {
				return -1
			}
			return 1
		}
		return strings.Compare(x, y)
	}) {
		if before[name] != after[name] {
			changes = append(changes, Change{name, before[name], after[name]})
		}
	}
	return changes
}

// fields is every field of the policy, by its path.
func (p Policy) fields() map[string]string {
	doc := p.doc
	doc.Rules = nil
	all := map[string]string{}
	flatten(all, "", parsed(doc))
	var order []string
	for _, r := range p.doc.Rules {
		order = append(order, fmt.Sprintf("%q", r.Name))
		name := r.Name
		r.Name = ""
		fields := map[string]string{}
		flatten(fields, "", parsed(r))
		delete(fields, "name")
		for field, value := range fields {
			all[fmt.Sprintf("rule %q.%s", name, field)] = value
		}
	}
	if len(order) > 0 {
		all["rules"] = strings.Join(order, ", ")
	}
	return all
}

// parsed is v as its JSON says. Both come from documents that were read, so
// neither can fail.
func parsed(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		return err.Error()
	}
	return out
}

func flatten(into map[string]string, path string, v any) {
	if text, ok := v.(string); ok {
		into[path] = text
		return
	}
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(err.Error())
		}
		into[path] = string(text)
		return
	}
	for key, value := range m {
		if path != "" {
			key = path + "." + key
		}
		flatten(into, key, value)
	}
}
