package channel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/outbound"
)

// A poster hands bodies to one URL. The URL is a secret: errors name the
// setting that it came from, and its host. It follows no redirect, uses no
// proxy from the environment, connects only where its reach allows, and leaves
// the other side alone for as long as that asks.
type poster struct {
	setting string
	url     *url.URL
	timeout time.Duration
	round   http.RoundTripper // not a Client: that follows redirects, and puts the URL into its errors
	pace    *rate.Limiter
	secrets []string

	mu    sync.Mutex
	until time.Time // the other side wants nothing before
}

// newPoster checks the URL in the setting. It may reach anywhere, and as often
// as it likes, unless limit and pace say otherwise.
func newPoster(setting string, secret config.Secret, timeout time.Duration) (*poster, error) {
	p, err := newPlainPoster(setting, secret, timeout)
	if err == nil && p.url.Scheme == "http" && !outbound.Loopback(p.url.Hostname()) {
		return nil, fmt.Errorf("%s: want https://, got http:// to %s; http:// is only for a loopback host", setting, p.url.Hostname())
	}
	return p, err
}

// newPlainPoster is newPoster for what may go by http:// too.
func newPlainPoster(setting string, secret config.Secret, timeout time.Duration) (*poster, error) {
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Hostname() == "" || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("%s: want a URL with https:// and a host (it is a secret and not shown)", setting)
	}
	p := &poster{setting: setting, url: u, timeout: timeout, pace: rate.NewLimiter(rate.Inf, 1), secrets: secretParts(u)}
	p.limit(outbound.Anywhere)
	return p, nil
}

// limit bounds where p may connect.
func (p *poster) limit(r outbound.Reach) {
	p.round = outbound.Transport(p.url.Hostname(), r, p.timeout)
}

// maxAsked bounds how long we leave the other side alone because it asks so.
const maxAsked = time.Hour

// maxAnswer is more than any answer that is read has.
const maxAnswer = 4 << 20

// post sends body once.
func (p *poster) post(ctx context.Context, header http.Header, body []byte) error {
	_, err := p.exchange(ctx, header, body, 0)
	return err
}

// exchange sends body once, and returns as much of the answer as is asked for.
func (p *poster) exchange(ctx context.Context, header http.Header, body []byte, most int64) ([]byte, error) {
	if left := p.closed(time.Now()); left > 0 {
		return nil, &SendError{Reason: fmt.Sprintf("%s: %s asked for a pause, %s of it left", p.setting, p.url.Hostname(), left.Round(time.Second)), After: left}
	}
	if err := p.pace.Wait(ctx); err != nil {
		return nil, p.failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, permanent("%s: %s", p.setting, p.scrub(err.Error()))
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", "self-healing-notifier")
	if password, ok := p.url.User.Password(); ok {
		req.SetBasicAuth(p.url.User.Username(), password)
	}
	resp, err := p.round.RoundTrip(req)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", p.timeout)
		}
		return nil, p.failed(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := p.judge(resp); err != nil || most == 0 {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, p.failed(err)
	}
	return answer, nil
}

func (p *poster) failed(err error) error {
	return &SendError{Reason: fmt.Sprintf("%s: post to %s: %s", p.setting, p.url.Hostname(), p.scrub(err.Error()))}
}

// judge tells what an answer means.
func (p *poster) judge(resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return nil
	}
	said := fmt.Sprintf("%s: %s answered %d %s", p.setting, p.url.Hostname(), resp.StatusCode, http.StatusText(resp.StatusCode))
	if word := p.word(resp.Body); word != "" {
		said += " (" + word + ")"
	}
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
		p.close(after)
		return &SendError{Reason: said, After: after}
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return &SendError{Reason: said}
	case code >= 300 && code <= 399:
		return permanent("%s; redirects are not followed", said)
	}
	return permanent("%s", said)
}

func (p *poster) close(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(d)
}

func (p *poster) closed(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until.Sub(now)
}

// retryAfter reads the header (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after).
func retryAfter(value string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxAsked)
}

// errorWord is how Slack and others name what was wrong: invalid_blocks.
var errorWord = regexp.MustCompile(`^[a-z]+(_[a-z]+){0,5}$`)

// word returns the answer if it is such a word. Any other answer is not shown:
// it might be our request, with the secret in it.
func (p *poster) word(body io.Reader) string {
	data, err := io.ReadAll(io.LimitReader(body, 64))
	if text := strings.TrimSpace(string(data)); err == nil && errorWord.MatchString(text) {
		return p.scrub(text)
	}
	return ""
}

// secretParts are the texts that give the URL away, longest first.
func secretParts(u *url.URL) []string {
	parts := []string{u.String(), u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery}
	parts = append(parts, strings.Split(u.Path, "/")...)
	for key, values := range u.Query() {
		parts = append(append(parts, key), values...)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.String(), u.User.Username(), password)
	}
	return longestFirst(parts)
}

func longestFirst(parts []string) []string {
	// A short one may be a word of any message, and gives little away.
	parts = slices.DeleteFunc(parts, func(s string) bool { return len(s) < 6 })
	slices.SortFunc(parts, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	return slices.Compact(parts)
}

// scrub removes all of the URL but its host from text.
func (p *poster) scrub(text string) string {
	for _, s := range p.secrets {
		text = strings.ReplaceAll(text, s, redacted)
	}
	return text
}
