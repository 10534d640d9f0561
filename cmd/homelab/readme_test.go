package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// Every command line the README prints is one the program takes: the verb
// exists, and so does each of its flags.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^[ $-]*(?:.*next: )?homelab +([a-z][^|<\n]*)`).FindAllStringSubmatch(string(text), -1)
	if len(lines) < 8 {
		t.Fatalf("found %d command lines: the pattern goes wrong", len(lines))
	}
	for _, m := range lines {
		takes(t, m[1])
	}
}

// takes checks that the program takes a command line, without its own name.
func takes(t *testing.T, line string) {
	t.Helper()
	takesWords(t, strings.Fields(line))
}

func takesWords(t *testing.T, words []string) {
	t.Helper()
	line := strings.Join(words, " ")
	a := &app{process: process{streams: &ui.Streams{}}, flags: &verb.Flags{}, ran: func(*cobra.Command) {}}
	c, rest, err := a.root().Find(words)
	if err != nil {
		t.Errorf("homelab %s: %v", line, err)
		return
	}
	if _, ok := verb.InfoOf(c); !ok {
		t.Errorf("homelab %s: %q is no verb", line, c.CommandPath())
		return
	}
	if err := c.ParseFlags(rest); err != nil {
		t.Errorf("homelab %s: %v", line, err)
		return
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		t.Errorf("homelab %s: %v", line, err)
	}
}
