// Package request tells from an API server's audit log what clients have
// asked for. The log must have the stages ResponseStarted and ResponseComplete
// of all that is to be counted.
package request

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Request is one line of the log: a request that was answered, or a watch
// that began (Open).
type Request struct {
	ID        string
	UserAgent string
	Verb      string
	URI       string
	Open      bool
	Began     time.Time
	Ended     time.Time
}

// A Log is an audit log that is being written.
type Log struct{ Path string }

// End is where the log ends now, for Since.
func (l Log) End() (int64, error) {
	s, err := os.Stat(l.Path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return s.Size(), nil
}

// Since are the requests recorded behind a place in the log by the clients
// whose user agent begins so.
func (l Log) Since(place int64, userAgent string) ([]Request, error) {
	f, err := os.Open(l.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(place, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return parse(b, userAgent)
}

func parse(b []byte, userAgent string) ([]Request, error) {
	b = b[:bytes.LastIndexByte(b, '\n')+1] // a line that is being written has no end yet
	var out []Request
	for line := range bytes.Lines(b) {
		var r struct {
			AuditID                  string    `json:"auditID"`
			Stage                    string    `json:"stage"`
			RequestURI               string    `json:"requestURI"`
			Verb                     string    `json:"verb"`
			UserAgent                string    `json:"userAgent"`
			RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
			StageTimestamp           time.Time `json:"stageTimestamp"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("audit log: line %q: %w", line, err)
		}
		if !strings.HasPrefix(r.UserAgent, userAgent) || r.Stage != "ResponseComplete" && r.Stage != "ResponseStarted" {
			continue
		}
		out = append(out, Request{
			ID: r.AuditID, UserAgent: r.UserAgent, Verb: r.Verb, URI: r.RequestURI, Open: r.Stage == "ResponseStarted",
			Began: r.RequestReceivedTimestamp, Ended: r.StageTimestamp,
		})
	}
	return out, nil
}

func (r Request) query() url.Values {
	u, err := url.Parse(r.URI)
	if err != nil {
		return nil
	}
	return u.Query()
}

// Lists reports whether the request brings everything there is, be it as a
// list or as the beginning of a watch.
func (r Request) Lists() bool {
	return r.Verb == "list" || r.Verb == "watch" && r.query().Get("sendInitialEvents") == "true"
}

// Pods reports whether the request is about all pods, as objects.
func (r Request) Pods() bool {
	path, _, _ := strings.Cut(r.URI, "?")
	return path == "/api/v1/pods"
}

// Writes reports whether the request changes something.
func (r Request) Writes() bool {
	return slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, r.Verb)
}

// usualTimeout is the mean of what an API server lets a watch last for which
// the client does not say: 1 to 2 times its --min-request-timeout of half an hour.
const usualTimeout = 45 * time.Minute

// Timeout is how long the client lets a watch last; 0 if it does not say.
func (r Request) Timeout() time.Duration {
	seconds, err := strconv.Atoi(r.query().Get("timeoutSeconds"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// Everything are the URIs of the lists and watches with which a client has
// read everything it wanted, once each, for another client to read the same.
func Everything(requests []Request) []string {
	var uris []string
	for _, r := range requests {
		u, err := url.Parse(r.URI)
		if err != nil || !r.Lists() || u.Query().Get("continue") != "" {
			continue
		}
		q := u.Query()
		q.Del("limit") // all pages in one
		u.RawQuery = q.Encode()
		if !slices.Contains(uris, u.String()) {
			uris = append(uris, u.String())
		}
	}
	return uris
}

// A Rest is what clients ask for per hour when nothing happens.
type Rest struct {
	PerHour float64
	Writes  int // within the time that was looked at
	Lists   int
	Watches int // that were open
	ByAgent map[string]float64
	Seen    map[string]int // within that time, by agent, verb and path; not the watches that were open, or lived their time
}

// AtRest extrapolates from the time between from and to. A watch that was
// open counts by its own timeout, as what it lets the server wait is far longer
// than the time that was looked at; everything else counts as it came.
func AtRest(requests []Request, from, to time.Time) Rest {
	rest := Rest{ByAgent: map[string]float64{}, Seen: map[string]int{}}
	count := func(r Request, perHour float64) {
		rest.PerHour += perHour
		rest.ByAgent[agent(r.UserAgent)] += perHour
	}
	hour := float64(time.Hour) / float64(to.Sub(from))
	seen := func(r Request) {
		count(r, hour)
		path, _, _ := strings.Cut(r.URI, "?")
		rest.Seen[agent(r.UserAgent)+" "+r.Verb+" "+path]++
	}
	ended := map[string]bool{}
	opened := map[string]bool{}
	for _, r := range requests {
		if !r.Open && r.Ended.Before(to) {
			ended[r.ID] = true
		}
		if r.Open {
			opened[r.ID] = true
		}
	}
	within := func(at time.Time) bool { return !at.Before(from) && at.Before(to) }
	for _, r := range requests {
		switch {
		case r.Open && !ended[r.ID] && r.Began.Before(to):
			rest.Watches++
			count(r, float64(time.Hour)/float64(cmp.Or(r.Timeout(), usualTimeout)))
		case r.Open || opened[r.ID]:
			// A watch that ended: its successor is open, or it broke off early and counts as what it is.
			if t := r.Timeout(); !r.Open && within(r.Ended) && (t == 0 || r.Ended.Sub(r.Began) < t-5*time.Second) {
				seen(r)
			}
		case within(r.Began):
			seen(r)
			if r.Writes() {
				rest.Writes++
			}
		}
		if r.Lists() && (r.Open || !opened[r.ID]) && within(r.Began) {
			rest.Lists++
		}
	}
	return rest
}

// agent is the first part of a user agent: selfheal-watcher/v0.1.0 (linux…) is selfheal-watcher.
func agent(userAgent string) string {
	name, _, _ := strings.Cut(userAgent, "/")
	return name
}
