package actuator

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestAConfigThatCannotWorkIsRefusedByName(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		says string
	}{
		{"a mode that is not known", Config{Mode: "Auto"}, `mode: "Auto"`},
		{"a window that never fits", Config{RecoveryTimeout: time.Minute, VerifyWindow: time.Hour}, "verify_window: 1h0m0s"},
		{"a negative time", Config{RecoveryTimeout: -time.Minute, VerifyWindow: -time.Hour}, "recovery_timeout: -1m0s"},
		{"a negative cap", Config{MaxPodActionsCluster: -1}, "max_pod_actions_cluster -1"},
	} {
		err := Run(t.Context(), tt.cfg, Deps{})
		if !errors.Is(err, config.ErrSettings) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want it to say %q", tt.name, err, tt.says)
		}
	}
}

func TestWithoutAnythingSaidItOnlyObserves(t *testing.T) {
	cfg, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Mode != heal.ModeObserve {
		t.Errorf("mode %q", cfg.Mode)
	}
}

func TestWhichNamespacesNATSRunsIn(t *testing.T) {
	for servers, want := range map[string][]string{
		"nats://127.0.0.1:4222": nil,
		"nats://nats:4222":      nil,
		"nats://nats.messaging": nil,
		"nats://nats.messaging.svc:4222,tls://n2.messaging.svc.cluster.local": {"messaging"},
		"nats://a.one.svc,nats://b.two.svc":                                   {"one", "two"},
		"::":                                                                  nil,
	} {
		if diff := cmp.Diff(want, daemon.NATSNamespaces(servers)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", servers, diff)
		}
	}
}

type answers func() (*http.Response, error)

func (a answers) RoundTrip(*http.Request) (*http.Response, error) { return a() }

func TestReadinessFollowsWhatTheAPIServerAnswers(t *testing.T) {
	status := func(code int) answers {
		return func() (*http.Response, error) {
			return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: http.NoBody}, nil
		}
	}
	c := newConnection(slog.New(slog.DiscardHandler))
	if c.check() == nil {
		t.Error("ready before it was asked")
	}
	for _, tt := range []struct {
		name  string
		next  answers
		ready bool
	}{
		{"it answers", status(http.StatusOK), true},
		{"it is away", func() (*http.Response, error) { return nil, syscall.ECONNREFUSED }, false},
		{"it refuses something", status(http.StatusForbidden), true},
		{"it does not know us", status(http.StatusUnauthorized), false},
		{"it is busy, which is an answer", status(http.StatusTooManyRequests), true},
	} {
		resp, err := c.observe(tt.next).RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if err == nil {
			_ = resp.Body.Close()
		}
		if got := c.check(); (got == nil) != tt.ready {
			t.Errorf("%s: %v, want ready %v", tt.name, got, tt.ready)
		}
	}
}
