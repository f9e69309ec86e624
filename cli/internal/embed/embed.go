// Package embed runs a NATS server with JetStream on disk inside this process,
// reachable from this machine only. One data directory belongs to one server
// at a time: a second one is refused before it can touch a file.
package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/selfheal/selfheal/cli/internal/lock"
)

// Options say how the server runs. Dir is required.
type Options struct {
	Dir         string        // holds the streams, and the lock
	Port        int           // for clients; 0 takes a free one
	MonitorPort int           // for the HTTP pages of NATS; 0 serves none, -1 takes a free one
	Sync        time.Duration // how often data is forced to disk; default 2 min, as NATS; SyncAlways for each write
	MaxBytes    int64         // that all streams together may be declared to grow to; default 64 GiB
	Cluster     string        // which cluster it serves, for Find
	Log         *slog.Logger  // default: discard
}

// SyncAlways forces each write to disk before it is acknowledged, so that
// not even a power cut loses one.
const SyncAlways time.Duration = -1

// The streams reserve what they may grow to, which says nothing about what
// they use; the default of NATS, three quarters of the free disk, would refuse
// to create them on a nearly full one.
const defaultMaxBytes = 64 << 30

// startTimeout is long because JetStream checks every stream after a crash.
const startTimeout = 30 * time.Second

// A Server is a running NATS server.
type Server struct {
	nats *server.Server
	lock *lock.Lock
	dir  string
	once sync.Once
}

// Start starts a server and returns once clients can connect. The error is an
// InUseError when another process serves the same directory.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := portFree(ctx, o.Port); err != nil {
		return nil, err
	}
	mine, err := lock.Acquire(o.Dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o)
	if err != nil {
		mine.Release()
		return nil, fmt.Errorf("embedded NATS in %s: %w", o.Dir, err)
	}
	if err := writeAddress(o.Dir, Address{URL: s.ClientURL(), Cluster: o.Cluster}); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		mine.Release()
		return nil, err
	}
	return &Server{nats: s, lock: mine, dir: o.Dir}, nil
}

// portFree gives a wish for a port that is taken a clear answer; the server
// would only log it.
func portFree(ctx context.Context, port int) error {
	if port == 0 {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("embedded NATS: port %d: %w; 0 takes a free one", port, err)
	}
	return l.Close()
}

func start(ctx context.Context, o Options) (*server.Server, error) {
	opts := &server.Options{
		ServerName:             "selfheal",
		Host:                   "127.0.0.1",
		Port:                   orRandom(o.Port),
		HTTPHost:               "127.0.0.1",
		HTTPPort:               o.MonitorPort,
		JetStream:              true,
		StoreDir:               o.Dir,
		JetStreamMaxStore:      o.MaxBytes,
		SyncInterval:           o.Sync,
		NoSigs:                 true, // the process decides when to stop
		DisableJetStreamBanner: true,
	}
	if opts.JetStreamMaxStore == 0 {
		opts.JetStreamMaxStore = defaultMaxBytes
	}
	if o.Sync == SyncAlways {
		opts.SyncInterval, opts.SyncAlways = 0, true
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	log := &logger{log: o.Log, fatal: make(chan string, 1)}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if err := ready(ctx, s, log); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, err
	}
	return s, nil
}

// ready waits until s serves, or has said that it cannot.
func ready(ctx context.Context, s *server.Server, log *logger) error {
	deadline := time.Now().Add(startTimeout)
	for !s.ReadyForConnections(100 * time.Millisecond) {
		select {
		case reason := <-log.fatal:
			return errors.New(reason)
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("did not start within %s", startTimeout)
		}
	}
	return nil
}

func orRandom(port int) int {
	if port == 0 {
		return server.RANDOM_PORT
	}
	return port
}

// URL is where clients connect.
func (s *Server) URL() string { return s.nats.ClientURL() }

// MonitorURL is where the HTTP pages are, or empty.
func (s *Server) MonitorURL() string {
	if a := s.nats.MonitorAddr(); a != nil {
		return "http://" + a.String()
	}
	return ""
}

// Stop ends the server after it has written everything, and gives the
// directory free. Stopping twice is stopping once.
func (s *Server) Stop() {
	s.once.Do(func() {
		removeAddress(s.dir)
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
		s.lock.Release()
	})
}

// A logger hands the server's lines to slog.
type logger struct {
	log   *slog.Logger
	fatal chan string // the first reason why the server cannot run
}

func (l *logger) line(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, "nats", "line", fmt.Sprintf(format, v...))
}

func (l *logger) Noticef(format string, v ...any) { l.line(slog.LevelInfo, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.line(slog.LevelError, format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }

// Fatalf ends a nats-server process; this one may have other things to stop.
func (l *logger) Fatalf(format string, v ...any) {
	l.line(slog.LevelError, format, v)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
