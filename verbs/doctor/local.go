package doctor

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// configuration reads flags, environment and files.
func (p *patient) configuration(ctx context.Context) finding {
	e, err := p.Load(ctx)
	if err != nil {
		return plain(err)
	}
	p.conf = e
	if len(e.Notes) > 0 {
		return warning(p.show(), "not all of it is used").because(strings.Join(e.Notes, "; "))
	}
	switch {
	case e.FileRead:
		return good("%s (%s)", e.File.V, e.File.Source)
	case e.File.V == "":
		return good("no file, as HOME is not set: flags and environment only")
	}
	return good("no %s: flags and environment only", e.File.V)
}

// The git that landing needs.
const gitMajor, gitMinor = 2, 38

// git looks at the program and at the checkout, and reads what its remotes
// name.
func (p *patient) git(ctx context.Context) finding {
	f := p.checkout(ctx)
	p.noGit = f.status == failed
	return f
}

func (p *patient) checkout(ctx context.Context) finding {
	v, err := p.Git(ctx)
	if errors.Is(err, git.ErrNoGit) {
		return failure(fault.Failed, "", "%s", git.ErrNoGit.Error())
	} else if err != nil {
		return failure(fault.Failed, "git --version", "git does not tell its version").because(err.Error())
	}
	repo, err := p.Checkout(ctx)
	var own *git.OwnershipError
	switch {
	case errors.As(err, &own):
		return failure(fault.Failed, own.Advice(), "%s", own.Error())
	case err != nil:
		return failure(fault.Failed, "git status", "the checkout cannot be read").because(err.Error())
	case repo == nil:
		return good("%s; not in a checkout", v)
	}
	preferred := ""
	if p.conf != nil {
		preferred = p.conf.Repo.Remote.V
	}
	places, err := pipeline.PlacesOf(ctx, repo, preferred)
	p.places = places.Candidates
	var none *pipeline.NoRemoteError
	switch {
	case errors.As(err, &none):
		return plain(fault.Usagef("git remote -v", "%s", none.Error()))
	case err != nil:
		return failure(fault.Failed, "git remote -v", "the checkout's remotes cannot be read").because(err.Error())
	case len(p.places) == 0 && len(places.Strays) > 0:
		return warning("git remote -v", "no remote of %s names a repository on a forge", repo.Root()).because(strings.Join(places.Strays, "; "))
	case len(p.places) == 0:
		return warning("git remote -v", "%s has no remote that is origin, the branch's own or the only one", repo.Root())
	case !v.AtLeast(gitMajor, gitMinor):
		return warning("", "git is %s; landing needs %d.%d", v, gitMajor, gitMinor)
	}
	first := p.places[0]
	return good("%s; %s, %s is %s", v, repo.Root(), first.Origin, git.Remote{Host: first.Host, Path: first.Name})
}

// repoFlag refuses a --repo that can be none.
func repoFlag(flag, help string) error {
	if flag == "" {
		return nil
	}
	if id, err := strconv.ParseInt(flag, 10, 64); err == nil && id > 0 {
		return nil
	}
	parts := strings.Split(flag, "/")
	if len(parts) < 2 || slices.ContainsFunc(parts, func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return fault.Usagef(help, "--repo %s is not OWNER/NAME and no id", ui.Clean(flag))
	}
	return nil
}

// given is what --repo names.
func given(flag string) pipeline.Candidate {
	if id, err := strconv.ParseInt(flag, 10, 64); err == nil {
		return pipeline.Candidate{Origin: "--repo", ID: woodpecker.RepoID(id)}
	}
	return pipeline.Candidate{Origin: "--repo", Name: flag}
}
