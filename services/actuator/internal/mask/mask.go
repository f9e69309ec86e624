// Package mask takes out of texts and objects what might be a secret. It is
// pure. It rather takes too much: what is kept is for people who look why
// something failed, not for machines.
package mask

import (
	"regexp"
	"strings"
)

const hidden = "***"

// texts are what secrets look like, and what is left of them.
var texts = []struct {
	form *regexp.Regexp
	left string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), hidden},
	{regexp.MustCompile(`://[^\s/@:]+:[^\s/@]+@`), "://" + hidden + "@"},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}`), "$1 " + hidden},
	{regexp.MustCompile(`(?i)([A-Za-z0-9_.-]*(?:password|passwd|pwd|passphrase|secret|token|credential|authorization|api[_-]?key|access[_-]?key|private[_-]?key)[A-Za-z0-9_.-]*["']?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,;&"']+)`), "$1" + hidden},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]*)?`), hidden},
	{regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`), hidden},
	{regexp.MustCompile(`\b(gh[pousr]_|glpat-|xox[abprs]-|sk-|SU[A-Z2-7]{20})[A-Za-z0-9_-]{8,}`), hidden},
	{regexp.MustCompile(`[A-Za-z0-9+/_=-]{40,}`), hidden},
}

// Text is s without what looks like a secret.
func Text(s string) string {
	for _, t := range texts {
		s = t.form.ReplaceAllString(s, t.left)
	}
	return s
}

// values are the fields of which only the presence is kept, wherever they are:
// what a program is told may hold anything.
var values = map[string]bool{"command": true, "args": true, "data": true, "stringData": true, "binaryData": true}

// Object takes out of an object, as JSON decodes it, what might be a secret:
// the values of environment variables, what programs are told, and notes of
// other tools, which hold all of it once more. It changes v, and returns it.
func Object(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "managedFields")
		for key, field := range v {
			switch list, isList := field.([]any); {
			case values[key] && field != nil:
				v[key] = hidden
			case key == "env" && isList:
				v[key] = env(list)
			case key == "annotations":
				v[key] = annotations(field)
			default:
				v[key] = Object(field)
			}
		}
	case []any:
		for i := range v {
			v[i] = Object(v[i])
		}
	case string:
		return short(v)
	}
	return v
}

// short masks texts that are written by people or programs; names and digests
// are needed as they are.
func short(s string) string {
	if !strings.ContainsAny(s, " \n=") {
		return texts[1].form.ReplaceAllString(s, texts[1].left)
	}
	return Text(s)
}

func env(list []any) []any {
	for _, e := range list {
		if variable, ok := e.(map[string]any); ok {
			if _, has := variable["value"]; has {
				variable["value"] = hidden
			}
		}
	}
	return list
}

// annotations keeps those of Kubernetes and ours, but what kubectl applied.
func annotations(v any) any {
	all, _ := v.(map[string]any)
	for key, value := range all {
		text, _ := value.(string)
		ours := strings.Contains(key, "selfheal.dev/")
		if strings.HasPrefix(key, "kubectl.kubernetes.io/last-applied") || len(text) > 256 && !ours {
			all[key] = hidden
			continue
		}
		all[key] = Text(text)
	}
	return v
}
