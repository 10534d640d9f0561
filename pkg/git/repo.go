package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Commit is a full commit hash: 40 or 64 lower-case hexadecimal digits.
type Commit string

// ParseCommit checks that s is a full hash, in either case. The error is
// ErrCommit.
func ParseCommit(s string) (Commit, error) {
	low := strings.ToLower(s)
	if len(s) != 40 && len(s) != 64 || strings.Trim(low, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q: %w", s, ErrCommit)
	}
	return Commit(low), nil
}

// Short returns the first seven digits, for people; it is not unique.
func (c Commit) Short() string { return string(c[:min(7, len(c))]) }

// Answer is what a checkout can prove.
type Answer int

// Unproven is the zero value: nothing may be concluded from it.
const (
	Unproven Answer = iota
	Yes
	No
)

func (a Answer) String() string {
	switch a {
	case Yes:
		return "yes"
	case No:
		return "no"
	case Unproven:
	}
	return "unproven"
}

// Repo is one checkout. It is safe for concurrent use: it holds no state but
// where it is.
type Repo struct {
	dir    string // where git runs
	root   string
	gitDir string
	common string
	bare   bool
	format string
	env    []string
	pins   []string // "HOST:PORT:ADDRESS" of what network commands do not look up
}

// Open finds the repository that dir lies in. env is the environment of every
// git process it will start; the caller has removed what they must not see.
//
// Errors: ErrNoGit, ErrNotRepo (wrapped with git's words), *OwnershipError,
// a missing dir, *CommandError for a repository git cannot read, ctx's cause.
func Open(ctx context.Context, dir string, env []string) (*Repo, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Repo{dir: dir, env: env}
	// One process answers all. The top level comes last: without a work tree
	// git fails there, having answered the rest.
	res, err := r.ask(ctx, "rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir",
		"--is-bare-repository", "--is-inside-work-tree", "--show-object-format", "--show-toplevel")
	lines := strings.Split(strings.TrimSuffix(string(res.Stdout), "\n"), "\n")
	var failed *CommandError
	switch {
	case err == nil && len(lines) == 6:
		r.root = lines[5]
	case errors.As(err, &failed) && len(lines) == 5 && lines[3] == "false":
		r.root = lines[1]
	case err == nil:
		return nil, fmt.Errorf("%s: paths with line breaks are not supported", dir)
	default:
		return nil, openError(dir, err)
	}
	r.common, r.gitDir, r.bare, r.format = lines[0], lines[1], lines[2] == "true", lines[4]
	r.dir = r.root
	return r, nil
}

// openError tells why dir could not be opened.
func openError(dir string, err error) error {
	var failed *CommandError
	if errors.Is(err, ErrNoProgram) {
		return fmt.Errorf("%w: %w", ErrNoGit, err)
	}
	if !errors.As(err, &failed) {
		return err
	}
	for line := range strings.Lines(failed.Stderr) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "fatal: not a git repository") || strings.HasPrefix(line, "fatal: invalid gitfile format") {
			return fmt.Errorf("%s: %w (%s)", dir, ErrNotRepo, strings.TrimPrefix(line, "fatal: "))
		}
		if rest, ok := strings.CutPrefix(line, "fatal: detected dubious ownership in repository at "); ok {
			return &OwnershipError{Dir: strings.Trim(rest, "'")}
		}
		if rest, ok := strings.CutPrefix(line, "fatal: unsafe repository ('"); ok { // git 2.35.2
			owned, _, _ := strings.Cut(rest, "' is owned by")
			return &OwnershipError{Dir: owned}
		}
	}
	return err
}

// Root returns the top of the work tree that Open was pointed at, which may be
// a linked one; for a bare repository, or inside one's .git, the git directory.
func (r *Repo) Root() string { return r.root }

// GitDir returns this work tree's git directory.
func (r *Repo) GitDir() string { return r.gitDir }

// CommonDir returns the git directory that all work trees of the clone share.
func (r *Repo) CommonDir() string { return r.common }

// HooksDir returns the directory of this work tree's hooks; core.hooksPath is
// honoured. It need not exist.
func (r *Repo) HooksDir(ctx context.Context) (string, error) {
	res, err := r.ask(ctx, "rev-parse", "--path-format=absolute", "--git-path", "hooks")
	return strings.TrimSuffix(string(res.Stdout), "\n"), err
}

// Bare says whether the repository has no work tree of its own.
func (r *Repo) Bare() bool { return r.bare }

// Local returns the command "git args" at the repository's root, unable to
// reach the network or to ask for anything.
func (r *Repo) Local(args ...string) Command {
	return Command{
		Dir: r.dir, Name: "git", Args: args,
		Env: append(base(r.env),
			"GIT_NO_LAZY_FETCH=1",
			"GIT_ALLOW_PROTOCOL=none", // the same for a git that does not know the former
			"GIT_NO_REPLACE_OBJECTS=1",
		),
	}
}

// Network returns the command "git args" at the repository's root for fetching
// and pushing; prompts on a terminal are off.
func (r *Repo) Network(args ...string) Command {
	for _, p := range r.pins {
		args = append([]string{"-c", "http.curloptResolve=" + p}, args...)
	}
	return Command{Dir: r.dir, Name: "git", Args: args, Env: base(r.env)}
}

// base adds to env what every git process is started with: messages in
// English, because some are read; no prompt; no lock that a question does not
// need, so that an editor's git is never disturbed.
func base(env []string) []string {
	return append(slices.Clip(env), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0")
}

func (r *Repo) ask(ctx context.Context, args ...string) (Result, error) {
	return Run(ctx, r.Local(args...))
}

// Version is git's own version.
type Version struct{ Major, Minor, Patch int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast says whether v is major.minor or newer.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// Installed asks git for its version, in a directory that need not be a
// repository. The error is ErrNoGit or says what git answered.
func Installed(ctx context.Context, dir string, env []string) (Version, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Version{}, err
	}
	res, err := Run(ctx, Command{Dir: dir, Name: "git", Args: []string{"--version"}, Env: base(env)})
	if errors.Is(err, ErrNoProgram) {
		return Version{}, fmt.Errorf("%w: %w", ErrNoGit, err)
	} else if err != nil {
		return Version{}, err
	}
	return parseVersion(string(res.Stdout))
}

// parseVersion reads "git version 2.39.5 (Apple Git-154)" and its like.
func parseVersion(s string) (Version, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), "git version ")
	word, _, _ := strings.Cut(rest, " ")
	parts := strings.Split(word, ".")
	if !ok || len(parts) < 2 {
		return Version{}, fmt.Errorf("git --version answered %q", s)
	}
	var n [3]int
	for i := range min(3, len(parts)) {
		v, err := strconv.Atoi(parts[i])
		if err != nil && i < 2 {
			return Version{}, fmt.Errorf("git --version answered %q", s)
		}
		n[i] = v // a patch such as "rc1" is 0
	}
	return Version{n[0], n[1], n[2]}, nil
}

// IsShallow says whether the clone's history is cut off. It is asked anew each
// time: a fetch can change it.
func (r *Repo) IsShallow(ctx context.Context) (bool, error) {
	res, err := r.ask(ctx, "rev-parse", "--is-shallow-repository")
	return strings.TrimSpace(string(res.Stdout)) == "true", err
}

// Remotes returns the names of the configured remotes, sorted by git.
func (r *Repo) Remotes(ctx context.Context) ([]string, error) {
	res, err := r.ask(ctx, "remote")
	return strings.Fields(string(res.Stdout)), err
}

// RemoteURL returns the URL that git would fetch name from, insteadOf applied.
// It may contain a password: pass it to ParseRemote, do not print it. The
// error is ErrRemote for a name that is not configured.
func (r *Repo) RemoteURL(ctx context.Context, name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("%q: %w", name, ErrRemote)
	}
	res, err := r.ask(ctx, "remote", "get-url", "--end-of-options", name)
	var failed *CommandError
	if errors.As(err, &failed) && strings.Contains(failed.Stderr, "No such remote") {
		return "", fmt.Errorf("%q: %w", name, ErrRemote)
	}
	return strings.TrimSuffix(string(res.Stdout), "\n"), err
}

// CurrentBranch returns the branch HEAD is on, also one without a commit; ok
// is false when HEAD is detached, as it is during a rebase.
func (r *Repo) CurrentBranch(ctx context.Context) (name string, ok bool, err error) {
	// Almost always the file says it, and no process is needed. Where refs are
	// kept otherwise it says ".invalid".
	if data, err := os.ReadFile(filepath.Join(r.gitDir, "HEAD")); err == nil {
		ref, linked := strings.CutPrefix(strings.TrimSpace(string(data)), "ref: refs/heads/")
		if linked && ref != "" && ref != ".invalid" {
			return ref, true, nil
		}
	}
	// Not --short: that would say "heads/x" where a tag x exists.
	res, err := r.ask(ctx, "symbolic-ref", "--quiet", "HEAD")
	var failed *CommandError
	if errors.As(err, &failed) && failed.ExitCode == 1 {
		return "", false, nil
	} else if err != nil {
		return "", false, err
	}
	name, ok = strings.CutPrefix(strings.TrimSpace(string(res.Stdout)), "refs/heads/")
	return name, ok, nil
}

// Upstream returns the remote and the branch on it that the current branch
// follows; ok is false when HEAD is detached, the branch follows nothing or a
// local branch, or its remote is a bare URL without a name.
func (r *Repo) Upstream(ctx context.Context) (remote, branch string, ok bool, err error) {
	name, ok, err := r.CurrentBranch(ctx)
	if err != nil || !ok {
		return "", "", false, err
	}
	// From the configuration, not from %(upstream): that is empty for a branch
	// that has no commit yet. Names are compared here, as they may contain
	// anything a pattern gives a meaning to.
	res, err := r.ask(ctx, "config", "-z", "--get-regexp", `^branch\..*\.(remote|merge)$`)
	var failed *CommandError
	if errors.As(err, &failed) && failed.ExitCode == 1 {
		return "", "", false, nil
	} else if err != nil {
		return "", "", false, err
	}
	for entry := range strings.SplitSeq(string(res.Stdout), "\x00") {
		switch key, value, _ := strings.Cut(entry, "\n"); key {
		case "branch." + name + ".remote":
			remote = value
		case "branch." + name + ".merge":
			branch, _ = strings.CutPrefix(value, "refs/heads/")
		}
	}
	if remote == "" || branch == "" || remote == "." || strings.Contains(remote, ":") || filepath.IsAbs(remote) {
		return "", "", false, nil
	}
	return remote, branch, true, nil
}
