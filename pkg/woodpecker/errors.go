package woodpecker

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Class is what kind of no an *APIError is.
type Class string

const (
	// Refused is 401, 403 or 404, confirmed by asking again (reads), or as
	// answered once (writes).
	Refused Class = "refused"
	// Rejected is another 4xx, final, with the server's words.
	Rejected Class = "rejected"
	// WrongPath is the server's own web page where the API should be: the base
	// URL is wrong or the server too old.
	WrongPath Class = "wrong-path"
	// Misdirected is a redirect to another origin; it is not followed.
	Misdirected Class = "misdirected"
	// Untrusted says that the server's certificate was not accepted.
	Untrusted Class = "untrusted"
	// Exhausted is no usable answer within the budget; the last error is kept.
	Exhausted Class = "exhausted"
	// Doubtful is a write whose answer was lost or odd: it may have taken effect.
	Doubtful Class = "doubtful"
)

// APIError is a call that got no answer worth decoding.
type APIError struct {
	Op     string        // "pipeline 57"
	Class  Class         //
	Status int           // HTTP status of the last answer; 0: none
	Text   string        // the server's words, raw and bounded; may be empty
	Tries  int           // requests made
	For    time.Duration // how long it has been tried
	Err    error         // cause below HTTP; may be nil

	RetryAfter time.Duration // what the last answer asked for; 0: nothing
}

func (e *APIError) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Words())
	return b.String()
}

// Words says what went wrong without naming the call, in the server's words
// where there are any.
func (e *APIError) Words() string {
	switch {
	case e.Status != 0 && e.Text != "":
		return fmt.Sprintf("the server answered %d: %s", e.Status, e.Text)
	case e.Err != nil && e.Status == 0:
		return e.Err.Error()
	case e.Status != 0 && e.Err != nil:
		return fmt.Sprintf("the server answered %d, %v", e.Status, e.Err)
	case e.Status != 0:
		text := http.StatusText(e.Status)
		if text == "" {
			text = "no words"
		}
		return fmt.Sprintf("the server answered %d (%s)", e.Status, text)
	}
	return "no answer"
}

func (e *APIError) Unwrap() error { return e.Err }
