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

// Ref is a ref of this clone.
type Ref struct {
	Name   string // full
	Commit Commit // what it points at; of an annotated tag the tag's own id
}

// Refs returns the refs below each prefix ("refs/heads/anna/"), or of exactly
// that name.
func (r *Repo) Refs(ctx context.Context, prefixes ...string) ([]Ref, error) {
	args := append([]string{"for-each-ref", "--format=%(objectname) %(refname)"}, prefixes...)
	res, err := r.ask(ctx, args...)
	if err != nil {
		return nil, err
	}
	var out []Ref
	for line := range strings.Lines(string(res.Stdout)) {
		id, name, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		out = append(out, Ref{Name: name, Commit: Commit(id)})
	}
	return out, nil
}

// Tip returns what exactly one ref points at; "" without one. A ref that was
// just written is most often a file of its own, which spares a process.
func (r *Repo) Tip(ctx context.Context, name string) (Commit, error) {
	if data, err := os.ReadFile(filepath.Join(r.common, filepath.FromSlash(name))); err == nil {
		if c, err := ParseCommit(strings.TrimSpace(string(data))); err == nil {
			return c, nil
		}
	}
	refs, err := r.Refs(ctx, name)
	for _, ref := range refs {
		if ref.Name == name {
			return ref.Commit, err
		}
	}
	return "", err
}

// RefChange moves one ref.
type RefChange struct {
	Name string
	New  Commit // "" deletes
	Old  Commit // what it must be; "" it must not exist
	// Whatever: the present value does not matter. Only for refs of our own.
	Whatever bool
}

// hooked says whether git failed as the reference-transaction hook wanted.
func hooked(err error) bool {
	failed, ok := errors.AsType[*CommandError](err)
	return ok && strings.Contains(failed.Stderr, "ref updates aborted by hook")
}

// UpdateRefs makes all changes or none. The error is ErrRefMoved, wrapped with
// git's words, when a ref does not have its old value, or ErrHook.
func (r *Repo) UpdateRefs(ctx context.Context, changes ...RefChange) error {
	if len(changes) == 0 {
		return nil
	}
	zero := strings.Repeat("0", 40)
	if r.format == "sha256" {
		zero = strings.Repeat("0", 64)
	}
	var in bytes.Buffer
	in.WriteString("start\x00")
	for _, c := range changes {
		old := string(c.Old)
		switch {
		case c.Whatever:
			old = ""
		case old == "":
			old = zero
		}
		if c.New == "" {
			fmt.Fprintf(&in, "delete %s\x00%s\x00", c.Name, old)
		} else {
			fmt.Fprintf(&in, "update %s\x00%s\x00%s\x00", c.Name, c.New, old)
		}
	}
	in.WriteString("prepare\x00commit\x00")
	cmd := r.Local("update-ref", "-m", "homelab", "--stdin", "-z")
	cmd.Stdin = &in
	_, err := Run(ctx, cmd)
	if hooked(err) {
		return fmt.Errorf("%w: %w", ErrHook, err)
	}
	if failed, ok := errors.AsType[*CommandError](err); ok && contains(failed.Stderr, "but expected", "reference already exists",
		"unable to resolve reference", "cannot lock ref") {
		return fmt.Errorf("%w: %s", ErrRefMoved, failed.Why())
	}
	return err
}

// Exists says whether this clone has the object, without asking a remote.
func (r *Repo) Exists(ctx context.Context, c Commit) (bool, error) {
	_, err := r.ask(ctx, "cat-file", "-e", string(c)+"^{commit}")
	if _, failed := errors.AsType[*CommandError](err); failed {
		return false, nil
	}
	return err == nil, err
}
