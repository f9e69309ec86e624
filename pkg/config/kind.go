package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sign"
)

// A kind knows how the text of a setting becomes the field it is bound to.
type kind struct {
	set    func(text string) []problem // sets the field, or says all that is wrong and leaves it
	text   func() string               // the field as text; of a secret too, so not for printing
	want   string                      // what is accepted, for --help
	values []string                    // the closed list, if there is one
	secret bool
	flag   bool // may stand on the command line without a value
	list   bool // may be a list in YAML
}

// A problem is one thing wrong with a value; at is "[1]" for an element of a list.
type problem struct{ at, text string }

// wrong makes the usual problem. The value may be anything, so it is cut and
// cleaned before it is shown.
func wrong(want, got string) []problem {
	return []problem{{text: fmt.Sprintf("want %s, got %q", want, heal.Clean(got, 64))}}
}

var digits = regexp.MustCompile(`^[0-9]{1,18}$`)

func duration(p *time.Duration, least, most time.Duration) kind {
	want := fmt.Sprintf("a duration from %s to %s, in seconds (30) or with units (1m30s)", short(least), short(most))
	return kind{want: want, text: func() string { return short(*p) }, set: func(text string) []problem {
		d, err := time.ParseDuration(text)
		if digits.MatchString(text) {
			// Compared as a count of seconds first: the product could overflow.
			n, _ := strconv.ParseInt(text, 10, 64)
			d, err = time.Duration(min(n, int64(most/time.Second)+1))*time.Second, nil
		}
		if err != nil || d < least || d > most {
			return wrong(want, text)
		}
		*p = d
		return nil
	}}
}

// short is d without the zero units of its String: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func number(p *int, least, most int) kind {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	return kind{want: want, text: func() string { return strconv.Itoa(*p) }, set: func(text string) []problem {
		n, err := strconv.Atoi(text)
		if err != nil || !digits.MatchString(text) || n < least || n > most {
			found := wrong(want, text)
			if strings.HasPrefix(text, "tcp://") {
				found[0].text += "; that is Kubernetes' link to a service of this name: set enableServiceLinks: false for the pod"
			}
			return found
		}
		*p = n
		return nil
	}}
}

func boolean(p *bool) kind {
	values := []string{"true", "false", "yes", "no", "1", "0"}
	const want = "true or false (or yes, no, 1, 0)"
	return kind{want: want, flag: true, text: func() string { return strconv.FormatBool(*p) }, set: func(text string) []problem {
		switch strings.ToLower(text) {
		case "true", "yes", "1":
			*p = true
		case "false", "no", "0":
			*p = false
		default:
			found := wrong(want, text)
			found[0].text += didYouMean(text, values)
			return found
		}
		return nil
	}}
}

func oneOf(p *string, values ...string) kind {
	want := "one of " + strings.Join(values, ", ")
	return kind{want: want, values: values, text: func() string { return *p }, set: func(text string) []problem {
		if !slices.Contains(values, text) {
			found := wrong(want, text)
			found[0].text += didYouMean(text, values)
			return found
		}
		*p = text
		return nil
	}}
}

// matching makes a kind of text that good says nothing against.
func matching(p *string, want string, good func(text string) bool) kind {
	return kind{want: want, text: func() string { return *p }, set: func(text string) []problem {
		if !good(text) {
			return wrong(want, text)
		}
		*p = text
		return nil
	}}
}

// oneLine reports whether text holds no line breaks or other control characters.
func oneLine(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' })
}

func line(p *string) kind {
	return matching(p, "one line of at most 256 bytes", func(text string) bool { return oneLine(text) && len(text) <= 256 })
}

func path(p *string) kind {
	return matching(p, "the path of a file", func(text string) bool { return oneLine(text) && len(text) <= 4096 })
}

func cluster(p *string) kind {
	return matching(p, "a DNS-1123 name of at most 63 characters (a-z, 0-9, - and .)", func(text string) bool {
		return heal.ValidClusterName(text) == nil
	})
}

var slackName = regexp.MustCompile(`^(#[^\s#,@<>&]{1,80}|[CG][A-Z0-9]{8,20})$`)

var slackUser = regexp.MustCompile(`^[UW][A-Z0-9]{5,20}$`)

func slackUsers(p *[]string) kind {
	return commaList(p, "Slack user ids", func(id string) string {
		if !slackUser.MatchString(id) {
			return "is not the id of a Slack user such as U012AB3CD (their profile has it; a name can be changed by its bearer)"
		}
		return ""
	})
}

func slackChannel(p *string) kind {
	return matching(p, `a Slack channel such as "#incidents", or its id`, slackName.MatchString)
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?$`)

func hostName(p *string) kind {
	return matching(p, "a host name or address without a port (that is email_smtp_port)", func(text string) bool {
		return text == "" || hostForm.MatchString(text) || net.ParseIP(text) != nil
	})
}

func listenAddr(p *string) kind {
	return matching(p, "an address to listen on such as :8080 or 127.0.0.1:8080, or nothing", func(text string) bool {
		if text == "" {
			return true
		}
		host, port, err := net.SplitHostPort(text)
		n, portErr := strconv.Atoi(port)
		return err == nil && portErr == nil && digits.MatchString(port) && n <= 65535 &&
			(host == "" || hostForm.MatchString(host) || net.ParseIP(host) != nil)
	})
}

func address(p *string) kind {
	return matching(p, "one e-mail address", func(text string) bool { return text == "" || badAddress(text) == "" })
}

// badAddress says what is wrong with an e-mail address, or nothing.
func badAddress(text string) string {
	if !oneLine(text) {
		return "contains a line break" // it could end a header and begin another
	}
	if _, err := mail.ParseAddress(text); err != nil {
		return "is not an e-mail address"
	}
	return ""
}

func addresses(p *[]string) kind {
	return commaList(p, "e-mail addresses", badAddress)
}

func namespaces(p *[]string) kind {
	return commaList(p, "namespaces", func(name string) string {
		if !dnsLabel.MatchString(name) {
			return "is not the name of a namespace (a-z, 0-9 and -, at most 63)"
		}
		return ""
	})
}

// commaList is a list of what bad finds nothing wrong with. An empty element,
// as in "a,,b", is one like any other.
func commaList(p *[]string, of string, bad func(element string) string) kind {
	return kind{want: "a comma list of " + of, list: true,
		text: func() string { return strings.Join(*p, ",") },
		set: func(text string) []problem {
			var all []string
			var found []problem
			if text != "" {
				all = strings.Split(text, ",")
			}
			for i, element := range all {
				all[i] = strings.Trim(element, " \t")
				if wrong := bad(all[i]); wrong != "" {
					found = append(found, problem{fmt.Sprintf("[%d]", i), fmt.Sprintf("%q %s", heal.Clean(element, 64), wrong)})
				}
			}
			if found == nil {
				*p = all
			}
			return found
		}}
}

// dnsLabel is what Kubernetes takes as a namespace's name (RFC 1123).
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func natsURLs(p *string) kind {
	return kind{want: "nats:// or tls:// with a host, or a comma list of such", list: true,
		text: func() string { return *p },
		set: func(text string) []problem {
			parts := strings.Split(text, ",")
			var found []problem
			for i, part := range parts {
				parts[i] = strings.TrimSpace(part)
				if text := badNATSURL(parts[i]); text != "" {
					at := ""
					if len(parts) > 1 {
						at = fmt.Sprintf("[%d]", i)
					}
					found = append(found, problem{at, text})
				}
			}
			if found == nil {
				*p = strings.Join(parts, ",")
			}
			return found
		}}
}

// badNATSURL says what is wrong with one NATS URL, or nothing. It never shows
// a URL with an @ in it: what is before may be a password.
func badNATSURL(text string) string {
	if strings.Contains(text, "@") {
		return "must not contain credentials; use nats_nkey or nats_creds"
	}
	const want = "nats:// or tls:// with a host"
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls"}, u.Scheme) {
		hint := ""
		if _, _, err := net.SplitHostPort(text); err == nil {
			hint = fmt.Sprintf(`; did you mean "nats://%s"?`, heal.Clean(text, 64))
		}
		return wrong(want, text)[0].text + hint
	}
	if u.Hostname() == "" || !goodPort(u.Port()) || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Host, ":") {
		return wrong(want+" and a port from 1 to 65535", text)[0].text
	}
	return ""
}

func goodPort(port string) bool {
	n, err := strconv.Atoi(port)
	return port == "" || err == nil && n >= 1 && n <= 65535
}

// badURL says what is wrong with a URL that we send to, without showing any
// of it, or nothing.
func badURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || !oneLine(text) || u.Hostname() == "" || !goodPort(u.Port()) || (u.Scheme != "https" && u.Scheme != "http"):
		return "want a URL with https:// and a host"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "want https://; http:// is only for a loopback host"
	}
	return ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// publicURL is a URL that is no secret; with slash it is made to end in one.
func publicURL(p *string, slash bool) kind {
	const want = "a URL with https:// (http:// only to a loopback host)"
	return kind{want: want, text: func() string { return *p }, set: func(text string) []problem {
		u, err := url.Parse(text)
		if err == nil && u.User != nil {
			return []problem{{text: "must not contain credentials"}}
		}
		if bad := badURL(text); bad != "" {
			if strings.Contains(text, "@") { // perhaps credentials that did not parse
				return []problem{{text: bad}}
			}
			return []problem{{text: fmt.Sprintf("%s, got %q", bad, heal.Clean(text, 64))}}
		}
		*p = text
		if slash && !strings.HasSuffix(text, "/") {
			*p += "/"
		}
		return nil
	}}
}

// serviceHost is the name of a Service, as the cluster's DNS has it.
var serviceHost = regexp.MustCompile(`^[a-z0-9-]+\.[a-z0-9-]+\.svc(\.[a-z0-9.-]+)?$`)

// serviceURL is the URL of a service that perhaps runs in the cluster, where
// few have a certificate; or nothing. It is no secret.
func serviceURL(p *string) kind {
	const want = "https://, or http:// to a loopback host or to name.namespace.svc"
	return kind{want: "a URL with " + want, text: func() string { return *p }, set: func(text string) []problem {
		u, err := url.Parse(text)
		inside := err == nil && u.Scheme == "http" && serviceHost.MatchString(u.Hostname()) && goodPort(u.Port())
		switch {
		case err == nil && u.User != nil:
			return []problem{{text: "must not contain credentials"}}
		case text == "" || inside || badURL(text) == "":
			*p = text
			return nil
		case strings.Contains(text, "@"): // perhaps credentials that did not parse
			return []problem{{text: "want " + want}}
		}
		return wrong(want, text)
	}}
}

func secretURL(p *Secret) kind {
	const want = "a URL with https:// (http:// only to a loopback host)"
	return kind{want: want, secret: true, text: func() string { return p.Reveal() }, set: func(text string) []problem {
		if bad := badURL(text); text != "" && bad != "" {
			return []problem{{text: bad + " (the value is a secret and not shown)"}}
		}
		*p = Secret(text)
		return nil
	}}
}

func secretText(p *Secret) kind {
	return kind{want: "one line", secret: true, text: func() string { return p.Reveal() }, set: func(text string) []problem {
		if !oneLine(text) {
			return []problem{{text: "contains a line break or a control character (the value is a secret and not shown)"}}
		}
		*p = Secret(text)
		return nil
	}}
}

// nkeyFile is the path of a file with a user's seed. What is wrong with the
// file is said here and now, not when the server refuses us for ever.
func nkeyFile(p *string) kind {
	return keyFile(p, "the path of a file with a user's nkey seed (SU…)", func(data string) string {
		key := strings.TrimSpace(data)
		switch {
		case strings.HasPrefix(key, "SU"):
			return ""
		case strings.HasPrefix(key, "U"):
			return "is a public key (U…); need the seed (SU…)"
		case len(key) > 2 && key[0] == 'S':
			return fmt.Sprintf("is the seed of another kind of key (%s…); need a user's (SU…)", heal.Clean(key[:2], 2))
		}
		return "holds no nkey seed (SU…)"
	})
}

// credsFile is the path of a file with a user's JWT and seed.
func credsFile(p *string) kind {
	return keyFile(p, "the path of a file with a NATS user's credentials", func(data string) string {
		for _, part := range []string{"BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"} {
			if !strings.Contains(data, part) {
				return fmt.Sprintf("holds no %q; need the file that `nsc generate creds` writes", part)
			}
		}
		return ""
	})
}

// signingKeyFile is the path of a file with a private key.
func signingKeyFile(p *string) kind {
	return keyFile(p, "the path of a file with a private ed25519 key in PEM", func(data string) string {
		if _, err := sign.ParsePrivate([]byte(data)); err != nil {
			return err.Error()
		}
		return ""
	})
}

// trustedKeysDir is the path of a folder with public keys.
func trustedKeysDir(p *string) kind {
	return kind{want: "the path of a folder with public ed25519 keys in PEM, *" + sign.Suffix, text: func() string { return *p }, set: func(text string) []problem {
		if text != "" {
			if _, err := sign.NewVerifier(text); err != nil {
				return []problem{{text: heal.Clean(err.Error(), 512)}}
			}
		}
		*p = text
		return nil
	}}
}

func keyFile(p *string, want string, bad func(data string) string) kind {
	return kind{want: want, text: func() string { return *p }, set: func(text string) []problem {
		if text == "" {
			*p = ""
			return nil
		}
		if found := badKeyFile(text, bad); found != "" {
			return []problem{{text: fmt.Sprintf("%q %s", heal.Clean(text, 256), found)}}
		}
		*p = text
		return nil
	}}
}

func badKeyFile(name string, bad func(data string) string) string {
	info, err := os.Stat(name)
	if err != nil {
		return "cannot be read: " + reason(err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Sprintf("has mode %#o and so can be read by others; want 0400", mode)
	}
	data, err := readFile(name)
	if err != nil {
		return "cannot be read: " + reason(err)
	}
	return bad(string(data))
}
