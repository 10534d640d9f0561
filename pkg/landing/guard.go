package landing

import (
	"bytes"
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
)

// sealed is how every file that git-crypt encrypted begins.
func sealed(head []byte) bool {
	return len(head) == 0 || bytes.HasPrefix(head, []byte("\x00GITCRYPT\x00"))
}

// guard refuses to publish plaintext where the attributes ask for encryption,
// in any commit of the branch: history is published too. It also refuses
// changed LFS files without the hook that uploads them.
func (l *lander) guard(ctx context.Context) error {
	tip := l.plan.candidate
	if tip == "" {
		tip = l.out.Head
	}
	all, err := l.Repo.Blobs(ctx, l.out.BaseBefore, tip)
	if err != nil {
		return err
	}
	parents := l.parents()
	blobs := made(all, parents)
	if err := l.submodulesHere(blobs); err != nil {
		return err
	}
	// A commit that changes the attributes decides for itself and those after
	// it; what was asked for before is its parents'.
	trees := append([]string{string(l.out.BaseBefore), string(l.out.Head)}, attributesOf(all, parents)...)
	if some, err := l.filtered(ctx, trees, l.plan.candidate != ""); err != nil || !some {
		return err
	}
	by, err := l.asked(ctx, trees, blobs)
	if err != nil {
		return err
	}
	var secret []git.Blob
	var ids []string
	lfs := false
	for _, b := range blobs {
		if !strings.HasPrefix(b.Mode, "100") {
			continue
		}
		lfs = lfs || by[b.Path].lfs
		if !by[b.Path].crypt {
			continue
		}
		secret = append(secret, b)
		if !slices.Contains(ids, b.ID) {
			ids = append(ids, b.ID)
		}
	}
	if lfs {
		if err := l.uploads(ctx); err != nil {
			return err
		}
	}
	if len(secret) == 0 {
		return nil
	}
	heads, err := l.Repo.Heads(ctx, ids, 10)
	if err != nil {
		return err
	}
	for _, b := range secret {
		if !sealed(heads[b.ID]) {
			where := "commit " + b.Commit.Short()
			if b.Commit != l.out.Head && b.Commit == tip {
				where = "the merge with " + l.out.Base
			}
			return stop(fault.Failed, "git-crypt status", "%s is plaintext in %s, where it must be encrypted; nothing was pushed", b.Path, where)
		}
	}
	return nil
}

// lookForFilters asks for the attributes of the head, while the remote is
// asked for the base: looking through a large tree takes a while.
func (l *lander) lookForFilters(ctx context.Context, head git.Commit) {
	ctx, l.filtersGiveUp = context.WithCancel(ctx)
	l.filters = ask(func() (err error) {
		l.headFiltered, err = l.Repo.Attributed(ctx, []string{string(head)}, filters()...)
		return err
	})
}

// filters are what attributes ask of the files that guard looks at.
func filters() []string { return []string{"filter=git-crypt", "filter=lfs"} }

// filtered says whether the attributes of some tree name a filter. The trees
// are the base's, the head's and those in which attributes change; merged:
// also where the two sides meet. Nothing changing, the head's speak for all.
func (l *lander) filtered(ctx context.Context, trees []string, merged bool) (bool, error) {
	switch {
	case l.cfg.Get("core.attributesfile") != "":
		return true, nil // which no tree shows
	case l.filters != nil && l.filters.answer() == nil && !l.headFiltered && merged && len(trees) == 2:
		return false, nil
	}
	return l.Repo.Attributed(ctx, trees, filters()...)
}

// submodulesHere warns of submodules that are not checked out: git cannot see
// then whether their commits are on a remote.
func (l *lander) submodulesHere(blobs []git.Blob) error {
	var names []string
	for _, b := range blobs {
		if b.Mode != "160000" || slices.Contains(names, b.Path) || l.out.Attempts > 0 {
			continue
		}
		here, err := exists(filepath.Join(l.Repo.Root(), b.Path, ".git"))
		if err != nil {
			return err
		}
		if !here {
			names = append(names, b.Path)
		}
	}
	if len(names) > 0 {
		l.warn("not checked out, so nobody looks whether their commits are on a remote: %s", listed(names))
	}
	return nil
}

// parents returns those of every commit that is published.
func (l *lander) parents() map[git.Commit][]git.Commit {
	of := make(map[git.Commit][]git.Commit, len(l.list)+1)
	for _, e := range l.list {
		of[e.Commit] = e.Parents
	}
	if c := l.plan.candidate; c != "" && !l.plan.fast {
		of[c] = []git.Commit{l.out.BaseBefore, l.out.Head}
	}
	return of
}

// attributesOf returns the commits that change a .gitattributes, and their
// parents.
func attributesOf(all []git.Blob, parents map[git.Commit][]git.Commit) []string {
	var out []string
	for _, b := range all {
		if path.Base(b.Path) != ".gitattributes" || slices.Contains(out, string(b.Commit)) {
			continue
		}
		for _, c := range append([]git.Commit{b.Commit}, parents[b.Commit]...) {
			if !slices.Contains(out, string(c)) {
				out = append(out, string(c))
			}
		}
	}
	return out
}

// made leaves out what a merge took over as one of its parents has it: either
// that parent is published too, and has it of its own, or the base has it.
func made(all []git.Blob, parents map[git.Commit][]git.Commit) []git.Blob {
	times := map[git.Blob]int{}
	var out []git.Blob
	for _, b := range all {
		if times[b]++; times[b] == max(1, len(parents[b.Commit])) && !b.Removed() {
			out = append(out, b)
		}
	}
	return out
}

// filter is what the attributes of any of several trees ask for.
type filter struct{ crypt, lfs bool }

// asked asks every tree: to take the attribute away does not make a secret
// public.
func (l *lander) asked(ctx context.Context, trees []string, blobs []git.Blob) (map[string]filter, error) {
	out := map[string]filter{}
	var names []string
	for _, b := range blobs {
		if _, ok := out[b.Path]; !ok {
			out[b.Path] = filter{}
			names = append(names, b.Path)
		}
	}
	for _, t := range trees {
		got, err := l.Repo.CheckAttr(ctx, t, "filter", names)
		if err != nil {
			return nil, err
		}
		for name, v := range got {
			f := out[name]
			f.lfs = f.lfs || v == "lfs"
			f.crypt = f.crypt || v == "git-crypt" || strings.HasPrefix(v, "git-crypt-")
			out[name] = f
		}
	}
	return out, nil
}

// uploads refuses to push pointers to LFS files where no hook uploads the
// files themselves.
func (l *lander) uploads(ctx context.Context) error {
	dir, err := l.Repo.HooksDir(ctx)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "pre-push")
	if info, err := os.Stat(name); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return stop(fault.Usage, "git lfs install", "files kept in LFS change, and no pre-push hook would upload them")
	}
	text, err := os.ReadFile(name) //nolint:gosec // the clone's own hook
	if err == nil && !bytes.Contains(text, []byte("lfs")) {
		l.warn("files kept in LFS change, and %s does not mention LFS: see that they are uploaded", name)
	}
	return nil
}
