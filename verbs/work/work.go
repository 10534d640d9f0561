// Package work holds the verbs that carry a branch from its start to the base
// and away again. Each verb parses, asks package landing, and phrases: which
// words, which next command, which kind of end. What may be published, and
// when, is decided there, not here.
package work

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/git"
	"homelab/pkg/landing"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

// Deps is all this group needs. cmd fills it; nothing is read or dialled
// before a func is called.
type Deps struct {
	IO    *ui.Streams
	Flags *verb.Flags
	// Checkout opens the repository around the working directory; nil and no
	// error outside of one.
	Checkout func(ctx context.Context) (*git.Repo, error)
	// Child is the environment of processes, without tokens.
	Child []string
	// Dir is where the caller is, and User the first part of new branches' names.
	Dir  string
	User string
	// Cache is the directory for the tool's caches; "" when none is known.
	Cache string
	// File is the name of the repository's configuration file, and Rules reads
	// one. Rules' error is a usage error that names file and line.
	File  string
	Rules func(name string, data []byte) (landing.Rules, error)
	// Configured says whether there is a CI server to ask; nothing is dialled.
	Configured func(ctx context.Context) error
	// Connect makes the client of the CI server; nothing is dialled.
	Connect func(ctx context.Context, r Reporter) (Conn, error)
	// Forge opens pull requests; nil when there is none to ask.
	Forge func(ctx context.Context) (landing.Forge, error)
	// Deploy makes what waits for the cluster; tell is told each change. nil:
	// deploys are never waited for.
	Deploy func(tell func(string)) landing.Deploy
	// Pipeline shows a watch's outcome in a result, as ci watch does.
	Pipeline func(o pipeline.Outcome, c *woodpecker.Client) any
}

// Reporter is told how contact with the CI server goes.
type Reporter struct {
	Trouble   func(error)
	Recovered func(after time.Duration)
}

// Conn is a CI server that can be asked.
type Conn struct {
	Client *woodpecker.Client
	// Renew reads the token's source again and says whether it changed.
	Renew func(ctx context.Context) (bool, error)
}

// New returns the group's command.
func New(d Deps) *cobra.Command {
	c := verb.Group("work", "Carry a branch onto the base", `Carry a branch onto the base others build on.

What is pushed is exactly what was verified, and your work tree is not touched
before the base has accepted. Whatever ends a landing, the next one settles it.`)
	c.AddCommand(newStart(d), newLand(d), newStatus(d), newClean(d), newAbort(d), newRestore(d))
	return c
}
