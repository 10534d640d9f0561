package landing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/git"
)

// Trashed is a task that was put away. It can be brought back until Expires.
type Trashed struct {
	ID      string     `json:"id"`
	Task    Task       `json:"task"`
	Tip     git.Commit `json:"tip"`             // also kept by a ref
	Stash   git.Commit `json:"stash,omitempty"` // tracked changes and index, likewise
	Saved   string     `json:"saved,omitempty"` // the work tree's directory now; "" it was gone
	Deleted time.Time  `json:"deleted"`
	// Restoring is the branch of a run that was bringing it back and did not
	// get to the end; "" for none.
	Restoring string `json:"restoring,omitempty"`
}

// Expires is when it may be removed for good.
func (t Trashed) Expires() time.Time { return t.Deleted.Add(keepFor) }

const (
	trashDir  = ".trash"
	trashFile = "trash.json"
	adminDir  = "admin" // the work tree's own git directory: its index and logs
	trashRefs = "refs/homelab/trash/"
)

func (d *Desk) trashHome() string            { return filepath.Join(d.Repo.CommonDir(), "homelab", "trash") }
func (d *Desk) trashOf(id string) string     { return filepath.Join(d.trashHome(), id) }
func (d *Desk) trashRecord(id string) string { return filepath.Join(d.trashOf(id), trashFile) }
func (d *Desk) keepTrash(t Trashed) error    { return writeJSON(d.trashRecord(t.ID), t) }
func (p place) trash(id string) string       { return filepath.Join(p.main, worktreesDir, trashDir, id) }

// trash reads what was put away, oldest first.
func (d *Desk) trash() ([]Trashed, error) {
	entries, err := os.ReadDir(d.trashHome())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []Trashed
	var bad []error
	for _, e := range entries {
		data, err := os.ReadFile(d.trashRecord(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a run ended before it put anything here
		}
		var t Trashed
		if err == nil {
			err = json.Unmarshal(data, &t)
		}
		if err != nil || t.ID != e.Name() {
			bad = append(bad, fmt.Errorf("trash %s: %w", e.Name(), errors.Join(err, errors.New("not readable"))))
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Trashed) int { return strings.Compare(a.ID, b.ID) })
	return out, errors.Join(bad...)
}

// newTrash makes the place for something to be put away.
func (d *Desk) newTrash() (string, error) {
	for {
		id, err := newID(d.now())
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(d.trashHome(), 0o700); err != nil {
			return "", err
		}
		if err := os.Mkdir(d.trashOf(id), 0o700); err == nil {
			return id, nil
		} else if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
}

// forgetTrash removes what is kept under id, its stash only with all: a
// restored work tree has the files, and the index of before is only there.
func (d *Desk) forgetTrash(ctx context.Context, id string, all bool) error {
	refs, err := d.Repo.Refs(ctx, trashRefs+id+"/")
	if err != nil {
		return err
	}
	var changes []git.RefChange
	for _, r := range refs {
		if all || !strings.HasSuffix(r.Name, "/stash") {
			changes = append(changes, git.RefChange{Name: r.Name, Old: r.Commit})
		}
	}
	if err := d.Repo.UpdateRefs(ctx, changes...); err != nil {
		return err
	}
	return os.RemoveAll(d.trashOf(id))
}

// expireTrash removes for good what was put away more than a month ago.
// Nothing depends on it: what fails is tried again by the next run.
func expireTrash(ctx context.Context, d *Desk, where place) {
	all, _ := d.trash()
	for _, t := range all {
		if d.now().Before(t.Expires()) || t.Restoring != "" {
			continue
		}
		if t.Saved != "" && (filepath.Base(t.Saved) != t.ID || filepath.Base(filepath.Dir(t.Saved)) != trashDir) {
			continue // not a directory of ours
		}
		if t.Saved != "" && os.RemoveAll(t.Saved) != nil {
			continue
		}
		if err := d.forgetTrash(ctx, t.ID, true); err != nil {
			d.warn("trash %s stays: %v", t.ID, err)
		}
	}
	_ = os.Remove(filepath.Dir(where.trash("x"))) // only if nothing else is in it
	refs, err := d.Repo.Refs(ctx, trashRefs)
	if err != nil {
		return
	}
	var changes []git.RefChange
	for _, r := range refs {
		id, _, _ := strings.Cut(strings.TrimPrefix(r.Name, trashRefs), "/")
		stamp, _, _ := strings.Cut(id, "-")
		at, err := time.Parse("20060102T150405Z", stamp)
		if err != nil || d.now().Sub(at) < keepFor || slices.ContainsFunc(all, func(t Trashed) bool { return t.ID == id }) {
			continue
		}
		changes = append(changes, git.RefChange{Name: r.Name, Old: r.Commit})
	}
	if err := d.Repo.UpdateRefs(ctx, changes...); err != nil {
		d.warn("old refs below %s stay: %v", trashRefs, err)
	}
}
