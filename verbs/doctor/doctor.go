// Package doctor holds the verb that checks, one after the other, each thing
// the other verbs need, and says what is wrong and what to do. The checks are
// data: a name, what must have passed before, a time limit and a func. What
// each finds is decided with the clients the other verbs use, through the same
// transport: a diagnosis by other means would be one of another program.
package doctor

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/kube"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

const (
	kind           = "doctor"
	defaultTimeout = 30 * time.Second
)

// TokenFunc returns a token; nil stands for no token at all.
type TokenFunc func(context.Context) (transport.Secret, error)

// Server is a way to the Woodpecker server.
type Server struct {
	Transport http.RoundTripper // without retries
	Client    *woodpecker.Client
	Close     func() // drops idle connections
}

// Deps is all this verb needs. cmd fills it; nothing is read or dialled before
// a func is called. Every func may be called from another goroutine.
type Deps struct {
	IO    *ui.Streams
	Flags *verb.Flags
	Now   func() time.Time

	// Load returns the effective configuration, a usage error if it is broken.
	Load func(ctx context.Context) (*config.Effective, error)
	// Git returns the version of the git that would be used.
	Git func(ctx context.Context) (git.Version, error)
	// Checkout opens the repository around the working directory; nil and no
	// error outside of one.
	Checkout func(ctx context.Context) (*git.Repo, error)
	// Resolve asks DNS.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Server makes the way to the configured server. Nothing is dialled; what
	// can be wrong about it is a usage error.
	Server func(e *config.Effective, token TokenFunc) (*Server, error)
	// Token finds the token's source; the func reads it.
	Token func(e *config.Effective) (TokenFunc, error)
	// Vault makes the way to Vault, without a token. Nothing is dialled.
	Vault func(e *config.Effective) (*Server, error)
	// Cluster makes the way to the configured cluster, which this verb closes.
	// Nothing is dialled; kube.ErrNone when none is configured.
	Cluster func(e *config.Effective, namespace string) (*kube.Cluster, error)
}

// New returns the verb.
func New(d Deps) *cobra.Command {
	namespace := ""
	c := verb.New(verb.Spec{
		Use: "doctor", Short: "Check what the other verbs need, and say what is wrong",
		Long: `Check everything the other verbs need: configuration, the way to the server,
its certificate and version, the token, the repository and what may be done
with it, git, the cluster. Each check ends ok, warn, fail or skipped; a failed one skips only
those that need it, and says what to do. Nothing is changed anywhere.`,
		Example: `  homelab doctor
  homelab doctor --server https://ci.example.lan --dial 10.0.20.203
  homelab doctor --repo ada/app --json
  homelab doctor --context lab`,
		Tier: verb.Read, Kind: kind, Args: verb.NoArgs,
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout},
	}, func(c *cobra.Command, _ []string) error {
		if err := d.Flags.Check(c); err != nil {
			return err
		}
		if err := repoFlag(d.Flags.Repo, c.CommandPath()+" --help"); err != nil {
			return err
		}
		for _, name := range []string{"context", "kubeconfig", "namespace"} {
			if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
				return fault.Usagef(c.CommandPath()+" --help", "--%s is empty", name)
			}
		}
		ctx, cancel := verb.Bound(c.Context(), d.Flags.Timeout)
		defer cancel()
		return run(ctx, c, d, namespace)
	})
	d.Flags.Network(c, defaultTimeout)
	c.Flags().String("context", "", "the kubeconfig's `CONTEXT`")
	c.Flags().String("kubeconfig", "", "the kubeconfig `FILE`")
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "the `NAMESPACE` to look for access in; default: the context's")
	return c
}

func run(ctx context.Context, c *cobra.Command, d Deps, namespace string) error {
	p := &patient{Deps: d, namespace: namespace, carry: d.Flags.Carried(c)}
	defer p.discharge()
	all := checks()
	b := newBoard(d.IO, all)
	story := d.IO.Story(ctx, b.frame)
	defer story.Close()
	b.story = story
	findings := examine(ctx, all, p, b)
	b.end()
	r := conclude(context.Cause(ctx), all, findings)
	if p.conf != nil {
		r.file = p.conf.File.V
	}
	return verb.Finish(d.IO, r, r.kind, nil)
}
