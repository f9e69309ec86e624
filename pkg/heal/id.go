package heal

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// idEncoding is lower case and free of punctuation, so an id can stand in a
// NATS subject, a Kubernetes label and a URL alike.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ID derives an identifier from parts: the same parts give the same id, and
// parts cannot run into each other. 120 bits of SHA-256 leave a chance of a
// clash below 10⁻¹⁸ at 10⁹ ids.
func ID(prefix string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s,", len(p), p) // a hash takes everything
	}
	return prefix + "-" + idEncoding.EncodeToString(h.Sum(nil)[:15])
}

// Token encodes a Kubernetes name as one token of a NATS subject. Names never
// hold "_", so the dots that would split the token become "_" and read back;
// no name at all is "_".
func Token(name string) string {
	if name == "" {
		return "_"
	}
	return strings.ToLower(strings.ReplaceAll(name, ".", "_"))
}

// FromToken is the inverse of Token for names (not for kinds, whose case is lost).
func FromToken(token string) string {
	if token == "_" {
		return ""
	}
	return strings.ReplaceAll(token, "_", ".")
}
