package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Worktree is one entry of a clone's list. The first is the main one.
type Worktree struct {
	Path     string
	Head     Commit // "" for a bare repository or an unborn branch
	Branch   string // full ref; "" when detached or bare
	Bare     bool
	Locked   bool
	Prunable bool // its directory is gone
}

// Worktrees lists the clone's work trees, the main one first.
func (r *Repo) Worktrees(ctx context.Context) ([]Worktree, error) {
	res, err := r.ask(ctx, "worktree", "list", "--porcelain", "-z")
	if err != nil {
		return nil, err
	}
	return parseWorktrees(string(res.Stdout)), nil
}

func parseWorktrees(out string) []Worktree {
	var list []Worktree
	for record := range strings.SplitSeq(out, "\x00\x00") {
		var w Worktree
		for line := range strings.SplitSeq(record, "\x00") {
			key, value, _ := strings.Cut(line, " ")
			switch key {
			case "worktree":
				w.Path = value
			case "HEAD":
				if c, err := ParseCommit(value); err == nil && strings.Trim(value, "0") != "" {
					w.Head = c
				}
			case "branch":
				w.Branch = value
			case "bare":
				w.Bare = true
			case "locked":
				w.Locked = true
			case "prunable":
				w.Prunable = true
			}
		}
		if w.Path != "" {
			list = append(list, w)
		}
	}
	return list
}

// quiet are the options of checkouts that no one asked for by hand: no hook of
// the user's runs, and every file is there.
func quiet(args ...string) []string {
	return append([]string{
		"-c", "core.hooksPath=/dev/null", "-c", "core.sparseCheckout=false", "-c", "core.ignoreStat=false", "-c", "advice.detachedHead=false",
	}, args...)
}

// AddWorktree makes a work tree at path without files in it; Fill puts them
// there. branch != "" is made at start, or used if start is "". Without a
// branch it is detached at start. The new branch follows nothing: under
// push.default=upstream a plain push would go to the base.
func (r *Repo) AddWorktree(ctx context.Context, path, branch string, start Commit) error {
	args := quiet("worktree", "add", "--quiet", "--no-checkout")
	switch {
	case branch == "":
		args = append(args, "--detach", "--", path, string(start))
	case start == "":
		args = append(args, "--", path, branch)
	default:
		args = append(args, "--no-track", "-b", branch, "--", path, string(start))
	}
	_, err := Run(ctx, r.Objects(args...))
	return err
}

// LinkCrypt makes git-crypt's keys known to this work tree: it looks for them
// in the work tree's own git directory, and a checkout of an unlocked clone
// would die in its smudge filter. Nothing to do without keys.
// Source: https://github.com/AGWA/git-crypt/issues/105
func (r *Repo) LinkCrypt() error {
	keys, link := filepath.Join(r.common, "git-crypt"), filepath.Join(r.gitDir, "git-crypt")
	if _, err := os.Stat(keys); errors.Is(err, os.ErrNotExist) || keys == link {
		return nil
	} else if err != nil {
		return err
	}
	if err := os.Symlink(keys, link); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// Fill checks out HEAD's files into a work tree that was just added.
func (r *Repo) Fill(ctx context.Context) error {
	if err := r.LinkCrypt(); err != nil {
		return err
	}
	_, err := Run(ctx, r.Objects(quiet("reset", "--hard", "--quiet", "--no-recurse-submodules")...))
	return err
}

// CheckoutClean makes a work tree of the tool's own exactly c: changes and
// untracked files go, ignored ones stay, as they are build caches. It must
// never be called on a work tree of the user's.
func (r *Repo) CheckoutClean(ctx context.Context, c Commit) error {
	if err := r.LinkCrypt(); err != nil {
		return err
	}
	if err := r.seeAll(ctx); err != nil {
		return err
	}
	if _, err := Run(ctx, r.Objects(quiet("checkout", "--quiet", "--detach", "--force", "--no-recurse-submodules", string(c), "--")...)); err != nil {
		return err
	}
	_, err := Run(ctx, r.Objects(quiet("clean", "-ffdq")...))
	return err
}

// seeAll makes git look at every file of a work tree of the tool's own again.
// What ran there may have told the index not to (skip-worktree,
// assume-unchanged): the file would then stay as it was left, whatever is
// checked out. Without an index a forced checkout writes all of them.
func (r *Repo) seeAll(ctx context.Context) error {
	cmd := r.Local("ls-files", "-v", "-z")
	cmd.MaxOutput = 256 << 20
	res, err := Run(ctx, cmd)
	if err != nil {
		return err
	}
	for line := range bytes.SplitSeq(res.Stdout, []byte{0}) {
		if len(line) > 0 && (line[0] == 'S' || line[0] >= 'a' && line[0] <= 'z') {
			return os.Remove(filepath.Join(r.gitDir, "index"))
		}
	}
	return nil
}

// LockWorktree keeps a work tree from being pruned or moved.
func (r *Repo) LockWorktree(ctx context.Context, path, reason string) error {
	_, err := r.ask(ctx, "worktree", "lock", "--reason", reason, "--", path)
	if failed, ok := errors.AsType[*CommandError](err); ok && strings.Contains(failed.Stderr, "is already locked") {
		return nil
	}
	return err
}

// UnlockWorktree undoes LockWorktree, also if the directory is gone; a path
// that is no work tree, or not locked, is no error.
func (r *Repo) UnlockWorktree(ctx context.Context, path string) error {
	_, err := r.ask(ctx, "worktree", "unlock", "--", path)
	if failed, ok := errors.AsType[*CommandError](err); ok && contains(failed.Stderr, "is not locked", "is not a working tree") {
		return nil
	}
	return err
}

// UpdateSubmodules checks out the submodules at paths as HEAD names them.
func (r *Repo) UpdateSubmodules(ctx context.Context, paths []string) error {
	args := append([]string{"-c", "core.hooksPath=/dev/null", "submodule", "--quiet", "update", "--init", "--force", "--"}, paths...)
	_, err := r.reach(ctx, transferLimit, r.Network(args...))
	return err
}

// NotThere says whether a submodule's update failed for want of the commit on
// its remote.
func NotThere(err error) bool {
	failed, ok := errors.AsType[*CommandError](err)
	return ok && contains(failed.Stderr, "did not contain", "not our ref", "unadvertised object", "Unable to find current revision")
}

// PruneWorktrees forgets work trees whose directory is gone.
func (r *Repo) PruneWorktrees(ctx context.Context) error {
	_, err := r.ask(ctx, "worktree", "prune")
	return err
}

// Status is how a work tree differs from its commit.
type Status struct {
	Head      Commit   // "" on an unborn branch
	Branch    string   // without refs/heads/; "" when detached
	Changed   []string // tracked files, staged or not, conflicts included
	Untracked []string // a directory with nothing tracked in it is one entry, "dir/"
	Ignored   []string // only if asked for
}

// Status reads it without touching the index file.
func (r *Repo) Status(ctx context.Context, ignored bool) (Status, error) {
	if ignored {
		return r.status(ctx, "--untracked-files=normal", "--ignored=traditional")
	}
	return r.status(ctx, "--untracked-files=normal")
}

// Tracked is Status without a look for what is not tracked, which takes twice
// as long in a large work tree.
func (r *Repo) Tracked(ctx context.Context) (Status, error) {
	return r.status(ctx, "--untracked-files=no")
}

func (r *Repo) status(ctx context.Context, which ...string) (Status, error) {
	args := append([]string{"status", "--porcelain=v2", "--branch", "--no-ahead-behind", "-z", "--no-renames", "--ignore-submodules=none"}, which...)
	cmd := r.Local(append([]string{"--no-optional-locks"}, args...)...)
	cmd.MaxOutput = 64 << 20
	res, err := Run(ctx, cmd)
	if err != nil {
		return Status{}, err
	}
	return parseStatus(string(res.Stdout)), nil
}

func parseStatus(out string) Status {
	var s Status
	fields := strings.Split(out, "\x00")
	for i := 0; i < len(fields); i++ {
		line := fields[i]
		kind, rest, _ := strings.Cut(line, " ")
		// The path is the last of so many fields.
		path := func(n int) string {
			f := strings.SplitN(rest, " ", n)
			return f[len(f)-1]
		}
		switch kind {
		case "#":
			if v, ok := strings.CutPrefix(rest, "branch.oid "); ok {
				if c, err := ParseCommit(v); err == nil {
					s.Head = c
				}
			} else if v, ok := strings.CutPrefix(rest, "branch.head "); ok && v != "(detached)" {
				s.Branch = v
			}
		case "1":
			if strings.HasPrefix(rest, ".M S..U ") { // a submodule with new files in it, and no more
				s.Untracked = append(s.Untracked, path(8)+"/")
				continue
			}
			s.Changed = append(s.Changed, path(8))
		case "2":
			s.Changed = append(s.Changed, path(9))
			i++ // the name before
		case "u":
			s.Changed = append(s.Changed, path(10))
		case "?":
			s.Untracked = append(s.Untracked, rest)
		case "!":
			s.Ignored = append(s.Ignored, rest)
		}
	}
	return s
}

// InProgress returns what a person has begun in this work tree and not ended:
// "merge", "rebase", "cherry-pick", "revert", "bisect"; "" for nothing.
func (r *Repo) InProgress() string {
	for _, f := range []struct{ file, name string }{
		{"MERGE_HEAD", "merge"},
		{"rebase-merge", "rebase"},
		{"rebase-apply", "rebase"},
		{"CHERRY_PICK_HEAD", "cherry-pick"},
		{"REVERT_HEAD", "revert"},
		{"sequencer", "cherry-pick"},
		{"BISECT_LOG", "bisect"},
	} {
		if _, err := os.Lstat(filepath.Join(r.gitDir, f.file)); err == nil {
			return f.name
		}
	}
	return ""
}

// FastForward moves this work tree's branch and files to c, which must be
// ahead of it. No hook runs; a tracked, untracked or ignored file in the way is
// an error and nothing changes. (Git itself would overwrite ignored ones.)
func (r *Repo) FastForward(ctx context.Context, c Commit) error {
	_, err := Run(ctx, r.Objects("-c", "core.hooksPath=/dev/null", "merge", "--ff-only", "--quiet", "--no-verify-signatures", "--no-autostash", "--no-overwrite-ignore", string(c)))
	return err
}

// StashCreate returns a commit that holds the tracked changes of the index and
// the work tree, which stay as they are; "" when there are none.
func (r *Repo) StashCreate(ctx context.Context) (Commit, error) {
	res, err := Run(ctx, r.Objects("stash", "create", "homelab"))
	if err != nil {
		return "", err
	}
	out := strings.TrimSpace(string(res.Stdout))
	if out == "" {
		return "", nil
	}
	return ParseCommit(out)
}

// ResetMixed makes the index HEAD's and leaves the files alone.
func (r *Repo) ResetMixed(ctx context.Context) error {
	_, err := Run(ctx, r.Objects("-c", "core.hooksPath=/dev/null", "reset", "--mixed", "--quiet"))
	return err
}

// ValidBranch says whether name can be a branch's.
func (r *Repo) ValidBranch(ctx context.Context, name string) (bool, error) {
	_, err := r.ask(ctx, "check-ref-format", "--branch", name)
	if _, failed := errors.AsType[*CommandError](err); failed {
		return false, nil
	}
	return err == nil, err
}

// Submodules returns the paths of the submodules whose checkout exists here.
func (r *Repo) Submodules(ctx context.Context) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(r.root, ".gitmodules")); err != nil {
		return nil, nil //nolint:nilerr // no such file: no submodules
	}
	res, err := r.ask(ctx, "ls-files", "-z", "--stage")
	if err != nil {
		return nil, fmt.Errorf("submodules: %w", err)
	}
	var out []string
	for line := range strings.SplitSeq(string(res.Stdout), "\x00") {
		meta, name, _ := strings.Cut(line, "\t")
		if !strings.HasPrefix(meta, "160000 ") {
			continue
		}
		if _, err := os.Lstat(filepath.Join(r.root, name, ".git")); err == nil {
			out = append(out, name)
		}
	}
	return out, nil
}
