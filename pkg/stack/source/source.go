// Package source brings the checkouts that a deployment is made from up to
// date: the stack's repository and the operator's, which holds the spec. It
// only ever fast-forwards; nobody's changes are merged, stashed or dropped.
package source

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/stack/file"
)

// Checkout is where a directory stood when it was read.
type Checkout struct {
	Root   string     // of the work tree; "" when the directory is in no repository
	Commit git.Commit // "" for a repository without commits
	Moved  bool       // Pull brought new commits
	Notice *file.Notice
}

// Options are how to pull.
type Options struct {
	Env []string
	// Patience is for how long a remote that cannot be reached is asked again;
	// zero means a minute. A refusal is asked three times, Pause apart.
	Patience, Pause time.Duration
}

const (
	defaultPatience = time.Minute
	defaultPause    = 2 * time.Second
	refusals        = 3
)

// At returns how the checkout around dir stands; a directory outside of git has
// the zero Checkout.
func At(ctx context.Context, dir string, o Options) (Checkout, error) {
	r, err := git.Open(ctx, dir, o.Env)
	if errors.Is(err, git.ErrNotRepo) || errors.Is(err, git.ErrNoGit) {
		return Checkout{}, nil
	}
	if err != nil {
		return Checkout{}, told(dir, err)
	}
	return at(ctx, r)
}

func at(ctx context.Context, r *git.Repo) (Checkout, error) {
	head, err := r.Resolve(ctx, "HEAD")
	if err != nil && !errors.Is(err, git.ErrUnborn) {
		return Checkout{}, told(r.Root(), err)
	}
	return Checkout{Root: r.Root(), Commit: head}, nil
}

// Pull fast-forwards the checkout around dir to what its branch follows. A
// dirty work tree is fine while no change is in the way. Errors are of kind
// Usage when dir is in no repository, Conflict when only a person can go on,
// Denied and Unreachable for the remote.
func Pull(ctx context.Context, dir string, o Options) (Checkout, error) {
	r, err := git.Open(ctx, dir, o.Env)
	if errors.Is(err, git.ErrNotRepo) {
		return Checkout{}, fault.New(fault.Usage, dir+" is in no git repository", "").
			Because("a restart takes what git says; --no-pull takes the files as they are")
	}
	if err != nil {
		return Checkout{}, told(dir, err)
	}
	before, err := at(ctx, r)
	if err != nil {
		return Checkout{}, err
	}
	name, on, err := r.CurrentBranch(ctx)
	if err != nil {
		return Checkout{}, told(r.Root(), err)
	}
	if !on {
		before.Notice = notice("checkout-detached", r, "HEAD is detached in %s: its commit counts, nothing was pulled", r.Root())
		return before, nil
	}
	remote, branch, follows, err := r.Upstream(ctx)
	if err != nil {
		return Checkout{}, told(r.Root(), err)
	}
	if !follows {
		before.Notice = notice("checkout-without-upstream", r, "branch %s in %s follows no remote branch: its commit counts, nothing was pulled", name, r.Root())
		return before, nil
	}
	tip, err := fetch(ctx, r, remote, branch, o)
	if err != nil {
		return Checkout{}, err
	}
	if tip == before.Commit {
		return before, nil
	}
	if before.Commit != "" {
		switch ahead, err := r.IsAncestor(ctx, tip, before.Commit); {
		case err != nil:
			return Checkout{}, told(r.Root(), err)
		case ahead == git.Yes:
			return before, nil // commits that are not pushed yet
		}
		switch behind, err := r.IsAncestor(ctx, before.Commit, tip); {
		case err != nil:
			return Checkout{}, told(r.Root(), err)
		case behind != git.Yes:
			return Checkout{}, fault.New(fault.Conflict, fmt.Sprintf("%s and %s/%s have diverged in %s", name, remote, branch, r.Root()),
				"git -C "+r.Root()+" log --oneline --left-right HEAD..."+remote+"/"+branch).
				Because("only a fast-forward is taken; nothing was changed")
		}
	}
	if err := r.FastForward(ctx, tip); err != nil {
		if ctx.Err() != nil {
			return Checkout{}, context.Cause(ctx)
		}
		return Checkout{}, fault.New(fault.Conflict, "local changes in "+r.Root()+" are in the way of "+remote+"/"+branch, "git -C "+r.Root()+" status").
			Because(why(err)).From(err)
	}
	return Checkout{Root: before.Root, Commit: tip, Moved: true}, nil
}

// fetch brings the branch's remote-tracking ref up to date and returns its tip.
func fetch(ctx context.Context, r *git.Repo, remote, branch string, o Options) (git.Commit, error) {
	patience, pause := o.Patience, o.Pause
	if patience == 0 {
		patience = defaultPatience
	}
	if pause == 0 {
		pause = defaultPause
	}
	tracking := "refs/remotes/" + remote + "/" + branch
	refused, began := 0, time.Now()
	for {
		err := r.Fetch(ctx, git.Endpoint{Remote: remote}, 0, "+refs/heads/"+branch+":"+tracking)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		contact, isContact := errors.AsType[*git.ContactError](err)
		switch {
		case errors.Is(err, git.ErrNoTip):
			return "", fault.New(fault.Conflict, remote+" has no branch "+branch+" any more", "git -C "+r.Root()+" branch --set-upstream-to "+remote+"/BRANCH").From(err)
		case isContact && contact.Contact == git.Refused:
			if refused++; refused >= refusals {
				return "", fault.New(fault.Denied, "the remote "+remote+" of "+r.Root()+" refuses", "git -C "+r.Root()+" fetch "+remote).Because(contact.Text).From(err)
			}
		case time.Since(began)+pause > patience:
			return "", fault.New(fault.Unreachable, "the remote "+remote+" of "+r.Root()+" cannot be reached", "git -C "+r.Root()+" fetch "+remote).Because(why(err)).From(err)
		}
		if err := poll.Sleep(ctx, pause); err != nil {
			return "", err
		}
	}
	tip, err := r.Resolve(ctx, tracking)
	if err != nil {
		return "", told(r.Root(), err)
	}
	return tip, nil
}

func notice(code string, r *git.Repo, format string, args ...any) *file.Notice {
	return &file.Notice{Code: code, Level: file.Info, File: filepath.Clean(r.Root()), Message: fmt.Sprintf(format, args...)}
}

// told words an error of git itself.
func told(dir string, err error) error {
	if owned, ok := errors.AsType[*git.OwnershipError](err); ok {
		return fault.New(fault.Denied, owned.Error(), owned.Advice()).From(err)
	}
	if _, ran := errors.AsType[*git.CommandError](err); ran || errors.Is(err, git.ErrNoGit) {
		return fault.New(fault.Usage, "git cannot work in "+dir, "git -C "+dir+" status").Because(why(err)).From(err)
	}
	return err
}

func why(err error) string {
	if failed, ok := errors.AsType[*git.CommandError](err); ok {
		return failed.Why()
	}
	return strings.TrimSpace(err.Error())
}
