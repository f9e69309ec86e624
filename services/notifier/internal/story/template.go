package story

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Keys of a notification's metadata: the words of the operator's templates.
const (
	MetadataHeadline = "headline"
	MetadataNote     = "note"
)

// Templates are the operator's own words for messages, in the language of Go's
// text/template with the fields of Words. What they make is text like any
// other: cleaned, bounded, and never markup.
type Templates struct {
	Headline string `json:"headline,omitempty"` // takes the place of the first line
	Note     string `json:"note,omitempty"`     // a part of its own, before all others
}

// Words is what a template may use. All of them are text, so there is no method
// to call, and what a message has not is empty.
type Words struct {
	Incident, Phase, Severity, Type, Reason, Description string
	Object, Namespace, Kind, Name, Node, Team            string // of the owner; Node is the failing object's
	Strategy, Mode, Cause, Outcome, Message              string
}

// maxTemplate is many times what of its words is shown.
const maxTemplate = 4096

// Check reports why the templates cannot be used. Each is tried on a message
// with nothing in it and on one with everything.
func (t Templates) Check() error {
	var errs []error
	for name, text := range map[string]string{"headline": t.Headline, "note": t.Note} {
		parsed, err := compile(name, text)
		for _, w := range []Words{{}, {
			"i-1", "acting", "high", "pod_failure", "CrashLoopBackOff", "it crashes", "shop/Deployment/checkout", "shop", "Deployment", "checkout",
			"n1", "payments", "recreate", "auto", "rollout", "succeeded", "it is Ready",
		}} {
			if err == nil {
				_, err = run(parsed, w)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("templates.%s: %s", name, heal.Clean(err.Error(), 512)))
		}
	}
	return errors.Join(errs...)
}

// compile refuses what need not end, and what is not the template's own text.
func compile(name, text string) (*template.Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("has %d bytes; want at most %d", len(text), maxTemplate)
	}
	t, err := template.New(name).Funcs(template.FuncMap{"upper": strings.ToUpper, "lower": strings.ToLower}).Parse(text)
	if err != nil {
		return nil, err
	}
	if t.Tree == nil || t.Root == nil { // empty
		return t, nil
	}
	return t, terminates(t.Root)
}

// terminates refuses loops and templates in templates. What is left takes each
// step once.
func terminates(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			if err := terminates(child); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return errors.Join(terminates(n.List), terminates(n.ElseList))
	case *parse.WithNode:
		return errors.Join(terminates(n.List), terminates(n.ElseList))
	case *parse.RangeNode:
		return errors.New("{{range}} is not for messages; want {{.Field}}, {{if}} and {{with}}")
	case *parse.TemplateNode:
		return errors.New("{{template}} and {{block}} are not for messages; want {{.Field}}, {{if}} and {{with}}")
	}
	return nil
}

func run(t *template.Template, w Words) (string, error) {
	if t.Tree == nil {
		return "", nil
	}
	var b strings.Builder
	err := t.Execute(&b, w)
	return strings.TrimSpace(b.String()), err
}

// For is the notification's metadata with the words of the templates. One that
// cannot be carried out leaves the words that there would be without it.
func (t Templates) For(n heal.Notification) map[string]string {
	if t == (Templates{}) || n.Digest != nil {
		return n.Metadata
	}
	all := maps.Clone(n.Metadata)
	if all == nil {
		all = map[string]string{}
	}
	for key, text := range map[string]string{MetadataHeadline: t.Headline, MetadataNote: t.Note} {
		parsed, err := compile(key, text)
		if err != nil {
			continue
		}
		if said, err := run(parsed, wordsOf(n)); err == nil && said != "" {
			all[key] = clip(said, maxTemplate)
		}
	}
	return all
}

func wordsOf(n heal.Notification) Words {
	d := n.About()
	f := d.Failure
	if n.Failure != nil {
		f = *n.Failure
	}
	o := f.Affected()
	return Words{
		Incident: n.Conversation(), Phase: string(n.Phase), Severity: string(n.Severity), Type: string(f.Type), Reason: f.Reason, Description: f.Description,
		Object: o.String(), Namespace: o.Namespace, Kind: o.Kind, Name: o.Name, Node: f.Node, Team: f.Metadata[heal.MetadataTeam],
		Strategy: string(d.Strategy), Mode: string(d.Mode), Cause: string(d.Cause.Kind), Outcome: string(n.Result.Outcome), Message: n.Result.Message,
	}
}

// clip cuts text at a rune, and keeps its lines.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}

// worded is s in the operator's words, where there are any.
func (s Story) worded(metadata map[string]string) Story {
	if text := metadata[MetadataHeadline]; text != "" {
		s.Headline = heal.Clean(text, maxHeadline)
	}
	if text := metadata[MetadataNote]; text != "" {
		s.Chapters = append([]Chapter{{"Note", bound(strings.Split(text, "\n"))}}, s.Chapters...)
	}
	return s
}
