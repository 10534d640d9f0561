package golden

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Name() string              { return "TestX/a" }
func (r *recorder) Errorf(f string, a ...any) { r.said += fmt.Sprintf(f, a...) }
func (r *recorder) Fatalf(f string, a ...any) { r.said += fmt.Sprintf(f, a...) }

func TestCompare(t *testing.T) {
	t.Chdir(t.TempDir())
	var r recorder
	CompareString(&r, "", "a\x1b[1m")
	if !strings.Contains(r.said, "-update") {
		t.Errorf("a missing file: %q", r.said)
	}

	*update = true
	CompareString(&r, "", "a\x1b[1m")
	*update = false
	if _, err := os.Stat("testdata/TestX-a.golden"); err != nil {
		t.Fatal(err)
	}

	r.said = ""
	CompareString(&r, "", "a\x1b[1m")
	if r.said != "" {
		t.Errorf("the same: %q", r.said)
	}
	CompareString(&r, "", "b\x1b[1m")
	if !strings.Contains(r.said, `b\e[1m`) {
		t.Errorf("another: %q", r.said)
	}
}
