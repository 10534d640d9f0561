package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"homelab/pkg/git"
	"homelab/pkg/woodpecker"
)

// Finder finds repositories. *woodpecker.Client is one.
type Finder interface {
	Lookup(ctx context.Context, fullName string) (woodpecker.Repo, error)
	Repo(ctx context.Context, id woodpecker.RepoID) (woodpecker.Repo, error)
	UserRepos(ctx context.Context, name string) ([]woodpecker.Repo, error)
	User(ctx context.Context) (woodpecker.User, error)
}

// Candidate is a place where the repository may be known: a remote, or a name
// or id that was given.
type Candidate struct {
	Origin string            // "--repo", "remote origin": for messages
	Name   string            // owner/name; "" when ID is given
	ID     woodpecker.RepoID // > 0: given as a number
	Host   string            // of the remote; "" when the name was given
}

// Located is a repository with what is to be said about how it was found.
type Located struct {
	Repo    woodpecker.Repo
	Login   string // the token's user
	Warning string // "" when it was found under the remote's own host
}

// RepoError says that no candidate names a repository that the server shows.
type RepoError struct {
	Login string   // "" when the token itself was refused
	Tried []string // "acme/site (remote origin): 404"
	Err   error
}

func (e *RepoError) Error() string {
	if e.Login == "" {
		return "the server does not accept the token"
	}
	return "unknown to the server or not readable by " + e.Login + ": " + strings.Join(e.Tried, "; ")
}

func (e *RepoError) Unwrap() error { return e.Err }

// OtherHostError says that the repository was found under another host than the
// remote's, which is good enough to look and not to write.
type OtherHostError struct {
	Candidate Candidate
	Found     woodpecker.Repo
}

func (e *OtherHostError) Error() string {
	return fmt.Sprintf("%s is known to the server under another host than %s", e.Found.FullName, e.Candidate.Host)
}

// Locate looks candidates up in order; the first that the server knows under
// the remote's own host is it. One that is known under another host only (a
// mirror, a second forge, an ssh alias) serves reads, with a warning; write
// makes that an *OtherHostError. The token's user is asked for in parallel:
// reads of public repositories would hide a bad token.
func Locate(ctx context.Context, f Finder, candidates []Candidate, write bool) (Located, error) {
	var who woodpecker.User
	var whoErr error
	var wait sync.WaitGroup
	asking, cancel := context.WithCancel(ctx)
	defer func() { cancel(); wait.Wait() }()
	wait.Go(func() { who, whoErr = f.User(asking) })

	var out Located
	var elsewhere *OtherHostError
	var tried []string
	var last error
	found := false
	for _, c := range candidates {
		repo, err := lookup(ctx, f, c)
		var api *woodpecker.APIError
		if errors.As(err, &api) && api.Class == woodpecker.Refused {
			tried = append(tried, fmt.Sprintf("%s (%s): %d", c.label(), c.Origin, api.Status))
			last = err
			if api.Status == http.StatusUnauthorized {
				break // the token, not the name
			}
			continue
		}
		if err != nil {
			return Located{}, err
		}
		if c.Host != "" && !under(repo, c.Host) {
			better, ok, err := atHost(ctx, f, c)
			switch {
			case err != nil:
				return Located{}, err
			case ok:
				repo = better
			default:
				if elsewhere == nil {
					elsewhere = &OtherHostError{Candidate: c, Found: repo}
				}
				continue
			}
		}
		out.Repo, found = repo, true
		break
	}
	wait.Wait()
	switch {
	case whoErr != nil:
		var api *woodpecker.APIError
		if errors.As(whoErr, &api) && api.Class == woodpecker.Refused {
			return Located{}, &RepoError{Tried: tried, Err: whoErr}
		}
		return Located{}, whoErr
	case found:
		out.Login = who.Login
		return out, nil
	case elsewhere != nil && write:
		return Located{}, elsewhere
	case elsewhere != nil:
		return Located{Repo: elsewhere.Found, Login: who.Login, Warning: elsewhere.Error() + "; taken all the same, name it with --repo to be sure"}, nil
	}
	return Located{}, &RepoError{Login: who.Login, Tried: tried, Err: last}
}

func (c Candidate) label() string {
	if c.ID > 0 {
		return fmt.Sprintf("repository %d", c.ID)
	}
	return c.Name
}

func lookup(ctx context.Context, f Finder, c Candidate) (woodpecker.Repo, error) {
	if c.ID > 0 {
		return f.Repo(ctx, c.ID)
	}
	return f.Lookup(ctx, c.Name)
}

// atHost asks for the user's repositories of that name and returns the one
// under the remote's host.
func atHost(ctx context.Context, f Finder, c Candidate) (woodpecker.Repo, bool, error) {
	rows, err := f.UserRepos(ctx, c.Name[strings.LastIndexByte(c.Name, '/')+1:])
	var api *woodpecker.APIError
	if errors.As(err, &api) && api.Class == woodpecker.Refused {
		return woodpecker.Repo{}, false, nil
	}
	for _, r := range rows {
		if under(r, c.Host) && strings.EqualFold(r.FullName, c.Name) {
			return r, true, nil
		}
	}
	return woodpecker.Repo{}, false, err
}

// under says whether one of the repository's addresses has that host.
func under(r woodpecker.Repo, host string) bool {
	for _, s := range []string{r.ForgeURL, r.CloneURL} {
		if u, err := url.Parse(s); err == nil && strings.EqualFold(u.Hostname(), host) {
			return true
		}
	}
	ssh, err := git.ParseRemote(r.CloneURLSSH)
	return err == nil && strings.EqualFold(ssh.Host, host)
}
