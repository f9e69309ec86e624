package contract

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// optional are the fields and attributes that a message may lack, as the ends
// of paths without the indexes of lists; those that begin with a slash are
// whole paths. Everything else that the samples hold must be
// missed by the schema when it is gone.
func optional() []string {
	return []string{
		"/traceparent",
		"target/namespace", "target/resource_version", "owner", "owner/namespace", "node", "metadata", "metadata/*",
		"cause/evidence", "cause/confidence", "guards/reason", "steps/detail", "undo/command",
		"/data/to", "/data/origin", "origin/correlationid", "origin/causationid", "origin/traceparent",
		"/data/until", "/data/headers", "headers/*", "/data/truncated",
		"approval.given.v1/data/reason", "control.changed.v1/data/reason",
	}
}

func mayLack(path string) bool {
	_, inMessage, _ := strings.Cut(path[1:], "/") // without the schema's name
	parent := path[:strings.LastIndexByte(path, '/')]
	return slices.ContainsFunc(optional(), func(o string) bool {
		if dir, ok := strings.CutSuffix(o, "/*"); ok {
			return strings.HasSuffix(parent, "/"+dir)
		}
		if o[0] == '/' {
			return "/"+inMessage == o
		}
		return strings.HasSuffix(path, "/"+o)
	})
}

func TestAMessageThatLacksAFieldFails(t *testing.T) {
	all := loadSchemas(t)
	seen := map[string]bool{}
	for _, s := range samples() {
		doc := parseJSON(t, s.marshal(t))
		walk("/"+s.schema(), doc, func(path string, parent map[string]any, key string) {
			old := parent[key]
			delete(parent, key)
			err := all[s.schema()].Validate(doc)
			parent[key] = old
			if may := mayLack(path); may != (err == nil) {
				t.Errorf("%s: without %s: %v, want it to fail: %t", s.name, path, err, !may)
			}
			seen[path] = true
		})
	}
	if len(seen) < 150 {
		t.Errorf("only %d fields were tried", len(seen))
	}
}

func TestAMessageWithAFieldOfAnotherShapeFails(t *testing.T) {
	all := loadSchemas(t)
	for _, s := range samples() {
		doc := parseJSON(t, s.marshal(t))
		walk("/"+s.schema(), doc, func(path string, parent map[string]any, key string) {
			old := parent[key]
			for _, wrong := range []any{map[string]any{"wrong": []any{true}}, []any{[]any{}}} {
				parent[key] = wrong
				if all[s.schema()].Validate(doc) == nil {
					t.Errorf("%s: passes with %s = %v", s.name, path, wrong)
				}
			}
			parent[key] = old
		})
	}
}

func TestAMessageWithAWrongValueFails(t *testing.T) {
	all := loadSchemas(t)
	for _, test := range []struct {
		sample, path string
		value        any
	}{
		{"failure.detected.v1", "specversion", "2.0"},
		{"failure.detected.v1", "type", "dev.selfheal.failure.detected.v2"},
		{"failure.detected.v1", "id", "a b"},
		{"failure.detected.v1", "correlationid", ""},
		{"failure.detected.v1", "source", "watcher"},
		{"failure.detected.v1", "subject", "checkout"},
		{"failure.detected.v1", "time", "noon"},
		{"failure.detected.v1", "datacontenttype", "text/plain"},
		{"failure.detected.v1", "severitytext", "HIGH"},
		{"failure.detected.v1", "traceparent", "00-1-2-3"},
		{"failure.detected.v1", "Extension", "x"},
		{"failure.detected.v1", "extension", []any{}},
		{"failure.detected.v1", "data.type", "disk_failure"},
		{"failure.detected.v1", "data.severity", "grave"},
		{"failure.detected.v1", "data.reason", ""},
		{"failure.detected.v1", "data.timestamp", "2026-11-22T12:19:22Z"},
		{"failure.detected.v1", "data.occurrence", 0},
		{"failure.detected.v1", "data.first_seen", 1795349962.104},
		{"failure.detected.v1", "data.resolved_at", "2026-11-22T12:19:22Z"},
		{"failure.detected.v1", "data.evidence", nil},
		{"failure.detected.v1", "data.target.name", "Check_out"},
		{"failure.detected.v1", "data.target.kind", "pod"},
		{"failure.detected.v1", "data.target.namespace", "a.b"},
		{"failure.detected.v1", "data.target.uid", ""},
		{"failure.detected.v1", "data.metadata.exit_code", 1},
		{"decision.made.v1", "expirytime", "soon"},
		{"decision.made.v1", "data.strategy", "reboot"},
		{"decision.made.v1", "data.mode", "ACT"},
		{"decision.made.v1", "data.similar_failures", -1},
		{"decision.made.v1", "data.similar_failures", 1.5},
		{"decision.made.v1", "data.cause.kind", "gremlins"},
		{"decision.made.v1", "data.parameters", nil},
		{"decision.made.v1", "data.guards", nil},
		{"decision.made.v1", "data.failure", nil},
		{"decision.made.v1", "data.decision_id", "d.>"},
		{"decision.made.v1-node", "data.cause.confidence", 1.1},
		{"action.completed.v1", "data.outcome", "fine"},
		{"action.completed.v1", "data.duration_seconds", -1},
		{"action.completed.v1", "data.started_at", ""},
		{"action.completed.v1", "data.steps", nil},
		{"action.completed.v1", "data.dry_run", "no"},
		{"notification.requested.v1", "data.channel", "Slack.>"},
		{"approval.given.v1", "data.approved", "yes"},
		{"approval.given.v1", "data.by", ""},
		{"control.changed.v1", "data.verb", "stop"},
		{"message.dead.v1", "data.stage", "a.b"},
		{"message.dead.v1", "data.reason", "Tired"},
		{"message.dead.v1", "data.body", "{}"},
		{"message.dead.v1", "data.sequence", -1},
	} {
		t.Run(fmt.Sprintf("%s %s %v", test.sample, test.path, test.value), func(t *testing.T) {
			i := slices.IndexFunc(samples(), func(s sample) bool { return s.name == test.sample })
			s := samples()[i]
			doc := parseJSON(t, s.marshal(t))
			keys := strings.Split(test.path, ".")
			at, _ := doc.(map[string]any)
			for _, key := range keys[:len(keys)-1] {
				at, _ = at[key].(map[string]any)
			}
			at[keys[len(keys)-1]] = test.value
			if all[s.schema()].Validate(doc) == nil {
				t.Error("passes")
			}
		})
	}
}

func TestAMessageOfALaterMinorVersionPasses(t *testing.T) {
	all := loadSchemas(t)
	for _, s := range samples() {
		doc := parseJSON(t, s.marshal(t))
		event, _ := doc.(map[string]any)
		event["dataschema"] = "https://selfheal.dev/schemas/v1/" + s.schema() + ".json"
		event["sequence"] = "7"
		var objects []map[string]any
		walk("/"+s.schema(), event["data"], func(path string, parent map[string]any, _ string) {
			dir := path[:strings.LastIndexByte(path, '/')]
			if !slices.ContainsFunc([]string{"/metadata", "/headers", "/parameters"}, func(m string) bool { return strings.HasSuffix(dir, m) }) {
				objects = append(objects, parent)
			}
		})
		for _, o := range objects {
			o["mood"] = map[string]any{"new": true}
		}
		if err := all[s.schema()].Validate(doc); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

// walk calls visit for every field of every object in v, in order.
func walk(path string, v any, visit func(path string, parent map[string]any, key string)) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			walk(path+"/"+key, v[key], visit)
			visit(path+"/"+key, v, key)
		}
	case []any:
		for _, item := range v {
			walk(path, item, visit)
		}
	}
}

func TestWalkVisitsEveryFieldInsideListsToo(t *testing.T) {
	var got []string
	walk("", parseJSON(t, []byte(`{"b":[{"c":1},{"c":{"d":2}}],"a":null}`)), func(path string, _ map[string]any, _ string) { got = append(got, path) })
	if diff := cmp.Diff([]string{"/a", "/b/c", "/b/c/d", "/b/c", "/b"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
