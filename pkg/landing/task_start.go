package landing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// StartOptions is what a new task was asked for.
type StartOptions struct {
	Topic  string
	Base   string // "" not named
	Remote string
	From   string // where the branch begins; "" the base's tip
}

// Started is a task that has its work tree.
type Started struct {
	Task
	Existing bool // it had it before
}

// undoLimit bounds putting back what a failed run made.
const undoLimit = 5 * time.Second

// Start makes a work tree and a branch for a task, or finds those it has. The
// error is a *fault.Error; what a failed run made is gone again.
func (d *Desk) Start(ctx context.Context, o StartOptions) (Started, *fault.Error) {
	s := &starter{Desk: d, o: o, release: func() {}}
	out, err := s.run(ctx)
	defer func() { s.release() }() // held while what was made is removed
	if err == nil {
		return out, nil
	}
	undo, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), undoLimit, errors.New("tidying up took too long"))
	defer cancel()
	if failed := s.undo(undo); failed != nil {
		d.warn("not everything this run made could be removed: %v", failed)
	}
	return Started{Task: Task{Topic: o.Topic}}, explain(ctx, err, ui.Command("work", "start", o.Topic), s.remote)
}

type starter struct {
	*Desk
	o      StartOptions
	where  place
	task   Task
	remote string
	tip    git.Commit // of the branch, if it exists
	base   git.Commit // the base's tip, just asked for

	release func()

	madeRecord, madeBranch, madeDir, madeHolder bool
}

func (s *starter) run(ctx context.Context) (Started, error) {
	if err := checkTopic(s.o.Topic); err != nil {
		return Started{}, err
	}
	if err := s.old(ctx); err != nil {
		return Started{}, err
	}
	release, err := s.hold(ctx)
	if err != nil {
		return Started{}, err
	}
	s.release = release
	if s.where, err = s.survey(ctx); err != nil {
		return Started{}, err
	}
	if _, err := s.mend(ctx, s.where); err != nil {
		return Started{}, err
	}
	have, known, err := s.record(s.o.Topic)
	if err != nil {
		return Started{}, err
	}
	if known {
		s.task = have
		if err := s.agrees(have); err != nil {
			return Started{}, err
		}
		if w, ok := s.where.of(have); ok && !w.Prunable {
			s.task.Path = w.Path
			return s.existing(ctx, have)
		}
	}
	return s.fresh(ctx, known)
}

// agrees refuses to hand out a task that is not the one asked for.
func (s *starter) agrees(t Task) error {
	for _, c := range []struct{ what, asked, has string }{{"base", s.o.Base, t.Base}, {"remote", s.o.Remote, t.Remote}} {
		if c.asked != "" && c.asked != c.has {
			return stop(fault.Usage, "homelab work status", "task %s exists, and its %s is %s, not %s", t.Topic, c.what, c.has, c.asked)
		}
	}
	return nil
}

// existing hands out a task's work tree, and first ends what a killed run
// began.
func (s *starter) existing(ctx context.Context, have Task) (Started, error) {
	if have.Making {
		if err := s.fill(ctx, s.task.Path); err != nil {
			return Started{}, err
		}
	}
	if s.o.From != "" {
		s.warn("%s exists; --from is only looked at when a branch is made", have.Branch)
	}
	s.task.Making = false
	if s.task != have {
		if err := s.keep(s.task); err != nil {
			return Started{}, err
		}
	}
	return Started{Task: s.task, Existing: true}, nil
}

// fresh makes the work tree: for a new branch, or one that has none.
func (s *starter) fresh(ctx context.Context, known bool) (Started, error) {
	t := &s.task
	if !known {
		*t = Task{Topic: s.o.Topic, Created: s.now()}
		branch, err := s.branch(ctx)
		if err != nil {
			return Started{}, err
		}
		t.Branch, t.Path = branch, s.where.path(s.o.Topic)
	}
	attached, err := s.free(ctx)
	if err != nil {
		return Started{}, err
	}
	var from git.Commit
	if s.o.From != "" {
		if from, err = s.resolve(ctx); err != nil {
			return Started{}, err
		}
	}
	if !known || s.tip == "" {
		if err := s.findBase(ctx, known); err != nil {
			return Started{}, err
		}
	}
	if t.Branch == t.Base {
		return Started{}, stop(fault.Usage, "homelab work start --help", "%s is the base itself", t.Base)
	}
	s.madeRecord = !known
	t.Making = !attached
	if err := s.keep(*t); err != nil {
		return Started{}, err
	}
	switch {
	case attached: // made by hand, and in use
		return Started{Task: *t, Existing: true}, nil
	case s.tip != "":
		if s.o.From != "" {
			s.warn("%s exists; --from is only looked at when a branch is made", t.Branch)
		}
		from = ""
	case from == "":
		from = s.base
	}
	if s.tip == "" {
		t.Start = from
	}
	if err := s.make(ctx, from); err != nil {
		return Started{}, err
	}
	t.Making = false
	if err := s.keep(*t); err != nil {
		return Started{}, err
	}
	s.madeRecord, s.madeBranch, s.madeDir, s.madeHolder = false, false, false, false
	expireTrash(ctx, s.Desk, s.where)
	return Started{Task: *t}, nil
}

// branch is the name of a new task's branch.
func (s *starter) branch(ctx context.Context) (string, error) {
	user := s.User
	if i := strings.LastIndexAny(user, `\/`); i >= 0 {
		user = user[i+1:] // DOMAIN\anna
	}
	name := user + "/" + s.o.Topic
	ok, err := s.Repo.ValidBranch(ctx, name)
	if err != nil {
		return "", err
	}
	if user == "" {
		return "", stop(fault.Usage, ui.Command("env", "USER=anna", "homelab", "work", "start", s.o.Topic), "USER is not set, and it begins the branch's name")
	}
	if !ok {
		return "", stop(fault.Usage, ui.Command("env", "USER=anna", "homelab", "work", "start", s.o.Topic), "%s cannot begin a branch's name; USER says who works here", ui.Quote(ui.Clean(user)))
	}
	return name, nil
}

// free makes sure that path and branch are nobody else's. attached: they are a
// work tree already that has only no record.
func (s *starter) free(ctx context.Context) (attached bool, err error) {
	t := &s.task
	var parent string
	if i := strings.IndexByte(t.Branch, '/'); i >= 0 {
		parent = t.Branch[:i]
	}
	refs, err := s.Repo.Refs(ctx, "refs/heads/"+t.Branch, "refs/heads/"+parent)
	if err != nil {
		return false, err
	}
	for _, r := range refs {
		switch {
		case r.Name == "refs/heads/"+t.Branch:
			s.tip = r.Commit
		case parent != "" && r.Name == "refs/heads/"+parent:
			return false, stop(fault.Usage, ui.Command("git", "branch", "-m", parent, parent+"-old"), "there is a branch %s, so there can be no branch %s", parent, t.Branch)
		case strings.HasPrefix(r.Name, "refs/heads/"+t.Branch+"/"):
			return false, stop(fault.Usage, "git branch", "there is a branch %s, so there can be no branch %s", strings.TrimPrefix(r.Name, "refs/heads/"), t.Branch)
		}
	}
	w, registered := s.where.at(t.Path)
	if registered && !w.Prunable {
		if w.Branch == "refs/heads/"+t.Branch {
			return true, nil
		}
		return false, stop(fault.Usage, "git worktree list", "%s is a work tree with %s checked out, not %s", t.Path, orDetached(w), t.Branch)
	}
	if there, err := exists(t.Path); err != nil {
		return false, err
	} else if there {
		return false, stop(fault.Usage, ui.Command("ls", "-la", t.Path), "%s exists and is no work tree of this clone", t.Path)
	}
	if other, ok := s.where.on(t.Branch); ok && !other.Prunable && !same(other.Path, t.Path) {
		return false, stop(fault.Usage, ui.Command("cd", other.Path), "%s is checked out at %s", t.Branch, other.Path)
	}
	if registered {
		return false, s.Repo.PruneWorktrees(ctx)
	}
	return false, nil
}

func orDetached(w git.Worktree) string {
	if w.Branch == "" {
		return "no branch"
	}
	return strings.TrimPrefix(w.Branch, "refs/heads/")
}

func (s *starter) resolve(ctx context.Context) (git.Commit, error) {
	c, err := s.Repo.Resolve(ctx, s.o.From)
	if unknown, ok := errors.AsType[*git.UnknownError](err); ok {
		return "", stop(fault.Usage, "git fetch", "--from: %v", unknown).From(err)
	} else if many, ok := errors.AsType[*git.AmbiguousError](err); ok {
		return "", stop(fault.Usage, "git log --oneline -1 "+ui.Quote(s.o.From), "--from: %v", many).From(err)
	} else if errors.Is(err, git.ErrUnborn) {
		return "", stop(fault.Usage, "git commit", "--from: %v", err).From(err)
	}
	return c, err
}

// findBase asks the remote which branch is the base, and fetches only that.
func (s *starter) findBase(ctx context.Context, known bool) error {
	t := &s.task
	of := task{}
	if known {
		of = task{Topic: t.Topic, Branch: t.Branch, Base: t.Base, Named: t.Named, Remote: t.Remote}
	}
	l, err := s.lander(ctx, Options{Base: s.o.Base, Remote: s.o.Remote}, of)
	if err != nil {
		return err
	}
	l.out.Branch = t.Branch
	if s.remote, err = l.remote(ctx); err != nil {
		return err
	}
	err = l.discover(ctx, s.remote)
	defer func() {
		undo, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), undoLimit, errors.New("tidying up took too long"))
		defer cancel()
		l.forgetRefs(undo, l.out.ID)
	}()
	if err != nil {
		return err
	}
	if !known {
		t.Base, t.Named, t.Remote = l.out.Base, s.o.Base != "", s.remote
	}
	s.base = l.out.BaseBefore
	if t.BaseSHA == "" || s.tip == "" {
		t.BaseSHA = s.base
	}
	// The object must outlive this run's ref until the branch has it.
	return s.remember(ctx, t.Remote, t.Base, s.base)
}

// make creates branch and work tree; from is "" for a branch that exists.
func (s *starter) make(ctx context.Context, from git.Commit) error {
	t := &s.task
	if err := s.exclude(ctx); err != nil {
		return err
	}
	holder := filepath.Dir(t.Path)
	if there, err := exists(holder); err != nil {
		return err
	} else if !there {
		s.madeHolder = true
	}
	if err := os.MkdirAll(holder, 0o755); err != nil { //nolint:gosec // as open as the work tree beside it
		return err
	}
	s.madeDir, s.madeBranch = true, s.tip == ""
	if err := s.Repo.AddWorktree(ctx, t.Path, t.Branch, from); err != nil {
		return err
	}
	return s.fill(ctx, t.Path)
}

// fill puts the files into a work tree that has none: nobody has worked in it
// as long as it has no index.
func (s *starter) fill(ctx context.Context, path string) error {
	w, err := git.Open(ctx, path, s.Env)
	if err != nil {
		return err
	}
	if there, err := exists(filepath.Join(w.GitDir(), "index")); err != nil || there {
		return err
	}
	// Left by a run that was killed; this one holds the lock of all tasks.
	if err := os.Remove(filepath.Join(w.GitDir(), "index.lock")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return w.Fill(ctx)
}

// exclude keeps the work trees out of the main one's status, once, and without
// touching a tracked file. A path below the directory is tested: a pattern for
// directories does not match one that does not exist yet.
func (s *starter) exclude(ctx context.Context) error {
	if s.where.bare {
		return nil // nothing is checked out around them
	}
	const line = "/" + worktreesDir + "/"
	name := filepath.Join(s.Repo.CommonDir(), "info", "exclude")
	data, err := os.ReadFile(name) //nolint:gosec // a record of the clone itself
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if slices.Contains(strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"), line) {
		return nil
	}
	main, err := git.Open(ctx, s.where.main, s.Env)
	if err != nil {
		return err
	}
	_, err = git.Run(ctx, main.Local("check-ignore", "--quiet", "--", worktreesDir+"/"+s.o.Topic))
	failed, asked := errors.AsType[*git.CommandError](err)
	switch {
	case err == nil:
		return nil // the user ignores it already
	case !asked || failed.ExitCode != 1:
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // git's own mode for it
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // git's own mode for it
	if err != nil {
		return err
	}
	text := line + "\n"
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		text = "\n" + text
	}
	if _, err := f.WriteString(text); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// undo removes what this run made, and nothing else.
func (s *starter) undo(ctx context.Context) error {
	t := &s.task
	var failed []error
	if s.madeDir {
		// The path did not exist before, and this run holds the lock.
		_, err := git.Run(ctx, s.Repo.Local("worktree", "remove", "--force", "--", t.Path))
		if _, ran := errors.AsType[*git.CommandError](err); err != nil && !ran {
			failed = append(failed, err)
		}
		failed = append(failed, os.RemoveAll(t.Path), s.Repo.PruneWorktrees(ctx))
	}
	if s.madeHolder {
		_ = os.Remove(filepath.Dir(t.Path)) // only if nothing else is in it
	}
	if s.madeBranch {
		at, err := tip(ctx, s.Repo, "refs/heads/"+t.Branch)
		if failed = append(failed, err); at != "" && at == t.Start {
			failed = append(failed, s.Repo.UpdateRefs(ctx, git.RefChange{Name: "refs/heads/" + t.Branch, Old: at}))
		}
	}
	if s.madeRecord {
		if err := os.Remove(s.taskFile(t.Topic)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// knownRef is where a base's tip is kept as it was last fetched here. The
// remote-tracking ref is the user's.
func knownRef(remote, base string) string {
	return fmt.Sprintf("refs/homelab/known/%s/%s", remote, base)
}

func (d *Desk) remember(ctx context.Context, remote, base string, c git.Commit) error {
	return d.Repo.UpdateRefs(ctx, git.RefChange{Name: knownRef(remote, base), New: c, Whatever: true})
}
