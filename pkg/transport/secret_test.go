package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

const canary = "cAnary+t0ken/8f3a=="

func secret(t testing.TB, v string) Secret {
	t.Helper()
	s, err := NewSecret(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNewSecret(t *testing.T) {
	for in, want := range map[string]string{
		"hunter2":         "hunter2",
		" \t hunter2\r\n": "hunter2",
		"pässwörd":        "pässwörd",
	} {
		if s, err := NewSecret(in); err != nil || s.Reveal() != want {
			t.Errorf("NewSecret(%q) = %q, %v", in, s.Reveal(), err)
		}
	}
	for in, want := range map[string]string{
		"":                   "is empty",
		" \n":                "is empty",
		"hunter2 x":          "white space",
		"hunter2\nx":         "control character",
		"hunter2\x00":        "control character",
		"hunter2\x1b[0m":     "control character",
		"hunter2\u00a0x":     "white space",
		"hunter2\u200bx":     "invisible",
		"hunter2\u202ex":     "invisible",
		"hunter2\xff":        "valid text",
		"Bearer hunter2\tzz": "white space",
	} {
		s, err := NewSecret(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || !s.IsZero() {
			t.Errorf("NewSecret(%q): %v, want an error with %q and without the value", in, err, want)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	s := secret(t, canary)
	type outer struct {
		Public Secret
		hidden Secret
		ptr    *Secret
	}
	o := outer{Public: s, hidden: s, ptr: &s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", o)
		fmt.Fprintf(&out, verb+"\n", []any{s, o, map[string]Secret{"k": s}})
	}
	fmt.Fprintln(&out, s, o)
	js, err := json.Marshal(map[string]any{"a": s, "b": o, "c": &s})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	text, _ := s.MarshalText()
	out.Write(text)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "o", o)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s, "o", o)
	got := out.String()
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(got, form) {
			t.Errorf("the secret is in\n%s", got)
		}
	}
	if !strings.Contains(got, "[redacted]") {
		t.Error("nothing says that something is hidden")
	}
	if (Secret{}).String() != "" || !(Secret{}).IsZero() || (Secret{}).Reveal() != "" {
		t.Error("the zero Secret is something")
	}
}

func TestSecretEqual(t *testing.T) {
	a, b := secret(t, "hunter2"), secret(t, "hunter3")
	if !a.Equal(secret(t, "hunter2")) || a.Equal(b) || a.Equal(Secret{}) || !(Secret{}).Equal(Secret{}) {
		t.Error("Equal does not compare values")
	}
}

func TestRedactor(t *testing.T) {
	var r Redactor
	if got := r.String("nothing known"); got != "nothing known" {
		t.Errorf("the zero Redactor changed text: %q", got)
	}
	r.Add(secret(t, canary))
	r.Add(secret(t, canary))
	r.Add(secret(t, "abcd"))
	r.Add(secret(t, "abcdefgh"))
	r.Add(secret(t, "x")) // too short to look for
	r.Add(Secret{})
	std, raw := base64.StdEncoding.EncodeToString([]byte(canary)), base64.RawURLEncoding.EncodeToString([]byte(canary))
	for in, want := range map[string]string{
		"plain " + canary + "!":               "plain [redacted]!",
		canary:                                "[redacted]",
		canary + canary:                       "[redacted][redacted]",
		"b64 " + std + ".":                    "b64 [redacted].",
		"b64 " + raw + ".":                    "b64 [redacted].",
		"?t=" + url.QueryEscape(canary) + "&": "?t=[redacted]&",
		"/p/" + url.PathEscape(canary):        "/p/[redacted]",
		"abcdefg":                             "[redacted]efg",
		"abcdefgh":                            "[redacted]",
		"xabcdx":                              "x[redacted]x",
		"aabcd":                               "a[redacted]",
		"abc":                                 "abc",
		canary[:len(canary)-1]:                canary[:len(canary)-1],
	} {
		if got := r.String(in); got != want {
			t.Errorf("String(%q) = %q, want %q", in, got, want)
		}
	}
}

// However a text is cut into writes, what comes out is what String gives.
func TestRedactorWriter(t *testing.T) {
	var r Redactor
	r.Add(secret(t, canary))
	r.Add(secret(t, "abXab"))
	r.Add(secret(t, "abcd"))
	text := "a " + canary + " b abXabcd abXab c" + canary + canary + "d\nlast " + canary[:6]
	want := r.String(text)
	for size := 1; size <= len(text); size++ {
		var out strings.Builder
		w := r.Writer(&out)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if m, err := io.WriteString(w, rest[:n]); m != n || err != nil {
				t.Fatalf("Write = %d, %v", m, err)
			}
			rest = rest[n:]
		}
		if err := w.(Flusher).Flush(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Fatalf("in writes of %d: %q, want %q", size, out.String(), want)
		}
	}
}

func TestRedactorWriterHoldsNoMoreThanNeeded(t *testing.T) {
	var r Redactor
	r.Add(secret(t, "hunter2"))
	var out strings.Builder
	w := r.Writer(&out)
	_, _ = io.WriteString(w, "50 % done, no newline; hun")
	if got := out.String(); got != "50 % done, no newline; " {
		t.Errorf("passed on %q", got)
	}
	_, _ = io.WriteString(w, "gry")
	if got := out.String(); got != "50 % done, no newline; hungry" {
		t.Errorf("passed on %q", got)
	}
}

func TestRedactorLogf(t *testing.T) {
	var r Redactor
	r.Add(secret(t, "hunter2"))
	var got string
	log := r.Logf(func(format string, args ...any) { got = fmt.Sprintf(format, args...) })
	log("%s%s 100%%", "hun", "ter2")
	if got != "[redacted] 100%" {
		t.Errorf("logged %q", got)
	}
	if r.Logf(nil) != nil {
		t.Error("a silent log is not nil")
	}
}

func TestLogURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:pw@ci.lan/api?page=1&access_token=abc&branch=main": "https://ci.lan/api?page=1&access_token=[redacted]&branch=main",
		"https://ci.lan/x?api%5Fkey=1#frag":                           "https://ci.lan/x?api%5Fkey=[redacted]",
		"https://ci.lan/":                                             "https://ci.lan/",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := logURL(u); got != want {
			t.Errorf("logURL(%s) = %s, want %s", in, got, want)
		}
	}
}
