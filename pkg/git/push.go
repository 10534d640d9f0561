package git

import (
	"context"
	"errors"
	"net/url"
	"strings"
)

// Push is one ref to be pushed. Every push carries the value the remote's ref
// must have: none is ever forced.
type Push struct {
	Commit  Commit // "" deletes
	Ref     string // full name on the remote
	Expect  Commit // what Ref must be; "" it must not exist
	Options []string
	// Plain pushes without a lease and without moving anything backwards; for
	// refs that are not branches (refs/for/BASE).
	Plain bool
}

// RefLine is what the server, or git itself, says about one ref.
type RefLine struct {
	Flag    byte // ' ' moved, '=' was there, '*' new, '-' deleted, '+' forced, '!' refused
	To      string
	Summary string // "[rejected] (stale info)", "1234567..89abcde"
}

// PushReply is all that is known about a push that ran.
type PushReply struct {
	Lines  []RefLine
	Text   string // stderr: the server's and the hooks' words, without user info
	Exit   int    // -1: ended by a signal
	Ended  error  // nil, or why it did not run to its end: deadline, ctx's cause
	Failed error  // nil for exit 0
}

// Line returns what is said about the full ref name.
func (p PushReply) Line(ref string) (RefLine, bool) {
	for _, l := range p.Lines {
		if l.To == ref {
			return l, true
		}
	}
	return RefLine{}, false
}

// Words returns what the server and the hooks said, line by line: without the
// prefix "remote:", empty lines, hints and git's own last line.
func (p PushReply) Words() []string {
	var out []string
	for line := range strings.Lines(p.Text) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "remote:"))
		if line == "" || strings.HasPrefix(line, "hint:") || strings.HasPrefix(line, "error: failed to push some refs to") {
			continue
		}
		out = append(out, line)
	}
	return out
}

// Links returns the web addresses in what the server said, in order. Forges
// print where a pull request is, or where one can be opened.
func (p PushReply) Links() []string {
	var out []string
	for line := range strings.Lines(p.Text) {
		said, remote := strings.CutPrefix(strings.TrimSpace(line), "remote:")
		if !remote {
			continue
		}
		for word := range strings.FieldsSeq(said) {
			if u, err := url.Parse(word); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
				out = append(out, word)
			}
		}
	}
	return out
}

// NoPushOptions says that the server takes no push options, so that nothing
// was sent.
func (p PushReply) NoPushOptions() bool {
	return p.Exit != 0 && len(p.Lines) == 0 && strings.Contains(p.Text, "the receiving end does not support push options")
}

// Push pushes one ref. Hooks run: pre-push uploads what LFS keeps elsewhere.
// Submodule commits must be on their remotes already; a configured
// "on-demand" would push other repositories. A push that ran is a PushReply,
// whatever came of it: ClassifyPush says. The error is one of starting it.
func (r *Repo) Push(ctx context.Context, e Endpoint, p Push) (PushReply, error) {
	args := e.args("push", "--porcelain", "--no-follow-tags", "--recurse-submodules=check")
	if !p.Plain {
		args = append(args, "--force-with-lease="+p.Ref+":"+string(p.Expect))
	}
	for _, o := range p.Options {
		args = append(args, "-o", o)
	}
	to := e.Push // by its name: what insteadOf makes of the URL a second time may be another
	if to == "" {
		to = e.Remote
	}
	args = append(args, "--", to, string(p.Commit)+":"+p.Ref)
	inner, cancel := context.WithTimeoutCause(ctx, transferLimit, ErrDeadline)
	defer cancel()
	res, err := Run(inner, r.Network(args...))
	reply := PushReply{Lines: parsePush(string(res.Stdout)), Text: redact(string(res.Stderr)), Exit: res.ExitCode, Failed: err}
	if err == nil {
		return reply, nil
	}
	if inner.Err() != nil {
		reply.Ended = context.Cause(inner)
		return reply, nil
	}
	if _, ran := errors.AsType[*CommandError](err); !ran {
		return reply, err
	}
	return reply, nil
}

func parsePush(out string) []RefLine {
	var lines []RefLine
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) < 3 || len(f[0]) != 1 {
			continue
		}
		_, to, _ := strings.Cut(f[1], ":")
		lines = append(lines, RefLine{Flag: f[0][0], To: to, Summary: f[2]})
	}
	return lines
}

// PushClass is what came of a push.
type PushClass string

// Every class. Rejected needs one more question: has the ref moved meanwhile?
const (
	PushLanded     PushClass = "landed"
	PushPolicy     PushClass = "policy"     // the server will not have this content, whoever pushes it where
	PushProtected  PushClass = "protected"  // only a pull request, or checks, may move the branch
	PushRace       PushClass = "race"       // someone else moved the ref
	PushRejected   PushClass = "rejected"   // a hook or rule of the server, unless the ref has moved
	PushHook       PushClass = "hook"       // the local pre-push hook said no
	PushSubmodule  PushClass = "submodule"  // a submodule's commit is on no remote
	PushConfig     PushClass = "config"     // as git is configured here, it does not push there; nothing was sent
	PushDenied     PushClass = "denied"     // credentials or permission
	PushUnknown    PushClass = "unknown"    // it may have arrived: ask
	PushImpossible PushClass = "impossible" // the server did what was never asked for
)

func contains(text string, parts ...string) bool {
	for _, a := range parts {
		if strings.Contains(text, a) {
			return true
		}
	}
	return false
}

// The texts below were read in the sources of Forgejo 7 to 12, Gitea 1.17 to
// 1.24 and GitLab 17, and recorded from GitHub and gitolite.

// contentRefusals are what servers say, in lower case, of content they will
// not have on any branch: secrets, e-mail addresses, sizes, quotas.
func contentRefusals() []string {
	return []string{
		"cannot contain secrets", "push protection", "secret scanning", "push blocked: secrets detected",
		"gh007", "private email",
		"gh001", "large files detected", "file size limit", "exceeds the maximum", "too large", "size quota", "exceeds your repository",
		"one or more blobs which exceed", "quota exceeded",
	}
}

// brokenServers are what a hook says, in lower case, when it could not ask the
// forge it belongs to. The server has not judged the push.
func brokenServers() []string {
	return []string{"internal server error", "internal server connection error", "internal api"}
}

// protections are what servers say of a branch that takes pull requests only.
func protections() []string {
	return []string{
		"Not allowed to push to protected branch", "not allowed to push to protected branch",
		// Forgejo to one who may read, and so may propose.
		"If you instead wanted to create a pull request to the branch",
		"GH006", "protected branch hook declined",
		"not allowed to push code to protected branches", "not allowed to merge code into protected branches",
	}
}

// ClassifyPush sorts what came of pushing to ref, which existed before. The
// order matters: a server may put a refusal for content and one for a
// protected branch into the same words, and only one of them allows another
// ref to be pushed.
func ClassifyPush(p PushReply, ref string) PushClass {
	line, told := p.Line(ref)
	text := p.Text + "\n" + line.Summary
	low := strings.ToLower(text)
	switch {
	case told && line.Flag == '+', told && line.Flag == '*', told && line.Flag == '-':
		return PushImpossible
	case told && p.Exit == 0 && (line.Flag == ' ' || line.Flag == '='):
		return PushLanded
	case told && line.Flag != '!':
		return PushUnknown // moved, it said, and then the exit status said otherwise
	case told && contains(low, contentRefusals()...):
		return PushPolicy
	case told && contains(low, brokenServers()...):
		return PushUnknown
	case told && contains(text, protections()...),
		told && strings.Contains(text, "GH013") && contains(low, "pull request", "status check", "required check", "merge queue", "code scanning", "review"):
		return PushProtected
	case told && contains(line.Summary, "stale info", "fetch first", "non-fast-forward", "failed to update ref", "cannot lock ref",
		"incorrect old value", "remote ref updated since checkout", "failed to lock"):
		return PushRace
	case told && contains(line.Summary, "remote failure", "remote failed to report status", "expecting report"):
		return PushUnknown
	case told:
		return PushRejected
	case contains(text, "can not be found on any remote", "The following submodule paths contain changes"):
		return PushSubmodule
	case p.Ended != nil:
		return PushUnknown
	case contains(text, "the receiving end does not support --signed push", "the receiving end does not support push options",
		"--mirror can't be combined with refspecs"):
		return PushConfig // push.gpgSign, push.pushOption, remote.NAME.mirror
	case contact(text) == Refused:
		return PushDenied
	case p.Exit == 1 && !contains(text, "fatal:", "error: RPC failed", "send-pack: unexpected disconnect", "error in sideband demultiplexer"):
		return PushHook
	}
	return PushUnknown
}
