package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Attributed says whether some .gitattributes of the trees, this clone's own
// info/attributes or the user's file at its usual place contains one of texts.
// It is the cheap question before CheckAttr. It does not look at the file that
// core.attributesFile names instead of the usual one.
func (r *Repo) Attributed(ctx context.Context, trees []string, texts ...string) (bool, error) {
	args := []string{"grep", "--quiet", "--fixed-strings", "--text", "--no-recurse-submodules"}
	var own []byte
	for _, name := range []string{filepath.Join(r.common, "info", "attributes"), userAttributes(r.env)} {
		if data, err := os.ReadFile(name); err == nil { //nolint:gosec // where git reads it too
			own = append(append(own, data...), '\n')
		}
	}
	for _, text := range texts {
		if bytes.Contains(own, []byte(text)) {
			return true, nil
		}
		args = append(args, "-e", text)
	}
	_, err := Run(ctx, r.Objects(append(append(args, trees...), "--", ":(glob)**/.gitattributes")...))
	if failed, ok := errors.AsType[*CommandError](err); ok && failed.ExitCode == 1 {
		return false, nil
	}
	return err == nil, err
}

// userAttributes is where git reads a user's attributes when core.attributesFile
// is not set; "" for a user without a home. Source: gitattributes(5).
func userAttributes(env []string) string {
	if dir := envValue(env, "XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "git", "attributes")
	}
	if home := envValue(env, "HOME"); home != "" {
		return filepath.Join(home, ".config", "git", "attributes")
	}
	return ""
}

// CheckAttr returns the value attr has for each path by the attributes of a
// tree, not of a work tree; "unspecified" is left out. It reads the tree into
// an index of its own: git before 2.40 cannot ask a tree.
func (r *Repo) CheckAttr(ctx context.Context, treeish, attr string, names []string) (map[string]string, error) {
	if len(names) == 0 {
		return map[string]string{}, nil
	}
	dir, err := os.MkdirTemp("", "homelab-index-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	set := []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}
	read := r.Objects("read-tree", treeish)
	read.Set = set
	if _, err := Run(ctx, read); err != nil {
		return nil, err
	}
	check := r.Objects("check-attr", "--cached", "--stdin", "-z", attr)
	check.Set, check.MaxOutput = set, 256<<20
	check.Stdin = strings.NewReader(strings.Join(names, "\x00") + "\x00")
	res, err := Run(ctx, check)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	f := strings.Split(string(res.Stdout), "\x00")
	for i := 0; i+2 < len(f); i += 3 {
		if f[i+2] != "unspecified" {
			out[f[i]] = f[i+2]
		}
	}
	return out, nil
}

// Blob is a file that a commit added, changed or removed.
type Blob struct {
	Commit Commit
	Path   string
	ID     string // zeros when it was removed
	Mode   string // likewise
}

// Removed says whether the commit has no such file any more.
func (b Blob) Removed() bool { return strings.Trim(b.Mode, "0") == "" }

// Blobs returns every file that any commit include has and exclude has not
// added, changed or removed, once for each parent that has it otherwise.
//
// What -m means is the user's to configure (log.diffMerges), and so are the
// order of paths and which submodules are seen: all of it is said here.
func (r *Repo) Blobs(ctx context.Context, exclude, include Commit) ([]Blob, error) {
	cmd := r.Local("log", "--diff-merges=separate", "--root", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff",
		"--ignore-submodules=none", "-O/dev/null", "--no-show-signature", "--no-color", "--format=%H", string(exclude)+".."+string(include), "--")
	cmd.MaxOutput = 256 << 20
	res, err := Run(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return parseRaw(string(res.Stdout))
}

func parseRaw(out string) ([]Blob, error) {
	var blobs []Blob
	var at Commit
	fields := strings.Split(out, "\x00")
	for i := 0; i < len(fields); i++ {
		f := strings.TrimLeft(fields[i], "\n")
		if f == "" {
			continue
		}
		if !strings.HasPrefix(f, ":") {
			c, err := ParseCommit(f)
			if err != nil {
				return nil, fmt.Errorf("log --raw answered %.80q", f)
			}
			at = c
			continue
		}
		meta := strings.Fields(f)
		if i++; len(meta) != 5 || i >= len(fields) {
			return nil, fmt.Errorf("log --raw answered %.80q", f)
		}
		blobs = append(blobs, Blob{Commit: at, Path: fields[i], ID: meta[3], Mode: meta[1]})
	}
	return blobs, nil
}

// Heads returns the first n bytes of each blob, and its size.
func (r *Repo) Heads(ctx context.Context, ids []string, n int) (map[string][]byte, error) {
	cmd := r.Objects("cat-file", "--batch")
	cmd.Stdin = strings.NewReader(strings.Join(ids, "\n") + "\n")
	w := &headReader{n: n, got: map[string][]byte{}}
	cmd.Stdout = w
	if _, err := Run(ctx, cmd); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, ok := w.got[id]; !ok {
			return nil, fmt.Errorf("%s: %w", id, ErrMissing)
		}
	}
	return w.got, nil
}

// headReader reads cat-file --batch as it comes and keeps the beginnings.
type headReader struct {
	n    int
	got  map[string][]byte
	line []byte
	id   string
	left int // bytes of the object still to come, with its line break; 0: a header is next
}

func (h *headReader) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if h.left > 0 {
			k := min(h.left, len(p))
			if body := min(k, h.left-1); body > 0 {
				have := h.got[h.id]
				h.got[h.id] = append(have, p[:min(body, h.n-len(have))]...)
			}
			h.left, p = h.left-k, p[k:]
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			h.line = append(h.line, p...)
			return total, nil
		}
		h.line = append(h.line, p[:i]...)
		p = p[i+1:]
		f := strings.Fields(string(h.line))
		h.line = h.line[:0]
		if len(f) == 3 {
			size, err := strconv.Atoi(f[2])
			if err != nil {
				return 0, fmt.Errorf("cat-file answered %q", f)
			}
			h.id, h.left = f[0], size+1
			h.got[h.id] = []byte{}
		}
	}
	return total, nil
}

// PatchIDs returns the stable patch ids of what args, a "diff" or "log -p"
// command line, prints, each with the commit it belongs to ("" for a diff).
func (r *Repo) PatchIDs(ctx context.Context, args ...string) (map[string]Commit, error) {
	patch, err := os.CreateTemp("", "homelab-patch-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = patch.Close(); _ = os.Remove(patch.Name()) }()
	cmd := r.Objects(args...)
	cmd.Stdout = patch
	if _, err := Run(ctx, cmd); err != nil {
		return nil, err
	}
	if _, err := patch.Seek(0, 0); err != nil {
		return nil, err
	}
	ids := r.Local("patch-id", "--stable")
	ids.Stdin, ids.MaxOutput = patch, 64<<20
	res, err := Run(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := map[string]Commit{}
	for line := range strings.Lines(string(res.Stdout)) {
		if f := strings.Fields(line); len(f) == 2 {
			c := Commit(f[1])
			if strings.Trim(f[1], "0") == "" {
				c = ""
			}
			out[f[0]] = c
		}
	}
	return out, nil
}
