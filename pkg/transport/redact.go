package transport

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// minRedacted is the shortest value the redactor looks for: replacing every
// "a" would destroy the output and hide nothing.
const minRedacted = 4

// Redactor replaces known secrets in text by "[redacted]", also where they
// stand base64 encoded or URL escaped. The zero value is ready and knows none;
// it is safe for concurrent use, and may learn secrets while writers exist.
type Redactor struct {
	mu    sync.RWMutex
	forms []string  // longest first
	first [256]bool // bytes a form starts with
}

// Add makes r know s. Values shorter than four bytes are ignored.
func (r *Redactor) Add(s Secret) {
	v := s.Reveal()
	if len(v) < minRedacted {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.forms, v) {
		return
	}
	b := []byte(v)
	r.forms = append(
		r.forms, v,
		base64.StdEncoding.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b),
		base64.URLEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		url.QueryEscape(v), url.PathEscape(v),
	)
	slices.SortFunc(r.forms, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	r.forms = slices.Compact(r.forms)
	for _, f := range r.forms {
		r.first[f[0]] = true
	}
}

// String returns s with every known secret replaced.
func (r *Redactor) String(s string) string {
	out, _ := r.scan(s, true)
	return out
}

// Logf wraps a -v printer so that what it prints is redacted. It returns nil
// for nil.
func (r *Redactor) Logf(log func(format string, args ...any)) func(format string, args ...any) {
	if log == nil {
		return nil
	}
	return func(format string, args ...any) { log("%s", r.String(fmt.Sprintf(format, args...))) }
}

// scan redacts s. Unless all of the text is there, it stops where the rest of
// s may be the beginning of a secret and returns that rest.
func (r *Redactor) scan(s string, all bool) (out, rest string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var b strings.Builder
	done := 0 // s[:done] is in b
	for i := 0; i < len(s); {
		if !r.first[s[i]] {
			i++
			continue
		}
		found, open := r.match(s[i:])
		switch {
		case open && !all:
			b.WriteString(s[done:i])
			return b.String(), s[i:]
		case found == 0:
			i++
		default:
			b.WriteString(s[done:i])
			b.WriteString(redacted)
			i += found
			done = i
		}
	}
	if done == 0 {
		return s, ""
	}
	b.WriteString(s[done:])
	return b.String(), ""
}

// match returns the length of the longest secret s starts with, and whether
// more text could make it a longer one.
func (r *Redactor) match(s string) (found int, open bool) {
	for _, f := range r.forms {
		if len(f) > len(s) {
			open = open || strings.HasPrefix(f, s)
			continue
		}
		if strings.HasPrefix(s, f) {
			return len(f), open
		}
	}
	return 0, open
}

// Flusher is what Redactor.Writer's result is besides an io.Writer.
type Flusher interface{ Flush() error }

// Writer returns a writer that redacts what goes to w. Text is passed on at
// once except for an end that may be the beginning of a secret: that is held
// until the next write tells, or until Flush (see Flusher). It is safe for
// concurrent use; w is not called concurrently.
func (r *Redactor) Writer(w io.Writer) io.Writer { return &redactWriter{redactor: r, w: w} }

type redactWriter struct {
	redactor *Redactor
	mu       sync.Mutex
	w        io.Writer
	held     string
}

var _ Flusher = (*redactWriter)(nil)

func (w *redactWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.put(w.held+string(p), false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what is held: the text ends here.
func (w *redactWriter) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(w.held, true)
}

func (w *redactWriter) put(s string, all bool) error {
	out, rest := w.redactor.scan(s, all)
	w.held = rest
	if out == "" {
		return nil
	}
	_, err := io.WriteString(w.w, out)
	return err
}
