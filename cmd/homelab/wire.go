package main

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"github.com/spf13/cobra"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/transport"
	"homelab/pkg/vault"
	"homelab/pkg/woodpecker"
	"homelab/verbs/ci"
	"homelab/verbs/verb"
)

// app wires one run: closures over flags and configuration. Nothing is read or
// dialled before a verb calls one.
type app struct {
	process
	flags   *verb.Flags
	current *cobra.Command // the verb that runs
	ran     func(*cobra.Command)
	redact  transport.Redactor
	older   older

	once    sync.Once
	repo    *git.Repo
	repoErr error
}

// userAgent names the program to servers.
func (a *app) userAgent() string {
	if a.version == "" {
		return "homelab"
	}
	return "homelab/" + a.version
}

// checkout opens the repository around the working directory, once.
func (a *app) checkout(ctx context.Context) (*git.Repo, error) {
	a.once.Do(func() {
		a.repo, a.repoErr = git.Open(ctx, a.dir, a.env.Child())
		if errors.Is(a.repoErr, git.ErrNotRepo) || errors.Is(a.repoErr, git.ErrNoGit) {
			// Without git there is no checkout either: in a container's image a
			// full commit id and --repo are enough.
			a.repo, a.repoErr = nil, nil
		}
	})
	return a.repo, a.repoErr
}

// config returns the effective configuration: flags, environment, the user's
// file, the repository's.
func (a *app) config(ctx context.Context) (*config.Effective, error) {
	o := config.Options{Env: a.env, Flags: a.given()}
	// Without git, or outside a checkout, there is no repository file; verbs
	// that need a checkout say so themselves.
	if repo, err := a.checkout(ctx); err == nil && repo != nil {
		data, err := repo.File(ctx, "HEAD", config.RepoFile)
		switch {
		case err == nil:
			o.Repo = data
			if data == nil {
				o.Repo = []byte{}
			}
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, git.ErrNoFile), errors.Is(err, git.ErrUnborn), errors.Is(err, fs.ErrNotExist):
		default:
			return nil, fault.New(fault.Usage, "the repository's file "+config.RepoFile+" cannot be read", "git show HEAD:"+config.RepoFile).
				Because(err.Error()).From(err)
		}
	}
	e, err := config.Load(o)
	if err != nil {
		return nil, err
	}
	for _, n := range e.Notes {
		a.streams.Verbosef("configuration: %s", n)
	}
	return e, nil
}

// given returns the flags of the running verb that were set.
func (a *app) given() config.Flags {
	ptr := func(name string) *string {
		if a.current == nil {
			return nil
		}
		f := a.current.Flags().Lookup(name)
		// "deploy init" has a --config of its own, for settings of the stack.
		if f == nil || !f.Changed || f.Value.Type() != "string" {
			return nil
		}
		v := f.Value.String()
		return &v
	}
	return config.Flags{
		Config: ptr("config"), Server: ptr("server"), Dial: ptr("dial"),
		Context: ptr("context"), Kubeconfig: ptr("kubeconfig"), InsecureHTTP: a.flags.InsecureHTTP,
	}
}

func (a *app) ciDeps() ci.Deps {
	return ci.Deps{IO: a.streams, Flags: a.flags, Checkout: a.checkout, Connect: a.connect}
}

// connect makes the client of the configured server.
func (a *app) connect(ctx context.Context, r ci.Reporter) (*ci.Conn, error) {
	e, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	if missing := e.MissingServer(); missing != nil {
		return nil, missing
	}
	tokens, err := a.tokens(e)
	if err != nil {
		return nil, err
	}
	stack, err := a.stack(e, tokens.get)
	if err != nil {
		return nil, err
	}
	conn := &ci.Conn{
		Server: e.Server.V, Remote: e.Repo.Remote.V, Renew: tokens.renew,
		Client: woodpecker.New(woodpecker.Options{
			Base: e.Server.V, Transport: stack, CloseIdle: stack.CloseIdleConnections,
			Trouble: r.Trouble, Recovered: r.Recovered, Log: a.log(),
		}),
	}
	return conn, nil
}

// log returns where requests and retries are told; nil without --verbose.
func (a *app) log() func(string, ...any) {
	if !a.flags.Verbose {
		return nil
	}
	return a.redact.Logf(a.streams.Verbosef)
}

// stack builds the transport to the Woodpecker server.
func (a *app) stack(e *config.Effective, token func(context.Context) (transport.Secret, error)) (*transport.Stack, error) {
	return transport.New(transport.Options{
		Base: e.Server.V, Pin: e.Pin.Ptr(), CAFile: e.CAFile.V, Proxy: e.Proxy, InsecureHTTP: e.InsecureHTTP.V,
		UserAgent: a.userAgent(), Token: token, SetToken: transport.Bearer, Log: a.log(), Redact: &a.redact,
	})
}

// tokens is where the Woodpecker token comes from: the environment, or Vault,
// which is asked when the first request needs it and again when the server no
// longer takes what it gave.
type tokens struct {
	source *vault.Source // nil: the environment's

	mu    sync.Mutex
	value transport.Secret
}

// tokens finds the token's source. Nothing is dialled.
func (a *app) tokens(e *config.Effective) (*tokens, error) {
	if missing := e.MissingToken(); missing != nil {
		return nil, missing
	}
	if e.Token.Set {
		if e.Token.Err != nil {
			return nil, e.Token.Err
		}
		return &tokens{value: e.Token.Secret}, nil
	}
	source, err := a.vault(e)
	if err != nil {
		return nil, err
	}
	return &tokens{source: source}, nil
}

func (a *app) vault(e *config.Effective) (*vault.Source, error) {
	if err := e.Vault.Ready(); err != nil {
		return nil, err
	}
	if e.Vault.Token.Err != nil {
		return nil, e.Vault.Token.Err
	}
	return vault.New(vault.Options{
		Address: e.Vault.Address.V, Token: e.Vault.Token.Secret, Home: a.env.Home(), Namespace: e.Vault.Namespace.V,
		CAFile: e.Vault.CACert.V, Pin: e.Vault.Pin.Ptr(), Proxy: e.Proxy,
		Path: e.TokenVault.V.Path, Field: e.TokenVault.V.Field,
		Log: a.log(), Redact: &a.redact, UserAgent: a.userAgent(), InsecureHTTP: e.InsecureHTTP.V,
	})
}

func (t *tokens) get(ctx context.Context) (transport.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.value.IsZero() || t.source == nil {
		return t.value, nil
	}
	v, err := t.source.Read(ctx)
	if err != nil {
		return transport.Secret{}, err
	}
	t.value = v
	return v, nil
}

// renew reads the source again; true means that it holds another token now.
func (t *tokens) renew(ctx context.Context) (bool, error) {
	if t.source == nil {
		return false, nil
	}
	v, err := t.source.Read(ctx)
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.Equal(t.value) {
		return false, nil
	}
	t.value = v
	return true, nil
}
