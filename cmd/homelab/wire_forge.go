package main

import (
	"context"
	"errors"
	"strings"
	"sync"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/forge"
	"homelab/pkg/git"
	"homelab/pkg/landing"
	"homelab/pkg/transport"
)

// forges opens pull requests on the forge that a remote's URL names, if the
// user listed it: a clone's URL must not draw a token out (ADR 0009).
type forges struct {
	a *app
	e *config.Effective

	mu   sync.Mutex
	made map[string]*forge.Client // by host; nil: none that may be asked
}

var _ landing.Forge = (*forges)(nil)

func (a *app) forge(ctx context.Context) (landing.Forge, error) {
	e, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	return &forges{a: a, e: e, made: map[string]*forge.Client{}}, nil
}

// Check asks for the repository with the token of the forge's kind.
func (f *forges) Check(ctx context.Context, remote string) (bool, error) {
	c, path, err := f.client(ctx, remote)
	if c == nil || err != nil {
		return false, err
	}
	if _, err := c.Repository(ctx, path); err != nil {
		return false, told(err, "the forge does not give access to "+path)
	}
	return true, nil
}

// Open finds or makes a pull request.
func (f *forges) Open(ctx context.Context, p landing.Proposal) (landing.PullRequest, error) {
	c, path, err := f.client(ctx, p.Remote)
	if err != nil {
		return landing.PullRequest{}, err
	}
	review, err := git.ParseRemote(p.Review)
	if c == nil || err != nil {
		return landing.PullRequest{}, fault.New(fault.Held, "no forge can be asked for a pull request", "homelab config show").From(err)
	}
	got, err := c.Open(ctx, forge.Wanted{Repo: path, HeadRepo: repoPath(review.Path), Branch: p.Branch, Base: p.Base, Title: p.Title, Body: p.Body})
	if err != nil {
		return landing.PullRequest{}, told(err, "no pull request was opened for "+p.Branch)
	}
	return view(got), nil
}

// Look reads a pull request again.
func (f *forges) Look(ctx context.Context, remote string, number int64) (landing.PullRequest, landing.Merged, error) {
	c, path, err := f.client(ctx, remote)
	if err != nil {
		return landing.PullRequest{}, landing.Merged{}, err
	}
	if c == nil {
		return landing.PullRequest{}, landing.Merged{}, fault.New(fault.Held, "no forge can be asked for the pull request", "homelab config show")
	}
	got, err := c.Look(ctx, path, number)
	if err != nil {
		return landing.PullRequest{}, landing.Merged{}, told(err, "the pull request could not be read")
	}
	m := landing.Merged{Open: got.State == "open", Merged: got.Merged}
	if got.Commit != "" {
		if m.Commit, err = git.ParseCommit(got.Commit); err != nil {
			return landing.PullRequest{}, landing.Merged{}, err
		}
	}
	return view(got), m, nil
}

func view(p forge.Pull) landing.PullRequest {
	return landing.PullRequest{URL: p.URL, Number: p.Number, State: p.State}
}

// told gives a forge's no its kind.
func told(err error, what string) error {
	said, ok := errors.AsType[*forge.APIError](err)
	if !ok {
		return err
	}
	switch said.Class {
	case forge.Refused, forge.Rejected:
		return fault.New(fault.Denied, what, "homelab config show").Because(said.Error()).From(err)
	case forge.Unreachable:
	}
	return fault.New(fault.Unreachable, what, "homelab work land").Because(said.Error()).From(err)
}

// repoPath is OWNER/NAME of a remote's path: a forge below another path puts
// that before it.
func repoPath(path string) string {
	part := strings.Split(path, "/")
	return strings.Join(part[max(len(part)-2, 0):], "/")
}

// client returns the client for a remote and the repository's path there; nil
// for a host that is not listed or has no token.
func (f *forges) client(ctx context.Context, remote string) (*forge.Client, string, error) {
	r, err := git.ParseRemote(remote)
	if err != nil {
		return nil, "", nil
	}
	path := repoPath(r.Path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.made[r.Host]; ok {
		return c, path, nil
	}
	c, err := f.connect(ctx, r.Host)
	if err == nil {
		f.made[r.Host] = c
	}
	return c, path, err
}

func (f *forges) connect(ctx context.Context, host string) (*forge.Client, error) {
	entry, listed := f.e.ForgeFor(host)
	if !listed {
		return nil, nil
	}
	o := transport.Options{
		Base: entry.URL, Pin: entry.Dial.Ptr(), CAFile: entry.CAFile.V, Proxy: f.e.Proxy, InsecureHTTP: f.e.InsecureHTTP.V,
		UserAgent: f.a.userAgent(), Log: f.a.log(), Redact: &f.a.redact,
	}
	kind := entry.Kind
	if kind == "" {
		anonymous, err := transport.New(o)
		if err != nil {
			return nil, err
		}
		defer anonymous.CloseIdleConnections()
		found, err := forge.Probe(ctx, entry.URL, anonymous)
		if errors.Is(err, forge.ErrUnknownKind) {
			return nil, fault.Usagef("homelab config show", "%v; say its kind in the configuration", err)
		} else if err != nil {
			return nil, told(err, host+" could not be asked which forge it is")
		}
		kind = config.ForgeKind(found)
	}
	token := f.e.ForgeToken(kind)
	switch {
	case token.Err != nil:
		return nil, token.Err
	case !token.Set:
		return nil, nil
	}
	k := forge.Kind(kind)
	o.Base = forge.API(k, entry.URL)
	o.Token = func(context.Context) (transport.Secret, error) { return token.Secret, nil }
	o.SetToken = forge.SetToken(k)
	stack, err := transport.New(o)
	if err != nil {
		return nil, err
	}
	return forge.New(forge.Options{Kind: k, API: o.Base, Transport: stack, CloseIdle: stack.CloseIdleConnections, Log: f.a.log()}), nil
}
