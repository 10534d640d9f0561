package landing

import (
	"fmt"
	"regexp"
	"strings"

	"homelab/pkg/git"
)

// Trailers of the tool's commits.
const (
	trailerLanding  = "Homelab-Landing"
	trailerVerify   = "Homelab-Verify"
	trailerReverts  = "Homelab-Reverts"
	trailerRestores = "Homelab-Restores"
)

const mostListed = 100 // commits named in a message

// defuse makes skip markers harmless. The server reads only the tip's message,
// where the subjects of all that lands are listed: one documentation commit
// must not silence CI for everything that comes with it.
func defuse(s string) string {
	return regexp.MustCompile(`(?i)\[\s*(ci\s*skip|skip\s*ci)\s*\]`).ReplaceAllString(s, "($1)")
}

// oneLine makes foreign text fit for one line of a message.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// message is what a landing's merge commit says.
func message(topic, id, verify string, list []git.Entry, restores []git.Commit) string {
	var b strings.Builder
	subject := "nothing new"
	if len(list) > 0 {
		subject = oneLine(list[0].Subject)
	}
	fmt.Fprintf(&b, "Land %s: %s\n", oneLine(topic), subject)
	if len(list) > 0 {
		b.WriteByte('\n')
	}
	for i, e := range list {
		if i == mostListed {
			fmt.Fprintf(&b, "* and %d more\n", len(list)-i)
			break
		}
		fmt.Fprintf(&b, "* %s %s\n", e.Commit.Short(), oneLine(e.Subject))
	}
	switch {
	case len(restores) == 1:
		fmt.Fprintf(&b, "\nThe base had undone an earlier landing of this branch in %s;\nthat is undone here.\n", restores[0].Short())
	case len(restores) > 1:
		var names []string
		for _, x := range restores {
			names = append(names, x.Short())
		}
		fmt.Fprintf(&b, "\nThe base had undone earlier landings of this branch in\n%s; that is undone here.\n", strings.Join(names, ", "))
	}
	if verify == "" {
		verify = "none"
	}
	fmt.Fprintf(&b, "\n%s: %s\n%s: %s\n", trailerLanding, id, trailerVerify, oneLine(verify))
	for _, x := range restores {
		fmt.Fprintf(&b, "%s: %s\n", trailerRestores, x)
	}
	return defuse(b.String())
}

// revertMessage is what the commit says that takes a landing off the base.
// verify is "" for a tree that the base had before: CI has seen it.
func revertMessage(topic, subject, id, why, verify string, landed git.Commit) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Revert %s: %s\n\n%s\n\n%s: %s\n%s: %s\n", oneLine(topic), oneLine(subject), why, trailerReverts, landed, trailerLanding, id)
	if verify != "" {
		fmt.Fprintf(&b, "%s: %s\n", trailerVerify, oneLine(verify))
	}
	return defuse(b.String())
}

// trailers returns the commits that the trailers of one name in a message
// give. Only the last paragraph has trailers.
func trailers(message, key string) []git.Commit {
	message = strings.TrimRight(message, "\n")
	if i := strings.LastIndex(message, "\n\n"); i >= 0 {
		message = message[i+2:]
	}
	var out []git.Commit
	for line := range strings.Lines(message) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, key) {
			out = append(out, hashes(v)...)
		}
	}
	return out
}

// hashes returns the commits that the words of text are.
func hashes(text string) []git.Commit {
	var out []git.Commit
	for word := range strings.FieldsSeq(text) {
		if c, err := git.ParseCommit(word); err == nil {
			out = append(out, c)
		}
	}
	return out
}
