package landing

import (
	"context"
	"errors"
	"time"

	"homelab/pkg/git"
)

// State says whether a branch's work is on the base.
type State string

// Every state. Reverted comes first: what was undone is still an ancestor.
const (
	StateReverted State = "reverted" // landed, and undone by a commit that says so
	StateMerged   State = "merged"   // the base contains the tip
	StateContent  State = "content"  // merging it would change nothing
	StateSquashed State = "squashed" // one commit of the base is the branch's whole change
	StateNo       State = "no"       // not landed, or not proven to be
)

// landed says that the base has the work now.
func (s State) landed() bool {
	switch s {
	case StateMerged, StateContent, StateSquashed:
		return true
	case StateReverted, StateNo:
	}
	return false
}

// stateOf finds out whether the base has the branch's work. A remote branch
// that is gone proves nothing, and "git cherry" does not see several commits
// squashed into one. A task without a commit of its own has landed nothing.
func (d *Desk) stateOf(ctx context.Context, t Task, tip, base git.Commit) (State, error) {
	if tip == "" || base == "" || tip == t.Start {
		return StateNo, nil
	}
	reverted, err := d.wasReverted(ctx, t, tip, base)
	if err != nil || reverted {
		return StateReverted, err
	}
	in, err := d.Repo.IsAncestor(ctx, tip, base)
	if err != nil {
		return StateNo, err
	}
	if in == git.Yes {
		return StateMerged, nil
	}
	m, err := d.Repo.MergeTree(ctx, base, tip)
	if errors.Is(err, git.ErrUnrelated) {
		return StateNo, nil
	} else if err != nil {
		return StateNo, err
	}
	tree, err := d.Repo.Tree(ctx, string(base))
	if err != nil {
		return StateNo, err
	}
	if m.Clean && m.Tree == tree {
		return StateContent, nil
	}
	squashed, err := d.wasSquashed(ctx, tip, base)
	if err != nil || !squashed {
		return StateNo, err
	}
	return StateSquashed, nil
}

// wasReverted says whether a landing that brought tip was undone on the base
// and has not been brought back. A branch that was begun with the landing in
// it is another piece of work, and so is one that has the revert. All that the
// base got since is looked at: a revert may have come through a pull request.
func (d *Desk) wasReverted(ctx context.Context, t Task, tip, base git.Commit) (bool, error) {
	messages, order, err := d.Repo.Messages(ctx, tip, base, trailerReverts+": ", false)
	if err != nil {
		return false, err
	}
	l := &lander{Deps: d.Deps}
	for _, x := range order {
		for _, landed := range trailers(messages[x], trailerReverts) {
			side, err := l.sideOf(ctx, landed)
			if err != nil || side == "" {
				continue
			}
			ours, err := d.brought(ctx, t, landed, side, tip)
			if err != nil {
				return false, err
			}
			if !ours {
				continue
			}
			if back, err := restored(ctx, d.Repo, x, base); err != nil || !back {
				return !back, err
			}
		}
	}
	return false, nil
}

// brought says whether the landing, whose branch side was side, is the one
// that brought tip, or commits that tip goes on from.
func (d *Desk) brought(ctx context.Context, t Task, landed, side, tip git.Commit) (bool, error) {
	in, err := d.Repo.IsAncestor(ctx, tip, side)
	if err != nil {
		return false, err
	}
	if in == git.Yes {
		// Unless the base had it before that landing.
		before, err := d.Repo.Resolve(ctx, string(landed)+"^1")
		if unknown := (*git.UnknownError)(nil); errors.As(err, &unknown) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		if side == landed && before != "" {
			// A fast-forward of several commits: its first parent may be the branch's own.
			return t.BaseSHA == "" || t.BaseSHA != tip, nil
		}
		had, err := d.Repo.IsAncestor(ctx, tip, before)
		return had != git.Yes, err
	}
	if in, err = d.Repo.IsAncestor(ctx, side, tip); err != nil || in != git.Yes {
		return false, err
	}
	if t.BaseSHA == "" {
		return true, nil
	}
	had, err := d.Repo.IsAncestor(ctx, landed, t.BaseSHA)
	return had != git.Yes, err
}

// wasSquashed says whether one commit of the base is the whole branch.
func (d *Desk) wasSquashed(ctx context.Context, tip, base git.Commit) (bool, error) {
	fork, err := d.Repo.MergeBase(ctx, base, tip)
	if errors.Is(err, git.ErrUnrelated) || err == nil && fork == base {
		return false, nil
	} else if err != nil {
		return false, err
	}
	// Both sides are printed alike, whatever the user configured.
	form := []string{
		"--patch", "--full-index", "--binary", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--unified=3",
		"--inter-hunk-context=0", "--diff-algorithm=myers", "--no-indent-heuristic", "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=none",
	}
	own, err := d.Repo.PatchIDs(ctx, append(append([]string{"diff"}, form...), string(fork), string(tip), "--")...)
	if err != nil || len(own) != 1 {
		return false, err
	}
	changed, err := d.Repo.Changed(ctx, string(fork), string(tip))
	if err != nil {
		return false, err
	}
	log := append(append([]string{"log", "--no-merges", "--full-diff", "--no-show-signature", "--no-decorate", "--no-notes"}, form...), string(fork)+".."+string(base), "--")
	if len(changed) <= mostListed {
		// Only commits that touch these need to be compared, each whole.
		for _, p := range changed {
			log = append(log, ":(top,literal)"+p)
		}
	}
	theirs, err := d.Repo.PatchIDs(ctx, log...)
	if err != nil {
		return false, err
	}
	for id := range own {
		if _, ok := theirs[id]; ok {
			return true, nil
		}
	}
	return false, nil
}

// baseOf returns the base's tip as last known here: by this tool's fetches or
// the user's, whichever has more; "" when neither has it.
func (d *Desk) baseOf(ctx context.Context, remote, base string) (git.Commit, error) {
	ours, err := tip(ctx, d.Repo, knownRef(remote, base))
	if err != nil {
		return "", err
	}
	users, err := tip(ctx, d.Repo, "refs/remotes/"+remote+"/"+base)
	if err != nil || ours == "" || ours == users {
		return users, err
	}
	if users == "" {
		return ours, nil
	}
	older, err := d.Repo.IsAncestor(ctx, ours, users)
	if err != nil || older == git.Yes {
		return users, err
	}
	return ours, nil
}

// refresh asks the remote for the base's tip, and fetches only that.
func (d *Desk) refresh(ctx context.Context, remote, base string) error {
	l, err := d.lander(ctx, Options{}, task{})
	if err != nil {
		return err
	}
	e, err := d.endpoint(ctx, remote)
	if err != nil {
		return err
	}
	return persistent(ctx, lookPatience, nil, func() error {
		return l.Repo.Fetch(ctx, e, 0, "+refs/heads/"+base+":"+knownRef(remote, base))
	})
}

// endpoint is where a remote's branches are read and written: where pushes go,
// as a replica to fetch from may lag behind.
func (d *Desk) endpoint(ctx context.Context, remote string) (git.Endpoint, error) {
	push, err := d.Repo.PushURLs(ctx, remote)
	if err != nil {
		return git.Endpoint{}, err
	}
	fetch, err := d.Repo.RemoteURL(ctx, remote)
	if err != nil {
		return git.Endpoint{}, err
	}
	if len(push) == 1 && push[0] != fetch {
		return git.Endpoint{Remote: push[0]}, nil
	}
	return git.Endpoint{Remote: remote}, nil
}

// lookPatience is how long a remote is asked again where what was last known
// serves as well.
const lookPatience = 5 * time.Second
