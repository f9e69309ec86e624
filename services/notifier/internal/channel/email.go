package channel

import (
	"cmp"
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

// A mailer sends e-mail by an SMTP server. Each recipient is a place of its
// own: with one message for all, one address that is refused would keep it from
// the others, and one that is to be tried again would double it for them.
//
// A message that comes twice has the same Message-ID, by which many mailboxes
// show it once.
type mailer struct {
	server   string
	port     int
	implicit bool // TLS from the first byte rather than by STARTTLS
	insist   bool // on TLS, with a certificate that holds
	username string
	password config.Secret
	from     *mail.Address
	to       map[string]*mail.Address
	timeout  time.Duration
	dialer   net.Dialer
	secrets  []string
}

// implicitTLS is the port on which TLS begins at once (RFC 8314).
const implicitTLS = 465

func openEmail(o options) (*Line, error) {
	if o.EmailSMTPServer == "" {
		return nil, nil
	}
	m := &mailer{
		server: o.EmailSMTPServer, port: o.EmailSMTPPort, implicit: o.EmailSMTPPort == implicitTLS, insist: o.EmailUseTLS,
		username: o.EmailUsername, password: o.EmailPassword, to: map[string]*mail.Address{}, timeout: o.timeout,
	}
	host := strings.ToLower(m.server)
	local := outbound.Loopback(host)
	m.dialer = *outbound.Dialer(host, outbound.Anywhere, o.timeout)
	line := &Line{Channel: m}
	if !local && !m.insist {
		line.Warnings = append(line.Warnings, fmt.Sprintf("email_use_tls is false: anybody on the way to %s may read the messages", m.server))
	}
	var err error
	if m.from, err = parseAddress("email_from", o.EmailFrom); err != nil {
		return nil, err
	}
	m.from.Name = cmp.Or(m.from.Name, heal.Product)
	if len(o.EmailRecipients)+len(o.routed) == 0 {
		return nil, errors.New("email_recipients: want at least one address, because email_smtp_server is set")
	}
	for _, text := range o.routed {
		if m.to[text], err = parseAddress("notify_policy_file: routes: email", text); err != nil {
			return nil, err
		}
		if !slices.Contains(o.EmailRecipients, text) {
			line.Listeners = append(line.Listeners, route.Listener{To: text, Audience: route.Routed})
		}
	}
	for i, text := range o.EmailRecipients {
		if slices.Contains(o.EmailRecipients[:i], text) {
			continue
		}
		if m.to[text], err = parseAddress(fmt.Sprintf("email_recipients[%d]", i), text); err != nil {
			return nil, err
		}
		line.Listeners = append(line.Listeners, route.Listener{To: text, Audience: route.Incident})
	}
	if m.password != "" {
		switch {
		case m.username == "":
			return nil, errors.New("email_username: want the user that email_password is of")
		case !m.insist && !local:
			return nil, fmt.Errorf("email_use_tls: is false, which would send email_password in the clear to %s", m.server)
		}
		m.secrets = passwordForms(m.username, m.password.Reveal())
	}
	return line, nil
}

// parseAddress refuses what could end a header and begin another.
func parseAddress(setting, text string) (*mail.Address, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
		return nil, fmt.Errorf("%s: %q contains a line break", setting, heal.Clean(text, 64))
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is not an e-mail address", setting, heal.Clean(text, 64))
	}
	return a, nil
}

// passwordForms are the texts in which a server might send the password back.
func passwordForms(username, password string) []string {
	forms := []string{password}
	for _, text := range []string{password, "\x00" + username + "\x00" + password} {
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return forms
}

// Send implements Channel.
func (m *mailer) Send(ctx context.Context, n heal.Notification) error {
	to, ok := m.to[n.To]
	if !ok {
		return permanent("email_recipients: %q is not among them", heal.Clean(n.To, 64))
	}
	msg, err := renderEmail(n, m.from, to)
	if err != nil {
		return permanent("email: %s", err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	err = m.hand(ctx, msg)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s", m.timeout)
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return m.failed(err)
}

// hand gives msg to the server.
func (m *mailer) hand(ctx context.Context, msg *gomail.Msg) error {
	release := func() {}
	defer func() { release() }()
	dial := func(dialCtx context.Context, network, addr string) (net.Conn, error) {
		conn, err := m.dialer.DialContext(dialCtx, network, addr)
		if err != nil {
			return nil, err
		}
		// The library starts its deadline anew with each step, and leaves the
		// connection open when one of the first fails.
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		release = func() { stop(); _ = conn.Close() }
		if !m.implicit {
			return conn, nil
		}
		secured := tls.Client(conn, m.tls())
		return secured, secured.HandshakeContext(dialCtx)
	}
	client, err := gomail.NewClient(m.server, m.options(dial)...)
	if err != nil {
		return err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	if err := client.SendWithSMTPClient(session, msg); err != nil {
		return err
	}
	_ = client.CloseWithSMTPClient(session) // what is taken stays so, whatever comes of the goodbye
	return nil
}

func (m *mailer) options(dial gomail.DialContextFunc) []gomail.Option {
	policy := gomail.TLSMandatory
	if !m.insist {
		policy = gomail.TLSOpportunistic
	}
	// Without the library's RSET after the message: when that failed, a message
	// that was taken would look as if it was not.
	all := []gomail.Option{
		gomail.WithPort(m.port), gomail.WithTimeout(2 * m.timeout), // ours ends first, and says what was waited for
		gomail.WithDialContextFunc(dial),
		gomail.WithTLSPolicy(policy), gomail.WithTLSConfig(m.tls()), gomail.WithoutNoop(), gomail.WithoutRset(),
	}
	if m.implicit {
		all = append(all, gomail.WithSSL())
	}
	if m.password != "" {
		all = append(all, gomail.WithUsername(m.username), gomail.WithPassword(m.password.Reveal()),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin))
	}
	return all
}

// tls checks the server's certificate where TLS is insisted upon. Elsewhere the
// message might as well go in the clear, and TLS with whoever it is hides it at
// least from those who only listen (RFC 7435).
func (m *mailer) tls() *tls.Config {
	return &tls.Config{ServerName: m.server, MinVersion: tls.VersionTLS12, InsecureSkipVerify: !m.insist}
}

// failed says what err means: a server's 5xx is its last word, all else may
// be better next time (RFC 5321, 4.2.1).
func (m *mailer) failed(err error) error {
	text := err.Error()
	for _, s := range m.secrets {
		text = strings.ReplaceAll(text, s, redacted)
	}
	code := smtpCode(err)
	return &SendError{Reason: fmt.Sprintf("email_smtp_server: %s: %s", m.server, heal.Clean(text, 300)), Permanent: code >= 500 && code <= 599}
}

// smtpCode is the code of the server's answer in err, or 0.
func smtpCode(err error) int {
	var send *gomail.SendError
	var answer *textproto.Error
	switch {
	case errors.As(err, &send):
		return send.ErrorCode()
	case errors.As(err, &answer):
		return answer.Code
	}
	return 0
}

// An email is what the two forms of a message are written from. All text in it
// that may be foreign is clean, and holds no web address.
type email struct {
	story.Story
	Accent string // a colour, not foreign
}

// maxSubject is what mail programs show at most, and then some.
const maxSubject = 240

// renderEmail writes n as a message from one address to another. It is pure:
// the same notification is the same message, byte by byte.
func renderEmail(n heal.Notification, from, to *mail.Address) (*gomail.Msg, error) {
	e := email{story.Of(n).Map(unlink), accent(n)}
	var page strings.Builder
	if err := emailPage.Execute(&page, e); err != nil {
		return nil, err
	}
	text := e.text()
	incident := incidentKey(n.Conversation())
	_, domain, _ := strings.Cut(from.Address, "@")

	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary(heal.ID("b", text, page.String())))
	msg.FromMailAddress(from)
	msg.ToMailAddress(to)
	msg.Subject(e.subject(n.Severity))
	msg.SetDateWithValue(cmp.Or(n.Origin.Time, n.Result.StartedAt).UTC())
	msg.SetMessageIDWithValue(n.Head().ID + "@" + domain)
	// No message has this id, as nobody knows which one of an incident comes
	// first; to have it in common puts them into one thread.
	thread := "<" + incident + "@" + domain + ">"
	msg.SetGenHeader(gomail.HeaderInReplyTo, thread)
	msg.SetGenHeader(gomail.HeaderReferences, thread)
	// So that nobody's absence is announced to us (RFC 3834; the other one is Exchange's).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetGenHeader("Selfheal-Incident", incident)
	msg.SetGenHeader("Selfheal-Severity", string(n.Severity))
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, page.String())
	return msg, nil
}

func (e email) subject(s heal.Severity) string {
	subject := string(s) + ": " + e.Headline
	if e.Cluster != "" {
		subject = "[" + e.Cluster + "] " + subject
	}
	return heal.Clean(subject, maxSubject)
}

// accents tell the outcomes apart, on white and on black.
var accents = map[heal.Outcome]string{
	heal.Succeeded: "#2e9e5b", heal.Failed: "#d64545", heal.TimedOut: "#e08a00", heal.Rejected: "#e08a00", heal.Skipped: "#6b7785", heal.DryRun: "#6b7785",
}

func accent(n heal.Notification) string {
	switch {
	case n.Phase.Over() || n.Digest != nil && n.Digest.Over:
		return accents[heal.Succeeded]
	case n.Phase == heal.PhaseGivenUp:
		return accents[heal.Failed]
	}
	return cmp.Or(accents[n.Result.Outcome], accents[heal.Skipped])
}

//go:embed email.html
var emailSource string

var emailPage = template.Must(template.New("email.html").Parse(emailSource))

// text is the message for those who read no HTML.
func (e email) text() string {
	var b strings.Builder
	line := func(parts ...string) { b.WriteString(strings.TrimRight(strings.Join(parts, ""), " ") + "\n") }
	line(e.Mark, " ", e.Headline)
	line()
	for _, sentence := range []string{e.Happened, e.Ended} {
		if sentence != "" {
			line(sentence)
		}
	}
	line()
	for _, f := range e.Facts {
		line(fmt.Sprintf("%-14s%s", f.Name, f.Value))
	}
	for _, c := range e.Chapters {
		line()
		line(c.Title)
		for _, l := range c.Lines {
			line("  ", l)
		}
	}
	line()
	for _, l := range e.Links {
		line(fmt.Sprintf("%-14s%s", l.Name, l.URL))
	}
	for _, id := range e.IDs {
		line(fmt.Sprintf("%-14s%s", id.Name, id.Value))
	}
	return b.String()
}
