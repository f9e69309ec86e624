package sign_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/sign"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// pair puts a new key into folders of its own.
type pair struct{ key, trust string }

func makePair(t *testing.T) pair {
	t.Helper()
	private, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	p := pair{key: filepath.Join(t.TempDir(), "decisions.key"), trust: t.TempDir()}
	write(t, p.key, private)
	write(t, filepath.Join(p.trust, "decisions.pub"), public)
	return p
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (p pair) signer(t *testing.T) *sign.Signer {
	t.Helper()
	s, err := sign.NewSigner(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p pair) verifier(t *testing.T) *sign.Verifier {
	t.Helper()
	v, err := sign.NewVerifier(p.trust)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signed(t *testing.T, s *sign.Signer, body string) sign.Mark {
	t.Helper()
	m, err := s.Sign([]byte(body), noon)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOnlyOneGoodSignatureOfATrustedKeyOverTheVeryBytesIsTaken(t *testing.T) {
	p, other := makePair(t), makePair(t)
	v, m, foreign := p.verifier(t), signed(t, p.signer(t), "body"), signed(t, other.signer(t), "body")
	one := func(s string) []string { return []string{s} }
	tests := map[string]struct {
		body       string
		keys, sigs []string
		want       string // empty: it is taken
	}{
		"as it was signed":         {"body", one(m.Key), one(m.Sig), ""},
		"unsigned":                 {"body", nil, nil, "not signed"},
		"without a key":            {"body", nil, one(m.Sig), "got 0 and 1"},
		"without a signature":      {"body", one(m.Key), nil, "got 1 and 0"},
		"two signatures":           {"body", one(m.Key), []string{m.Sig, foreign.Sig}, "got 1 and 2"},
		"two keys":                 {"body", []string{m.Key, foreign.Key}, one(m.Sig), "got 2 and 1"},
		"another body":             {"bodY", one(m.Key), one(m.Sig), "over this body"},
		"a longer body":            {"body ", one(m.Key), one(m.Sig), "over this body"},
		"no body":                  {"", one(m.Key), one(m.Sig), "over this body"},
		"a key nobody trusts":      {"body", one(foreign.Key), one(foreign.Sig), "none of the 1 that are trusted"},
		"under a foreign name":     {"body", one(m.Key), one(foreign.Sig), "over this body"},
		"a signature cut short":    {"body", one(m.Key), one(m.Sig[:40]), "not base64 of 64 bytes"},
		"no base64":                {"body", one(m.Key), one("!" + m.Sig[1:]), "not base64"},
		"a line break in between":  {"body", one(m.Key), one(m.Sig[:20] + "\n" + m.Sig[20:] + "AAAA"), "not base64"},
		"all zeroes":               {"body", one(m.Key), one(strings.Repeat("A", 86) + "=="), "over this body"},
		"an empty key":             {"body", one(""), one(m.Sig), "none of the 1"},
		"the key's id in capitals": {"body", one(strings.ToUpper(m.Key)), one(m.Sig), "none of the 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := v.Verify([]byte(tt.body), tt.keys, tt.sigs, noon)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.Is(err, sign.ErrUntrusted) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want it untrusted: %s", err, tt.want)
			}
		})
	}
}

func TestAKeyIsRotatedWithoutAnybodyStartingAnew(t *testing.T) {
	p, next := makePair(t), makePair(t)
	s, v := p.signer(t), p.verifier(t)
	old := signed(t, s, "body")
	check := func(m sign.Mark, now time.Time) error {
		return v.Verify([]byte("body"), []string{m.Key}, []string{m.Sig}, now)
	}
	if err := check(old, noon); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.trust, "next.pub"), read(t, filepath.Join(next.trust, "decisions.pub")))
	write(t, p.key, read(t, next.key))
	m, err := s.Sign([]byte("body"), noon.Add(sign.Fresh))
	if err != nil || m.Key == old.Key {
		t.Fatalf("signed with %s again: %v", m.Key, err)
	}
	if err := check(m, noon.Add(time.Second)); err != nil {
		t.Errorf("the new key must count at once: %v", err)
	}
	if err := check(old, noon.Add(time.Second)); err != nil {
		t.Errorf("the old key is still trusted: %v", err)
	}
	if err := os.Remove(filepath.Join(p.trust, "decisions.pub")); err != nil {
		t.Fatal(err)
	}
	if err := check(old, noon.Add(time.Second+sign.Fresh)); !errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("a key that was removed: %v", err)
	}
}

func TestWhileTheKeysCannotBeReadNothingIsTaken(t *testing.T) {
	p := makePair(t)
	s, v := p.signer(t), p.verifier(t)
	m := signed(t, s, "body")
	if err := os.Remove(filepath.Join(p.trust, "decisions.pub")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p.key); err != nil {
		t.Fatal(err)
	}
	later := noon.Add(sign.Fresh)
	if err := v.Verify([]byte("body"), []string{m.Key}, []string{m.Sig}, later); err == nil || errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("got %v; want an error that is not the message's", err)
	}
	if m, err := s.Sign([]byte("body"), later); err == nil {
		t.Errorf("signed with %s", m.Key)
	}
	if got, ids := s.ID(later), v.IDs(later); got != "" || ids != nil {
		t.Errorf("still %q, %q", got, ids)
	}
}

func TestAKeyThatIsNoneIsRefusedByWhatIsWrongWithIt(t *testing.T) {
	private, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	elliptic := "-----BEGIN PRIVATE KEY-----\nMEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCCA\n-----END PRIVATE KEY-----\n"
	for name, tt := range map[string]struct{ text, private, public string }{
		"empty":            {"", `holds no PEM block "PRIVATE KEY"`, `holds no PEM block "PUBLIC KEY"`},
		"the other half":   {string(public), "is a public key", ""},
		"the private half": {string(private), "", "is a private key"},
		"two":              {string(private) + string(private), "more than one", "is a private key"},
		"of another sort":  {elliptic, "no ed25519 key", "is a private key"},
		"a certificate":    {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "another type", "another type"},
	} {
		t.Run(name, func(t *testing.T) {
			_, privateErr := sign.ParsePrivate([]byte(tt.text))
			_, publicErr := sign.ParsePublic([]byte(tt.text))
			for _, c := range []struct {
				err  error
				want string
			}{{privateErr, tt.private}, {publicErr, tt.public}} {
				if (c.err == nil) != (c.want == "") || c.err != nil && !strings.Contains(c.err.Error(), c.want) {
					t.Errorf("got %v, want %q", c.err, c.want)
				}
				if c.err != nil && len(tt.text) > 100 && strings.Contains(c.err.Error(), tt.text[40:60]) {
					t.Error("the error shows the key")
				}
			}
		})
	}
}
