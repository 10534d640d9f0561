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

// What the page for people who come from laconic-so tells them to type is taken,
// under either name.
func TestFromLaconicSO(t *testing.T) {
	text, err := os.ReadFile("../../docs/from-laconic-so.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile("(?m)(?:^|`)(homelab|laconic-so) +([a-z-][^`\n]*)").FindAllStringSubmatch(string(text), -1)
	if len(lines) < 20 {
		t.Fatalf("found %d command lines: the pattern goes wrong", len(lines))
	}
	for _, m := range lines {
		switch {
		case strings.HasPrefix(m[2], "help "): // cobra adds it when a command line is executed
			continue
		case m[1] == "homelab":
			takes(t, m[2])
			continue
		}
		streams, _, _ := ui.Test("")
		a := &app{process: process{streams: streams}, flags: &verb.Flags{}, ran: func(*cobra.Command) {}, older: older{is: true}}
		c, rest, err := a.olderRoot().Find(strings.Fields(m[2]))
		if _, ok := verb.InfoOf(c); err != nil || !ok {
			t.Errorf("laconic-so %s: no verb (%v)", m[2], err)
			continue
		}
		if err := c.ParseFlags(rest); err != nil {
			t.Errorf("laconic-so %s: %v", m[2], err)
		}
	}
}

// The tree under the older name has each word once, and says what it is.
func TestOlderTree(t *testing.T) {
	streams, _, _ := ui.Test("")
	a := &app{process: process{streams: streams}, flags: &verb.Flags{}, ran: func(*cobra.Command) {}, older: older{is: true}}
	want := strings.Fields(`start up stop down prepare restart update update-envs ps logs exec port status push-images run-job`)
	c, _, err := a.olderRoot().Find([]string{"deployment"})
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, sub := range c.Commands() {
		has[sub.Name()] = true
		if sub.Short == "" {
			t.Errorf("%s says nothing of itself", sub.CommandPath())
		}
	}
	for _, name := range want {
		if !has[name] {
			t.Errorf("deployment has no %s", name)
		}
		delete(has, name)
	}
	for name := range has {
		t.Errorf("deployment has %s, which the tool does not have", name)
	}
}
