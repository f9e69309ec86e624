package contract

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// checkDecoded holds Decode to its promise for any bytes: whatever decodes is
// a message of ours; written again it is as the schemas say, and reads back as
// the same. It reports whether data decoded.
func checkDecoded(t *testing.T, all schemas, s sample, data []byte) bool {
	t.Helper()
	event, err := s.decode(data)
	if err != nil {
		return false
	}
	again, err := json.Marshal(event)
	if err != nil {
		t.Errorf("%s decodes, but cannot be written: %v", data, err)
		return true
	}
	back, err := s.decode(again)
	if err != nil {
		t.Errorf("%s\nis written as %s\nand does not decode: %v", data, again, err)
		return true
	}
	// Empty and absent are the same where absent is allowed.
	if diff := cmp.Diff(event, back, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s reads back different:\n%s", again, diff)
	}
	doc := parseJSON(t, again)
	eventType, _ := doc.(map[string]any)["type"].(string) // a failure may have become a resolved one
	if err := all.of(t, eventType).Validate(doc); err != nil {
		t.Errorf("%s: %v", again, err)
	}
	if err := all["cloudevents"].Validate(doc); err != nil {
		t.Errorf("%s: %v", again, err)
	}
	return true
}

func FuzzDecode(f *testing.F) {
	all := loadSchemas(f)
	kinds := samples()
	for i, s := range kinds {
		f.Add(i, s.marshal(f))
	}
	f.Fuzz(func(t *testing.T, kind int, data []byte) {
		checkDecoded(t, all, kinds[uint(kind)%uint(len(kinds))], data)
	})
}

// change returns the sample with its nth field, counted around, replaced.
func change(t *testing.T, s sample, nth uint, value any) (path string, data []byte) {
	t.Helper()
	doc := parseJSON(t, s.marshal(t))
	fields := uint(0)
	walk("", doc, func(string, map[string]any, string) { fields++ })
	i := uint(0)
	walk("", doc, func(p string, parent map[string]any, key string) {
		if i == nth%fields {
			parent[key], path = value, p
		}
		i++
	})
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

func FuzzDecodeWithOneFieldChanged(f *testing.F) {
	all := loadSchemas(f)
	kinds := samples()
	for i := range kinds {
		f.Add(i, uint(7*i), []byte(`"x"`))
	}
	f.Fuzz(func(t *testing.T, kind int, field uint, value []byte) {
		if !json.Valid(value) {
			return
		}
		_, data := change(t, kinds[uint(kind)%uint(len(kinds))], field, json.RawMessage(value))
		checkDecoded(t, all, kinds[uint(kind)%uint(len(kinds))], data)
	})
}

func TestAwkwardValuesAreRefusedOrMadeWhole(t *testing.T) {
	all := loadSchemas(t)
	values := []any{
		nil, true, 0, -1, 1.5, 1e300, 1 << 53, "", "x", "\u202e\ufeff", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-23:59",
		"2026-11-22T12:19:22+02:00", []any{}, []any{nil}, map[string]any{}, map[string]any{"x": nil}, map[string]any{"x": []any{nil}},
	}
	decoded := 0
	for _, s := range samples() {
		if strings.Contains(s.name, "-") {
			continue // another of a type
		}
		fields := uint(0)
		walk("", parseJSON(t, s.marshal(t)), func(string, map[string]any, string) { fields++ })
		for n := range fields {
			for _, v := range values {
				path, data := change(t, s, n, v)
				if strings.HasPrefix(path, "/data/result/") || strings.HasPrefix(path, "/data/decision/") {
					break // tried where it is the outermost
				}
				if checkDecoded(t, all, s, data) {
					decoded++
				}
				if t.Failed() {
					t.Fatalf("that was %s with %s = %v", s.name, path, v)
				}
			}
		}
	}
	if decoded == 0 {
		t.Error("nothing decoded: the test proves nothing")
	}
}
