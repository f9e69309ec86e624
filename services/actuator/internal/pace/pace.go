// Package pace keeps us from asking more of the API server than it can give: a
// healer that hurries an overloaded API server makes the trouble worse.
//
// Requests go in lanes, by what they are for, and each lane has as many under
// way as it has found to be answered well: one more after each round that went
// well, half as many after an answer that says "too much" (additive increase,
// multiplicative decrease). So a cordon never waits behind evictions. After
// some such answers in a row nothing is sent at all for a while, which doubles
// each time, and then one request finds out whether that is over. What is not
// sent is answered here as the API server would, with 429: whoever asked knows
// that it had no effect.
package pace

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A lane is a kind of requests that wait for no other.
type lane int

const (
	reads lane = iota
	cordons
	evictions
	writes // all others
	lanes  // how many there are
	free   // no lane: a watch, which lasts, or a look whether the API server is there
)

// laneOf is the lane of a request.
func laneOf(r *http.Request) lane {
	path := r.URL.Path
	switch {
	case !strings.Contains(path, "/api"), r.URL.Query().Get("watch") == "true":
		return free
	case r.Method == http.MethodGet:
		return reads
	case r.Method == http.MethodPatch && strings.Contains(path, "/api/v1/nodes/"):
		return cordons
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/eviction"):
		return evictions
	}
	return writes
}

const (
	first     = 32  // requests of a lane under way at the start
	most      = 256 // and at most
	inARow    = 5   // answers that say "too much", after which nothing is sent
	shortRest = time.Second
	longRest  = time.Minute
	slow      = 5 * time.Second // an answer that takes longer says "too much" as well, but not in words
)

// A Pace is shared by all clients of a process. It is safe for concurrent use.
type Pace struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	limits  [lanes]float64
	under   [lanes]int // way
	waiting [lanes][]chan struct{}
	bad     int       // answers in a row
	rests   int       // in a row
	until   time.Time // nothing is sent before
	trying  bool      // one request finds out whether that is over
}

// New returns a Pace that begins with confidence.
func New(log *slog.Logger) *Pace {
	p := &Pace{log: log}
	for l := range p.limits {
		p.limits[l] = first
	}
	return p
}

// Wrap makes a client's transport keep the pace.
func (p *Pace) Wrap(next http.RoundTripper) http.RoundTripper { return paced{p, next} }

type paced struct {
	*Pace
	next http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport that can cancel a request.
func (p paced) WrappedRoundTripper() http.RoundTripper { return p.next }

func (p paced) RoundTrip(r *http.Request) (*http.Response, error) {
	l := laneOf(r)
	if l == free {
		return p.next.RoundTrip(r)
	}
	if err := p.enter(r, l); err != nil {
		return nil, err
	}
	if left := p.closed(time.Now()); left > 0 {
		p.leave(l, silent)
		return refusal(r, left), nil
	}
	begin := time.Now()
	resp, err := p.next.RoundTrip(r)
	says := hear(resp, err)
	if says == well && time.Since(begin) > slow {
		says = slowly
	}
	p.leave(l, says)
	return resp, err
}

// enter waits until the lane has room, or the request is given up.
func (p *Pace) enter(r *http.Request, l lane) error {
	p.mu.Lock()
	if p.under[l] < int(p.limits[l]) && len(p.waiting[l]) == 0 {
		p.under[l]++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.waiting[l] = append(p.waiting[l], turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-r.Context().Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range p.waiting[l] {
		if w == turn {
			p.waiting[l] = append(p.waiting[l][:i:i], p.waiting[l][i+1:]...)
			return r.Context().Err()
		}
	}
	p.under[l]-- // its turn came at the same moment
	p.admit(l)
	return r.Context().Err()
}

// admit lets those in whose turn it is.
func (p *Pace) admit(l lane) {
	for len(p.waiting[l]) > 0 && p.under[l] < int(p.limits[l]) {
		close(p.waiting[l][0])
		p.waiting[l] = p.waiting[l][1:]
		p.under[l]++
	}
}

// An answer is what an answer says about the API server.
type answer int

const (
	silent  answer = iota // nothing
	well                  // it has no trouble
	slowly                // it took long
	tooMuch               // it asks for less
)

// leave takes a request out of its lane, and learns from its answer.
func (p *Pace) leave(l lane, says answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := 2*p.under[l] >= int(p.limits[l])
	p.under[l]--
	switch says {
	case well:
		if full {
			p.limits[l] = min(most, p.limits[l]+1/p.limits[l])
		}
		if p.rests > 0 {
			p.log.Info("the API server keeps up again")
		}
		p.bad, p.rests, p.trying = 0, 0, false
	case slowly:
		p.limits[l] = max(1, p.limits[l]/2)
		p.trying = false
	case tooMuch:
		p.limits[l] = max(1, p.limits[l]/2)
		p.bad++
		if p.trying || p.bad >= inARow {
			p.rest()
		}
		p.trying = false
	case silent:
		p.trying = false
	}
	p.admit(l)
}

// rest stops all sending for a while.
func (p *Pace) rest() {
	d := min(longRest, shortRest<<min(p.rests, 10))
	p.until = time.Now().Add(d + rand.N(d/4))
	p.rests++
	p.bad = 0
	p.log.Warn("the API server is overloaded, nothing is sent for a while", "delay", d)
}

// closed is for how long nothing may be sent. When that is over, one request
// goes first.
func (p *Pace) closed(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch left := p.until.Sub(now); {
	case left > 0:
		return left
	case p.rests == 0:
		return 0
	case p.trying:
		return shortRest
	}
	p.trying = true
	return 0
}

// hear tells what the answer says. A refused eviction is about its disruption
// budget, and a 500 to one about there being two of them: neither is about the
// API server's own state.
func hear(resp *http.Response, err error) answer {
	if err != nil || resp == nil {
		return silent // nobody there is not too much
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		if aboutBudget(resp) {
			return well
		}
		return tooMuch
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return tooMuch
	case http.StatusInternalServerError:
		return silent
	}
	return well
}

// aboutBudget reports whether a disruption budget is the cause. It puts back
// what it has read.
func aboutBudget(resp *http.Response) bool {
	const enough = 16 << 10
	head, err := io.ReadAll(io.LimitReader(resp.Body, enough))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	return err == nil && bytes.Contains(head, []byte(policyv1.DisruptionBudgetCause))
}

// refusal is an answer that the API server did not give. It has no header
// Retry-After: of a read, the client would make of it a wait that nobody sees.
func refusal(r *http.Request, left time.Duration) *http.Response {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Reason: metav1.StatusReasonTooManyRequests, Code: http.StatusTooManyRequests,
		Message: "not sent, as the API server is overloaded: try again in " + left.Round(time.Millisecond).String(),
		Details: &metav1.StatusDetails{RetryAfterSeconds: int32(left/time.Second) + 1},
	})
	if err != nil {
		body = nil // the code says it as well
	}
	return &http.Response{
		Status: "429 Too Many Requests", StatusCode: http.StatusTooManyRequests, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: r,
	}
}
