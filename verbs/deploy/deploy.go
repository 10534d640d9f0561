// Package deploy holds the verbs that look at what runs in a cluster. They
// parse, ask package rollout, and phrase: what a state of the cluster means is
// decided there.
package deploy

import (
	"context"

	"github.com/spf13/cobra"

	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
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
	// Cluster makes the connection; nothing is dialled by it. A usage error for
	// a configuration that cannot be used.
	Cluster func(ctx context.Context, namespace string) (Conn, error)
	// Images makes what asks registries; nothing is dialled by it.
	Images func(ctx context.Context, conn Conn, o ImageOptions) (rollout.Images, error)
	// Pipeline says how the commit's CI pipeline stands; nil when no server is
	// configured or it cannot be told.
	Pipeline func(ctx context.Context, commit string) *rollout.PipelineFact
	// Stacks is for the verbs that make deployment directories.
	Stacks StackDeps
	// Watch is for the verbs that deploy what appears.
	Watch WatchDeps
}

// Conn is a cluster that can be asked.
type Conn struct {
	Cluster   rollout.Cluster
	Context   string // the kubeconfig context's name, or "in-cluster"
	Namespace string // -n, else ""
	WithCI    bool   // a CI server is configured
	Close     func()
}

// ImageOptions say how registries are asked.
type ImageOptions struct {
	Insecure       []string // hosts that may be asked by plain http
	UsePullSecrets bool
}

// New returns the group's command.
func New(d Deps) *cobra.Command {
	c := verb.Group("deploy", "Wait until a commit is what a workload runs", `Gate on what a cluster runs.

A rollout's own status speaks of counters, not of a commit. These verbs first
need the workload's image to be the commit's, then a finished rollout of exactly
that revision, both in one and the same observation.`)
	c.AddCommand(newWait(d), newInit(d), newCreate(d), newWatch(d))
	return c
}
