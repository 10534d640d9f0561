package landing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/ui"
)

// Task is what was written down when a piece of work was started: where it is
// and what it is for. Later runs believe it, not $USER or a remote's default
// of that day.
type Task struct {
	Topic   string     `json:"topic"`
	Branch  string     `json:"branch"`
	Path    string     `json:"path"`
	Base    string     `json:"base"`
	Named   bool       `json:"named"` // the base was asked for by name
	Remote  string     `json:"remote"`
	BaseSHA git.Commit `json:"base_sha"`
	Start   git.Commit `json:"start"` // where the branch began; "" for one that existed before
	Created time.Time  `json:"created"`
	// Making is set until the work tree has its files: a run that was killed
	// on the way there is finished by the next one.
	Making bool `json:"making,omitempty"`
}

// Desk is where tasks are started, seen and put away. Of Deps it uses Repo,
// Env, Rules, File, Forge and Tell.
type Desk struct {
	Deps
	Dir  string           // where the caller is
	User string           // first part of new branches' names
	Now  func() time.Time // nil: time.Now
	// Stepped is told after each step of putting a task away or bringing it
	// back; may be nil.
	Stepped func(step string)
}

func (d *Desk) stepped(step string) {
	if d.Stepped != nil {
		d.Stepped(step)
	}
}

func (d *Desk) now() time.Time {
	if d.Now == nil {
		return time.Now().UTC()
	}
	return d.Now().UTC()
}

func (d *Desk) say(format string, args ...any) {
	if d.Tell != nil {
		d.Tell(Told{Phase: "task", Text: fmt.Sprintf(format, args...)})
	}
}

func (d *Desk) warn(format string, args ...any) {
	if d.Tell != nil {
		d.Tell(Warned{Text: fmt.Sprintf(format, args...)})
	}
}

func tasksDir(common string) string          { return filepath.Join(common, "homelab", "tasks") }
func taskFile(common, topic string) string   { return filepath.Join(tasksDir(common), topic+".json") }
func (d *Desk) taskFile(topic string) string { return taskFile(d.Repo.CommonDir(), topic) }

// Tasks returns the clone's tasks, sorted by topic. What cannot be read is
// named in the error, beside those that can.
func Tasks(common string) ([]Task, error) {
	entries, err := os.ReadDir(tasksDir(common))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []Task
	var bad []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		t, err := readTask(filepath.Join(tasksDir(common), e.Name()))
		if err != nil {
			bad = append(bad, err)
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Task) int { return strings.Compare(a.Topic, b.Topic) })
	return out, errors.Join(bad...)
}

func readTask(name string) (Task, error) {
	var t Task
	data, err := os.ReadFile(name) //nolint:gosec // a record of the clone itself
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("%s: %w", name, err)
	}
	if t.Topic == "" || t.Branch == "" || !filepath.IsAbs(t.Path) {
		return t, fmt.Errorf("%s: not a task's record", name)
	}
	return t, nil
}

// record returns topic's record; ok is false without one.
func (d *Desk) record(topic string) (t Task, ok bool, err error) {
	t, err = readTask(d.taskFile(topic))
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	return t, err == nil, err
}

func (d *Desk) keep(t Task) error { return writeJSON(d.taskFile(t.Topic), t) }

// writeJSON replaces a file of ours, whole, and makes its directory.
func writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return writeWhole(name, append(data, '\n'))
}

// hold lets one run at a time change the clone's tasks.
func (d *Desk) hold(ctx context.Context) (release func(), err error) {
	dir := filepath.Join(d.Repo.CommonDir(), "homelab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "tasks.lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a record of the clone itself
	if err != nil {
		return nil, err
	}
	err = poll.Until(ctx, poll.Steps(20*time.Millisecond), func(context.Context) (poll.State, error) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return poll.Done, nil
		case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
			return poll.NotYet, nil
		}
		return poll.NotYet, fmt.Errorf("lock %s: %w", f.Name(), err)
	})
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// checkTopic refuses what cannot be a directory's and a branch's name at once.
func checkTopic(topic string) error {
	valid := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	if valid.MatchString(topic) && !strings.Contains(topic, "..") && !strings.HasSuffix(topic, ".lock") && !strings.HasSuffix(topic, ".") {
		return nil
	}
	return stop(fault.Usage, "homelab work start --help",
		"%s cannot be a topic: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit, without \"..\" and not ending in \".\" or \".lock\"", ui.Quote(ui.Clean(topic)))
}

// old refuses a git that cannot merge without a work tree, for all verbs alike.
func (d *Desk) old(ctx context.Context) error {
	v, err := git.Installed(ctx, d.Repo.Root(), d.Env)
	if err != nil {
		return err
	}
	if !v.AtLeast(gitMajor, gitMinor) {
		return stop(fault.Usage, "git --version", "git %s is too old: %d.%d or newer is needed", v, gitMajor, gitMinor)
	}
	return nil
}

// place is where the clone keeps its work trees.
type place struct {
	main  string // the main work tree; of a bare repository the directory that holds it
	trees []git.Worktree
	bare  bool
}

// survey finds the main work tree. The top level of where the caller stands is
// no answer: that may be any of the linked ones, and they nest.
func (d *Desk) survey(ctx context.Context) (place, error) {
	trees, err := d.Repo.Worktrees(ctx)
	if err != nil {
		return place{}, err
	}
	if len(trees) == 0 {
		return place{}, errors.New("git worktree list names no work tree")
	}
	p := place{main: trees[0].Path, trees: trees, bare: trees[0].Bare}
	common := d.Repo.CommonDir()
	switch {
	case p.main != common && p.main != d.Repo.GitDir():
	case p.bare:
		p.main = filepath.Dir(common)
	case d.Repo.GitDir() == common && d.Repo.Root() != common:
		// The git directory lies elsewhere (a submodule, --separate-git-dir):
		// git's list names that instead of the work tree.
		p.main = d.Repo.Root()
	default:
		cfg, err := d.Repo.Config(ctx)
		if err != nil {
			return place{}, err
		}
		top := cfg.Get("core.worktree")
		if top == "" {
			return place{}, stop(fault.Usage, "git worktree list", "the main work tree of %s is not known; run this in it", common)
		}
		if !filepath.IsAbs(top) {
			top = filepath.Join(common, top)
		}
		p.main = filepath.Clean(top)
	}
	return p, nil
}

const worktreesDir = ".worktrees"

func (p place) path(topic string) string { return filepath.Join(p.main, worktreesDir, topic) }

// at returns the work tree registered at path.
func (p place) at(path string) (git.Worktree, bool) {
	for _, w := range p.trees {
		if same(w.Path, path) {
			return w, true
		}
	}
	return git.Worktree{}, false
}

// on returns the work tree that has the branch checked out.
func (p place) on(branch string) (git.Worktree, bool) {
	for _, w := range p.trees {
		if w.Branch == "refs/heads/"+branch {
			return w, true
		}
	}
	return git.Worktree{}, false
}

// of returns a task's own work tree, also after "git worktree move"; never the
// main one. ok is false when it is registered nowhere.
func (p place) of(t Task) (git.Worktree, bool) {
	if w, ok := p.at(t.Path); ok && !same(w.Path, p.main) {
		return w, true
	}
	if there, err := exists(t.Path); err != nil || there {
		return git.Worktree{}, false
	}
	for _, w := range p.trees[1:] {
		if w.Branch == "refs/heads/"+t.Branch && !w.Prunable {
			return w, true
		}
	}
	return git.Worktree{}, false
}

// same says whether two paths are one; either may go through symbolic links
// and either may not exist.
func same(a, b string) bool {
	return a == b || resolved(a) == resolved(b)
}

// resolved follows the links of as much of the path as exists.
func resolved(path string) string {
	if full, err := filepath.EvalSymlinks(path); err == nil {
		return full
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(resolved(dir), filepath.Base(path))
}

// within says whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(resolved(dir), resolved(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// tip returns a branch's commit; "" when there is no such branch.
func tip(ctx context.Context, r *git.Repo, ref string) (git.Commit, error) {
	refs, err := r.Refs(ctx, ref)
	if err != nil {
		return "", err
	}
	for _, x := range refs {
		if x.Name == ref {
			return x.Commit, nil
		}
	}
	return "", nil
}

// lander returns what finds out remote and base, as a landing would.
func (d *Desk) lander(ctx context.Context, o Options, t task) (*lander, error) {
	l := &lander{Deps: d.Deps, o: o, task: t}
	if l.Tell == nil {
		l.Tell = func(Update) {}
	}
	var err error
	if l.cfg, err = d.Repo.Config(ctx); err != nil {
		return nil, err
	}
	l.Repo = d.Repo.Unattended(l.cfg)
	l.out.ID, err = newID(d.now())
	return l, err
}

// explain gives err a kind; verb is the command line without "homelab".
func explain(ctx context.Context, err error, verb, remote string) *fault.Error {
	if err == nil {
		return nil
	}
	if remote == "" {
		remote = "the remote"
	}
	again := "homelab " + verb
	var said *fault.Error
	var contact *git.ContactError
	switch {
	case ctx.Err() != nil:
		kind := fault.KindOf(context.Cause(ctx))
		if kind == fault.Bug {
			kind = fault.Interrupted
		}
		what := "interrupted"
		if kind == fault.Timeout {
			what = "time is up"
		}
		return stop(kind, again, "%s", what).Because(lastContact(err)).From(err)
	case errors.As(err, &said):
		out := *said
		// Written for a landing, and as true here.
		out.Next = strings.Replace(out.Next, "homelab work land", again, 1)
		return &out
	case errors.As(err, &contact) && contact.Contact == git.Refused:
		return stop(fault.Denied, "homelab doctor", "%s refuses access, asked three times", remote).Because(contact.Text).From(err)
	case errors.As(err, &contact):
		return stop(fault.Unreachable, again, "%s could not be reached", remote).Because(contact.Text).From(err)
	}
	if kind, why := machineTrouble(err); kind != "" {
		return stop(kind, again, "this machine is in the way of %s", verb).Because(why).From(err)
	}
	return stop(fault.Bug, "", "%s did not work", verb).Because(err.Error()).From(err)
}
