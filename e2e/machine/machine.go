// Package machine is what scripts/e2e found on this machine beside Go and git.
package machine

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Need returns the program that a variable of scripts/e2e names. Where there is
// none the test is skipped, and the script says what was not run.
func Need(t *testing.T, variable, what string) string {
	t.Helper()
	file := os.Getenv(variable)
	if file == "" {
		Skip(t, what, "scripts/e2e found none, and none that could be installed")
	}
	return file
}

// Skip skips the test and has the script say why.
func Skip(t *testing.T, what, why string) {
	t.Helper()
	Lacks(what, why)
	t.Skipf("without %s: %s", what, why)
}

// Lacks has the script say at its end that nothing was run on such a thing: go
// test shows nothing of a package that passes.
func Lacks(what, why string) {
	why = strings.Join(strings.Fields(why), " ")
	f, err := os.OpenFile(os.Getenv("HOMELAB_E2E_MISSING"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s: %s\n", what, why)
}
