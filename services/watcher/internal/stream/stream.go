// Package stream follows all objects of one kind, for as long as it is asked to.
//
//	everything there is -> what changes -> what changes -> …
//
// It keeps no object: each is handed over as the API server sent it, in a
// buffer that the next one overwrites, also while everything is read for the
// first time. It promises that
//
//   - a change is handed over at once, on the goroutine that reads it;
//   - a stream that ends, breaks, or falls silent goes on after the last
//     change that was handed over, and nothing between is missed;
//   - where that is no longer possible, everything there is is read anew, but
//     not more often than every ten seconds;
//   - a server that cannot begin a watch with what exists is asked for a list,
//     in pages.
//
// What a server says is not trusted to be well-formed, complete, or newer than
// what it said before.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/selfheal/selfheal/pkg/pause"
)

// A Handler takes in what a Stream brings, on one goroutine.
type Handler interface {
	// Begin says that everything there is follows, until Complete. It may
	// come again before that: then it begins once more.
	Begin()
	// Object is an object that exists, as it is now.
	Object(o *Object)
	// Deleted is one that does not exist any more, as it was at last.
	Deleted(o *Object)
	// Complete says that everything there is has been handed over since Begin.
	Complete()
	// Resumed says that all changes since Config.From follow.
	Resumed()
	// At says that everything up to this resourceVersion has been handed over.
	At(version string)
}

// An Observer is told how requests fare.
type Observer interface {
	// Asked begins a request; what it returns is called with how it ended,
	// for a watch: how it began.
	Asked(verb string) (answered func(error))
	// Failed is an error that comes in a stream that had begun.
	Failed(verb string, err error)
	// Heard says that something came from the server.
	Heard()
}

// Config says what is followed. Fields, Labels, From, Patience and Quiet may be empty.
type Config struct {
	Client   *http.Client // without a timeout
	URL      *url.URL     // of the collection
	Fields   string       // a field selector
	Labels   string       // a label selector
	Accept   string       // the forms that are understood, such as Protobuf
	From     string       // the resourceVersion to go on after; empty: begin with everything there is
	Handler  Handler
	Observer Observer

	// Patience is how long to wait after a refusal; 0: as after any error.
	Patience func(error) time.Duration

	// Quiet says that the API server sends no bookmarks of the kind, so that
	// silence is no sign of anything: a connection that is gone is found by
	// its own pings.
	Quiet bool
}

// A Stream follows one kind. Use New.
type Stream struct {
	cfg     Config
	version string // all up to it was handed over; empty: not to be gone on from
	begun   bool   // the handler was told to begin, or that we go on
	pace    pace
	limits  limits

	lists   bool      // the server knows no watch that begins with what exists
	fresh   time.Time // when everything was last asked for
	broken  int       // watches in a row that ended before all that exists had come
	silence int       // streams in a row in which nothing came

	mu    sync.Mutex              // guards what follows
	stale bool                    // everything is to be read anew
	stop  context.CancelCauseFunc // of the present stream, if any
}

// limits are what a test that cannot wait for so long makes shorter.
type limits struct {
	fresh        time.Duration // how often everything there is may be asked for
	silence      time.Duration // of a stream: bookmarks come every minute
	firstSilence time.Duration // … before everything there is has come: something always comes
}

var usual = limits{fresh: 10 * time.Second, silence: 3 * time.Minute, firstSilence: 20 * time.Second}

// spread keeps watchers apart that lost their place at the same moment.
const spread = 2 * time.Second

// Why a stream ends that goes on elsewhere.
var (
	errStale  = errors.New("everything is to be read anew")
	errSilent = errors.New("the API server has fallen silent")
	errPast   = errors.New("the API server shows the past") // it is behind, or etcd was restored
	errBroken = errors.New("the stream broke")
	errMute   = errors.New("the API server does not answer")
)

// New returns a Stream that does nothing until Run.
func New(cfg Config) *Stream { return &Stream{cfg: cfg, version: cfg.From, limits: usual} }

// Refresh has everything there is read anew, soon. It may be called from any
// goroutine.
func (s *Stream) Refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
	if s.stop != nil {
		s.stop(errStale)
	}
}

// Version is the resourceVersion up to which everything was handed over; empty
// if that is not known. It may be called when Run has returned.
func (s *Stream) Version() string { return s.version }

// Run follows until ctx is done.
func (s *Stream) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s.pace.begin()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		s.place(err)
		pause.For(ctx, s.wait(err))
	}
}

func (s *Stream) wait(err error) time.Duration {
	if err != nil && s.cfg.Patience != nil {
		if d := s.cfg.Patience(err); d > 0 {
			return d + jitter(d/4)
		}
	}
	return s.pace.wait(err)
}

// once goes on from where we are, or reads everything there is.
func (s *Stream) once(ctx context.Context) error {
	if s.version != "" {
		return s.watch(ctx, false)
	}
	if !s.fresh.IsZero() {
		if !pause.For(ctx, s.limits.fresh-time.Since(s.fresh)+jitter(spread)) {
			return ctx.Err()
		}
	}
	last := s.fresh
	s.fresh = time.Now()
	err := s.everything(ctx)
	if !costly(err) {
		s.fresh = last
	}
	return err
}

func (s *Stream) everything(ctx context.Context) error {
	if s.lists || s.broken >= 2 { // pages are short enough to get through
		s.broken = 0
		return s.list(ctx)
	}
	return s.watch(ctx, true)
}

// costly reports whether reading everything may have cost the server
// something, although it ended so: not if it was not reached, or refused at
// the door.
func costly(err error) bool {
	var status apierrors.APIStatus
	switch {
	case err == nil, errors.Is(err, errStale), errors.Is(err, errSilent), errors.Is(err, errFrame):
		return true
	case !errors.As(err, &status):
		return errors.Is(err, errBroken)
	}
	return !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsNotFound(err) &&
		!apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err)
}

// place settles from where to go on after a stream that ended with err.
func (s *Stream) place(err error) {
	s.mu.Lock()
	if s.stale {
		s.stale, s.version = false, ""
	}
	s.mu.Unlock()
	switch {
	case err == nil:
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err), errors.Is(err, errPast):
		s.version = ""
	case errors.Is(err, errSilent):
		// A server that has not come as far as we are says nothing until it has.
		if s.silence++; s.silence >= 2 {
			s.version, s.silence = "", 0
		}
	}
}

// list reads everything there is, in pages.
func (s *Stream) list(ctx context.Context) error {
	s.begun = true
	s.cfg.Handler.Begin()
	ask := func(ctx context.Context, query url.Values) (*http.Response, error) {
		return s.request(ctx, "list", query)
	}
	version, err := pages(ctx, url.Values{}, ask, func(o *Object) error {
		s.cfg.Handler.Object(o)
		return nil
	})
	if err != nil {
		return err
	}
	s.cfg.Observer.Heard()
	s.pace.began()
	s.complete(version)
	return nil
}

func (s *Stream) complete(version string) {
	s.version, s.broken = version, 0
	s.cfg.Handler.Complete()
	s.cfg.Handler.At(version)
}

// watch follows one stream until it ends. A fresh one begins with everything
// there is.
func (s *Stream) watch(ctx context.Context, fresh bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.stoppable(cancel)()
	mute := time.AfterFunc(maxAnswer, func() { cancel(errMute) })
	defer mute.Stop()

	query := url.Values{
		"watch":               {"true"},
		"allowWatchBookmarks": {"true"},
		"timeoutSeconds":      {strconv.Itoa(int((minLife + jitter(maxLife-minLife)).Seconds()))},
	}
	if fresh {
		query.Set("sendInitialEvents", "true")
		query.Set("resourceVersionMatch", "NotOlderThan")
	} else {
		query.Set("resourceVersion", s.version)
	}
	resp, err := s.request(ctx, "watch", query)
	if err != nil {
		if fresh && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) {
			s.lists = true
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	mute.Stop()
	s.pace.began()
	if !fresh && !s.begun {
		s.cfg.Handler.Resumed()
	}
	s.begun = true

	quiet := time.AfterFunc(s.patience(), func() { cancel(errSilent) })
	defer quiet.Stop()
	err = s.read(readEvents(resp.Body, isJSON(resp)), fresh, quiet)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // as all streams end, some of them in the middle of an event
	}
	err = because(ctx, err)
	if wrong(err) { // and no connection that broke, as they do
		s.cfg.Observer.Failed("watch", err)
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// patience is how long a stream may say nothing, once everything there is has come.
func (s *Stream) patience() time.Duration {
	if s.cfg.Quiet {
		return maxLife + s.limits.silence // by then it has ended by itself
	}
	return s.limits.silence
}

// wrong reports whether a stream ended for a reason that lies with the server.
func wrong(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) || errors.Is(err, errSilent) || errors.Is(err, errFrame) || errors.Is(err, errPast)
}

// stoppable has Refresh end the present stream by cancel.
func (s *Stream) stoppable(cancel context.CancelCauseFunc) (done func()) {
	set := func(stop context.CancelCauseFunc) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stop = stop
		if s.stale && stop != nil {
			s.stop(errStale)
		}
	}
	set(cancel)
	return func() { set(nil) }
}

// because is why ctx ended, if it has, or else err.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// read hands over what comes. It only returns with an error.
func (s *Stream) read(events *events, initial bool, quiet *time.Timer) error {
	limit := s.patience()
	if initial {
		limit = s.limits.firstSilence
		s.broken++ // until it is complete
		s.cfg.Handler.Begin()
	}
	quiet.Reset(limit)
	var heard time.Time
	for {
		if err := events.next(); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(heard) > time.Second { // not for each of thousands
			heard, s.silence = now, 0
			quiet.Reset(limit)
			s.cfg.Observer.Heard()
		}
		o := &events.Object
		if initial { // its objects come in no order
			switch {
			case events.Type == bookmark && o.complete:
				initial, limit = false, s.patience()
				quiet.Reset(limit)
				s.complete(string(o.Version))
			case events.Type != bookmark:
				s.hand(events.Type, o)
			}
			continue
		}
		if before(o.Version, s.version) {
			return errPast
		}
		if events.Type != bookmark {
			s.hand(events.Type, o)
		}
		s.version = string(o.Version)
		if events.Type == bookmark {
			s.cfg.Handler.At(s.version)
		}
	}
}

func (s *Stream) hand(kind string, o *Object) {
	switch kind {
	case deleted:
		s.cfg.Handler.Deleted(o)
	case added, modified:
		s.cfg.Handler.Object(o)
	}
}

// before reports whether one resourceVersion is older than another.
func before(a []byte, b string) bool {
	older := string(a) < b
	if len(a) != len(b) {
		older = len(a) < len(b)
	}
	return older && number(string(a)) && number(b)
}

func number(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}
