package landing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// Trash lists what can be restored, oldest first. The error is a *fault.Error.
func (d *Desk) Trash(ctx context.Context) ([]Trashed, *fault.Error) {
	if err := d.old(ctx); err != nil {
		return nil, explain(ctx, err, "work restore", "")
	}
	where, err := d.survey(ctx)
	if err != nil {
		return nil, explain(ctx, err, "work restore", "")
	}
	list, err := d.trash()
	if err != nil && len(list) > 0 {
		d.warn("%v", err)
		err = nil
	}
	list, words := d.unfinished(ctx, list, where)
	for _, w := range words {
		d.warn("%s", w)
	}
	return list, explain(ctx, err, "work restore", "")
}

// Restore brings a task back: its branch where it was, its files as they were,
// ignored ones included. What was staged is an ordinary change then. The error
// is a *fault.Error of a run that could not look; the item says the rest.
func (d *Desk) Restore(ctx context.Context, id string) (Item, *fault.Error) {
	item, err := d.restore(ctx, id)
	return item, explain(ctx, err, ui.Command("work", "restore", id), "")
}

func (d *Desk) restore(ctx context.Context, id string) (Item, error) {
	item := Item{TrashID: id}
	if err := d.old(ctx); err != nil {
		return item, err
	}
	release, err := d.hold(ctx)
	if err != nil {
		return item, err
	}
	defer release()
	where, err := d.survey(ctx)
	if err != nil {
		return item, err
	}
	all, bad := d.trash()
	for _, x := range all {
		if x.ID != id {
			continue
		}
		// What was noted and never moved, or is back already, is in its place.
		if s, err := d.standOf(ctx, x, where); err != nil {
			return item, err
		} else if s == untouched || s == backAgain {
			item = Item{Topic: x.Task.Topic, Branch: x.Task.Branch, Path: x.Task.Path, TrashID: id, Done: true, Did: []string{x.Task.Path + " is in its place"}}
		}
	}
	if _, err := d.mend(ctx, where); err != nil || item.Done {
		return item, err
	}
	if where, err = d.survey(ctx); err != nil { // as it is now
		return item, err
	}
	var t Trashed
	for _, x := range all {
		if x.ID == id {
			t = x
		}
	}
	if t.ID == "" {
		e := stop(fault.Usage, "homelab work restore", "there is nothing in the trash with the ID %s", ui.Quote(ui.Clean(id)))
		if bad != nil {
			return item, e.Because(bad.Error())
		}
		return item, e
	}
	r := &restorer{Desk: d, where: where, t: t}
	r.item = Item{Topic: t.Task.Topic, Branch: t.Task.Branch, Path: t.Task.Path, TrashID: id}
	if err := r.run(ctx); err != nil {
		return r.item, err
	}
	expireTrash(ctx, d, where)
	return r.item, nil
}

type restorer struct {
	*Desk
	where place
	t     Trashed
	item  Item
}

func (r *restorer) refuse(format string, args ...any) {
	r.item.Reasons = append(r.item.Reasons, fmt.Sprintf(format, args...))
}

func (r *restorer) did(format string, args ...any) {
	r.item.Did = append(r.item.Did, fmt.Sprintf(format, args...))
	r.say("%s: %s", r.t.Task.Topic, r.item.Did[len(r.item.Did)-1])
}

func (r *restorer) run(ctx context.Context) error {
	path := r.t.Task.Path
	w, registered := r.where.at(path)
	again := r.t.Restoring != "" && registered && !w.Prunable && w.Branch == "refs/heads/"+r.t.Restoring
	if !again {
		if err := r.look(ctx); err != nil || len(r.item.Reasons) > 0 {
			return err
		}
		if err := r.begin(ctx, registered); err != nil {
			return err
		}
	}
	r.stepped("work tree made")
	r.item.Branch = r.t.Restoring
	tree, err := git.Open(ctx, path, r.Env)
	if err != nil {
		return err
	}
	if r.t.Saved == "" {
		err = tree.Fill(ctx)
	} else {
		err = r.bring(ctx, tree)
	}
	if err != nil {
		return fmt.Errorf("%s is half restored, and running this again goes on: %w", path, err)
	}
	task := r.t.Task
	task.Branch, task.Making = r.t.Restoring, false
	if err := r.keep(task); err != nil {
		return err
	}
	r.stepped("recorded")
	r.item.Done = true
	r.did("restored %s with %s", path, r.t.Restoring)
	if r.t.Stash != "" {
		r.did("what was staged is kept for a while: git stash apply --index %s%s/stash", trashRefs, r.t.ID)
	}
	return r.forgetTrash(ctx, r.t.ID, false)
}

// look collects what stands in the way.
func (r *restorer) look(ctx context.Context) error {
	t := r.t.Task
	if there, err := exists(t.Path); err != nil {
		return err
	} else if there {
		r.refuse("%s is taken", t.Path)
	}
	if _, known, err := r.record(t.Topic); err != nil {
		return err
	} else if known {
		r.refuse("there is a task %s again", t.Topic)
	}
	if have, err := r.Repo.Exists(ctx, r.t.Tip); err != nil {
		return err
	} else if !have {
		r.refuse("its commit %s is not in this clone any more", r.t.Tip.Short())
	}
	if r.t.Saved == "" {
		return nil
	}
	if there, err := exists(r.t.Saved); err != nil {
		return err
	} else if !there {
		r.refuse("its files are not at %s any more", r.t.Saved)
		return nil
	}
	holder := filepath.Dir(t.Path)
	if err := os.MkdirAll(holder, 0o755); err != nil { //nolint:gosec // as open as the work tree beside it
		return err
	}
	if ok, err := oneFileSystem(r.t.Saved, holder); err != nil {
		return err
	} else if !ok {
		r.refuse("%s is on another file system than %s", holder, r.t.Saved)
	}
	return nil
}

// begin makes the work tree, on the branch's name or one that is free.
func (r *restorer) begin(ctx context.Context, registered bool) error {
	t := r.t.Task
	if registered { // a directory that is gone
		if err := r.Repo.PruneWorktrees(ctx); err != nil {
			return err
		}
	}
	branch, start := t.Branch, r.t.Tip
	for n := 1; ; n++ {
		at, err := tip(ctx, r.Repo, "refs/heads/"+branch)
		if err != nil {
			return err
		}
		w, out := r.where.on(branch)
		if at == r.t.Tip && (!out || w.Prunable) {
			start = "" // it was never deleted
			break
		}
		if at == "" {
			break
		}
		branch = fmt.Sprintf("%s-restored-%d", t.Branch, n)
	}
	r.t.Restoring = branch
	if err := r.keepTrash(r.t); err != nil {
		return err
	}
	r.stepped("noted")
	return r.Repo.AddWorktree(ctx, t.Path, branch, start)
}

// bring moves the saved files into the new work tree.
func (r *restorer) bring(ctx context.Context, tree *git.Repo) error {
	entries, err := os.ReadDir(r.t.Saved)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() == ".git" {
			continue
		}
		to := filepath.Join(tree.Root(), e.Name())
		if there, err := exists(to); err != nil {
			return err
		} else if there {
			return fmt.Errorf("%s is in the way", to)
		}
		if err := os.Rename(filepath.Join(r.t.Saved, e.Name()), to); err != nil {
			return err
		}
		r.stepped("moved " + e.Name())
	}
	// Repositories of submodules that were checked out.
	modules := filepath.Join(r.trashOf(r.t.ID), adminDir, "modules")
	if there, err := exists(modules); err != nil {
		return err
	} else if there {
		if err := os.Rename(modules, filepath.Join(tree.GitDir(), "modules")); err != nil {
			return err
		}
	}
	if err := tree.LinkCrypt(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(tree.GitDir(), "index.lock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // of a run that was killed here: nobody else knows this work tree yet
	}
	if err := tree.ResetMixed(ctx); err != nil {
		return err
	}
	r.stepped("index made")
	if err := os.RemoveAll(r.t.Saved); err != nil { // nothing but the file .git is left in it
		return err
	}
	r.stepped("emptied")
	return nil
}
