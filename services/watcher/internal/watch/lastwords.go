package watch

import (
	"regexp"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// lastWords is what a container left as its termination message, or the last
// lines of its log where it is told to: what tells best why it ends. Programs
// write anything there, connection strings with passwords among it, so that
// what looks like a secret is masked, before anything is cut off. Of a long
// text both ends stay: the one says what, the other at what it came to an end.
func lastWords(message string) string {
	if message == "" {
		return ""
	}
	message = heal.Clean(message, maxLastWords)
	for _, s := range secrets {
		message = s.form.ReplaceAllString(message, s.with)
	}
	if len(message) <= heal.MaxText {
		return message
	}
	const head, gap = 80, " … "
	tail := message[len(message)-(heal.MaxText-head-len(gap)):]
	return strings.ToValidUTF8(message[:head], "") + gap + strings.ToValidUTF8(tail, "")
}

// maxLastWords is what Kubernetes keeps of a termination message.
const maxLastWords = 4 << 10

const masked = "***"

// secrets are the forms in which secrets are written.
var secrets = []struct {
	form *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), masked},
	{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@]+@`), "${1}" + masked + "@"}, // user and password of a URL
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "${1} " + masked},
	{regexp.MustCompile(`(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|auth(?:orization)?|(?:api|access|private|secret|signing|encryption)[ _-]?key)[A-Za-z0-9_-]*["']?\s*[:=]\s*)("[^"]*"?|'[^']*'?|[^\s,;&]+)`), "${1}" + masked},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), masked},                                        // a JSON web token
	{regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\b(?:gh[opusr]|glpat|xox[abprs]|sk|rk)[_-][A-Za-z0-9_-]{16,}`), masked}, // keys of well-known services
	{regexp.MustCompile(`[A-Za-z0-9+_]{41,}={0,2}`), masked},                                                                   // longer than any name or digest of a commit
}
