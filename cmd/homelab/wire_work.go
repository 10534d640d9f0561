package main

import (
	"context"
	"path/filepath"

	"homelab/pkg/config"
	"homelab/pkg/git"
	"homelab/pkg/landing"
	"homelab/pkg/pipeline"
	"homelab/pkg/woodpecker"
	"homelab/verbs/ci"
	"homelab/verbs/deploy"
	"homelab/verbs/work"
)

func (a *app) workDeps() work.Deps {
	cache := a.env.CacheHome()
	if cache != "" {
		cache = filepath.Join(cache, "homelab")
	}
	return work.Deps{
		IO: a.streams, Flags: a.flags, Checkout: a.landCheckout, Child: a.env.Child(), Cache: cache,
		Dir: a.dir, User: a.env.User(), Forge: a.forge,
		File: config.RepoFile, Rules: rules,
		Deploy: func(tell func(string)) landing.Deploy { return &landDeploy{a: a, tell: tell} },
		Configured: func(ctx context.Context) error {
			e, err := a.config(ctx)
			if err != nil {
				return err
			}
			if missing := e.MissingServer(); missing != nil {
				return missing
			}
			return nil
		},
		Connect: func(ctx context.Context, r work.Reporter) (work.Conn, error) {
			c, err := a.connect(ctx, ci.Reporter{Trouble: r.Trouble, Recovered: r.Recovered})
			if err != nil {
				return work.Conn{}, err
			}
			return work.Conn{Client: c.Client, Renew: c.Renew}, nil
		},
		Pipeline: func(o pipeline.Outcome, c *woodpecker.Client) any { return ci.View(o, c) },
	}
}

// rules reads what a base's configuration file says about landing.
func rules(name string, data []byte) (landing.Rules, error) {
	f, err := config.ParseRepo(name, data)
	if err != nil {
		return landing.Rules{}, err
	}
	r := landing.Rules{
		Base: f.Base.V, Remote: f.Remote.V, GateCI: f.Gate.V == config.GateCI, Deploy: f.Deploy.V, Workflows: f.Workflows.V,
	}
	for _, v := range f.Verify.V {
		r.Verify = append(r.Verify, landing.Command{Run: v.Run, Dir: v.Dir, Paths: v.Paths, Timeout: v.Timeout})
	}
	return r, nil
}

// landDeploy lets a landing go on to its deploy.
type landDeploy struct {
	a    *app
	tell func(string)
}

var _ landing.Deploy = (*landDeploy)(nil)

// Ready says whether a cluster is configured; nothing is dialled.
func (d *landDeploy) Ready(ctx context.Context) error {
	conn, err := d.a.cluster(ctx, "")
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}

// Wait waits until targets run c.
func (d *landDeploy) Wait(ctx context.Context, targets []string, c git.Commit) landing.Deployed {
	r, kind := deploy.Landed(ctx, d.a.deployDeps(), targets, c, d.tell)
	out := landing.Deployed{Kind: kind, Reason: r.Reason, View: r}
	if r.Next != nil {
		out.Next = *r.Next
	}
	return out
}
