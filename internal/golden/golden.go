// Package golden compares what a test got with a file next to it. Run the
// test with -update to write the files anew, and read the difference before
// committing it.
package golden

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// Compare fails t if got is not the content of testdata/NAME.golden in the
// test's package. An empty name is the test's own, slashes made dashes.
func Compare(t testing.TB, name string, got []byte) {
	t.Helper()
	if name == "" {
		name = t.Name()
	}
	path := filepath.Join("testdata", strings.ReplaceAll(name, "/", "-")+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-want +got):\n%s", path, cmp.Diff(visible(want), visible(got)))
	}
}

// CompareString is Compare for text.
func CompareString(t testing.TB, name, got string) {
	t.Helper()
	Compare(t, name, []byte(got))
}

// visible spells control characters out, so that a difference can be read.
func visible(p []byte) string {
	return strings.NewReplacer("\x1b", `\e`, "\r", `\r`, "\t", `\t`).Replace(string(p))
}
