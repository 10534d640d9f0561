package landing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// stand is how far the run came that put something into the trash, or was
// bringing it back.
type stand string

const (
	inTrash   stand = "in the trash"
	untouched stand = "untouched" // noted down, and nothing moved: the task is as it was
	halfAway  stand = "half away" // moved, and the clone does not know it yet
	halfBack  stand = "half back" // being restored
	backAgain stand = "back"      // restored, and only not forgotten yet
)

// standOf tells from what there is, as a run may end after any step.
func (d *Desk) standOf(ctx context.Context, t Trashed, where place) (stand, error) {
	task, known, err := d.record(t.Task.Topic)
	if err != nil {
		return inTrash, err
	}
	saved := false
	if t.Saved != "" {
		if saved, err = exists(t.Saved); err != nil {
			return inTrash, err
		}
	}
	w, there := where.at(t.Task.Path)
	there = there && !w.Prunable
	same := known && task.Created.Equal(t.Task.Created)
	switch {
	case t.Restoring != "" && there && w.Branch == "refs/heads/"+t.Restoring:
		if same && task.Branch == t.Restoring && !saved {
			return backAgain, nil
		}
		return halfBack, nil
	case t.Restoring != "" || !same || task.Branch != t.Task.Branch:
		return inTrash, nil
	case !there && (saved || t.Saved == ""):
		return halfAway, nil
	case there && t.Saved != "" && !saved:
		// What it would keep has to be there all the same.
		at, err := tip(ctx, d.Repo, "refs/heads/"+task.Branch)
		if err != nil || at == "" {
			return inTrash, err
		}
		if in, err := d.Repo.IsAncestor(ctx, t.Tip, at); err != nil || in != git.Yes {
			return inTrash, err
		}
		return untouched, nil
	}
	return inTrash, nil
}

// mend ends what runs began that were killed on their way, so that a task is
// either in its place or in the trash. It returns what it put away.
func (d *Desk) mend(ctx context.Context, where place) ([]Item, error) {
	if places, err := os.ReadDir(d.trashHome()); err == nil {
		for _, p := range places {
			_ = os.Remove(d.trashOf(p.Name())) // only if nothing was put there
		}
	}
	all, _ := d.trash() // what cannot be read is told by those who look for it
	var out []Item
	for _, t := range all {
		s, err := d.standOf(ctx, t, where)
		if err != nil {
			return out, err
		}
		switch s {
		case inTrash, halfBack:
		case untouched:
			err = d.forgetTrash(ctx, t.ID, true)
		case backAgain:
			err = d.forgetTrash(ctx, t.ID, false)
		case halfAway:
			c := &cleaner{Desk: d, where: where, task: t.Task, tip: t.Tip, at: t.Task.Path}
			c.item = Item{Topic: t.Task.Topic, Branch: t.Task.Branch, Path: t.Task.Path, TrashID: t.ID, Done: true}
			c.did("was being put away when a run was broken off")
			err = c.complete(ctx, t)
			out = append(out, c.item)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// complete goes on with putting a task away after its directory has moved.
func (c *cleaner) complete(ctx context.Context, t Trashed) error {
	if t.Saved != "" {
		if err := c.moveAdmin(t); err != nil {
			return err
		}
	} else if err := c.Repo.UpdateRefs(ctx, git.RefChange{Name: trashRefs + t.ID + "/branch", New: t.Tip, Whatever: true}); err != nil {
		return err
	}
	if err := c.dropBranch(ctx); err != nil {
		return err
	}
	if err := os.Remove(c.taskFile(t.Task.Topic)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// moveAdmin moves the git directory of a work tree that was moved, if it still
// is where the work tree says: "git worktree prune" would delete it, and with
// it the repositories of submodules.
func (c *cleaner) moveAdmin(t Trashed) error {
	to := filepath.Join(c.trashOf(t.ID), adminDir)
	if there, err := exists(to); err != nil || there {
		return err
	}
	data, err := os.ReadFile(filepath.Join(t.Saved, ".git"))
	if err != nil {
		return err
	}
	admin := strings.TrimSpace(strings.TrimPrefix(string(data), "gitdir:"))
	if filepath.Dir(admin) != filepath.Join(resolved(c.Repo.CommonDir()), "worktrees") && filepath.Dir(admin) != filepath.Join(c.Repo.CommonDir(), "worktrees") {
		return fmt.Errorf("%s does not belong to a work tree of this clone", admin)
	}
	if there, err := exists(admin); err != nil || !there {
		return err
	}
	return os.Rename(admin, to) //nolint:gosec // proven above to be this clone's
}

// unfinished tells a person what a run has left half done with the trash, and
// the entries that are really in it.
func (d *Desk) unfinished(ctx context.Context, all []Trashed, where place) (whole []Trashed, words []string) {
	for _, t := range all {
		s, err := d.standOf(ctx, t, where)
		if err != nil {
			words = append(words, err.Error())
		}
		back := ui.Command("homelab", "work", "restore", t.ID)
		switch s {
		case inTrash:
		case untouched, backAgain:
			continue // the task is there; the next run that writes tidies up
		case halfAway:
			words = append(words, fmt.Sprintf("putting %s away was broken off; its files are at %s: %s goes on, %s brings it back",
				t.Task.Topic, t.Saved, ui.Command("homelab", "work", "clean", t.Task.Topic), back))
		case halfBack:
			words = append(words, fmt.Sprintf("bringing %s back was broken off: %s goes on", t.Task.Topic, back))
		}
		whole = append(whole, t)
	}
	return whole, words
}
