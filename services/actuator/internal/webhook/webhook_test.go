package webhook

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/outbound"
)

const secret = "a-secret-of-enough-bytes"

func TestAnOrderIsSignedAndHasItsKey(t *testing.T) {
	type seen struct{ Method, Key, Body, Query string }
	requests := make(chan seen, 3)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		signed := body
		if r.Method == http.MethodGet {
			signed = []byte(r.URL.RawQuery)
		}
		var sent int64
		if _, err := fmt.Sscanf(r.Header.Get("Selfheal-Signature"), "t=%d,", &sent); err != nil || r.Header.Get("Selfheal-Signature") != outbound.Signature(secret, time.Unix(sent, 0), signed) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		requests <- seen{r.Method, r.Header.Get("Idempotency-Key"), string(body), r.URL.RawQuery}
		_, _ = io.WriteString(w, `{"state":"running","machine":"stopped","message":" boots\u0007 "}`)
	}))
	defer srv.Close()
	c, err := New(config.Secret(srv.URL+"/hook?team=x"), secret, "prod")
	if err != nil {
		t.Fatal(err)
	}
	want := Answer{State: Running, Machine: Stopped, Message: "boots"}
	for _, ask := range []func() (Answer, error){
		func() (Answer, error) {
			return c.Give(t.Context(), Order{ID: "d-1", Verb: Replace, Node: "n1", UID: "u1", Reason: "down"})
		},
		func() (Answer, error) { return c.Ask(t.Context(), "d-1") },
		func() (Answer, error) { return c.Machine(t.Context(), "n1", "aws:///i-1") },
	} {
		got, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
	close(requests)
	var got []seen
	for r := range requests {
		got = append(got, r)
	}
	if diff := cmp.Diff([]seen{
		{"POST", "d-1", `{"id":"d-1","verb":"replace","cluster":"prod","node":"n1","uid":"u1","reason":"down"}`, "team=x"},
		{"GET", "", "", "cluster=prod&id=d-1&team=x"},
		{"GET", "", "", "cluster=prod&node=n1&provider_id=aws%3A%2F%2F%2Fi-1&team=x"},
	}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	for _, tt := range []struct {
		name    string
		code    int
		body    string
		want    Answer
		refused bool
		failed  bool
	}{
		{"states that are not known", 200, `{"state":"perhaps","machine":"?"}`, Answer{State: Unknown, Machine: Unknown}, false, false},
		{"nothing is known of it", 404, "", Answer{State: Unknown, Machine: Unknown}, false, false},
		{"no JSON", 200, "ok", Answer{}, false, true},
		{"in trouble", 503, "", Answer{}, false, true},
		{"not allowed", 403, "", Answer{}, true, true},
		{"elsewhere", 302, "", Answer{}, true, true},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://169.254.169.254/")
			w.WriteHeader(tt.code)
			_, _ = io.WriteString(w, tt.body)
		}))
		c, err := New(config.Secret(srv.URL+"/path-is-secret"), secret, "prod")
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Ask(t.Context(), "d-1")
		srv.Close()
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.failed || errors.Is(err, ErrRefused) != tt.refused {
			t.Errorf("%s: error %v, answer (-want +got):\n%s", tt.name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "path-is-secret") {
			t.Errorf("%s: %v gives the URL away", tt.name, err)
		}
	}
}

func TestAWebhookThatCannotBeTrustedIsRefused(t *testing.T) {
	for _, tt := range []struct{ url, secret, says string }{
		{"ftp://x", secret, "https://"},
		{"://", secret, "https://"},
		{"http://machines.example", secret, "only for a loopback host"},
		{"https://machines.example", "", "node_webhook_secret: has 0 bytes"},
		{"https://machines.example", "short", "at least 16"},
	} {
		if _, err := New(config.Secret(tt.url), config.Secret(tt.secret), "prod"); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want it to say %q", tt.url, err, tt.says)
		}
	}
	if c, err := New("", "", "prod"); c != nil || err != nil {
		t.Errorf("without a URL: %v, %v", c, err)
	}
}
