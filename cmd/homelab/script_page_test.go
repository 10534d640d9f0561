package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPage makes one shell script of a page in docs/: "page NAME FILE". Blocks
// of the language sh are its commands; a yaml block whose first line is a
// comment with a path is that file. What follows runs as a reader would run it,
// from top to bottom in one shell.
func cmdPage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: page NAME FILE")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", args[0]))
	ts.Check(err)
	var script strings.Builder
	script.WriteString("set -eux\n")
	commands, files := 0, 0
	for _, m := range regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		body := m[2]
		if m[1] == "sh" {
			commands++
			script.WriteString(body)
			continue
		}
		first, _, _ := strings.Cut(body, "\n")
		name, ok := strings.CutPrefix(first, "# ")
		if !ok || strings.ContainsAny(name, " '") {
			continue // an excerpt
		}
		files++
		script.WriteString("mkdir -p '" + path.Dir(name) + "'\ncat >'" + name + "' <<'END OF FILE'\n" + body + "END OF FILE\n")
	}
	if commands == 0 || files == 0 {
		ts.Fatalf("%s: %d blocks of commands and %d files: the pattern goes wrong", args[0], commands, files)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(script.String()), 0o600))
}
