package story_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/services/notifier/internal/sample"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

func TestTheOperatorsWordsTakeThePlaceOfOurs(t *testing.T) {
	n := sample.Notification("slack", "#incidents", sample.Healed())
	plain := story.Of(n)
	n.Metadata = story.Templates{
		Headline: "{{upper .Severity}} {{.Object}} {{.Outcome}}",
		Note:     "{{with .Team}}{{.}} owns it{{else}}nobody owns it{{end}}\ncall extension 7",
	}.For(n)
	got := story.Of(n)
	if want := "HIGH shop/Deployment/checkout succeeded"; got.Headline != want {
		t.Errorf("headline %q, want %q", got.Headline, want)
	}
	if diff := cmp.Diff(story.Chapter{Title: "Note", Lines: []string{"nobody owns it", "call extension 7"}}, got.Chapters[0]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(plain.Chapters, got.Chapters[1:]); diff != "" {
		t.Errorf("the rest is another:\n%s", diff)
	}
}

func TestForeignTextInATemplateIsCleanAndBounded(t *testing.T) {
	r := sample.Healed()
	r.Message = "\x1b[31m\u202e{{.Incident}}" + strings.Repeat("x", 9000)
	n := sample.Notification("slack", "#incidents", r)
	n.Metadata = story.Templates{Headline: "{{.Message}}", Note: "{{.Message}}"}.For(n)
	s := story.Of(n)
	for _, text := range []string{s.Headline, s.Chapters[0].Lines[0]} {
		if len(text) > 256 || strings.ContainsAny(text, "\x1b\u202e") || !strings.Contains(text, "{{.Incident}}") {
			t.Errorf("got %q", text)
		}
	}
}

func TestTemplatesThatCannotWorkAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "",
		"{{.Object}} {{if .Team}}x{{end}}":      "",
		"{{.Objekt}}":                           "can't evaluate field Objekt",
		"{{.Object":                             "unclosed action",
		"{{env \"HOME\"}}":                      `function "env" not defined`,
		"{{range 1000000000000}}{{end}}":        "{{range}} is not for messages",
		"{{if .Team}}{{range 9}}{{end}}{{end}}": "{{range}} is not for messages",
		`{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`: "{{template}} and {{block}} are not for messages",
		"{{index .Object 99}}":    "out of range",
		strings.Repeat("x", 5000): "has 5000 bytes; want at most 4096",
	} {
		err := story.Templates{Note: text}.Check()
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), "templates.note: ") || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
