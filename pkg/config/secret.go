package config

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

// A Secret is a string that prints as *** in every way that Go prints things.
// An empty one prints as nothing, so that one sees whether it is set.
type Secret string

const redacted = "***"

// Reveal returns the secret itself, for the one place that has to send it.
func (s Secret) Reveal() string { return string(s) }

// String is ***.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString is "***".
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format prints *** for every verb: without it %x and %q would print the text.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.String()
	if verb == 'q' || verb == 'v' && f.Flag('#') {
		text = s.GoString()
	}
	_, _ = io.WriteString(f, text) // a fmt.State keeps its own errors
}

// MarshalJSON is "***".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(s.GoString()), nil }

// MarshalText is ***, for YAML and everything else that asks for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is ***.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
