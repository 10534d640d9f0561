package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/ui"
)

// clusterPatience is how long an API server may fail to answer.
const clusterPatience = 4 * time.Second

// cluster asks the API server what it serves, which everybody with credentials
// may: any answer shows that the way, the trust and the credentials are right.
func (p *patient) cluster(ctx context.Context) finding {
	c, err := p.Cluster(p.conf, p.namespace)
	if errors.Is(err, kube.ErrNone) {
		return needless("no kubeconfig: there is no cluster to wait for or to deploy to")
	} else if err != nil {
		return plain(err)
	}
	p.kube = c
	at := fmt.Sprintf("context %s, %s", ui.Clean(c.Context()), c.Server())
	err = p.persist(ctx, c, func(ctx context.Context) error {
		_, err := c.Serves(ctx, "apps")
		return err
	})
	var plugin *kube.PluginError
	whoami := ui.Command("kubectl", "--context", c.Context(), "auth", "whoami")
	switch {
	case err == nil || kube.IsForbidden(err): // who is refused something was recognised
		return good("%s", at)
	case errors.As(err, &plugin):
		return failure(fault.Denied, whoami, "%s: no credentials", at).because(err.Error())
	case kube.IsDenied(err):
		return failure(fault.Denied, whoami, "%s: the credentials are not accepted", at).because(err.Error())
	}
	return failure(fault.Unreachable, "", "%s: no usable answer", at).because(err.Error())
}

// access looks whether what a rollout is judged by may be read in the context's
// namespace. A role for single objects permits no list of them, so a refusal
// may be right; it is told, and what it costs.
func (p *patient) access(ctx context.Context) finding {
	if p.kube == nil {
		return needless("no cluster to ask")
	}
	ns := p.kube.Namespace()
	var refused []string
	for _, r := range []kube.Resource{kube.Apps("deployments"), kube.Apps("replicasets"), kube.Core("pods"), kube.Core("events")} {
		err := p.persist(ctx, p.kube, func(ctx context.Context) error {
			_, _, err := p.kube.List(ctx, r, ns, kube.Query{Limit: 1})
			return err
		})
		switch {
		case kube.IsForbidden(err):
			refused = append(refused, r.Plural)
		case kube.IsDenied(err):
			return failure(fault.Denied, ui.Command("kubectl", "--context", p.kube.Context(), "auth", "whoami"),
				"the %s of namespace %s may not be read", r.Plural, ns).because(err.Error())
		case err != nil:
			return failure(fault.Unreachable, "", "the %s of namespace %s cannot be read", r.Plural, ns).because(err.Error())
		}
	}
	if len(refused) == 0 {
		return good("workloads, pods and events of namespace %s may be read", ns)
	}
	return warning(ui.Command("kubectl", "--context", p.kube.Context(), "auth", "can-i", "--list", "--namespace", ns),
		"may not be listed in namespace %s: %s", ns, strings.Join(refused, ", ")).
		because("deploy wait then proves and explains less, unless a role names single objects")
}

// persist repeats f for a short while; its last error tells more than that the
// time was up.
func (p *patient) persist(ctx context.Context, c *kube.Cluster, f func(context.Context) error) error {
	short, cancel := context.WithTimeoutCause(ctx, clusterPatience, &limitError{clusterPatience})
	defer cancel()
	var last error
	err := c.Persist(short, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil && last != nil {
		return last
	}
	return err
}
