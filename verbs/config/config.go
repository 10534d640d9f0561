// Package config holds the verbs about the configuration: write a first one,
// show the effective one with the source of each value. They need no server,
// no token and no git.
package config

import (
	"context"

	"github.com/spf13/cobra"

	settings "homelab/pkg/config"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// Deps is all this group needs. cmd fills it; nothing is read before a func is
// called.
type Deps struct {
	IO    *ui.Streams
	Flags *verb.Flags
	// Load returns the effective configuration.
	Load func(ctx context.Context) (*settings.Effective, error)
	// Path returns where the user's file is, whether it exists or not.
	Path func() (settings.Value[string], error)
}

// New returns the group's command.
func New(d Deps) *cobra.Command {
	c := verb.Group("config", "Write a first configuration, show the effective one", `Write a first configuration, and show the effective one.

A value comes from a flag, else the environment, else the user's file, else the
repository's .homelab.yaml, else it is the default. The repository's file can
never name a server, an address, a token source or a CA.`)
	c.AddCommand(newInit(d), newShow(d))
	return c
}
