package mask

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatLooksLikeASecretIsTakenOutOfATextAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"listening on :8080, 3 workers":                              "listening on :8080, 3 workers",
		"panic: connect db:5432: connection refused":                 "panic: connect db:5432: connection refused",
		"DB_PASSWORD=hunter2 starts":                                 "DB_PASSWORD=*** starts",
		`{"api_key": "abc def", "user": "ann"}`:                      `{"api_key": ***, "user": "ann"}`,
		"GET https://ann:pw@example.com/x":                           "GET https://***@example.com/x",
		"Authorization: Bearer abc.def-123":                          "Authorization: *** ***",
		"key AKIAABCDEFGHIJKLMNOP used":                              "key *** used",
		"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln":              "jwt ***",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n":                    "***",
		"session 0123456789abcdef0123456789abcdef0123456789 is gone": "session *** is gone",
	} {
		got := Text(in)
		if strings.Contains(in, "Bearer") { // either form will do
			if strings.Contains(got, "abc.def") {
				t.Errorf("%q: got %q", in, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestAnObjectKeepsNoValueThatAProgramIsGiven(t *testing.T) {
	const pod = `{"metadata":{"name":"web","managedFields":[{"x":"canary"}],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"canary","team":"a"}},
	 "spec":{"containers":[{"name":"app","image":"r/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	   "command":["run","canary"],"args":["--x=canary"],"env":[{"name":"A","value":"canary"},{"name":"B","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}]},
	 "status":{"message":"token=canary is wrong"}}`
	var v any
	if err := json.Unmarshal([]byte(pod), &v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(Object(v))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"***","team":"a"},"name":"web"},` +
		`"spec":{"containers":[{"args":"***","command":"***","env":[{"name":"A","value":"***"},{"name":"B","valueFrom":{"secretKeyRef":{"key":"k","name":"s"}}}],` +
		`"image":"r/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","name":"app"}]},"status":{"message":"token=*** is wrong"}}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
