package channel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

// certified is a certificate for localhost by an authority that this test
// process trusts, as it would one of the machine's.
var certified tls.Certificate

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "authority")
	if err == nil {
		certified, err = trusted(filepath.Join(dir, "ca.pem"))
	}
	if err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// trusted makes a certificate, and has Go take it for the machine's authority.
func trusted(file string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	err = errors.Join(
		os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.Setenv("SSL_CERT_FILE", file), os.Setenv("SSL_CERT_DIR", filepath.Dir(file)))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// A post is a mail server as it stands on the Internet, with doubts where the
// test puts them.
type post struct {
	refuse map[string]*smtp.SMTPError // by command: MAIL, RCPT, DATA, AUTH
	mechs  []string                   // of AUTH; none: it asks for no password
	hang   chan struct{}              // DATA ends only when it is closed
	got    chan letter
	port   int
}

type letter struct {
	from   string
	to     []string
	user   string
	secure bool
	data   []byte
}

const (
	mailUser     = "heal@example.com"
	mailPassword = "pass-CANARY-word"
	onCall       = "On Call <oncall@example.com>"
	ops          = "ops@example.com"
)

// open starts the server; with implicit, TLS begins at once.
func (p *post) open(t *testing.T, cert *tls.Certificate, implicit bool) *post {
	t.Helper()
	p.got = make(chan letter, 16)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &visit{post: p, conn: c}, nil }))
	srv.Domain, srv.AllowInsecureAuth, srv.ErrorLog = "localhost", true, log.New(io.Discard, "", 0)
	if cert != nil {
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	if implicit {
		l = tls.NewListener(l, srv.TLSConfig)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // it ends by Close
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return p
}

// A visit is one connection to a post.
type visit struct {
	post *post
	conn *smtp.Conn
	letter
}

func (v *visit) verdict(command string) error {
	if err := v.post.refuse[command]; err != nil {
		return err
	}
	return nil
}

func (v *visit) AuthMechanisms() []string { return v.post.mechs }

func (v *visit) Auth(mech string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != mailUser || password != mailPassword {
			return smtp.ErrAuthFailed
		}
		v.user = user
		return v.verdict("AUTH")
	}
	if mech == sasl.Plain {
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	}
	return &loginServer{check: check}, nil
}

// loginServer is AUTH LOGIN, which sasl has only the client of.
type loginServer struct {
	check func(user, password string) error
	user  string
	step  int
}

func (s *loginServer) Next(response []byte) ([]byte, bool, error) {
	s.step++
	switch s.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		s.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, s.check(s.user, string(response))
}

func (v *visit) Mail(from string, _ *smtp.MailOptions) error {
	if len(v.post.mechs) > 0 && v.user == "" {
		return smtp.ErrAuthRequired
	}
	_, v.secure = v.conn.TLSConnectionState()
	v.from = from
	return v.verdict("MAIL")
}

func (v *visit) Rcpt(to string, _ *smtp.RcptOptions) error {
	v.to = append(v.to, to)
	return v.verdict("RCPT")
}

func (v *visit) Data(r io.Reader) (err error) {
	if v.data, err = io.ReadAll(r); err != nil {
		return err
	}
	if v.post.hang != nil {
		<-v.post.hang
	}
	if err := v.verdict("DATA"); err != nil {
		return err
	}
	v.post.got <- v.letter
	return nil
}

func (v *visit) Reset()        { v.from, v.to = "", nil }
func (v *visit) Logout() error { return nil }

// mailSettings are for a server on this machine that wants TLS and a password.
func mailSettings(port int) config.Settings {
	s := settings()
	s.EmailSMTPServer, s.EmailSMTPPort, s.EmailUseTLS = "localhost", port, true
	s.EmailUsername, s.EmailPassword, s.EmailFrom = mailUser, mailPassword, "Self-healing <heal@example.com>"
	s.EmailRecipients = []string{onCall, ops}
	return s
}

// send hands one message to the server at port, and looks for secrets in what
// comes of it.
func sendMail(t *testing.T, port int, timeout time.Duration, change ...func(*config.Settings)) error {
	t.Helper()
	s := mailSettings(port)
	for _, f := range change {
		f(&s)
	}
	lines, err := Open(s, timeout)
	if err != nil {
		t.Fatal(err)
	}
	err = lines[0].Send(t.Context(), sample.Notification("email", onCall, sample.Drained()))
	if err != nil && strings.Contains(err.Error(), "CANARY") {
		t.Errorf("the error shows the password: %v", err)
	}
	return err
}

func insecure(s *config.Settings)   { s.EmailUseTLS = false }
func noPassword(s *config.Settings) { s.EmailPassword = "" }

func TestEMailIsHandedOverByEveryWayOfTLS(t *testing.T) {
	for name, test := range map[string]struct {
		post     *post
		cert     *tls.Certificate
		implicit bool
		change   []func(*config.Settings)
		user     string
		secure   bool
	}{
		"STARTTLS, PLAIN":                    {&post{mechs: []string{"PLAIN"}}, &certified, false, nil, mailUser, true},
		"STARTTLS, LOGIN":                    {&post{mechs: []string{"LOGIN"}}, &certified, false, nil, mailUser, true},
		"STARTTLS, no password":              {&post{}, &certified, false, []func(*config.Settings){noPassword}, "", true},
		"implicit TLS":                       {&post{mechs: []string{"PLAIN", "LOGIN"}}, &certified, true, nil, mailUser, true},
		"not insisting, TLS there":           {&post{}, selfSigned(t), false, []func(*config.Settings){noPassword, insecure}, "", true},
		"not insisting, no TLS there":        {&post{}, nil, false, []func(*config.Settings){noPassword, insecure}, "", false},
		"a password to this machine, no TLS": {&post{mechs: []string{"PLAIN"}}, nil, false, []func(*config.Settings){insecure}, mailUser, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := test.post.open(t, test.cert, test.implicit)
			s := mailSettings(p.port)
			for _, f := range test.change {
				f(&s)
			}
			line := openOne(t, s)
			line.Channel.(*mailer).implicit = test.implicit // on a port that a test may have
			want := []route.Listener{{Channel: "email", To: onCall, Audience: route.Incident}, {Channel: "email", To: ops, Audience: route.Incident}}
			if diff := cmp.Diff(want, line.Listeners); diff != "" {
				t.Errorf("listeners (-want +got):\n%s", diff)
			}
			for to, address := range map[string]string{onCall: "oncall@example.com", ops: ops} {
				if err := line.Send(t.Context(), sample.Notification("email", to, sample.Drained())); err != nil {
					t.Fatal(err)
				}
				got := <-p.got
				if got.from != "heal@example.com" || !slices.Equal(got.to, []string{address}) || got.user != test.user || got.secure != test.secure {
					t.Errorf("from %s to %s by %q, TLS %t", got.from, got.to, got.user, got.secure)
				}
			}
		})
	}
}

// selfSigned is a certificate that nobody trusts.
func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	file, dir := os.Getenv("SSL_CERT_FILE"), os.Getenv("SSL_CERT_DIR")
	cert, err := trusted(filepath.Join(t.TempDir(), "unknown.pem"))
	if err := errors.Join(err, os.Setenv("SSL_CERT_FILE", file), os.Setenv("SSL_CERT_DIR", dir)); err != nil {
		t.Fatal(err)
	}
	return &cert
}

// smtpKit asks of e-mail what the conformance kit asks of the others.
var smtpKit = map[string]func(*testing.T){
	"refusals":               smtpRefusals,
	"no TLS, so no password": smtpNoTLS,
	"wrong password":         smtpWrongPassword,
	"wrong certificate":      smtpWrongCertificate,
	"hang":                   smtpHang,
	"hang in the greeting":   smtpHangInGreeting,
	"nobody there":           smtpNobodyThere,
	"no SMTP":                smtpNoSMTP,
	"cancelled":              smtpCancelled,
	"no goodbye":             smtpNoGoodbye,
	"unknown recipient":      smtpUnknownRecipient,
}

func smtpRefusals(t *testing.T) {
	for _, command := range []string{"AUTH", "MAIL", "RCPT", "DATA"} {
		for code, permanent := range map[int]bool{421: false, 450: false, 451: false, 454: false, 530: true, 550: true, 554: true} {
			said := "we do not know " + mailPassword + "\r\nBcc: you" // as some servers do
			p := (&post{mechs: []string{"PLAIN"}, refuse: map[string]*smtp.SMTPError{
				command: {Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 7, 1}, Message: strings.ReplaceAll(said, "\r\n", " ")},
			}}).open(t, &certified, false)
			wants(t, sendMail(t, p.port, ample), permanent, 0, "email_smtp_server: localhost: ", fmt.Sprint(code), "we do not know *** Bcc: you")
			if len(p.got) != 0 {
				t.Errorf("%s %d: a message was taken", command, code)
			}
		}
	}
}

func smtpNoTLS(t *testing.T) {
	p := (&post{mechs: []string{"PLAIN"}}).open(t, nil, false)
	wants(t, sendMail(t, p.port, ample), false, 0, "does not support STARTTLS")
	if len(p.got) != 0 {
		t.Error("sent in the clear")
	}
}

func smtpWrongPassword(t *testing.T) {
	p := (&post{mechs: []string{"PLAIN"}}).open(t, &certified, false)
	wants(t, sendMail(t, p.port, ample, func(s *config.Settings) { s.EmailPassword = "another-CANARY" }), true, 0, "535")
}

func smtpWrongCertificate(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		p := (&post{mechs: []string{"PLAIN"}}).open(t, selfSigned(t), implicit)
		s := mailSettings(p.port)
		line := openOne(t, s)
		line.Channel.(*mailer).implicit = implicit
		wants(t, line.Send(t.Context(), sample.Notification("email", ops, sample.Drained())), false, 0, "certificate")
		if len(p.got) != 0 {
			t.Error("sent in spite of the certificate")
		}
	}
}

func smtpHang(t *testing.T) {
	p := (&post{mechs: []string{"PLAIN"}, hang: make(chan struct{})}).open(t, &certified, false)
	defer close(p.hang)
	wants(t, sendMail(t, p.port, 2*short), false, 0, "no answer within "+(2*short).String())
}

// listen is a server that does with each connection what talk does.
func listen(t *testing.T, talk func(net.Conn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			talk(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

func smtpHangInGreeting(t *testing.T) {
	port := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) // until we hang up
	begin := time.Now()
	wants(t, sendMail(t, port, short), false, 0, "no answer within "+short.String())
	if took := time.Since(begin); took > ample {
		t.Errorf("took %s", took)
	}
}

func smtpNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	wants(t, sendMail(t, l.Addr().(*net.TCPAddr).Port, ample), false, 0, "connection refused")
}

func smtpNoSMTP(t *testing.T) {
	port := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	wants(t, sendMail(t, port, ample), false, 0, "HTTP/1.1 400 Bad Request")
}

func smtpCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	port := listen(t, func(c net.Conn) { cancel(); _, _ = io.Copy(io.Discard, c) })
	line := openOne(t, mailSettings(port))
	wants(t, line.Send(ctx, sample.Notification("email", ops, sample.Drained())), false, 0, "context canceled")
}

// smtpNoGoodbye is a server that takes the message and hangs up: it has it.
func smtpNoGoodbye(t *testing.T) {
	port := listen(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		for in := bufio.NewScanner(c); in.Scan(); {
			switch command, _, _ := strings.Cut(in.Text(), " "); command {
			case "DATA":
				_, _ = io.WriteString(c, "354 go on\r\n")
			case ".":
				_, _ = io.WriteString(c, "250 taken\r\n")
				return
			case "EHLO", "MAIL", "RCPT":
				_, _ = io.WriteString(c, "250 ok\r\n")
			}
		}
	})
	if err := sendMail(t, port, ample, insecure, noPassword); err != nil {
		t.Errorf("taken, but %v", err)
	}
}

func smtpUnknownRecipient(t *testing.T) {
	line := openOne(t, mailSettings(1))
	err := line.Send(t.Context(), sample.Notification("email", "former@example.com", sample.Drained()))
	wants(t, err, true, 0, `"former@example.com" is not among them`)
}

func TestEMailSettingsAreChecked(t *testing.T) {
	for want, change := range map[string]func(*config.Settings){
		"": func(*config.Settings) {},
		`email_from: "" is not an e-mail address`:                                                   func(s *config.Settings) { s.EmailFrom = "" },
		`email_from: "a@example.com Bcc: b@example.com" contains a line break`:                      func(s *config.Settings) { s.EmailFrom = "a@example.com\nBcc: b@example.com" },
		`email_recipients[1]: "b@example.com RCPT TO:<c@example.com>" contains a line break`:        func(s *config.Settings) { s.EmailRecipients = []string{ops, "b@example.com\rRCPT TO:<c@example.com>"} },
		`email_recipients[0]: "ops" is not an e-mail address`:                                       func(s *config.Settings) { s.EmailRecipients = []string{"ops"} },
		"email_recipients: want at least one address, because email_smtp_server is set":             func(s *config.Settings) { s.EmailRecipients = nil },
		"email_username: want the user that email_password is of":                                   func(s *config.Settings) { s.EmailUsername = "" },
		"email_use_tls: is false, which would send email_password in the clear to mail.example.com": func(s *config.Settings) { s.EmailSMTPServer, s.EmailUseTLS = "mail.example.com", false },
	} {
		s := mailSettings(587)
		change(&s)
		_, err := Open(s, time.Second)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("error\n got %s\nwant %s", got, want)
		}
	}
	s := mailSettings(587)
	s.EmailSMTPServer, s.EmailUseTLS, s.EmailPassword, s.EmailRecipients = "mail.example.com", false, "", []string{ops, ops}
	line := openOne(t, s)
	if diff := cmp.Diff([]string{"email_use_tls is false: anybody on the way to mail.example.com may read the messages"}, line.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if len(line.Listeners) != 1 {
		t.Errorf("%d listeners for one address given twice", len(line.Listeners))
	}
}

// written is a message as a mail program reads it.
type written struct {
	header     mail.Header
	text, html string
	raw        []byte
}

func write(t *testing.T, n heal.Notification) written {
	t.Helper()
	from, to := &mail.Address{Name: "Self-healing", Address: "heal@example.com"}, &mail.Address{Name: "On Call", Address: "oncall@example.com"}
	msg, err := renderEmail(n, from, to)
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if _, err := msg.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	w := written{raw: raw.Bytes()}
	parsed, err := mail.ReadMessage(bytes.NewReader(w.raw))
	if err != nil {
		t.Fatal(err)
	}
	w.header = parsed.Header
	media, params, err := mime.ParseMediaType(w.header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		t.Fatalf("Content-Type %s: %v", w.header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(parsed.Body, params["boundary"])
	for _, body := range []struct {
		media string
		to    *string
	}{{"text/plain; charset=UTF-8", &w.text}, {"text/html; charset=UTF-8", &w.html}} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(quotedprintable.NewReader(part))
		if got := part.Header.Get("Content-Type"); got != body.media || err != nil {
			t.Fatalf("part %s, want %s: %v", got, body.media, err)
		}
		*body.to = strings.ReplaceAll(string(data), "\r\n", "\n")
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Fatalf("more parts: %v", err)
	}
	return w
}

func TestEMailIsWrittenAsEver(t *testing.T) {
	for name, r := range samples() {
		n := sample.Notification("email", onCall, r)
		if name == "drained" {
			n.Metadata = map[string]string{"report": "https://heal.example.com/incidents/1?a=b&c=d"}
		}
		w := write(t, n)
		golden(t, "email-"+name+".txt", []byte(w.text))
		if name == "drained" || name == "healed" {
			golden(t, "email-"+name+".html", []byte(w.html))
		}
	}
	head, _, _ := strings.Cut(string(write(t, sample.Notification("email", onCall, sample.Drained())).raw), "\r\n\r\n")
	golden(t, "email-drained.head", []byte(strings.ReplaceAll(head, "\r\n", "\n")+"\n"))
}

func TestTheSameNewsIsTheSameMessage(t *testing.T) {
	n := sample.Notification("email", onCall, sample.Drained())
	if diff := cmp.Diff(string(write(t, n).raw), string(write(t, n).raw)); diff != "" {
		t.Errorf("-once +again:\n%s", diff)
	}
}

func TestOneIncidentIsOneThread(t *testing.T) {
	again := sample.Drained()
	again.Decision.ID = "d-later"
	first, second := write(t, sample.Notification("email", onCall, sample.Drained())), write(t, sample.Notification("email", onCall, again))
	toAnother, another := write(t, sample.Notification("email", ops, sample.Drained())), write(t, sample.Notification("email", onCall, sample.Healed()))
	ids := map[string]bool{}
	for _, w := range []written{first, second, toAnother, another} {
		ids[w.header.Get("Message-ID")] = true
		if a, b := w.header.Get("References"), w.header.Get("In-Reply-To"); a != b || a == "" {
			t.Errorf("References %s, In-Reply-To %s", a, b)
		}
	}
	if len(ids) != 4 {
		t.Errorf("Message-IDs %v, want 4", slices.Collect(maps.Keys(ids)))
	}
	want := "<" + sample.Drained().Decision.IncidentID + "@example.com>"
	for _, w := range []written{first, second, toAnother} {
		if got := w.header.Get("References"); got != want {
			t.Errorf("References %s, want %s", got, want)
		}
	}
	if another.header.Get("References") == want {
		t.Error("another incident is in the same thread")
	}
}

// checkEmail is what a mail program would act upon.
func checkEmail(t *testing.T, w written) {
	t.Helper()
	names := slices.Sorted(maps.Keys(w.header))
	want := []string{
		"Auto-Submitted", "Content-Type", "Date", "From", "In-Reply-To", "Message-Id", "Mime-Version", "References",
		"Selfheal-Incident", "Selfheal-Severity", "Subject", "To", "X-Auto-Response-Suppress",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	for name, values := range w.header {
		if len(values) != 1 {
			t.Errorf("%d headers %s", len(values), name)
		}
	}
	for i, line := range bytes.Split(w.raw, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n") {
			t.Errorf("line %d has %d bytes, or a bare line break", i, len(line))
		}
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(w.header.Get("Subject"))
	if err != nil || subject == "" || len(subject) > 240 || heal.Clean(subject, 240) != subject || strings.Contains(subject, "://") {
		t.Errorf("subject %q: %v", subject, err)
	}
	for what, text := range map[string]string{"text": w.text, "html": w.html} {
		if len(text) > 40<<10 || !utf8.ValidString(text) || strings.Contains(text, "://") {
			t.Errorf("%s has %d bytes, or a web address", what, len(text))
		}
		for _, line := range strings.Split(text, "\n") {
			if heal.Clean(line, 1<<20) != line {
				t.Errorf("%s is not clean: %q", what, line)
			}
		}
	}
	elements := []string{"html", "head", "meta", "title", "style", "body", "div", "h1", "h2", "p", "table", "tr", "th", "td"}
	attributes := []string{"lang", "charset", "name", "content", "class", "style", "scope"}
	for z := html.NewTokenizer(strings.NewReader(w.html)); z.Next() != html.ErrorToken; {
		token := z.Token()
		if token.Type == html.CommentToken || token.Type != html.TextToken && token.Type != html.DoctypeToken && !slices.Contains(elements, token.Data) {
			t.Errorf("the page holds %s", token)
		}
		for _, a := range token.Attr {
			if token.Type != html.DoctypeToken && !slices.Contains(attributes, a.Key) {
				t.Errorf("the page holds %s", token)
			}
		}
	}
}

func TestNothingForeignIsActiveInEMail(t *testing.T) {
	for _, text := range hostile() {
		checkEmail(t, write(t, sample.Notification("email", onCall, everywhere(text))))
		if t.Failed() {
			t.Fatalf("that was %.80q", text)
		}
	}
}

func FuzzNothingForeignIsActiveInEMail(f *testing.F) {
	for _, text := range hostile() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkEmail(t, write(t, sample.Notification("email", onCall, everywhere(text))))
	})
}
