// Package contract holds the messages to their promises: what pkg/heal writes
// is what api/schemas describes and what the contract shows, byte for byte
// from one version to the next.
package contract

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/selfheal/selfheal/pkg/heal"
)

const schemaDir = "../../api/schemas"

// A schemas is every schema, by its file's name without ".json": a CloudEvents
// type without its prefix, or "cloudevents".
type schemas map[string]*jsonschema.Schema

func loadSchemas(t testing.TB) schemas {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("schemas in %s: %v, %v", schemaDir, files, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.AssertContent()
	urls := map[string]string{}
	for _, file := range files {
		doc, ok := readJSON(t, file).(map[string]any)
		if !ok {
			t.Fatalf("%s: not an object", file)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		url, _ := doc["$id"].(string)
		if want := "https://selfheal.dev/schemas/v1/" + name + ".json"; url != want {
			t.Fatalf("%s: $id is %q, want %q", file, url, want)
		}
		if err := c.AddResource(url, doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		urls[name] = url
	}
	all := schemas{}
	for name, url := range urls {
		s, err := c.Compile(url)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = s
	}
	return all
}

// of returns the schema of a CloudEvents type.
func (s schemas) of(t testing.TB, eventType string) *jsonschema.Schema {
	t.Helper()
	schema := s[strings.TrimPrefix(eventType, heal.TypePrefix)]
	if schema == nil {
		t.Fatalf("no schema for %s in %s", eventType, schemaDir)
	}
	return schema
}

func readJSON(t testing.TB, file string) any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseJSON(t, data)
}

func parseJSON(t testing.TB, data []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

func TestEveryMessageTypeHasOneSchema(t *testing.T) {
	all := loadSchemas(t)
	want := []string{"cloudevents", "common", "inquiry.v1", "insight.v1", "policy.v1"}
	for _, eventType := range []string{
		heal.TypeFailureDetected, heal.TypeFailureResolved, heal.TypeDecisionMade, heal.TypeActionCompleted,
		heal.TypeNotificationRequested, heal.TypeApprovalGiven, heal.TypeControlChanged, heal.TypeMessageDead,
	} {
		want = append(want, strings.TrimPrefix(eventType, heal.TypePrefix))
	}
	var got []string
	for name := range all {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("schemas (-want +got):\n%s", diff)
	}
}

func TestTheSchemasKnowTheSameWordsAsTheCode(t *testing.T) {
	common, _ := readJSON(t, filepath.Join(schemaDir, "common.json")).(map[string]any)
	enum := func(path ...string) []string {
		v := common["$defs"]
		for _, key := range append(path, "enum") {
			m, _ := v.(map[string]any)
			v = m[key]
		}
		list, _ := v.([]any)
		var words []string
		for _, w := range list {
			text, _ := w.(string)
			words = append(words, text)
		}
		return words
	}
	for _, test := range []struct {
		name      string
		got, want []string
	}{
		{"failure_type", enum("failure_type"), text(heal.FailureTypes)},
		{"severity", enum("severity"), text(heal.Severities)},
		{"strategy", enum("strategy"), text(heal.Strategies)},
		{"mode", enum("mode"), text(heal.Modes)},
		{"outcome", enum("outcome"), text(heal.Outcomes)},
		{"cause", enum("cause", "properties", "kind"), text(heal.CauseKinds)},
		{"step status", enum("step", "properties", "status"), []string{heal.StepOK, heal.StepFailed, heal.StepSkipped}},
		{"verb", enum("control", "properties", "verb"), heal.Controls},
		{"dead letter's reason", enum("dead_letter", "properties", "reason"), heal.DeadReasons},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s (-code +schema):\n%s", test.name, diff)
		}
	}
}

func text[T ~string](words []T) []string {
	var all []string
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}
