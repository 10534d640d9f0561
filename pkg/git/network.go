package git

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Deadlines of one process that goes to the network.
const (
	lsRemoteLimit = 30 * time.Second
	transferLimit = 10 * time.Minute
)

// ErrDeadline is the cause of a network process that took too long.
var ErrDeadline = errors.New("the remote did not answer in time")

// Contact is why a remote could not be asked.
type Contact string

// What contact can fail of. Broken is anything that asking again may mend, and
// all that is not known better.
const (
	Refused Contact = "refused" // credentials, host key, permission, or a repository that is not there for us
	Broken  Contact = "broken"  // no connection, cut off, server error, deadline
)

// ContactError is a remote that could not be asked. Its text is the remote's
// or git's, without user info.
type ContactError struct {
	Contact Contact
	Text    string
	Err     error
}

func (e *ContactError) Error() string { return e.Text }
func (e *ContactError) Unwrap() error { return e.Err }

// refusals are the texts by which remotes, ssh and git's http transport refuse
// who asks. Recorded from git 2.39, OpenSSH 9, Forgejo 9, Gitea 1.22, GitHub.
func refusals() []string {
	return []string{
		"Authentication failed for", "Permission denied (", "Permission denied, please try again", "Host key verification failed",
		"terminal prompts disabled", "could not read Username", "could not read Password",
		"The requested URL returned error: 401", "The requested URL returned error: 403", "The requested URL returned error: 404",
		"Repository not found", "repository not found", "does not appear to be a git repository",
		"HTTP Basic: Access denied", "Invalid username or", "invalid credentials", "Unauthorized",
		"not allowed to access", "access denied or repository not exported", "Could not find repository",
		"Support for password authentication was removed", "User permission denied", "No user found with",
		// Forgejo, Gitea: a key that may only read; a repository that nobody may push to.
		"is not authorized to", "Cannot find repository", "is read-only", "is archived",
		// GitHub.
		"ERROR: Permission to ", "has been marked as read only", "was archived so it is read-only",
		// GitLab.
		"You are not allowed to push code to this project", "The project you were looking for could not be found",
		// gitolite, Bitbucket.
		" DENIED by ", "repository access denied",
	}
}

// contact sorts what git said when a remote could not be asked. Refusals come
// first: ssh adds to each of them that the remote could not be read.
func contact(text string) Contact {
	for _, r := range refusals() {
		if strings.Contains(text, r) {
			return Refused
		}
	}
	if strings.Contains(text, "fatal: repository '") && strings.Contains(text, "not found") {
		return Refused
	}
	return Broken
}

// contactError words a failed network process. Nil for none; ctx's own end is
// returned as it is.
func contactError(ctx context.Context, res Result, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	if errors.Is(err, ErrDeadline) {
		return &ContactError{Contact: Broken, Text: ErrDeadline.Error(), Err: err}
	}
	failed, ok := errors.AsType[*CommandError](err)
	if !ok {
		return err
	}
	text := failed.Why()
	kind := contact(redact(string(res.Stderr)))
	if kind == Refused {
		for line := range strings.Lines(failed.Stderr) {
			if contact(line) == Refused {
				text = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "fatal: "), "remote: ")
				break
			}
		}
	}
	return &ContactError{Contact: kind, Text: text, Err: err}
}

// Endpoint is where network commands go.
type Endpoint struct {
	Remote string   // a remote's name or a URL
	Push   string   // the remote's name where Remote is the URL that it pushes to; "" pushes to Remote
	Set    []string // configuration for these commands only, "key=value"
}

func (e Endpoint) args(args ...string) []string {
	var out []string
	for _, s := range e.Set {
		out = append(out, "-c", s)
	}
	return append(out, args...)
}

// Pull heads are where Forgejo, Gitea and GitHub keep what a pull request
// proposes, also one that came without a branch.
const (
	pullPrefix = "refs/pull/"
	pullSuffix = "/head"
)

// PullNumber returns the number of the pull request that a ref belongs to.
func PullNumber(ref string) (int64, bool) {
	s, is := strings.CutPrefix(ref, pullPrefix)
	s, ends := strings.CutSuffix(s, pullSuffix)
	n, err := strconv.ParseInt(s, 10, 64)
	return n, is && ends && err == nil && n > 0
}

// PullHeads returns what each pull request proposes, open or not, by number.
// It is empty where the remote does not show them. The error is *ContactError
// or ctx's cause.
func (r *Repo) PullHeads(ctx context.Context, e Endpoint) (map[int64]Commit, error) {
	res, err := r.reach(ctx, lsRemoteLimit, r.Network(e.args("ls-remote", "--quiet", "--", e.Remote, pullPrefix+"*"+pullSuffix)...))
	if err != nil {
		return nil, err
	}
	out := map[int64]Commit{}
	for line := range strings.Lines(string(res.Stdout)) {
		left, name, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		n, ok := PullNumber(name)
		if c, err := ParseCommit(left); ok && err == nil {
			out[n] = c
		}
	}
	return out, nil
}

func (r *Repo) reach(ctx context.Context, limit time.Duration, c Command) (Result, error) {
	inner, cancel := context.WithTimeoutCause(ctx, limit, ErrDeadline)
	defer cancel()
	res, err := Run(inner, c)
	return res, contactError(ctx, res, err)
}

// Advertised is what a remote says it has.
type Advertised struct {
	Head string            // the full ref HEAD means there; "" when it does not say
	Refs map[string]Commit // by full name; only those that were asked for
}

// LsRemote asks for the remote's HEAD and the refs named by their full names.
// Others that git's patterns match as well ("refs/remotes/x/HEAD" for "HEAD")
// are left out. The error is *ContactError or ctx's cause.
func (r *Repo) LsRemote(ctx context.Context, e Endpoint, refs ...string) (Advertised, error) {
	args := append(e.args("ls-remote", "--symref", "--quiet", "--", e.Remote, "HEAD"), refs...)
	res, err := r.reach(ctx, lsRemoteLimit, r.Network(args...))
	if err != nil {
		return Advertised{}, err
	}
	return parseAdvertised(string(res.Stdout), refs), nil
}

func parseAdvertised(out string, wanted []string) Advertised {
	a := Advertised{Refs: map[string]Commit{}}
	for line := range strings.Lines(out) {
		left, name, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		if !ok {
			continue
		}
		if target, is := strings.CutPrefix(left, "ref: "); is {
			if name == "HEAD" {
				a.Head = target
			}
			continue
		}
		c, err := ParseCommit(left)
		if err != nil {
			continue
		}
		if name == "HEAD" {
			a.Refs[name] = c
		}
		for _, w := range wanted {
			if w == name {
				a.Refs[name] = c
			}
		}
	}
	return a
}

// Fetch fetches exactly refspecs. No other ref moves: without an empty
// --refmap the remote-tracking refs would follow, and concurrent fetches in
// one clone die of each other's locks. Tags, FETCH_HEAD and submodules stay as
// they are; deepen > 0 fetches that many commits more in a shallow clone and a
// negative one all of them. Errors: ErrNoTip, *ContactError, ctx's cause.
func (r *Repo) Fetch(ctx context.Context, e Endpoint, deepen int, refspecs ...string) error {
	args := e.args("fetch", "--quiet", "--refmap=", "--no-tags", "--no-write-fetch-head",
		"--no-recurse-submodules", "--no-auto-gc", "--no-auto-maintenance")
	switch {
	case deepen > 0:
		args = append(args, fmt.Sprintf("--deepen=%d", deepen))
	case deepen < 0:
		args = append(args, "--unshallow")
	}
	args = append(append(args, "--", e.Remote), refspecs...)
	_, err := r.reach(ctx, transferLimit, r.Network(args...))
	if c, ok := errors.AsType[*ContactError](err); ok && hooked(c.Err) {
		return fmt.Errorf("%w: %w", ErrHook, c.Err)
	}
	if c, ok := errors.AsType[*ContactError](err); ok && strings.Contains(c.Error(), "couldn't find remote ref") {
		return fmt.Errorf("%s: %w", strings.TrimSpace(c.Text), ErrNoTip)
	}
	return err
}
