package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"homelab/pkg/nearest"
)

// Resolve returns the commit that rev means: anything git's rev^{commit}
// resolves. A name that git would silently decide (a tag and a branch called
// the same, a branch called like an abbreviated hash) is ambiguous when the
// commits differ: to follow the wrong one would be worse than to ask.
//
// Errors: *AmbiguousError, *UnknownError, ErrUnborn for HEAD in a repository
// without a commit, *CommandError when git itself is in trouble, ctx's cause.
func (r *Repo) Resolve(ctx context.Context, rev string) (Commit, error) {
	if rev == "" || strings.ContainsAny(rev, "\x00\n") {
		return "", &UnknownError{Rev: rev}
	}
	// Not --quiet: it would also silence the warning about two meanings.
	res, err := r.ask(ctx, "-c", "core.warnAmbiguousRefs=true",
		"rev-parse", "--verify", "--end-of-options", rev+"^{commit}")
	var failed *CommandError
	if err != nil && !errors.As(err, &failed) {
		return "", err
	}
	stderr := string(res.Stderr)
	if err == nil {
		c, err := ParseCommit(strings.TrimSpace(string(res.Stdout)))
		if err != nil { // "^HEAD" is a revision too, but not one commit
			return "", &UnknownError{Rev: rev}
		}
		return c, r.twoMeanings(ctx, rev, stderr)
	}
	if strings.Contains(stderr, "is ambiguous") {
		return "", r.ambiguous(ctx, rev, stderr)
	}
	if name := startOf(rev); name == "HEAD" || name == "@" {
		if unborn, err := r.unborn(ctx); err != nil {
			return "", err
		} else if unborn {
			return "", fmt.Errorf("%s: %w", rev, ErrUnborn)
		}
	}
	why := failed.Why()
	switch {
	case failed.ExitCode != 128 && failed.ExitCode != 1 || strings.Contains(why, "not a git repository"):
		return "", err // the repository went away, or git died
	case strings.HasPrefix(why, "Needed a single revision"):
		why = ""
	}
	for line := range strings.Lines(stderr) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "error: "); ok {
			why = strings.TrimPrefix(rest, rev+"^{commit}: ")
		}
	}
	near, err := r.near(ctx, rev)
	if err != nil {
		return "", err
	}
	return "", &UnknownError{Rev: rev, Near: near, Why: why}
}

// startOf returns the name that rev starts from: "main" of "main~2".
func startOf(rev string) string {
	i := strings.IndexAny(rev, "~^:")
	if at := strings.Index(rev, "@{"); at > 0 && (i < 0 || at < i) {
		i = at
	}
	if i < 0 {
		return rev
	}
	return rev[:i]
}

// unborn says whether HEAD is on a branch that has no commit.
func (r *Repo) unborn(ctx context.Context) (bool, error) {
	_, onBranch, err := r.CurrentBranch(ctx)
	if err != nil || !onBranch {
		return false, err
	}
	exists, err := r.verify(ctx, "HEAD")
	return exists == "", err
}

// verify resolves rev quietly: "" when there is no such object.
func (r *Repo) verify(ctx context.Context, rev string) (string, error) {
	res, err := r.ask(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", rev)
	if _, ok := errors.AsType[*CommandError](err); ok {
		return "", nil
	}
	return strings.TrimSpace(string(res.Stdout)), err
}

// twoMeanings returns an *AmbiguousError if git warned that it chose between
// meanings of a name, and they are not one commit.
func (r *Repo) twoMeanings(ctx context.Context, rev, stderr string) error {
	_, after, warned := strings.Cut(stderr, "warning: refname '")
	name, _, ended := strings.Cut(after, "' is ambiguous")
	if !warned || !ended {
		return nil
	}
	var found []Candidate
	for _, prefix := range []string{"refs/tags/", "refs/heads/", "refs/remotes/", "refs/"} {
		c, err := r.verify(ctx, prefix+name+"^{commit}")
		if err != nil {
			return err
		}
		if commit, err := ParseCommit(c); err == nil {
			found = append(found, Candidate{Commit: commit, Ref: prefix + name})
		}
	}
	if isHex(name) && len(name) < 40 {
		more, err := r.byPrefix(ctx, name)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	return r.candidates(ctx, rev, found, true)
}

// ambiguous lists the commits an abbreviated hash may mean.
func (r *Repo) ambiguous(ctx context.Context, rev, stderr string) error {
	_, after, _ := strings.Cut(stderr, "short object ID ")
	prefix, _, _ := strings.Cut(after, " ")
	found, err := r.byPrefix(ctx, prefix)
	if err != nil {
		return err
	}
	return r.candidates(ctx, rev, found, false)
}

// candidates makes the error from what was found; with several, it is nil if
// they are all one commit.
func (r *Repo) candidates(ctx context.Context, rev string, found []Candidate, several bool) error {
	var distinct []Candidate
	for _, f := range found {
		if !slices.ContainsFunc(distinct, func(d Candidate) bool { return d.Commit == f.Commit }) {
			distinct = append(distinct, f)
		}
	}
	if several && len(distinct) < 2 {
		return nil
	}
	distinct = distinct[:min(10, len(distinct))]
	for i := range distinct {
		if m, err := r.Message(ctx, distinct[i].Commit); err == nil {
			distinct[i].Subject, _, _ = strings.Cut(m, "\n")
		}
	}
	return &AmbiguousError{Rev: rev, Candidates: distinct}
}

// byPrefix returns the commits, and those that tags point at, whose hash
// starts with prefix.
func (r *Repo) byPrefix(ctx context.Context, prefix string) ([]Candidate, error) {
	if len(prefix) < 4 || !isHex(prefix) {
		return nil, nil // git itself takes no shorter one
	}
	res, err := r.ask(ctx, "rev-parse", "--disambiguate="+prefix)
	if err != nil {
		return nil, err
	}
	var in bytes.Buffer
	for id := range strings.FieldsSeq(string(res.Stdout)) {
		fmt.Fprintf(&in, "%s^{commit}\n", id)
	}
	check := r.Local("cat-file", "--batch-check=%(objectname) %(objecttype)")
	check.Stdin = &in
	if res, err = Run(ctx, check); err != nil {
		return nil, err
	}
	var found []Candidate
	for line := range strings.Lines(string(res.Stdout)) {
		id, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind == "commit" {
			found = append(found, Candidate{Commit: Commit(id)})
		}
	}
	return found, nil
}

func isHex(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

// near returns up to three branch and tag names that the name in rev may be a
// slip of.
func (r *Repo) near(ctx context.Context, rev string) ([]string, error) {
	name := startOf(rev)
	if name == "" || len(name) > 200 {
		return nil, nil
	}
	res, err := r.ask(ctx, "for-each-ref", "--count=5000", "--sort=-creatordate",
		"--format=%(refname)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return nil, err
	}
	var names []string
	for ref := range strings.FieldsSeq(string(res.Stdout)) {
		for _, prefix := range []string{"refs/heads/", "refs/tags/", "refs/remotes/"} {
			if short, ok := strings.CutPrefix(ref, prefix); ok {
				names = append(names, short)
			}
		}
	}
	return resembling(name, names), nil
}

// resembling returns the three names closest to name: equal but for case, or for the
// path before it (anna/fan for fan), or within a third of its letters.
func resembling(name string, names []string) []string {
	type scored struct {
		name string
		d    int
	}
	var near []scored
	limit := nearest.Slips(name)
	low := strings.ToLower(name)
	for _, candidate := range names {
		c := strings.ToLower(candidate)
		d := nearest.Distance(low, c, limit)
		for rest := c; d > 0; {
			var more bool
			if _, rest, more = strings.Cut(rest, "/"); !more {
				break
			}
			d = min(d, nearest.Distance(low, rest, limit)+1)
		}
		same := func(s scored) bool { return s.name == candidate }
		if d <= limit && candidate != name && !slices.ContainsFunc(near, same) {
			near = append(near, scored{candidate, d})
		}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return a.d - b.d })
	var out []string
	for _, s := range near[:min(3, len(near))] {
		out = append(out, s.name)
	}
	return out
}

// IsAncestor says whether descendant contains ancestor; a commit contains
// itself. No is answered only where the whole history says so: with a missing
// object, or a clone whose history is cut off, it is Unproven without an
// error. The error is git's own trouble or ctx's cause.
func (r *Repo) IsAncestor(ctx context.Context, ancestor, descendant Commit) (Answer, error) {
	for _, c := range []Commit{ancestor, descendant} {
		if _, err := ParseCommit(string(c)); err != nil {
			return Unproven, err
		}
	}
	yes, clean, err := r.contains(ctx, ancestor, descendant)
	switch {
	case err != nil:
		return Unproven, err
	case yes:
		return Yes, nil
	case !clean:
		return Unproven, nil
	}
	shallow, err := r.IsShallow(ctx)
	if err != nil {
		return Unproven, err
	}
	if !shallow {
		return No, nil
	}
	// What lies behind the cut is not known, unless it is the other way round:
	// history has no circles.
	reverse, _, err := r.contains(ctx, descendant, ancestor)
	if err != nil || !reverse {
		return Unproven, err
	}
	return No, nil
}

// contains runs the test; clean is false when an object was missing on the
// way, which older versions of git only mention beside their "no".
func (r *Repo) contains(ctx context.Context, ancestor, descendant Commit) (yes, clean bool, err error) {
	res, err := r.ask(ctx, "merge-base", "--is-ancestor", string(ancestor), string(descendant))
	var failed *CommandError
	switch {
	case err == nil:
		return true, true, nil
	case !errors.As(err, &failed):
		return false, false, err
	case failed.ExitCode == 1:
		return false, !strings.Contains(string(res.Stderr), "error: "), nil
	case isMissing(failed):
		return false, false, nil
	}
	return false, false, err
}

// isMissing says whether git failed because it does not have an object.
func isMissing(e *CommandError) bool {
	for _, said := range []string{
		"Not a valid commit name", "ot a valid object name", "bad object", "no such commit", "not a tree object",
		"could not parse commit", "ould not read ", "unable to read ", "Failed to traverse parents",
		"from promisor remote", "unable to find ", "bad revision", "git cat-file: could not get object info",
	} {
		if strings.Contains(e.Stderr, said) {
			return true
		}
	}
	return false
}

// question runs git about c and words a missing object as ErrMissing.
func (r *Repo) question(ctx context.Context, c Commit, args ...string) ([]byte, error) {
	if _, err := ParseCommit(string(c)); err != nil {
		return nil, err
	}
	res, err := r.ask(ctx, args...)
	var failed *CommandError
	if errors.As(err, &failed) && isMissing(failed) {
		return nil, fmt.Errorf("%s: %w", c, ErrMissing)
	}
	return res.Stdout, err
}

// Message returns c's whole message in UTF-8, without the final line breaks.
// It is foreign text. The error is ErrMissing, or git's.
func (r *Repo) Message(ctx context.Context, c Commit) (string, error) {
	out, err := r.question(ctx, c, "log", "-1", "--no-show-signature", "--no-color",
		"--encoding=UTF-8", "--format=%B", string(c), "--")
	return strings.ToValidUTF8(strings.TrimRight(string(out), "\n"), "\uFFFD"), err
}

// OnRemote says whether a remote-tracking ref contains c: whether c was pushed
// as far as this checkout knows. The error is ErrMissing, or git's.
func (r *Repo) OnRemote(ctx context.Context, c Commit) (bool, error) {
	out, err := r.question(ctx, c, "for-each-ref", "--count=1", "--format=%(refname)",
		"--contains", string(c), "refs/remotes")
	return len(bytes.TrimSpace(out)) > 0, err
}

// entry is one line of a tree.
type entry struct {
	mode string // "100644", "100755", "120000" a symbolic link, "040000" a directory, "160000" a submodule
	id   string
	path string
}

func (r *Repo) tree(ctx context.Context, c Commit, args ...string) ([]entry, error) {
	out, err := r.question(ctx, c, append([]string{"ls-tree", "-z", "--full-tree", string(c)}, args...)...)
	if err != nil {
		return nil, err
	}
	return parseTree(out), nil
}

func parseTree(out []byte) []entry {
	var entries []entry
	for line := range strings.SplitSeq(string(out), "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		if f := strings.Fields(meta); ok && len(f) == 3 {
			entries = append(entries, entry{mode: f[0], id: f[2], path: name})
		}
	}
	return entries
}

// TreeFiles returns the paths of the files, symbolic links included, at the
// root of c's tree and directly below .woodpecker: all that decides whether
// the commit has a pipeline file. The error is ErrMissing, or git's.
func (r *Repo) TreeFiles(ctx context.Context, c Commit) ([]string, error) {
	entries, err := r.tree(ctx, c)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(entries, func(e entry) bool { return e.path == ".woodpecker" && e.mode == "040000" }) {
		below, err := r.tree(ctx, c, "--", ".woodpecker/")
		if err != nil {
			return nil, err
		}
		entries = append(entries, below...)
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.mode, "10") || e.mode == "120000" {
			files = append(files, e.path)
		}
	}
	return files, nil
}

// File returns the content of the file at name, a slash-separated path from
// the root, in the commit rev means; never the work tree's. At most 8 MiB.
//
// Errors: those of Resolve, ErrNoFile, ErrMissing, *TooLargeError, and one for
// what is no regular file: a link could name anything.
func (r *Repo) File(ctx context.Context, rev, name string) ([]byte, error) {
	if name != path.Clean(name) || path.IsAbs(name) || name == "." || name == ".." || strings.HasPrefix(name, "../") {
		return nil, fmt.Errorf("%s is no path inside the repository", name)
	}
	entries, err := r.named(ctx, rev, name)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(entries, func(e entry) bool { return e.path == name })
	if at < 0 {
		return nil, fmt.Errorf("%s in %s: %w", name, rev, ErrNoFile)
	}
	if !strings.HasPrefix(entries[at].mode, "10") {
		return nil, fmt.Errorf("%s in %s is not a regular file", name, rev)
	}
	return r.question(ctx, Commit(entries[at].id), "cat-file", "blob", entries[at].id)
}

// named returns what a commit has at name. HEAD means one thing and is asked
// for as it is, which spares a process that every command would start.
func (r *Repo) named(ctx context.Context, rev, name string) ([]entry, error) {
	if rev == "HEAD" {
		if res, err := r.ask(ctx, "ls-tree", "-z", "--full-tree", rev, "--", name); err == nil {
			return parseTree(res.Stdout), nil
		}
	}
	c, err := r.Resolve(ctx, rev) // tells what is wrong with it, too
	if err != nil {
		return nil, err
	}
	return r.tree(ctx, c, "--", name)
}
