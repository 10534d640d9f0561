package git

import (
	"errors"
	"fmt"
	"strings"
)

// What a checkout can lack. Each is found with errors.Is.
var (
	ErrNotRepo = errors.New("not a git repository")
	ErrNoGit   = errors.New("git is not installed, or not in PATH")
	ErrMissing = errors.New("the object is not in this checkout")
	ErrUnborn  = errors.New("the current branch has no commit yet")
	ErrNoFile  = errors.New("no such file in the commit")
	ErrRemote  = errors.New("no such remote")
	ErrCommit  = errors.New("not 40 or 64 lower-case hexadecimal digits")
)

// Conditions of the verbs that write. Each is found with errors.Is.
var (
	ErrUnrelated = errors.New("the two histories have no commit in common")
	ErrRefMoved  = errors.New("the ref does not have the expected value")
	ErrNoTip     = errors.New("the remote does not have this branch")
	ErrSign      = errors.New("the commit could not be signed")
	ErrHook      = errors.New("the reference-transaction hook refused")
)

// OwnershipError is git's refusal to work in a repository that belongs to
// another user, as in a container that mounts a checkout.
type OwnershipError struct {
	Dir string // the directory to trust
}

func (e *OwnershipError) Error() string {
	return fmt.Sprintf("%s belongs to another user, and git refuses to work there", e.Dir)
}

// Advice returns the command that makes git trust the directory.
func (e *OwnershipError) Advice() string {
	return "git config --global --add safe.directory " + shellQuote(e.Dir)
}

// Candidate is one commit that an ambiguous name may mean.
type Candidate struct {
	Commit  Commit
	Ref     string // the full ref that names it; "" for an abbreviated hash
	Subject string // first line of its message, as written; clean it before printing
}

// AmbiguousError is a name that means several commits.
type AmbiguousError struct {
	Rev        string
	Candidates []Candidate // at most ten; each another commit
}

func (e *AmbiguousError) Error() string {
	names := make([]string, len(e.Candidates))
	for i, c := range e.Candidates {
		names[i] = string(c.Commit)
		if c.Ref != "" {
			names[i] = c.Ref
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("%q is ambiguous", e.Rev)
	}
	return fmt.Sprintf("%q is ambiguous: it may mean %s", e.Rev, strings.Join(names, ", "))
}

// UnknownError is a name that means no commit of this checkout.
type UnknownError struct {
	Rev  string
	Near []string // names of branches and tags it may be a slip of, best first; at most three
	Why  string   // git's reason where it says more than that; may be empty
}

func (e *UnknownError) Error() string {
	s := fmt.Sprintf("%q is no commit of this checkout", e.Rev)
	if e.Why != "" {
		s += " (" + e.Why + ")"
	}
	if len(e.Near) > 0 {
		s += "; near names: " + strings.Join(e.Near, ", ")
	}
	return s
}

func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c != '/' && c != '.' && notInName(c) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
