package landing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// StatusOptions is what is to be seen.
type StatusOptions struct {
	Fetch bool // ask the remotes for the bases first
}

// TaskStatus is how one task stands.
type TaskStatus struct {
	Task
	Missing   bool // its work tree is gone
	Tip       git.Commit
	Changed   []string
	Untracked []string
	Ignored   []string
	Ahead     int
	Behind    int
	Counted   bool   // whether Ahead and Behind are known
	StackedOn string // topic of the task whose branch this one goes on from; "" none
	Pushed    bool   // some remote-tracking branch has the tip
	Landed    State
	Base      git.Commit // the base's tip as last known; "" unknown
	Landing   *Unsettled
	Pull      *PullRequest // as last seen
}

// Unsettled is a landing that is not done.
type Unsettled struct {
	Record
	UnderWay bool   // a process works on it
	Next     string // the command that goes on with it
}

// Stray is a branch for CI's tests that no running landing needs any more.
type Stray struct {
	Remote string
	Branch string
}

// Overview is everything the tool keeps in a clone.
type Overview struct {
	Tasks    []TaskStatus
	Trash    []Trashed
	Landings []Unsettled // of branches that are no task's
	Strays   []Stray
	Warnings []string // what could not be read or asked
}

// Status sees how all tasks stand. Without Fetch it asks nobody. The error is
// a *fault.Error.
func (d *Desk) Status(ctx context.Context, o StatusOptions) (Overview, *fault.Error) {
	out, err := d.status(ctx, o)
	return out, explain(ctx, err, "work status", "")
}

func (d *Desk) status(ctx context.Context, o StatusOptions) (Overview, error) {
	var out Overview
	if err := d.old(ctx); err != nil {
		return out, err
	}
	where, err := d.survey(ctx)
	if err != nil {
		return out, err
	}
	note := func(err error) {
		if err != nil {
			out.Warnings = append(out.Warnings, err.Error())
		}
	}
	common := d.Repo.CommonDir()
	tasks, err := Tasks(common)
	note(err)
	records, err := Unfinished(common, "")
	note(err)
	bases := map[[2]string]git.Commit{}
	for _, t := range tasks {
		key := [2]string{t.Remote, t.Base}
		if _, known := bases[key]; known {
			continue
		}
		if o.Fetch {
			if err := d.refresh(ctx, t.Remote, t.Base); err != nil {
				if ctx.Err() != nil {
					return out, err
				}
				note(fmt.Errorf("%s/%s could not be fetched, so this is as of the last fetch: %w", t.Remote, t.Base, err))
			}
		}
		if bases[key], err = d.baseOf(ctx, t.Remote, t.Base); err != nil {
			return out, err
		}
	}
	tips := map[string]git.Commit{}
	for _, t := range tasks {
		if tips[t.Topic], err = tip(ctx, d.Repo, "refs/heads/"+t.Branch); err != nil {
			return out, err
		}
	}
	for _, t := range tasks {
		s, err := d.statusOf(ctx, where, t, tips, bases[[2]string{t.Remote, t.Base}], tasks)
		if err != nil {
			return out, err
		}
		s.Landing, s.Pull = d.landingOf(records, s.Task)
		out.Tasks = append(out.Tasks, s)
	}
	for _, r := range records {
		if !slices.ContainsFunc(tasks, func(t Task) bool { return t.Branch == r.Branch }) {
			path := ""
			if w, ok := where.on(r.Branch); ok {
				path = w.Path
			}
			out.Landings = append(out.Landings, d.unsettled(r, path))
		}
	}
	all, err := d.trash()
	note(err)
	var words []string
	out.Trash, words = d.unfinished(ctx, all, where)
	out.Warnings = append(out.Warnings, words...)
	out.Strays, err = d.strays(ctx, tasks, records, o.Fetch)
	note(err)
	return out, nil
}

func (d *Desk) statusOf(ctx context.Context, where place, t Task, tips map[string]git.Commit, base git.Commit, all []Task) (TaskStatus, error) {
	s := TaskStatus{Task: t, Tip: tips[t.Topic], Base: base, Landed: StateNo}
	w, ok := where.of(t)
	s.Missing = !ok || w.Prunable
	if !s.Missing {
		s.Path = w.Path
		repo, err := git.Open(ctx, w.Path, d.Env)
		if err != nil {
			return s, err
		}
		st, err := repo.Status(ctx, true)
		if err != nil {
			return s, err
		}
		s.Changed, s.Untracked, s.Ignored = st.Changed, st.Untracked, st.Ignored
	}
	if s.Tip == "" {
		return s, nil
	}
	var err error
	if s.Pushed, err = d.Repo.OnRemote(ctx, s.Tip); err != nil {
		return s, err
	}
	if base == "" {
		return s, nil
	}
	if s.Ahead, s.Behind, err = d.Repo.Count(ctx, s.Tip, base); err == nil {
		s.Counted = true
	} else if !errors.Is(err, git.ErrMissing) {
		return s, err
	}
	if s.Landed, err = d.stateOf(ctx, t, s.Tip, base); err != nil {
		return s, err
	}
	s.StackedOn, err = d.stackedOn(ctx, t, s.Tip, base, tips, all)
	return s, err
}

// stackedOn returns the topic of the nearest other task whose tip this one has
// and the base has not.
func (d *Desk) stackedOn(ctx context.Context, t Task, at, base git.Commit, tips map[string]git.Commit, all []Task) (string, error) {
	below := map[git.Commit]string{}
	for _, o := range all {
		if c := tips[o.Topic]; o.Topic != t.Topic && c != "" && c != at {
			below[c] = o.Topic
		}
	}
	if len(below) == 0 {
		return "", nil
	}
	list, err := d.Repo.Commits(ctx, base, at) // newest first
	if err != nil {
		return "", err
	}
	for _, e := range list {
		if topic := below[e.Commit]; topic != "" {
			return topic, nil
		}
	}
	return "", nil
}

// landingOf returns the branch's newest landing that is not done, and the pull
// request it has.
func (d *Desk) landingOf(records []Record, t Task) (*Unsettled, *PullRequest) {
	for _, r := range slices.Backward(records) {
		if r.Branch == t.Branch {
			u := d.unsettled(r, t.Path)
			return &u, r.Pull
		}
	}
	return nil, nil
}

func (d *Desk) unsettled(r Record, path string) Unsettled {
	u := Unsettled{Record: r, UnderWay: UnderWay(d.Repo.CommonDir(), r.ID)}
	u.Next = "homelab work land"
	if path != "" && !within(d.Dir, path) {
		u.Next = ui.Command("cd", path) + " && " + u.Next
	}
	return u
}

// strays finds staging branches: those the journals tell of and, asking the
// remotes, those on them.
func (d *Desk) strays(ctx context.Context, tasks []Task, records []Record, ask bool) ([]Stray, error) {
	const prefix = "refs/heads/homelab/land/"
	var out []Stray
	live := map[string]bool{}
	remotes := []string{}
	for _, r := range records {
		for _, s := range r.Stagings {
			if live[s.Ref] = UnderWay(d.Repo.CommonDir(), r.ID); !live[s.Ref] {
				out = append(out, Stray{Remote: r.Remote, Branch: strings.TrimPrefix(s.Ref, "refs/heads/")})
			}
		}
		if !slices.Contains(remotes, r.Remote) {
			remotes = append(remotes, r.Remote)
		}
	}
	if !ask {
		return out, nil
	}
	for _, t := range tasks {
		if !slices.Contains(remotes, t.Remote) {
			remotes = append(remotes, t.Remote)
		}
	}
	l, err := d.lander(ctx, Options{}, task{})
	if err != nil {
		return out, err
	}
	for _, remote := range remotes {
		e, err := d.endpoint(ctx, remote)
		if err != nil {
			return out, err
		}
		limited, cancel := context.WithTimeoutCause(ctx, 30*time.Second, git.ErrDeadline)
		res, err := git.Run(limited, l.Repo.Network("ls-remote", "--quiet", "--", e.Remote, prefix+"*"))
		cancel()
		if err != nil {
			return out, fmt.Errorf("%s could not be asked for branches of earlier landings: %w", remote, err)
		}
		for line := range strings.Lines(string(res.Stdout)) {
			_, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
			s := Stray{Remote: remote, Branch: strings.TrimPrefix(name, "refs/heads/")}
			if ok && strings.HasPrefix(name, prefix) && !live[name] && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}
