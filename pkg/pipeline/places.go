package pipeline

import (
	"context"
	"fmt"
	"slices"

	"homelab/pkg/git"
	"homelab/pkg/ui"
)

// Checkout tells of its remotes. *git.Repo is one.
type Checkout interface {
	Remotes(ctx context.Context) ([]string, error)
	RemoteURL(ctx context.Context, name string) (string, error)
	Upstream(ctx context.Context) (remote, branch string, ok bool, err error)
}

// NoRemoteError says that the repository's file names a remote that the
// checkout does not have.
type NoRemoteError struct{ Name string }

func (e *NoRemoteError) Error() string {
	return fmt.Sprintf("the repository's file names the remote %s, which this checkout does not have", e.Name)
}

// Places are what the remotes of a checkout name.
type Places struct {
	Candidates []Candidate // in the order they are asked
	Strays     []string    // the remotes that name no repository, and why
}

// PlacesOf returns what the remotes of c name that can be meant: preferred,
// which the repository's file names ("": none), the current branch's upstream,
// origin, the only one. The error is *NoRemoteError for preferred, else git's
// own trouble or ctx's cause.
func PlacesOf(ctx context.Context, c Checkout, preferred string) (Places, error) {
	var p Places
	all, err := c.Remotes(ctx)
	if err != nil {
		return p, fmt.Errorf("remotes: %w", err)
	}
	if preferred != "" && !slices.Contains(all, preferred) {
		return p, &NoRemoteError{ui.Clean(preferred)}
	}
	names := []string{preferred}
	if up, _, ok, err := c.Upstream(ctx); err == nil && ok {
		names = append(names, up)
	}
	names = append(names, "origin")
	if len(all) == 1 {
		names = append(names, all[0])
	}
	for i, name := range names {
		if !slices.Contains(all, name) || slices.Contains(names[:i], name) {
			continue
		}
		raw, err := c.RemoteURL(ctx, name)
		if err != nil {
			return p, fmt.Errorf("remote %s: %w", name, err)
		}
		r, err := git.ParseRemote(raw)
		if err != nil {
			p.Strays = append(p.Strays, ui.Clean(name+": "+err.Error()))
			continue
		}
		p.Candidates = append(p.Candidates, Candidate{Origin: "remote " + ui.Clean(name), Name: r.Path, Host: r.Host})
	}
	return p, nil
}
