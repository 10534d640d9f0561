package landing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// CleanOptions is what is to be put away.
type CleanOptions struct {
	Topics []string
	Landed bool // every task whose work is on its base, instead of Topics
	Force  bool // despite uncommitted files, unpublished commits, an unfinished landing
}

// Item is what became of one task.
type Item struct {
	Topic   string
	Branch  string
	Path    string
	TrashID string   // "" nothing was put away
	Done    bool     // what was asked for is so
	Reasons []string // why not
	Did     []string // what was done, in order
	Next    string   // the one command that mends what Reasons say; "" there is none
}

// Clean puts tasks away: the directory with every file in it, ignored ones
// included, and the branch, to where Restore finds them. A task that has
// something only it has is refused with the reasons. The error is a
// *fault.Error of a run that could not look; the items say the rest.
func (d *Desk) Clean(ctx context.Context, o CleanOptions) ([]Item, *fault.Error) {
	words := append([]string{"work", "clean"}, o.Topics...)
	if o.Landed {
		words = append(words, "--landed")
	}
	if o.Force {
		words = append(words, "--force")
	}
	items, err := d.clean(ctx, o)
	return items, explain(ctx, err, ui.Command(words...), "")
}

func (d *Desk) clean(ctx context.Context, o CleanOptions) ([]Item, error) {
	if err := d.old(ctx); err != nil {
		return nil, err
	}
	release, err := d.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	where, err := d.survey(ctx)
	if err != nil {
		return nil, err
	}
	ended, err := d.mend(ctx, where)
	if err != nil {
		return nil, err
	}
	items := slices.DeleteFunc(ended, func(i Item) bool { return !o.Landed && !slices.Contains(o.Topics, i.Topic) })
	o.Topics = slices.DeleteFunc(slices.Clone(o.Topics), func(topic string) bool {
		return slices.ContainsFunc(items, func(i Item) bool { return i.Topic == topic })
	})
	tasks, err := d.chosen(o)
	if err != nil {
		return items, err
	}
	type source struct {
		tip    git.Commit
		online bool
	}
	bases := map[[2]string]source{}
	for _, t := range tasks {
		key := [2]string{t.Remote, t.Base}
		b, asked := bases[key]
		if !asked {
			err := d.refresh(ctx, t.Remote, t.Base)
			if err != nil {
				if ctx.Err() != nil {
					return items, err
				}
				d.warn("%s/%s could not be fetched, so what was last known of it decides: %v", t.Remote, t.Base, err)
			}
			b.online = err == nil
			if b.tip, err = d.baseOf(ctx, t.Remote, t.Base); err != nil {
				return items, err
			}
			bases[key] = b
		}
		c := &cleaner{Desk: d, where: where, task: t, base: b.tip, online: b.online, force: o.Force}
		item, selected, err := c.run(ctx, o.Landed)
		if err != nil {
			return items, err
		}
		if selected {
			items = append(items, item)
		}
	}
	expireTrash(ctx, d, where)
	return items, nil
}

// chosen returns the tasks to look at.
func (d *Desk) chosen(o CleanOptions) ([]Task, error) {
	all, bad := Tasks(d.Repo.CommonDir())
	if o.Landed {
		if bad != nil {
			d.warn("%v", bad)
		}
		return all, nil
	}
	var out []Task
	for _, topic := range o.Topics {
		i := slices.IndexFunc(all, func(t Task) bool { return t.Topic == topic })
		if i < 0 {
			e := stop(fault.Usage, "homelab work status", "there is no task %s", ui.Quote(ui.Clean(topic)))
			if bad != nil {
				return nil, e.Because(bad.Error())
			}
			return nil, e
		}
		if !slices.ContainsFunc(out, func(t Task) bool { return t.Topic == topic }) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// cleaner puts one task away.
type cleaner struct {
	*Desk
	where  place
	task   Task
	base   git.Commit // the base's tip as known; "" unknown
	online bool       // and just asked for
	force  bool

	tree  *git.Repo // nil: the work tree is gone
	at    string    // where it is
	tip   git.Commit
	state State
	dirty bool
	item  Item
}

func (c *cleaner) run(ctx context.Context, onlyLanded bool) (Item, bool, error) {
	t := c.task
	c.item = Item{Topic: t.Topic, Branch: t.Branch, Path: t.Path}
	var err error
	if c.tip, err = tip(ctx, c.Repo, "refs/heads/"+t.Branch); err != nil {
		return c.item, false, err
	}
	if c.state, err = c.stateOf(ctx, t, c.tip, c.base); err != nil {
		return c.item, false, err
	}
	if onlyLanded && !c.state.landed() {
		return c.item, false, nil
	}
	if err := c.look(ctx); err != nil {
		return c.item, true, err
	}
	if len(c.item.Reasons) > 0 {
		return c.item, true, nil
	}
	return c.item, true, c.putAway(ctx)
}

func (c *cleaner) refuse(format string, args ...any) {
	c.item.Reasons = append(c.item.Reasons, fmt.Sprintf(format, args...))
}

// look collects all that speaks against putting the task away.
func (c *cleaner) look(ctx context.Context) error {
	if w, ok := c.where.of(c.task); ok && !w.Prunable {
		if err := c.lookInside(ctx, w); err != nil {
			return err
		}
	} else if there, err := exists(c.task.Path); err != nil {
		return err
	} else if there {
		c.refuse("%s is no work tree of this clone any more", c.task.Path)
	}
	if err := c.lookAtCommits(ctx); err != nil {
		return err
	}
	records, err := Unfinished(c.Repo.CommonDir(), c.task.Branch)
	if err != nil {
		c.warn("%v", err)
	}
	for _, r := range records {
		switch {
		case UnderWay(c.Repo.CommonDir(), r.ID):
			c.refuse("process %d is landing it", r.PID)
		case !c.force && (r.Phase != Proposed || !c.state.landed()):
			c.refuse("landing %s is not finished (%s)", r.ID, r.Phase)
		}
	}
	return nil
}

func (c *cleaner) lookInside(ctx context.Context, w git.Worktree) error {
	c.at, c.item.Path = w.Path, w.Path
	var err error
	if c.tree, err = git.Open(ctx, w.Path, c.Env); err != nil {
		return err
	}
	if c.tree.GitDir() == c.tree.CommonDir() || filepath.Dir(c.tree.GitDir()) != filepath.Join(c.tree.CommonDir(), "worktrees") {
		c.refuse("%s is not a linked work tree", w.Path)
		return nil
	}
	st, err := c.tree.Status(ctx, false)
	if err != nil {
		return err
	}
	c.dirty = len(st.Changed) > 0
	if !c.force && c.dirty {
		c.refuse("%d changed file(s): %s", len(st.Changed), listed(st.Changed))
	}
	if !c.force && len(st.Untracked) > 0 {
		c.refuse("untracked: %s", listed(st.Untracked))
	}
	if doing := c.tree.InProgress(); doing != "" {
		c.refuse("a %s is in progress there", doing)
	} else if st.Branch != c.task.Branch {
		c.refuse("%s is checked out there, not %s", orDetached(w), c.task.Branch)
	} else if c.tip == "" {
		c.refuse("its branch %s is gone", c.task.Branch)
	}
	if w.Locked {
		c.refuse("the work tree is locked (git worktree unlock)")
	}
	for _, other := range c.where.trees {
		if !same(other.Path, w.Path) && within(other.Path, w.Path) {
			c.refuse("the work tree %s lies in it", other.Path)
		}
	}
	if within(c.where.main, w.Path) {
		c.refuse("the clone itself lies in it")
	}
	if within(c.Dir, w.Path) {
		if len(c.item.Reasons) == 0 {
			words := []string{"homelab", "work", "clean", c.task.Topic}
			if c.force {
				words = append(words, "--force")
			}
			c.item.Next = ui.Command("cd", c.where.main) + " && " + ui.Command(words...)
		}
		c.refuse("this command runs inside it; cd %s first", ui.Quote(c.where.main))
	} else if who := occupants(w.Path); len(who) > 0 {
		c.refuse("in use by process %s", strings.Join(who, ", "))
	}
	if ok, err := oneFileSystem(w.Path, c.where.main); err != nil {
		return err
	} else if !ok {
		c.refuse("it is on another file system than %s, where the trash is", c.where.main)
	}
	return nil
}

func (c *cleaner) lookAtCommits(ctx context.Context) error {
	if c.force || c.tip == "" || c.state.landed() || c.tip == c.task.Start {
		return nil
	}
	pushed, err := c.Repo.OnRemote(ctx, c.tip)
	if err != nil || pushed {
		return err
	}
	if c.base == "" {
		c.refuse("%s is on no remote, and %s/%s is not known here", c.tip.Short(), c.task.Remote, c.task.Base)
		return nil
	}
	if in, err := c.Repo.IsAncestor(ctx, c.tip, c.base); err != nil || in == git.Yes {
		return err // landed and reverted: the base has the commits
	}
	list, err := c.Repo.Commits(ctx, c.base, c.tip)
	if err != nil {
		return err
	}
	c.refuse("%s on no remote and not landed", plural(len(list), "commit"))
	return nil
}

// occupants returns the processes that run in dir, as far as the system tells.
func occupants(dir string) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	dir = resolved(dir)
	var out []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		name, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		out = append(out, strings.TrimSpace(e.Name()+" "+oneLine(string(name))))
	}
	return out
}

// oneFileSystem says whether a rename from one directory to the other works.
func oneFileSystem(a, b string) (bool, error) {
	var of [2]uint64
	for i, p := range []string{a, b} {
		info, err := os.Stat(p)
		if err != nil {
			return false, err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return true, nil // the rename itself will tell
		}
		of[i] = uint64(st.Dev) //nolint:unconvert // its type is the platform's
	}
	return of[0] == of[1], nil
}

// putAway moves the task to the trash. Each step leaves what Restore, or
// another Clean, can go on from; nothing is deleted that is not kept first.
func (c *cleaner) putAway(ctx context.Context) error {
	if c.tip == "" && c.tree == nil {
		c.item.Done = true
		c.did("forgot it: its branch and work tree were gone")
		return os.Remove(c.taskFile(c.task.Topic))
	}
	id, err := c.newTrash()
	if err != nil {
		return err
	}
	c.stepped("place made")
	t := Trashed{ID: id, Task: c.task, Tip: c.tip, Deleted: c.now()}
	t.Task.Path = c.item.Path
	if c.tree != nil {
		t.Saved = c.where.trash(id)
		if c.dirty {
			t.Stash = c.stash(ctx)
		}
	}
	if err := c.keepTrash(t); err != nil {
		return err
	}
	c.stepped("noted")
	refs := []git.RefChange{{Name: trashRefs + id + "/branch", New: c.tip}}
	if t.Stash != "" {
		refs = append(refs, git.RefChange{Name: trashRefs + id + "/stash", New: t.Stash})
	}
	if err := c.Repo.UpdateRefs(ctx, refs...); err != nil {
		return err
	}
	c.stepped("refs kept")
	if c.tree != nil {
		if err := c.move(t); err != nil {
			if failed := c.forgetTrash(ctx, id, true); failed != nil {
				c.warn("%v", failed)
			}
			c.refuse("%s cannot be moved: %v", c.at, err)
			return nil
		}
		c.did("moved %s to %s", c.brief(c.at), c.brief(t.Saved))
	}
	c.stepped("moved")
	c.item.TrashID, c.item.Done = id, true
	if err := c.dropBranch(ctx); err != nil {
		return err
	}
	c.stepped("branch deleted")
	if err := os.Remove(c.taskFile(c.task.Topic)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.stepped("forgotten")
	if c.online && c.state.landed() {
		c.dropRemote(ctx)
	}
	return nil
}

func (c *cleaner) did(format string, args ...any) {
	c.item.Did = append(c.item.Did, fmt.Sprintf(format, args...))
	c.say("%s: %s", c.task.Topic, c.item.Did[len(c.item.Did)-1])
}

// brief names a directory as seen from the clone, if it lies in it.
func (c *cleaner) brief(dir string) string {
	if rel, err := filepath.Rel(c.where.main, dir); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return dir
}

// stash keeps the index and the tracked changes as objects; "" when git cannot
// make one of them. The files and the index are kept in any case.
func (c *cleaner) stash(ctx context.Context) git.Commit {
	res, err := git.Run(ctx, c.tree.Objects("-c", "user.name=homelab", "-c", "user.email=homelab@localhost", "stash", "create", "homelab clean"))
	if err == nil {
		var s git.Commit
		if s, err = git.ParseCommit(strings.TrimSpace(string(res.Stdout))); err == nil {
			return s
		}
	}
	c.warn("the index of %s is kept as a file only: %v", c.at, err)
	return ""
}

// move takes directory and administration of the work tree away. Moving the
// latter is what "git worktree prune" would delete: the index and the logs.
func (c *cleaner) move(t Trashed) error {
	if err := os.MkdirAll(filepath.Dir(t.Saved), 0o700); err != nil {
		return err
	}
	if err := os.Rename(c.at, t.Saved); err != nil {
		return err
	}
	c.stepped("directory moved")
	admin := c.tree.GitDir()
	if err := os.Rename(admin, filepath.Join(c.trashOf(t.ID), adminDir)); err != nil {
		return errors.Join(err, os.Rename(t.Saved, c.at))
	}
	_ = os.Remove(filepath.Dir(admin)) // git's own way: no work tree, no directory
	return nil
}

// dropBranch deletes the local branch if it still is what was kept.
func (c *cleaner) dropBranch(ctx context.Context) error {
	if other, ok := c.where.on(c.task.Branch); ok && !other.Prunable && (c.at == "" || !same(other.Path, c.at)) {
		c.did("left the branch %s, as it is checked out at %s", c.task.Branch, other.Path)
		return nil
	}
	err := c.Repo.UpdateRefs(ctx, git.RefChange{Name: "refs/heads/" + c.task.Branch, Old: c.tip})
	if errors.Is(err, git.ErrRefMoved) {
		c.did("left the branch %s, as it moved meanwhile", c.task.Branch)
		return nil
	} else if err != nil {
		return err
	}
	c.did("deleted the branch %s (was %s)", c.task.Branch, c.tip.Short())
	return nil
}

// dropRemote deletes the remote branch of the same name, if all it has is in
// the landed branch. What goes wrong is said and no more: the task is put away.
func (c *cleaner) dropRemote(ctx context.Context) {
	l, err := c.lander(ctx, Options{}, task{})
	if err != nil {
		c.warn("%v", err)
		return
	}
	l.out.Branch, l.out.Remote = c.task.Branch, c.task.Remote
	remote, ref := l.reviewRemote(), "refs/heads/"+c.task.Branch
	if c.task.Branch == c.task.Base {
		return
	}
	e, err := c.endpoint(ctx, remote)
	if err != nil {
		c.warn("%v", err)
		return
	}
	told, err := l.Repo.LsRemote(ctx, e, ref)
	there := told.Refs[ref]
	if err != nil || there == "" {
		if err != nil {
			c.warn("%s was not asked for %s: %v", remote, c.task.Branch, err)
		}
		return
	}
	if in, err := c.Repo.IsAncestor(ctx, there, c.tip); err != nil || in != git.Yes {
		c.did("left %s on %s, which has commits of others", c.task.Branch, remote)
		return
	}
	reply, err := l.Repo.Push(ctx, e, git.Push{Ref: ref, Expect: there})
	if line, ok := reply.Line(ref); err == nil && ok && reply.Exit == 0 && line.Flag == '-' {
		c.did("deleted %s on %s", c.task.Branch, remote)
		return
	}
	c.did("left %s on %s: %s", c.task.Branch, remote, oneLine(strings.Join(reply.Words(), "; ")))
}
