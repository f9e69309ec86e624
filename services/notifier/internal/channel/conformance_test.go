package channel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

// The conformance kit: what every channel does with whatever the other side
// does. A channel that speaks HTTP joins it by one row of httpSubjects; e-mail
// has the same questions asked in SMTP (email_test.go). A channel of kinds that
// is in no row fails TestEveryChannelPassesTheKit.

// A subject is a channel under test.
type subject struct {
	name string
	to   string
	set  func(s *config.Settings, url string) // makes the channel send to url
}

func httpSubjects() []subject {
	return []subject{
		{"slack", "#monitoring", func(s *config.Settings, url string) { s.SlackWebhookURL = config.Secret(url) }},
		{"slack", "#incidents", func(s *config.Settings, url string) { s.SlackIncidentWebhookURL = config.Secret(url) }},
		{"slack", "#bot", func(s *config.Settings, url string) {
			s.SlackBotToken, s.SlackAPIURL = "xoxb-CANARY", url
		}},
		{"pagerduty", "", func(s *config.Settings, url string) {
			s.PagerDutyEnabled, s.PagerDutyRoutingKey, s.PagerDutyAPIURL = true, routingKey, url
		}},
		{"alertmanager", "", func(s *config.Settings, url string) { s.AlertmanagerURL = url }},
		{"webhook", "", func(s *config.Settings, url string) {
			s.WebhookURL, s.WebhookSecret = config.Secret(url), "whsec-CANARY"
		}},
		{"shoutrrr", "generic", func(s *config.Settings, url string) { s.ShoutrrrURLs = config.Secret("generic+" + url) }},
		{"shoutrrr", "mattermost", func(s *config.Settings, url string) {
			s.ShoutrrrURLs = config.Secret("mattermost://" + hostOf(url) + "/x7CaNaRyx7CaNaRyx7?disabletls=" + plainly(url))
		}},
		{"shoutrrr", "ntfy", func(s *config.Settings, url string) {
			s.ShoutrrrURLs = config.Secret("ntfy://bot:canary-token@" + hostOf(url) + "/x7CaNaRyx7CaNaRyx7?disabletls=" + plainly(url))
		}},
		{"shoutrrr", "gotify", func(s *config.Settings, url string) {
			s.ShoutrrrURLs = config.Secret("gotify://" + hostOf(url) + "/Ax7CaNaRyx7CaN7?disabletls=" + plainly(url))
		}},
	}
}

// hostOf is the host and port of a URL, which need not parse.
func hostOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// plainly is yes for a URL without TLS.
func plainly(url string) string {
	if strings.HasPrefix(url, "http://") {
		return "yes"
	}
	return "no"
}

// settings are the defaults of the contract, as far as channels read them.
func settings() config.Settings {
	return config.Settings{
		NotificationEnabled: true, SlackChannel: "#monitoring", SlackIncidentChannel: "#incidents", SlackAPIURL: "https://slack.com/api/",
	}
}

// secret is the part of the URLs that nobody may see, as Slack has it.
const secret = "T0CANARY/B0CANARY/x7CaNaRyx7CaNaRyx7"

// routingKey is what PagerDuty knows us by: 32 characters that nobody may see.
const routingKey = "R0CANARYR0CANARYR0CANARYR0CANARY"

// How long a channel waits for the other side: enough on any machine, and no
// longer than a test of waiting must take.
const (
	ample = 10 * time.Second
	short = 300 * time.Millisecond
)

func (c subject) open(t *testing.T, url string, timeout time.Duration) *Line {
	t.Helper()
	s := settings()
	c.set(&s, url+"/services/"+secret+"?token=canary-token")
	lines, err := Open(s, timeout)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || lines[0].Name != c.name {
		t.Fatalf("opened %+v, want only %s", lines, c.name)
	}
	return lines[0]
}

func (c subject) send(t *testing.T, line *Line) error {
	t.Helper()
	err := line.Send(t.Context(), sample.Notification(c.name, c.to, sample.Healed()))
	if err == nil {
		return nil
	}
	for _, part := range append(strings.Split(secret, "/"), "canary-token", "CANARY") {
		if strings.Contains(err.Error(), part) {
			t.Errorf("the error shows %q: %v", part, err)
		}
	}
	return err
}

// wants fails the test unless err is a SendError of that sort, and says what
// the operator needs to know.
func wants(t *testing.T, err error, permanent bool, after time.Duration, says ...string) {
	t.Helper()
	var send *SendError
	if !errors.As(err, &send) {
		t.Fatalf("got %v, want a SendError", err)
	}
	if send.Permanent != permanent || send.After != after {
		t.Errorf("permanent %t, after %s; want %t, %s: %v", send.Permanent, send.After, permanent, after, err)
	}
	if !namesSetting.MatchString(err.Error()) {
		t.Errorf("error %q does not name the setting", err)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

var namesSetting = regexp.MustCompile(`^[a-z]+(_[a-z]+)+: `)

func TestEveryChannelPassesTheKit(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range httpSubjects() {
		tested[c.name] = true
		t.Run(c.name+c.to, func(t *testing.T) {
			t.Run("answers", c.answers)
			t.Run("pause", c.pause)
			t.Run("redirect", c.redirect)
			t.Run("hang", c.hang)
			t.Run("hang in the answer", c.hangInAnswer)
			t.Run("wrong certificate", c.wrongCertificate)
			t.Run("nobody there", c.nobodyThere)
			t.Run("no HTTP", c.noHTTP)
			t.Run("cancelled", c.cancelled)
		})
	}
	tested["email"] = true
	for name, f := range smtpKit {
		t.Run("email/"+name, f)
	}
	for _, k := range kinds {
		if !tested[k.name] {
			t.Errorf("channel %s is not tested: give it a row", k.name)
		}
	}
}

func (c subject) answers(t *testing.T) {
	for code, permanent := range map[int]bool{
		400: true, 401: true, 403: true, 404: true, 405: true, 410: true, 413: true,
		408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			body, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, "refused: "+r.URL.String()+" "+string(body)) // as some servers do
		}))
		wants(t, c.send(t, c.open(t, srv.URL, ample)), permanent, 0, "127.0.0.1 answered", http.StatusText(code))
		srv.Close()
	}
	codes := []int{200, 201, 202, 204}
	if c.to == "#bot" {
		codes = codes[:1] // Slack's API says in its answer whether it took the message
	}
	for _, code := range codes {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"ok":true,"channel":"C1","ts":"1.2"}`)
		}))
		if err := c.send(t, c.open(t, srv.URL, ample)); err != nil {
			t.Errorf("%d: %v", code, err)
		}
		srv.Close()
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "invalid_blocks\n")
	}))
	defer srv.Close()
	wants(t, c.send(t, c.open(t, srv.URL, ample)), true, 0, "400 Bad Request (invalid_blocks)")
}

func (c subject) pause(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer srv.Close()
	line := c.open(t, srv.URL, ample)
	wants(t, c.send(t, line), false, 7*time.Second, "429 Too Many Requests")

	err := c.send(t, line)
	var send *SendError
	if !errors.As(err, &send) || send.Permanent || send.After <= 5*time.Second || send.After > 7*time.Second || !strings.Contains(send.Reason, "asked for a pause") {
		t.Errorf("within the pause: %#v", err)
	}
	if asked != 1 {
		t.Errorf("asked %d times, want to leave it alone after once", asked)
	}
}

func (c subject) redirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	for _, to := range []string{elsewhere.URL, "http://169.254.169.254/latest/meta-data/", "::bad " + secret} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}))
		wants(t, c.send(t, c.open(t, srv.URL, ample)), true, 0, "307 Temporary Redirect", "redirects are not followed")
		srv.Close()
	}
}

func (c subject) hang(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	wants(t, c.send(t, c.open(t, srv.URL, short)), false, 0, "no answer within "+short.String())
}

func (c subject) hangInAnswer(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_ = http.NewResponseController(w).Flush()
		<-release
	}))
	defer srv.Close()
	defer close(release)
	wants(t, c.send(t, c.open(t, srv.URL, 5*short)), false, 0, "500 Internal Server Error")
}

func (c subject) wrongCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent in spite of the certificate") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	wants(t, c.send(t, c.open(t, srv.URL, ample)), false, 0, "certificate")
}

func (c subject) nobodyThere(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	wants(t, c.send(t, c.open(t, srv.URL, ample)), false, 0, "connection refused")
}

// noHTTP is a server that sends our own request back: the library's error
// quotes it.
func (c subject) noHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var raw bytes.Buffer
			if r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &raw))); err == nil {
				_, _ = io.Copy(io.Discard, r.Body) // an answer to half of it would be another error
			}
			_, _ = conn.Write(bytes.ToUpper(raw.Bytes()[:5]))
			_, _ = conn.Write(raw.Bytes()[5:])
			_ = conn.Close()
		}
	}()
	wants(t, c.send(t, c.open(t, "http://"+l.Addr().String(), ample)), false, 0, "malformed HTTP", "***")
}

func (c subject) cancelled(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wants(t, c.open(t, srv.URL, ample).Send(ctx, sample.Notification(c.name, c.to, sample.Healed())), false, 0, "context canceled")
}

func TestSlackIsSentOneMessagePerSecondAndWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := newSlackPoster("slack_webhook_url", "https://hooks.slack.com/services/x", options{Settings: settings(), timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var at []time.Duration
		begin := time.Now()
		p.round = roundTrip(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(begin))
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})
		for range 4 {
			if err := p.post(t.Context(), nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i, got := range at {
			if want := time.Duration(i) * time.Second; got != want {
				t.Errorf("message %d after %s, want %s", i, got, want)
			}
		}
	})
}

func TestAfterThePauseItIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := newPoster("webhook_url", "https://example.com/hook", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		code := 503
		p.round = roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {"30"}}, Body: http.NoBody}, nil
		})
		wants(t, p.post(t.Context(), nil, nil), false, 30*time.Second)
		code = 200
		wants(t, p.post(t.Context(), nil, nil), false, 30*time.Second)
		<-time.After(30 * time.Second)
		if err := p.post(t.Context(), nil, nil); err != nil {
			t.Errorf("after the pause: %v", err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRetryAfterIsReadInBothFormsAndBounded(t *testing.T) {
	now := sample.Noon.Truncate(time.Second)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"30":                            30 * time.Second,
		"3601":                          time.Hour,
		"2147483648":                    0,
		"99999999999999999999":          0,
		"-5":                            0,
		"soon":                          0,
		"1.5":                           0,
		"Sun, 22 Nov 2026 12:20:22 GMT": time.Minute,
		"Sun, 22 Nov 2026 12:00:00 GMT": 0,
		"Sun, 22 Nov 2099 12:00:00 GMT": time.Hour,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func TestMessagesGoOnlyWhereTheyMay(t *testing.T) {
	for address, want := range map[string]struct{ anywhere, public, loopback bool }{
		"52.1.2.3:443":                {true, true, false},
		"[2600:1f18::1]:443":          {true, true, false},
		"10.0.0.1:443":                {true, false, false},
		"192.168.1.1:443":             {true, false, false},
		"[fd00::1]:443":               {true, false, false},
		"100.64.0.1:443":              {true, false, false},
		"[::ffff:10.0.0.1]:443":       {true, false, false},
		"127.0.0.1:443":               {false, false, true},
		"[::1]:443":                   {false, false, true},
		"[::ffff:127.0.0.1]:443":      {false, false, true},
		"169.254.169.254:80":          {false, false, false},
		"[::ffff:169.254.169.254]:80": {false, false, false},
		"[64:ff9b::a9fe:a9fe]:80":     {false, false, false},
		"[64:ff9b::3401:203]:443":     {true, true, false},
		"[fe80::1%eth0]:80":           {false, false, false},
		"[fd00:ec2::254]:80":          {false, false, false},
		"100.100.100.200:80":          {false, false, false},
		"0.0.0.0:80":                  {false, false, false},
		"[::]:80":                     {false, false, false},
		"224.0.0.1:80":                {false, false, false},
		"255.255.255.255:80":          {false, false, false},
		"not an address":              {false, false, false},
	} {
		if err := outbound.Anywhere.Control("tcp", address, nil); (err == nil) != want.anywhere {
			t.Errorf("anywhere to %s: %v, want allowed: %t", address, err, want.anywhere)
		}
		if err := outbound.Public.Control("tcp", address, nil); (err == nil) != want.public {
			t.Errorf("public to %s: %v, want allowed: %t", address, err, want.public)
		}
		if err := outbound.OnlyLoopback("tcp", address, nil); (err == nil) != want.loopback {
			t.Errorf("loopback to %s: %v, want allowed: %t", address, err, want.loopback)
		}
	}
}

// The checks above are in force: a URL whose host is an address out of reach
// is refused when it comes to connecting.
func TestAConnectionOutOfReachIsNotMade(t *testing.T) {
	for _, u := range []string{"https://169.254.169.254/latest", "https://[fe80::1]/", "https://0.0.0.0/"} {
		p, err := newPoster("webhook_url", config.Secret(u), ample)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, p.post(t.Context(), nil, nil), false, 0, "is not an address that messages may go to")
	}
}

func TestURLsAreCheckedAtTheStart(t *testing.T) {
	hook := func(u string) config.Settings { s := settings(); s.WebhookURL = config.Secret(u); return s }
	slack := func(u string) config.Settings { s := settings(); s.SlackWebhookURL = config.Secret(u); return s }
	incident := func(u string) config.Settings {
		s := settings()
		s.SlackIncidentWebhookURL = config.Secret(u)
		return s
	}
	proxied := func(api, u string) config.Settings { s := slack(u); s.SlackAPIURL = api; return s }
	for _, test := range []struct {
		settings config.Settings
		want     string // of the error; empty for none
	}{
		{hook("https://example.com/hook"), ""},
		{hook("https://user:password@example.com:8443/hook?x=y"), ""},
		{hook("https://receiver.tools.svc/hook"), ""},
		{hook("http://127.0.0.1:8080/hook"), ""},
		{hook("http://localhost:8080/hook"), ""},
		{hook("http://[::1]:8080/hook"), ""},
		{hook("http://example.com/canary"), "webhook_url: want https://, got http:// to example.com; http:// is only for a loopback host"},
		{hook("http://10.0.0.1/canary"), "webhook_url: want https://, got http:// to 10.0.0.1; http:// is only for a loopback host"},
		{hook("http://localhost.example.com/canary"), "webhook_url: want https://, got http:// to localhost.example.com; http:// is only for a loopback host"},
		{hook("ftp://example.com/canary"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},
		{hook("file:///canary"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},
		{hook("https:canary"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},
		{hook("https://:443/canary"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},
		{hook("canary"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},
		{hook("https://example.com/canary\x7f"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},
		{hook("https://%zz/canary"), "webhook_url: want a URL with https:// and a host (it is a secret and not shown)"},

		{slack("https://hooks.slack.com/services/T/B/x"), ""},
		{slack("https://hooks.slack-gov.com/services/T/B/x"), ""},
		{slack("http://127.0.0.1:8080/services/T/B/x"), ""},
		{slack("https://10.0.0.1/canary"), `slack_webhook_url: host "10.0.0.1" not in allowed hosts [hooks.slack.com hooks.slack-gov.com]; for a proxy set slack_api_url too`},
		{slack("https://hooks.slack.com.example.com/canary"), `slack_webhook_url: host "hooks.slack.com.example.com" not in allowed hosts [hooks.slack.com hooks.slack-gov.com]; for a proxy set slack_api_url too`},
		{slack("https://hooks.slack.com@example.com/canary"), `slack_webhook_url: host "example.com" not in allowed hosts [hooks.slack.com hooks.slack-gov.com]; for a proxy set slack_api_url too`},
		{slack("http://hooks.slack.com/canary"), "slack_webhook_url: want https://, got http:// to hooks.slack.com; http:// is only for a loopback host"},
		{incident("https://example.com/canary"), `slack_incident_webhook_url: host "example.com" not in allowed hosts [hooks.slack.com hooks.slack-gov.com]; for a proxy set slack_api_url too`},
		{proxied("https://slack.proxy.example.com/api/", "https://slack.proxy.example.com/services/x"), ""},
		{proxied("https://slack.proxy.example.com/api/", "https://hooks.slack.com/services/x"), ""},
		{proxied("https://slack.proxy.example.com/api/", "https://other.example.com/canary"), `slack_webhook_url: host "other.example.com" not in allowed hosts [hooks.slack.com hooks.slack-gov.com slack.proxy.example.com]; for a proxy set slack_api_url too`},
	} {
		_, err := Open(test.settings, time.Second)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("error\n got %s\nwant %s", got, test.want)
		}
		if strings.Contains(got, "canary") {
			t.Errorf("the error shows the secret: %s", got)
		}
	}
}

func TestAllWrongSettingsAreNamedAtOnce(t *testing.T) {
	s := settings()
	s.SlackWebhookURL, s.WebhookURL = "http://example.com/a", "http://example.com/b"
	_, err := Open(s, time.Second)
	if err == nil || !strings.Contains(err.Error(), "slack_webhook_url: ") || !strings.Contains(err.Error(), "\nwebhook_url: ") {
		t.Errorf("got %v, want both named", err)
	}
}
