package stream

import (
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// Streams end by themselves after a time between these, so that they
	// spread over the API servers there are, and rights that were taken away
	// are noticed. API servers grant as much as is asked for; each new stream
	// is a request, of which there are few else while nothing happens.
	minLife = 2 * time.Hour
	maxLife = 4 * time.Hour

	retryFirst = 100 * time.Millisecond // then twice as long each time …
	retryLimit = 10 * time.Second       // … up to this, at random below it
	shortLimit = time.Second            // … or this, for streams that do begin, but end soon
	shortLife  = 5 * time.Second

	maxDelay = 5 * time.Minute // that a server may ask for
)

// pace says how long to wait between requests.
type pace struct {
	asked   time.Time
	success bool // of the present request
	fails   int  // requests in a row that failed
	shorts  int  // streams in a row that ended soon
}

func (p *pace) begin() { p.asked, p.success = time.Now(), false }

func (p *pace) began() { p.success, p.fails = true, 0 }

// wait is how long to wait after a request, or stream, that ended so.
func (p *pace) wait(err error) time.Duration {
	if p.success {
		if p.shorts++; time.Since(p.asked) >= shortLife {
			p.shorts = 0
		}
		return backoff(p.shorts, shortLimit)
	}
	p.fails++
	d := backoff(p.fails, retryLimit)
	if seconds, asked := apierrors.SuggestsClientDelay(err); asked {
		d = max(d, min(time.Duration(seconds)*time.Second, maxDelay)+jitter(retryFirst))
	}
	return d
}

// backoff is a random time below a limit that doubles with n.
func backoff(n int, limit time.Duration) time.Duration {
	if n == 0 {
		return 0
	}
	return jitter(min(retryFirst<<min(n-1, 16), limit))
}

func jitter(limit time.Duration) time.Duration { return rand.N(max(limit, 1)) }
