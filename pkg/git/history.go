package git

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Entry is one commit of a range.
type Entry struct {
	Commit  Commit
	Parents []Commit
	Subject string // foreign text
	Trailer string // of the key that was asked for; "" without
}

// Commits returns the commits that include has and exclude has not, newest
// first, no commit before its children. The error is ErrMissing, or git's.
func (r *Repo) Commits(ctx context.Context, exclude, include Commit) ([]Entry, error) {
	out, err := r.question(ctx, include, "log", "-z", "--topo-order", "--no-show-signature", "--no-color", "--no-decorate",
		"--encoding=UTF-8", "--format=%H%n%P%n%s", string(exclude)+".."+string(include), "--")
	if err != nil {
		return nil, err
	}
	var list []Entry
	for record := range strings.SplitSeq(string(out), "\x00") {
		f := strings.SplitN(record, "\n", 3)
		if len(f) < 3 {
			continue
		}
		e := Entry{Commit: Commit(f[0]), Subject: strings.ToValidUTF8(f[2], "\uFFFD")}
		for p := range strings.FieldsSeq(f[1]) {
			e.Parents = append(e.Parents, Commit(p))
		}
		list = append(list, e)
	}
	return list, nil
}

// Sides returns the commits that only left has and those that only right has,
// each newest first, with the value of a trailer. The error is ErrMissing, or
// git's.
func (r *Repo) Sides(ctx context.Context, left, right Commit, trailer string) (onlyLeft, onlyRight []Entry, err error) {
	cmd := r.Local("log", "-z", "--left-right", "--topo-order", "--no-show-signature", "--no-color", "--no-decorate", "--encoding=UTF-8",
		"--format=%m%H%n%P%n%(trailers:key="+trailer+",valueonly,separator=%x20)%n%s", string(left)+"..."+string(right), "--")
	cmd.MaxOutput = 256 << 20
	res, err := Run(ctx, cmd)
	if failed, ok := errors.AsType[*CommandError](err); ok && isMissing(failed) {
		return nil, nil, fmt.Errorf("%s...%s: %w", left, right, ErrMissing)
	} else if err != nil {
		return nil, nil, err
	}
	for record := range strings.SplitSeq(string(res.Stdout), "\x00") {
		f := strings.SplitN(record, "\n", 4)
		if len(f) < 4 || len(f[0]) < 2 {
			continue
		}
		e := Entry{Commit: Commit(f[0][1:]), Trailer: strings.TrimSpace(f[2]), Subject: strings.ToValidUTF8(f[3], "\uFFFD")}
		for p := range strings.FieldsSeq(f[1]) {
			e.Parents = append(e.Parents, Commit(p))
		}
		if f[0][0] == '<' {
			onlyLeft = append(onlyLeft, e)
		} else {
			onlyRight = append(onlyRight, e)
		}
	}
	return onlyLeft, onlyRight, nil
}

// Entered returns the commit by which c came onto tip's first-parent chain: c
// itself, or the merge that brought it. since is a commit of the chain from
// before that; "" is not known. tip must contain c.
func (r *Repo) Entered(ctx context.Context, c, since, tip Commit) (Commit, error) {
	rev := string(tip)
	if since != "" {
		rev = string(since) + ".." + rev
	}
	out, err := r.question(ctx, tip, "rev-list", "--first-parent", "--reverse", rev, "--")
	if err != nil {
		return "", err
	}
	chain := strings.Fields(string(out))
	// Once it is in, it stays in.
	i, found := sort.Find(len(chain), func(i int) int {
		in, asked := r.IsAncestor(ctx, c, Commit(chain[i]))
		if asked != nil {
			err = asked
		}
		if in == Yes {
			return 0
		}
		return 1
	})
	if err != nil || !found {
		return tip, err
	}
	return Commit(chain[i]), nil
}

// Messages returns the whole messages of the commits that include has and
// exclude has not, newest first, that contain text. firstParent leaves out
// what came in through merges.
func (r *Repo) Messages(ctx context.Context, exclude, include Commit, text string, firstParent bool) (map[Commit]string, []Commit, error) {
	args := []string{
		"log", "-z", "--no-show-signature", "--no-color", "--no-decorate", "--encoding=UTF-8",
		"--fixed-strings", "--grep=" + text, "--format=%H%n%B",
	}
	if firstParent {
		args = append(args, "--first-parent")
	}
	rev := string(include)
	if exclude != "" {
		rev = string(exclude) + ".." + rev
	}
	out, err := r.question(ctx, include, append(args, rev, "--")...)
	if err != nil {
		return nil, nil, err
	}
	found := map[Commit]string{}
	var order []Commit
	for record := range strings.SplitSeq(string(out), "\x00") {
		id, message, ok := strings.Cut(record, "\n")
		if !ok {
			continue
		}
		found[Commit(id)] = strings.ToValidUTF8(message, "\uFFFD")
		order = append(order, Commit(id))
	}
	return found, order, nil
}

// MergeBase returns the best common ancestor; ErrUnrelated when there is none
// in this clone, which a shallow one cannot tell from a cut history.
func (r *Repo) MergeBase(ctx context.Context, a, b Commit) (Commit, error) {
	res, err := r.ask(ctx, "merge-base", string(a), string(b))
	if failed, ok := errors.AsType[*CommandError](err); ok && (failed.ExitCode == 1 || isMissing(failed)) {
		return "", ErrUnrelated
	}
	return Commit(strings.TrimSpace(string(res.Stdout))), err
}

// Count returns how many commits a has that b has not, and the other way round.
func (r *Repo) Count(ctx context.Context, a, b Commit) (onlyA, onlyB int, err error) {
	out, err := r.question(ctx, a, "rev-list", "--left-right", "--count", string(a)+"..."+string(b), "--")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(string(out), &onlyA, &onlyB); err != nil {
		return 0, 0, fmt.Errorf("rev-list --count answered %q: %w", out, err)
	}
	return onlyA, onlyB, nil
}

// Tree returns the id of the tree that treeish means.
func (r *Repo) Tree(ctx context.Context, treeish string) (string, error) {
	res, err := r.ask(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", treeish+"^{tree}")
	return strings.TrimSpace(string(res.Stdout)), err
}

// TreeFile returns the content of a file in a tree, at most 8 MiB. The error
// is ErrNoFile, *TooLargeError, or git's.
func (r *Repo) TreeFile(ctx context.Context, treeish, name string) ([]byte, error) {
	res, err := Run(ctx, r.Objects("cat-file", "blob", treeish+":"+name))
	if failed, ok := errors.AsType[*CommandError](err); ok && contains(failed.Stderr, "does not exist in", "exists on disk, but not in") {
		return nil, fmt.Errorf("%s: %w", name, ErrNoFile)
	}
	return res.Stdout, err
}

// Changed returns the paths in which two trees or commits differ, a rename as
// both of its names; only those that some of specs match, if there are any. A
// submodule that people asked not to see (ignore = all) differs all the same.
func (r *Repo) Changed(ctx context.Context, a, b string, specs ...string) ([]string, error) {
	args := []string{"diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", a, b, "--"}
	cmd := r.Local(append(args, specs...)...)
	cmd.MaxOutput = 256 << 20
	res, err := Run(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return paths(res.Stdout), nil
}

// Paths returns the paths of all files of a tree.
func (r *Repo) Paths(ctx context.Context, treeish string) ([]string, error) {
	cmd := r.Local("ls-tree", "-r", "-z", "--name-only", "--full-tree", treeish)
	cmd.MaxOutput = 256 << 20
	res, err := Run(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return paths(res.Stdout), nil
}

// paths splits NUL-terminated names.
func paths(out []byte) []string {
	var list []string
	for p := range strings.SplitSeq(string(out), "\x00") {
		if p != "" {
			list = append(list, p)
		}
	}
	return list
}
