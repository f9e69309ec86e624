package watch

import (
	"strings"
	"testing"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestLastWordsNameWhatIsMissingAndNoSecret(t *testing.T) {
	for message, want := range map[string]string{
		"": "",
		"dial tcp: lookup orders-db.shop.svc: no such host":                     "dial tcp: lookup orders-db.shop.svc: no such host",
		"cannot reach postgres://app:canary@orders-db:5432/app?sslmode=disable": "cannot reach postgres://***@orders-db:5432/app?sslmode=disable",
		"redis://:canary@cache:6379: connection refused":                        "redis://***@cache:6379: connection refused",
		`config: password=canary host=orders-db`:                                `config: password=*** host=orders-db`,
		`{"db_password": "canary word", "host": "orders-db"}`:                   `{"db_password": ***, "host": "orders-db"}`,
		"DB_SECRET_KEY: canary; gave up":                                        "DB_SECRET_KEY: ***; gave up",
		"api key = canary":                                                      "api key = ***",
		"401 for Authorization: Bearer canary.canary-canary":                    "401 for Authorization: *** ***",
		"with bearer canarycanary":                                              "with bearer ***",
		"jwt eyJcanary.canary.canary was refused":                               "jwt *** was refused",
		"AKIACANARYCANARYCANA is not active":                                    "*** is not active",
		"ghp_canarycanarycanary and sk-canarycanarycanary":                      "*** and ***",
		"key is " + strings.Repeat("canary", 8) + "==":                          "key is ***",
		"-----BEGIN RSA PRIVATE KEY-----\ncanary\ncanary":                       "***",
		"panic: \x1b[31mnil map\n\tmain.go:7":                                   "panic: [31mnil map  main.go:7",
	} {
		if got := lastWords(message); got != want {
			t.Errorf("%q became %q, want %q", message, got, want)
		}
	}
}

func TestOfLongLastWordsBothEndsStay(t *testing.T) {
	got := lastWords("panic: it began " + strings.Repeat("so € and so, ", 400) + "and ended at orders-db")
	if len(got) > heal.MaxText || !strings.HasPrefix(got, "panic: it began ") || !strings.Contains(got, " … ") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	got = lastWords("panic: it began " + strings.Repeat("so € and so, ", 100) + "and ended at orders-db")
	if len(got) > heal.MaxText || !strings.HasPrefix(got, "panic: it began ") || !strings.HasSuffix(got, "and ended at orders-db") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	// A secret is masked before anything is cut: half of one would not be known for one.
	if got := lastWords("password=" + strings.Repeat("canary", 20) + strings.Repeat(" well", 100)); strings.Contains(got, "canary") {
		t.Errorf("half a secret is left: %q", got)
	}
}
