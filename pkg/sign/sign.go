// Package sign proves that a message was made by whom it should have been: an
// ed25519 signature (RFC 8032) over the bytes of its body, by a key of which
// the reader knows the public half. Keys are PEM files, as openssl writes them:
//
//	openssl genpkey -algorithm ed25519 -out decisions.key
//	openssl pkey -in decisions.key -pubout -out decisions.pub
//
// It promises that
//
//   - a body is taken only with exactly one signature, by exactly one key, and
//     only while that key lies in the folder of trusted ones: a key that is put
//     there counts at once, one that is removed does not for longer than Fresh;
//   - whatever cannot be read is an error, and nothing is taken on its account;
//   - no private key is in any error, log or String.
package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fresh is how long what was read of key files is used without another look.
const Fresh = 5 * time.Second

// Suffix is what the names of public keys end with.
const Suffix = ".pub"

// The types of PEM blocks (RFC 7468 sections 10 and 13).
const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// ErrUntrusted is what every signature is refused with, for errors.Is. An error
// that is none of these says that the keys could not be read.
var ErrUntrusted = errors.New("untrusted")

// A Mark is a signature and the id of its key, as they stand in headers.
type Mark struct{ Key, Sig string }

// ID names a public key: the first 16 bytes of its SHA-256, in hexadecimal. It
// only says which key to try; what counts is the signature.
func ID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16])
}

// Generate makes a new pair, as PEM.
func Generate() (private, public []byte, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: spki}), nil
}

// ParsePrivate reads a private key.
func ParsePrivate(text []byte) (ed25519.PrivateKey, error) {
	block, err := only(text, privateBlock)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("is no ed25519 key in PKCS #8; `openssl genpkey -algorithm ed25519` makes one")
	}
	return key, nil
}

// ParsePublic reads a public key.
func ParsePublic(text []byte) (ed25519.PublicKey, error) {
	block, err := only(text, publicBlock)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(block)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("is no public ed25519 key; `openssl pkey -pubout` makes one of a private one")
	}
	return key, nil
}

// only returns the one block of text, which must be of the type.
func only(text []byte, want string) ([]byte, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("holds no PEM block %q", want)
	case block.Type == privateBlock && want == publicBlock:
		return nil, errors.New("is a private key; want its public half only")
	case block.Type == publicBlock && want == privateBlock:
		return nil, errors.New("is a public key; want the private one")
	case block.Type != want:
		return nil, fmt.Errorf("holds a PEM block of another type; want %q", want)
	case len(strings.TrimSpace(string(rest))) > 0:
		return nil, errors.New("holds more than one key")
	}
	return block.Bytes, nil
}

// A file is what was read of the disk, and when.
type file[T any] struct {
	read func() (T, error)

	mu    sync.Mutex
	value T
	at    time.Time
}

// get returns what is there now, or was less than Fresh ago unless anew.
func (f *file[T]) get(now time.Time, anew bool) (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := now.Sub(f.at); !anew && !f.at.IsZero() && age >= 0 && age < Fresh {
		return f.value, nil
	}
	value, err := f.read()
	if err != nil {
		f.at = time.Time{}
		return value, err
	}
	f.value, f.at = value, now
	return value, nil
}

// A Signer signs with the key in a file, also when another takes its place.
type Signer struct{ key file[ed25519.PrivateKey] }

// NewSigner returns a signer with the private key in a file.
func NewSigner(name string) (*Signer, error) {
	s := &Signer{key: file[ed25519.PrivateKey]{read: func() (ed25519.PrivateKey, error) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		key, err := ParsePrivate(text)
		if err != nil {
			return nil, fmt.Errorf("signing key %q: %w", name, err)
		}
		return key, nil
	}}}
	_, err := s.key.read()
	return s, err
}

// Sign signs body.
func (s *Signer) Sign(body []byte, now time.Time) (Mark, error) {
	key, err := s.key.get(now, false)
	if err != nil {
		return Mark{}, err
	}
	return Mark{Key: ID(public(key)), Sig: base64.StdEncoding.EncodeToString(ed25519.Sign(key, body))}, nil
}

// ID is the id of the present key, or empty if it cannot be read.
func (s *Signer) ID(now time.Time) string {
	key, err := s.key.get(now, false)
	if err != nil {
		return ""
	}
	return ID(public(key))
}

// public is the second half of an ed25519 key, by its documentation.
func public(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.SeedSize:])
}

// A Verifier knows whom to trust: the keys in a folder.
type Verifier struct {
	keys file[map[string]ed25519.PublicKey]
}

// NewVerifier returns a verifier that trusts the public keys in a folder, in
// all its files whose names end in .pub. There must be one at least.
func NewVerifier(folder string) (*Verifier, error) {
	v := &Verifier{keys: file[map[string]ed25519.PublicKey]{read: func() (map[string]ed25519.PublicKey, error) { return readKeys(folder) }}}
	_, err := v.keys.read()
	return v, err
}

func readKeys(folder string) (map[string]ed25519.PublicKey, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("trusted keys: %w", err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, e := range entries {
		name := filepath.Join(folder, e.Name())
		if !strings.HasSuffix(e.Name(), Suffix) {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("trusted keys: %w", err)
		}
		key, err := ParsePublic(text)
		if err != nil {
			return nil, fmt.Errorf("trusted key %q: %w", name, err)
		}
		keys[ID(key)] = key
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("trusted keys: no file *%s in %q, so that every decision would be refused", Suffix, folder)
	}
	return keys, nil
}

// IDs are those of the keys that are trusted just now, in order; none if they
// cannot be read.
func (v *Verifier) IDs(now time.Time) []string {
	keys, err := v.keys.get(now, false)
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(keys))
}

// Verify reports why body is not taken: ErrUntrusted, or that the trusted keys
// cannot be read. Keys and sigs are all values of the two headers.
func (v *Verifier) Verify(body []byte, keys, sigs []string, now time.Time) error {
	if len(keys) == 0 && len(sigs) == 0 {
		return fmt.Errorf("%w: it is not signed", ErrUntrusted)
	}
	if len(keys) != 1 || len(sigs) != 1 {
		return fmt.Errorf("%w: want one key and one signature, got %d and %d", ErrUntrusted, len(keys), len(sigs))
	}
	trusted, err := v.keys.get(now, false)
	if err != nil {
		return err
	}
	key, known := trusted[keys[0]]
	if !known { // perhaps it was put there just now
		if trusted, err = v.keys.get(now, true); err != nil {
			return err
		}
		if key, known = trusted[keys[0]]; !known {
			return fmt.Errorf("%w: key %.40q is none of the %d that are trusted", ErrUntrusted, keys[0], len(trusted))
		}
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(sigs[0])
	if err != nil || len(sig) != ed25519.SignatureSize {
		return fmt.Errorf("%w: the signature is not base64 of %d bytes", ErrUntrusted, ed25519.SignatureSize)
	}
	if !ed25519.Verify(key, body, sig) {
		return fmt.Errorf("%w: the signature is not of key %s over this body", ErrUntrusted, keys[0])
	}
	return nil
}
