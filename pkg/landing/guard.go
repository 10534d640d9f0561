package landing

import (
	"bytes"
	"context"
	"os"
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
	trees := []string{string(l.out.BaseBefore), string(l.out.Head)}
	some, err := l.filtered(ctx, trees)
	if err != nil || !some {
		return err
	}
	blobs, err := l.Repo.Blobs(ctx, l.out.BaseBefore, l.out.Head)
	if err != nil {
		return err
	}
	var names []string
	for _, b := range blobs {
		if !slices.Contains(names, b.Path) {
			names = append(names, b.Path)
		}
	}
	by := map[string]string{}
	for _, t := range trees { // taking the attribute away does not make a secret public
		got, err := l.Repo.CheckAttr(ctx, t, "filter", names)
		if err != nil {
			return err
		}
		for name, v := range got {
			if by[name] == "" || strings.HasPrefix(v, "git-crypt") {
				by[name] = v
			}
		}
	}
	var secret []git.Blob
	var ids []string
	lfs := false
	for _, b := range blobs {
		f := by[b.Path]
		lfs = lfs || f == "lfs"
		if f != "git-crypt" && !strings.HasPrefix(f, "git-crypt-") || !strings.HasPrefix(b.Mode, "100") {
			continue
		}
		secret = append(secret, b)
		if !slices.Contains(ids, b.ID) {
			ids = append(ids, b.ID)
		}
	}
	if lfs && !l.pushesLFS() {
		return stop(fault.Usage, "git lfs install", "files kept in LFS change, and no pre-push hook would upload them")
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
			return stop(fault.Failed, "git-crypt status", "%s is plaintext in commit %s, where it must be encrypted; nothing was pushed", b.Path, b.Commit.Short())
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

// filtered says whether the attributes of some tree, the base's and the
// head's, name a filter. Where they are the same in both, one answer serves.
func (l *lander) filtered(ctx context.Context, trees []string) (bool, error) {
	if l.filters != nil && l.filters.answer() == nil && !l.headFiltered {
		changed, err := l.Repo.Changed(ctx, trees[0], trees[1], git.AttributeFiles)
		if err != nil || len(changed) == 0 {
			return false, err
		}
	}
	return l.Repo.Attributed(ctx, trees, filters()...)
}

// pushesLFS says whether a pre-push hook is there.
func (l *lander) pushesLFS() bool {
	dir := l.cfg.Get("core.hookspath")
	if dir == "" {
		dir = filepath.Join(l.Repo.CommonDir(), "hooks")
	} else if !filepath.IsAbs(dir) {
		dir = filepath.Join(l.Repo.Root(), dir)
	}
	info, err := os.Stat(filepath.Join(dir, "pre-push"))
	return err == nil && info.Mode()&0o111 != 0
}
