package heal

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
)

// idEncoding is lower case and free of punctuation, so an id can stand in a
// NATS subject, a Kubernetes label and a URL alike.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// ID derives an identifier from parts: the same parts give the same id, and
// parts cannot run into each other. 120 bits of SHA-256 leave a chance of a
// clash below 10⁻¹⁸ at 10⁹ ids.
func ID(prefix string, parts ...string) string {
	var room [256]byte // most are shorter, and so cost no allocation
	text := room[:0]
	for _, p := range parts {
		text = strconv.AppendInt(text, int64(len(p)), 10)
		text = append(append(append(text, ':'), p...), ',')
	}
	sum := sha256.Sum256(text)
	return prefix + "-" + idEncoding.EncodeToString(sum[:15])
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
