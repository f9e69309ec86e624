package contract

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/heal"
)

const asyncapiFile = "../../api/asyncapi.yaml"

// A reference is all of a Reference Object
// (https://www.asyncapi.com/docs/reference/specification/v3.0.0#referenceObject).
type reference struct {
	Ref string `json:"$ref"`
}

// An asyncapi is what is compared of the document.
type asyncapi struct {
	Channels map[string]struct {
		Address    string
		Parameters map[string]json.RawMessage
		Messages   map[string]reference
	}
	Operations map[string]struct {
		Channel reference
	}
	Components struct {
		Parameters map[string]struct{ Enum []string }
		Messages   map[string]struct {
			Name    string
			Payload struct{ Schema reference }
		}
	}
}

func readAsyncAPI(t *testing.T) asyncapi {
	t.Helper()
	data, err := os.ReadFile(asyncapiFile)
	if err != nil {
		t.Fatal(err)
	}
	var doc asyncapi
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%s: %v", asyncapiFile, err)
	}
	return doc
}

// pattern is an address as a regular expression, one token for each parameter.
func pattern(address string) *regexp.Regexp {
	parameter := regexp.MustCompile(`\\\{[a-z_]+\\\}`)
	return regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(address), "[^.]+") + "$")
}

func TestEveryMessageIsOnOneChannelOfTheAsyncAPIDocument(t *testing.T) {
	doc := readAsyncAPI(t)
	seen := map[string]bool{}
	for _, s := range samples() {
		var on []string
		for name, channel := range doc.Channels {
			if !pattern(channel.Address).MatchString(s.subject) {
				continue
			}
			for _, m := range channel.Messages {
				message := doc.Components.Messages[strings.TrimPrefix(m.Ref, "#/components/messages/")]
				if message.Name == heal.TypePrefix+s.schema() {
					on, seen[message.Name] = append(on, name), true
				}
			}
		}
		if len(on) != 1 {
			t.Errorf("%s on %s is on the channels %v, want one", s.name, s.subject, on)
		}
	}
	for _, m := range doc.Components.Messages {
		if strings.HasPrefix(m.Name, heal.TypePrefix) && !seen[m.Name] {
			t.Errorf("%s: no message is such", m.Name)
		}
	}
}

func TestTheAsyncAPIDocumentRefersToWhatExists(t *testing.T) {
	doc := readAsyncAPI(t)
	for name, m := range doc.Components.Messages {
		file := filepath.Join(filepath.Dir(asyncapiFile), m.Payload.Schema.Ref)
		if want := "schemas/" + strings.TrimPrefix(m.Name, heal.TypePrefix) + ".json"; m.Payload.Schema.Ref != want {
			t.Errorf("message %s: its schema is %q, want %q", name, m.Payload.Schema.Ref, want)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("message %s: %v", name, err)
		}
	}
	parameter := regexp.MustCompile(`\{([a-z_]+)\}`)
	for name, c := range doc.Channels {
		var want []string
		for _, m := range parameter.FindAllStringSubmatch(c.Address, -1) {
			want = append(want, m[1])
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(c.Parameters))); diff != "" {
			t.Errorf("channel %s: parameters of %s (-address +declared):\n%s", name, c.Address, diff)
		}
	}
	for name, o := range doc.Operations {
		if _, ok := doc.Channels[strings.TrimPrefix(o.Channel.Ref, "#/channels/")]; !ok {
			t.Errorf("operation %s: no channel %s", name, o.Channel.Ref)
		}
	}
}

func TestTheAsyncAPIDocumentKnowsEveryTokenOfASubject(t *testing.T) {
	have := readAsyncAPI(t).Components.Parameters
	for name, want := range map[string][]string{
		"type":     tokens(heal.FailureTypes),
		"severity": tokens(heal.Severities),
		"strategy": tokens(heal.Strategies),
		"outcome":  tokens(heal.Outcomes),
	} {
		if diff := cmp.Diff(want, have[name].Enum); diff != "" {
			t.Errorf("%s (-vocabulary +document):\n%s", name, diff)
		}
	}
}

func tokens[T ~string](all []T) []string {
	var texts []string
	for _, t := range all {
		texts = append(texts, string(t))
	}
	return texts
}
