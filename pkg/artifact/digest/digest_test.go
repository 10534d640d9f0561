package digest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// FIPS 180-2 has this sum of "abc".
const abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestCopy(t *testing.T) {
	var to strings.Builder
	if id, err := Copy(t.Context(), &to, strings.NewReader("abc")); id != abc || to.String() != "abc" || err != nil {
		t.Errorf("%s, %q, %v", id, to.String(), err)
	}
	if id, err := Of(t.Context(), strings.NewReader("abc")); id != abc || err != nil {
		t.Errorf("%s, %v", id, err)
	}
}

// A copy that broke off is no artifact.
func TestCopyEnds(t *testing.T) {
	broken := errors.New("broken")
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	pipe, w := io.Pipe()
	_ = w.CloseWithError(broken)
	for name, try := range map[string]func() (string, error){
		"the context": func() (string, error) { id, err := Of(gone, strings.NewReader("abc")); return string(id), err },
		"the reader":  func() (string, error) { id, err := Of(t.Context(), pipe); return string(id), err },
		"the writer": func() (string, error) {
			id, err := Copy(t.Context(), failing{broken}, strings.NewReader("abc"))
			return string(id), err
		},
	} {
		if id, err := try(); id != "" || !errors.Is(err, broken) {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
