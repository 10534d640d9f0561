package main

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

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
	made map[string]*host // by the remote's host
}

// host is one forge. The zero value is one that may not be asked.
type host struct {
	kind   forge.Kind
	web    *url.URL
	client *forge.Client     // without a token where token is ""
	token  string            // where the token came from, for people; "" for none
	basic  *forge.Client     // the same credential as name and password; nil: not tried
	listed bool              // in the user's file, not built in
	names  map[string]string // by what a remote calls a repository: what the forge does
}

var _ landing.Forge = (*forges)(nil)

func (a *app) forge(ctx context.Context) (landing.Forge, error) {
	e, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	return &forges{a: a, e: e, made: map[string]*host{}}, nil
}

// Check asks for the repository with the token of the forge's kind.
func (f *forges) Check(ctx context.Context, remote string) (landing.Access, error) {
	h, path, err := f.host(ctx, remote)
	if h == nil || err != nil {
		return landing.Access{}, err
	}
	access := landing.Access{Kind: string(h.kind), Page: h.web.JoinPath(strings.Split(path, "/")...).String(), Token: h.token != ""}
	if h.token == "" {
		return access, nil
	}
	if _, err := f.repository(ctx, h, path); err != nil {
		return landing.Access{}, told(err, h.web.Host+" does not give access to "+path+" with "+h.token)
	}
	return access, nil
}

// repository asks with the token. What git keeps for a host may be a password
// instead, which is then sent as git sends it.
func (f *forges) repository(ctx context.Context, h *host, path string) (forge.Repository, error) {
	f.mu.Lock()
	client, basic := h.client, h.basic
	f.mu.Unlock()
	r, err := client.Repository(ctx, path)
	if said, ok := errors.AsType[*forge.APIError](err); ok && said.Class == forge.Refused && basic != nil {
		again, second := basic.Repository(ctx, path)
		if second == nil {
			client, r, err = basic, again, nil
		}
	}
	if err == nil {
		f.mu.Lock()
		h.client, h.basic = client, nil
		h.names[path] = r.FullName // a renamed one is found by a redirect, which takes no requests
		f.mu.Unlock()
	}
	return r, err
}

// closedWait bounds what choosing among remotes may wait for one forge.
const closedWait = 10 * time.Second

// Closed asks the forge why a repository takes no pushes. What is not known
// closes nothing.
func (f *forges) Closed(ctx context.Context, remote string) string {
	ctx, cancel := context.WithTimeoutCause(ctx, closedWait, git.ErrDeadline)
	defer cancel()
	h, path, err := f.host(ctx, remote)
	if h == nil || err != nil || h.token == "" && !h.listed {
		return ""
	}
	r, err := f.repository(ctx, h, path)
	switch {
	case err != nil:
		return ""
	case r.Mirror:
		return "a mirror"
	case r.Archived:
		return "archived"
	case h.token != "" && r.Push == forge.No: // to nobody in particular every repository is closed
		return "you may not push there"
	}
	return ""
}

// Open finds or makes a pull request.
func (f *forges) Open(ctx context.Context, p landing.Proposal) (landing.PullRequest, error) {
	h, path, err := f.host(ctx, p.Remote)
	if err != nil {
		return landing.PullRequest{}, err
	}
	review, err := git.ParseRemote(p.Review)
	if h == nil || h.token == "" || err != nil {
		return landing.PullRequest{}, fault.New(fault.Held, "no forge can be asked for a pull request", "homelab config show").From(err)
	}
	got, err := f.client(h).Open(ctx, forge.Wanted{Repo: path, HeadRepo: f.name(h, review), Branch: p.Branch, Base: p.Base, Title: p.Title, Body: p.Body})
	if err != nil {
		return landing.PullRequest{}, told(err, "no pull request was opened for "+p.Branch)
	}
	return view(got), nil
}

// Look reads a pull request again.
func (f *forges) Look(ctx context.Context, remote string, number int64) (landing.PullRequest, landing.Merged, error) {
	h, path, err := f.host(ctx, remote)
	if err != nil {
		return landing.PullRequest{}, landing.Merged{}, err
	}
	if h == nil {
		return landing.PullRequest{}, landing.Merged{Unknown: true}, nil
	}
	got, err := f.client(h).Look(ctx, path, number)
	if said, ok := errors.AsType[*forge.APIError](err); ok && said.Class == forge.Refused && h.token == "" {
		return landing.PullRequest{}, landing.Merged{Unknown: true}, nil // a private one
	}
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

// name is what the forge calls the repository of a remote, OWNER/NAME.
func (f *forges) name(h *host, r git.Remote) string {
	path := repoPath(r.Path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := h.names[path]; n != "" {
		return n
	}
	return path
}

func (f *forges) client(h *host) *forge.Client {
	f.mu.Lock()
	defer f.mu.Unlock()
	return h.client
}

// host returns the forge of a remote and the repository's path there; nil for
// one that is not listed.
func (f *forges) host(ctx context.Context, remote string) (*host, string, error) {
	r, err := git.ParseRemote(remote)
	if err != nil {
		return nil, "", nil //nolint:nilerr // a path, or what only git understands, is no forge
	}
	h, err := f.hostOf(ctx, r)
	if h == nil || err != nil {
		return nil, "", err
	}
	return h, f.name(h, r), nil
}

func (f *forges) hostOf(ctx context.Context, r git.Remote) (*host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h, ok := f.made[r.Host]; ok {
		return h, nil
	}
	h, err := f.connect(ctx, r)
	if err == nil {
		f.made[r.Host] = h
	}
	return h, err
}

func (f *forges) connect(ctx context.Context, r git.Remote) (*host, error) {
	entry, listed := f.e.ForgeFor(r.Host)
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
			return nil, told(err, r.Host+" could not be asked which forge it is")
		}
		kind = config.ForgeKind(found)
	}
	h := &host{kind: forge.Kind(kind), web: entry.URL, names: map[string]string{}}
	h.listed = slices.ContainsFunc(f.e.Forges, func(e config.Forge) bool { return e.Host == entry.Host })
	o.Base = forge.API(h.kind, entry.URL)
	token, err := f.token(ctx, kind, entry.URL, r)
	if err != nil {
		return nil, err
	}
	if h.client, err = f.dial(h.kind, o, token.secret, forge.SetToken(h.kind)); err != nil {
		return nil, err
	}
	h.token = token.from
	if !token.basic.IsZero() {
		h.basic, err = f.dial(h.kind, o, token.basic, func(h http.Header, s transport.Secret) { h.Set("Authorization", "Basic "+s.Reveal()) })
	}
	return h, err
}

// forgeToken is a credential for one forge.
type forgeToken struct {
	secret transport.Secret // zero: none
	basic  transport.Secret // name and password as base64; zero: not known as such
	from   string
}

// token finds the token: the environment's of that kind, else what git has for
// the host (ADR 0031).
func (f *forges) token(ctx context.Context, kind config.ForgeKind, web *url.URL, r git.Remote) (forgeToken, error) {
	switch t := f.e.ForgeToken(kind); {
	case t.Err != nil:
		return forgeToken{}, t.Err
	case t.Set:
		return forgeToken{secret: t.Secret, from: "the token of " + t.Source.String()}, nil
	}
	repo, err := f.a.checkout(ctx)
	if err != nil || repo == nil {
		return forgeToken{}, nil //nolint:nilerr // without a checkout there is no git to ask
	}
	at := *web.JoinPath(r.EscapedPath() + ".git")
	at.User = nil
	c, ok, err := repo.Credential(ctx, &at)
	if err != nil || !ok {
		return forgeToken{}, err
	}
	f.a.redact.Add(c.Password)
	out := forgeToken{secret: c.Password, from: "what git's credential helper has"}
	if c.User != "" && kind != config.GitHub {
		basic, err := transport.NewSecret(base64.StdEncoding.EncodeToString([]byte(c.User + ":" + c.Password.Reveal())))
		if err != nil {
			return forgeToken{}, err
		}
		f.a.redact.Add(basic)
		out.basic = basic
	}
	return out, nil
}

// dial makes a client; nothing is dialled yet. A zero secret is none.
func (f *forges) dial(kind forge.Kind, o transport.Options, secret transport.Secret, set func(http.Header, transport.Secret)) (*forge.Client, error) {
	if !secret.IsZero() {
		o.Token = func(context.Context) (transport.Secret, error) { return secret, nil }
		o.SetToken = set
	}
	stack, err := transport.New(o)
	if err != nil {
		return nil, err
	}
	return forge.New(forge.Options{Kind: kind, API: o.Base, Transport: stack, CloseIdle: stack.CloseIdleConnections, Log: f.a.log()}), nil
}

// landCheckout is checkout with git's https going where the forge's own
// requests go: a dial without a port means the machine, not one service on it.
func (a *app) landCheckout(ctx context.Context) (*git.Repo, error) {
	repo, err := a.checkout(ctx)
	if err != nil || repo == nil {
		return repo, err
	}
	// The repository's file names no address, and a broken one is not git's
	// business.
	e, err := config.Load(config.Options{Env: a.env, Flags: a.given()})
	if err != nil {
		return nil, err
	}
	return repo.Resolving(gitPins(e.Forges)...), nil
}

// gitPins are the pins of git's https, "HOST:PORT:ADDRESS".
func gitPins(forges []config.Forge) []string {
	var out []string
	for _, f := range forges {
		if !f.Dial.Set || f.Dial.V.Port != 0 {
			continue
		}
		addr := f.Dial.V.Addr.String()
		if f.Dial.V.Addr.Is6() {
			addr = "[" + addr + "]"
		}
		out = append(out, f.Host+":443:"+addr)
		if port := f.URL.Port(); f.URL.Scheme == "https" && port != "" && port != "443" {
			out = append(out, f.Host+":"+port+":"+addr)
		}
	}
	return out
}
