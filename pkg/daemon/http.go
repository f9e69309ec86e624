package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stuckAfter is how old the last heartbeat may be. Long, because the answer
// makes Kubernetes kill the process.
const stuckAfter = 60 * time.Second

// handler serves the contract's endpoints.
func (p *process) handler() http.Handler {
	metrics := promhttp.HandlerFor(p.gatherer(), promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	})
	paths := map[string]http.Handler{"/metrics": metrics, "/status": http.HandlerFunc(p.serveStatus)}
	for _, path := range []string{"/health", "/livez", "/healthz"} {
		paths[path] = http.HandlerFunc(p.serveHealth)
	}
	for _, path := range []string{"/ready", "/readyz"} {
		paths[path] = http.HandlerFunc(p.serveReady)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := paths[r.URL.Path]
		switch {
		case !ok:
			answer(w, http.StatusNotFound, map[string]any{"error": "not found; there are /health, /ready, /metrics and /status"})
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			answer(w, http.StatusMethodNotAllowed, map[string]any{"error": "only GET and HEAD are allowed"})
		default:
			h.ServeHTTP(w, r)
		}
	})
}

func (p *process) serveHealth(w http.ResponseWriter, _ *http.Request) {
	status, code := "healthy", http.StatusOK
	if time.Since(*p.beat.Load()) > stuckAfter {
		status, code = "stuck", http.StatusServiceUnavailable
	}
	answer(w, code, map[string]any{
		"status":    status,
		"timestamp": float64(time.Now().UnixMilli()) / 1000,
		"uptime":    time.Since(p.started).Seconds(),
	})
}

func (p *process) serveReady(w http.ResponseWriter, _ *http.Request) {
	// Before the first Run there is nothing to ask yet.
	said := map[string]error{"nats_connection": errNotStarted, "monitoring_active": errNotStarted}
	if d := p.current.Load(); d != nil {
		said = d.Ready()
	}
	body, ready := readiness(said)
	code := http.StatusOK
	if !ready {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, body)
}

// readiness is what checks say, in the form of /ready.
func readiness(said map[string]error) (body map[string]any, ready bool) {
	status := "ready"
	checks := map[string]string{}
	body = map[string]any{"checks": checks}
	for field, err := range said {
		body[field] = err == nil
		checks[field] = "ok"
		if err != nil {
			checks[field] = err.Error()
			status = "not_ready"
		}
	}
	body["status"] = status
	return body, status == "ready"
}

var errNotStarted = errors.New("not started yet")

func (p *process) serveStatus(w http.ResponseWriter, _ *http.Request) {
	body := map[string]any{}
	if d := p.current.Load(); d != nil {
		body = d.fields()
	}
	body["cpu_usage"] = p.cpu.fraction()
	body["memory_usage"] = residentBytes()
	answer(w, http.StatusOK, body)
}

func answer(w http.ResponseWriter, code int, body map[string]any) {
	data, err := json.Marshal(body)
	if err != nil { // a service's status field that JSON cannot hold
		code, data = http.StatusInternalServerError, fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n')) // the asker went away; nobody to tell
}

// listen starts serving on addr and returns what stops it; no address, no HTTP.
func (p *process) listen(ctx context.Context, addr string) (*http.Server, error) {
	if addr == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http_addr %s: %w", addr, err)
	}
	srv := &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	p.log.Info("serving http", "addr", l.Addr().String())
	p.serving.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("http server ended", "err", err)
		}
	})
	return srv, nil
}
