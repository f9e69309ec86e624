package channel

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

func openOne(t *testing.T, s config.Settings) *Line {
	t.Helper()
	lines, err := Open(s, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 {
		t.Fatalf("%d channels, want 1", len(lines))
	}
	return lines[0]
}

// A request is what a double was sent.
type request struct {
	header http.Header
	path   string
	body   []byte
}

// double takes everything and passes it on.
func double(t *testing.T) (url string, got <-chan request) {
	t.Helper()
	c := make(chan request, 16)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c <- request{r.Header, r.Method + " " + r.URL.String(), body}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, c
}

func TestTheWebhookGetsTheResultsEventAsItWas(t *testing.T) {
	url, got := double(t)
	s := settings()
	s.WebhookURL = config.Secret("http://user:pass-word@" + url[len("http://"):] + "/hook?x=1")
	line := openOne(t, s)
	if diff := cmp.Diff([]route.Listener{{Channel: "webhook", Audience: route.Record}}, line.Listeners); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}

	event := heal.NewEvent(sample.Healed(), "test", "actuator", sample.Noon)
	event.ID, event.CorrelationID = "another-writers-id", "incident-1"
	n := sample.Notification("webhook", "", event.Data)
	n.Origin = heal.MakeOrigin(event, sample.Noon.Add(time.Second))
	want, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	if err := line.Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if diff := cmp.Diff(string(want), string(r.body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if r.path != "POST /hook?x=1" {
		t.Errorf("sent to %s", r.path)
	}
	for key, want := range map[string]string{
		"Content-Type":    "application/cloudevents+json; charset=utf-8",
		"Idempotency-Key": event.ID,
		"User-Agent":      "self-healing-notifier",
		"Authorization":   "Basic dXNlcjpwYXNzLXdvcmQ=",
	} {
		if got := r.header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestTheSignatureIsOfTheTimeAndTheBody(t *testing.T) {
	// printf '1795349993.{"a":1}' | openssl dgst -sha256 -hmac whsec
	const want = "t=1795349993,v1=4cefb250fa01fa3e9b6d1bc0f6a2a77fdc05014049392f7113d9efdee5c0bfce"
	if got := outbound.Signature("whsec", time.Unix(1795349993, 0), []byte(`{"a":1}`)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheWebhookCanTellThatItIsUs(t *testing.T) {
	const shared = "a secret that the webhook's owner knows"
	url, got := double(t)
	s := settings()
	s.WebhookURL, s.WebhookSecret = config.Secret(url), shared
	line := openOne(t, s)
	if len(line.Warnings) != 0 {
		t.Errorf("warnings: %q", line.Warnings)
	}
	begin := time.Now().Unix()
	if err := line.Send(t.Context(), sample.Notification("webhook", "", sample.Healed())); err != nil {
		t.Fatal(err)
	}
	r := <-got
	var sent int64
	var sum string
	if _, err := fmt.Sscanf(r.header.Get("Selfheal-Signature"), "t=%d,v1=%s", &sent, &sum); err != nil {
		t.Fatalf("signature %q: %v", r.header.Get("Selfheal-Signature"), err)
	}
	if now := time.Now().Unix(); sent < begin || sent > now {
		t.Errorf("sent at %d, want %d to %d", sent, begin, now)
	}
	if want := outbound.Signature(shared, time.Unix(sent, 0), r.body); r.header.Get("Selfheal-Signature") != want {
		t.Errorf("signature %s, want %s", r.header.Get("Selfheal-Signature"), want)
	}

	s.WebhookSecret = ""
	if err := openOne(t, s).Send(t.Context(), sample.Notification("webhook", "", sample.Healed())); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.header["Selfheal-Signature"] != nil {
		t.Errorf("signed without a secret: %s", r.header.Get("Selfheal-Signature"))
	}
	s.WebhookSecret = "canary"
	if diff := cmp.Diff([]string{"webhook_secret has 6 bytes: less than 16 can be guessed"}, openOne(t, s).Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestAnEventOfUnknownOriginIsNotMadeUp(t *testing.T) {
	url, _ := double(t)
	s := settings()
	s.WebhookURL = config.Secret(url)
	n := sample.Notification("webhook", "", sample.Healed())
	n.Origin = heal.Origin{}
	wants(t, openOne(t, s).Send(t.Context(), n), true, 0, "without the origin")
}

// A machine gets foreign text as it is, but it can end no string and no line of
// the event: what it reads is what we wrote.
func TestForeignTextCannotBreakTheEvent(t *testing.T) {
	for _, text := range hostile() {
		r := everywhere(text)
		data, err := json.Marshal(sample.Notification("webhook", "", r).Origin.Event(r))
		if err != nil || !utf8.Valid(data) {
			t.Fatalf("%.80q: %v", text, err)
		}
		var got struct {
			Data struct{ Message, Outcome string }
		}
		if err := json.Unmarshal(data, &got); err != nil || got.Data.Outcome != string(r.Outcome) {
			t.Errorf("%.80q: %+v, %v", text, got, err)
		}
		if utf8.ValidString(text) && got.Data.Message != text {
			t.Errorf("%.80q came as %.80q", text, got.Data.Message)
		}
	}
}
