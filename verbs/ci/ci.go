// Package ci holds the verbs that look at and act on CI pipelines. Each verb
// parses, asks package pipeline, and phrases: which words, which next command,
// which kind of end. What a status means is decided there, not here.
package ci

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/git"
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
	// Connect makes the client from the effective configuration. It is a usage
	// error without a server, a refusal without a token; nothing is dialled.
	Connect func(ctx context.Context, r Reporter) (*Conn, error)
}

// Reporter is told how contact goes.
type Reporter struct {
	Trouble   func(error)
	Recovered func(after time.Duration)
}

// Conn is a server that can be asked.
type Conn struct {
	Client *woodpecker.Client
	Server *url.URL
	Remote string // the remote that the repository's file names; "" none
	// Renew reads the token's source again and says whether it changed.
	Renew func(ctx context.Context) (bool, error)
}

// New returns the group's command.
func New(d Deps) *cobra.Command {
	c := verb.Group("ci", "Follow a commit through CI, see its logs, act on its pipelines", `Follow a commit through Woodpecker.

A verdict is only ever taken from a complete answer of the server about one
pipeline. What cannot be known is told as unreachable (7) or timeout (8), never
as success.`)
	c.AddCommand(
		newStatus(d), newWatch(d), newLogs(d), newList(d),
		newRun(d), newRerun(d), newCancel(d), newApprove(d), newDecline(d),
	)
	return c
}
