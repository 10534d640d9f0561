package pipeline

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"homelab/pkg/woodpecker"
)

// facts is what is known of a commit besides rows. Unknown is the zero value
// of each.
type facts struct {
	skip     bool     // its message tells the server to skip it
	noFile   bool     // its tree has no pipeline file, and the repository names no other place
	notSent  bool     // no remote-tracking ref contains it
	inactive bool     // the repository is switched off
	vanished bool     // a row of it was seen before it was set up, and is gone from two lists
	excluded []string // rows of other events than the wanted one: "#12 event tag"
	unproven []string // rows that may contain it: "#61 of 3f2c1ab"
}

// missing is why there is no row, and what it takes to say so.
type missing struct {
	reason    string
	after     time.Duration // since the first look
	looks     int           // lists that must have been read
	confirmed bool          // the server will make none
	full      bool          // nothing is known but that none was seen
	hint      Hint
}

// absence explains why no row of the commit exists. Rows are asked in the
// order of how sure they are; the first that holds speaks. full is the whole
// time a row may take to appear.
func absence(f facts, short string, full time.Duration) missing {
	switch {
	case f.inactive:
		return missing{reason: "the repository is disabled in Woodpecker", looks: 1, hint: Hint{Advice: SeePage}}
	case f.vanished:
		reason := "its pipeline was filtered out by the conditions of the pipeline file"
		if f.noFile {
			reason = "its pipeline was dropped: the commit has no pipeline file"
		}
		return missing{reason: reason, after: time.Second, looks: 2, confirmed: true}
	case f.skip:
		return missing{reason: "the commit's message carries [CI SKIP]", after: 5 * time.Second, looks: 3, confirmed: true}
	case len(f.excluded) > 0: // so the commit is there, and something is run for it
		return missing{
			reason: "no pipeline of that event; others exist: " + strings.Join(f.excluded, ", "), after: full, looks: 2,
			hint: Hint{Advice: TryStatus},
		}
	case f.noFile:
		return missing{reason: "there is no pipeline file in the commit", after: 15 * time.Second, looks: 2, confirmed: true}
	case f.notSent:
		return missing{
			reason: short + " is not pushed, as far as this checkout knows", after: 15 * time.Second, looks: 2,
			hint: Hint{Advice: PushCommit},
		}
	}
	reason := fmt.Sprintf("no pipeline appeared in %s; was the forge's hook lost?", span(full))
	hint := Hint{Advice: RunBranch}
	if len(f.unproven) > 0 {
		reason = fmt.Sprintf("no pipeline appeared in %s; %s may contain it, but this checkout cannot tell", span(full), strings.Join(f.unproven, ", "))
		hint = Hint{Advice: FetchFirst}
	}
	return missing{reason: reason, after: full, looks: 2, hint: hint, full: len(f.unproven) == 0}
}

// unstarted says whether a row was last seen before its configuration had been
// read, so that it goes when nothing is left to run. whole: row is a complete
// answer; a list's row never shows workflows, so blocked proves nothing there.
func unstarted(row woodpecker.Pipeline, whole bool) bool {
	return row.Status == woodpecker.Created || row.Status == woodpecker.Blocked && whole && len(row.Workflows) == 0
}

// deleted words the absence of a row that had been set up: somebody took it
// away, which says nothing about the commit.
func deleted(row woodpecker.Pipeline) missing {
	return missing{
		reason: fmt.Sprintf("#%d was deleted on the server", row.Number), after: time.Second, looks: 2,
		hint: Hint{Advice: RunBranch, Branch: row.Branch},
	}
}

// skipMarked says whether a message makes the server skip the commit. It
// holds for pushes and pull requests only.
// Source: Woodpecker's server/pipeline/create.go.
func skipMarked(message string) bool {
	return regexp.MustCompile(`\[(?i:ci *skip|skip *ci)\]`).MatchString(message)
}

// pipelineFile says whether path is one that the server reads by default.
func pipelineFile(path string) bool {
	if !strings.HasSuffix(path, ".yml") && !strings.HasSuffix(path, ".yaml") {
		return false
	}
	return path == ".woodpecker.yml" || path == ".woodpecker.yaml" || strings.HasPrefix(path, ".woodpecker/")
}

// describe names a row for a person: "#57 of 41bdff3".
func describe(r woodpecker.Pipeline) string {
	return fmt.Sprintf("#%d of %s", r.Number, Short(r.Commit))
}

// Short returns the first seven digits of a commit.
func Short(commit string) string {
	if len(commit) > 7 {
		return commit[:7]
	}
	return commit
}
