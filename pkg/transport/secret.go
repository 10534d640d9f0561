package transport

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// redacted stands wherever a secret would have stood.
const redacted = "[redacted]"

// Secret is a credential that cannot be printed by accident. The zero value is
// no secret. The value sits behind a pointer because fmt prints unexported
// fields of other structs without asking their methods; compare with Equal.
type Secret struct{ v *string }

// NewSecret removes outer white space. White space inside, control or
// invisible characters and an empty value are errors; they never show v.
func NewSecret(v string) (Secret, error) {
	v = strings.TrimSpace(v)
	if v == "" {
		return Secret{}, errors.New("is empty")
	}
	if !utf8.ValidString(v) {
		return Secret{}, errors.New("is not valid text")
	}
	for _, r := range v {
		switch {
		case unicode.IsControl(r):
			return Secret{}, errors.New("contains a control character")
		case unicode.IsSpace(r):
			return Secret{}, errors.New("contains white space")
		case !unicode.IsPrint(r):
			return Secret{}, errors.New("contains an invisible character")
		}
	}
	return Secret{v: &v}, nil
}

// Reveal returns the value; "" for the zero Secret. Only what writes a header
// calls it.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.v == nil }

// Equal compares values in constant time.
func (s Secret) Equal(t Secret) bool {
	return s.IsZero() == t.IsZero() && subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(t.Reveal())) == 1
}

// String returns "[redacted]", or "" when there is no secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString is String for %#v.
func (s Secret) GoString() string { return s.String() }

// Format is String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON writes String's text.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalText writes String's text: YAML and flag printing ask for this.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
