package deployment

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type tlsJSON struct {
	Secret   string     `json:"secret"`
	Ready    *bool      `json:"ready,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"`
}

type ingressJSON struct {
	Host    string   `json:"host"`
	Address *string  `json:"address"`
	TLS     *tlsJSON `json:"tls"`
}

type driftJSON struct {
	Verdict string `json:"verdict"` // "same", "changes" or "unknown"
	Reason  string `json:"reason"`
}

// statusResult is what status ends in: the result of a verb that brings
// something up, and what a look adds.
type statusResult struct {
	*Result
	Volumes []volumeViewJSON `json:"volumes"`
	Pods    []podJSON        `json:"pods"`
	Ingress []ingressJSON    `json:"ingress"`
	Drift   *driftJSON       `json:"drift,omitempty"`

	st *stack.Status
}

// Text returns blocks for people, and the line of the result.
func (r *statusResult) Text(int, bool) []string {
	var out []string
	line := func(format string, args ...any) { out = append(out, ui.Clean(fmt.Sprintf(format, args...))) }
	if r.st != nil && r.Drift != nil {
		r.deployments(line)
		line("Ingress:")
		for _, h := range r.st.Ingress {
			line("  host: %s, address: %s, certificate: %s", h.Host, or(h.Address, "none"), certificate(h.TLS))
		}
		line("Pods:")
		for _, p := range r.st.Pods {
			line("  %s/%s: %s", p.Namespace, p.Name, podWords(p))
		}
		if len(r.st.Volumes) > 0 {
			line("Volumes:")
			for _, l := range volumeLines(r.st.Volumes, false) {
				line("  %s", l)
			}
		}
		r.sources(line)
		line("Drift: %s", r.Drift.Reason)
	}
	return append(out, verb.Line(&r.Header, r.subject))
}

func (r *statusResult) deployments(line func(string, ...any)) {
	if len(r.Targets) > 0 {
		line("Deployments:")
	}
	for _, t := range r.Targets {
		line("  %s: %s, %s", t.Target.Name, t.Verdict, t.Reason)
	}
	if len(r.Jobs) > 0 {
		line("Jobs:")
	}
	for _, j := range r.Jobs {
		text := j.State
		if j.Reason != "" {
			text += ", " + j.Reason
		}
		line("  %s: %s", j.Name, text)
	}
}

func (r *statusResult) sources(line func(string, ...any)) {
	if r.Source == nil {
		return
	}
	at := func(o originJSON) string {
		if o.Commit == nil {
			return o.Path
		}
		return o.Path + " at " + (*o.Commit)[:min(12, len(*o.Commit))]
	}
	line("Sources:")
	line("  spec: %s", at(r.Source.Spec))
	line("  stack: %s", at(r.Source.Stack))
}

func certificate(t *stack.TLS) string {
	switch {
	case t == nil:
		return "the ingress controller's"
	case t.Ready == nil:
		return t.Secret
	case !*t.Ready:
		return t.Secret + ", not ready"
	case t.NotAfter.IsZero():
		return t.Secret + ", ready"
	}
	return t.Secret + ", valid until " + t.NotAfter.UTC().Format(time.DateOnly)
}

// podWords says in a few words how a pod is.
func podWords(p stack.Pod) string {
	ready, all := 0, 0
	for _, c := range p.Containers {
		if c.Init {
			continue
		}
		all++
		if c.Ready {
			ready++
		}
	}
	out := fmt.Sprintf("%s, %d/%d ready", or(p.Phase, "Unknown"), ready, all)
	if p.Terminating {
		out += ", being deleted"
	}
	if p.Restarts > 0 {
		out += fmt.Sprintf(", %d restarts", p.Restarts)
	}
	if p.Reason != "" && p.Reason != "Completed" {
		out += ", " + p.Reason
	}
	return out
}

func newStatus(g *group) *cobra.Command {
	c := verb.New(verb.Spec{
		Use: "status", Short: "Look once at how a deployment stands",
		Long: `Look once at a deployment: each Deployment, by the images that were rendered; Jobs,
hosts and their certificates, pods, volumes, the commits of its sources, and
whether an update would change something. Nothing is waited for: what still rolls
out is 8.`,
		Example: `  homelab deployment status --dir shop
  homelab deployment status --dir shop --json`,
		Tier: verb.Read, Kind: "deployment.status",
		Codes: looked(fault.Failed, fault.Held, fault.Replaced, fault.Conflict),
	}, func(c *cobra.Command, _ []string) error {
		ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
		defer cancel()
		tell := newTeller(ctx, g.IO)
		defer tell.close()
		w, o, err := g.begin(ctx, c, tell)
		var out *stack.Outcome
		var st *stack.Status
		if err == nil {
			out, st, err = w.Status(ctx, o)
		}
		head := lookHead{Header: ui.Header{Kind: "deployment.status"}}
		e := g.take(ctx, c, &head, out, err, true)
		r := viewStatus(out, st)
		r.Header = head.Header
		return verb.Finish(g.IO, r, kindOf(out, e), e)
	})
	g.Flags.Network(c, lookTimeout)
	return c
}

func viewStatus(out *stack.Outcome, st *stack.Status) *statusResult {
	r := &statusResult{
		Result: view("deployment.status", out), Volumes: []volumeViewJSON{}, Pods: []podJSON{}, Ingress: []ingressJSON{}, st: st,
	}
	if st == nil {
		return r
	}
	r.Volumes, r.Pods = viewVolumes(st.Volumes), viewPods(st.Pods)
	for _, h := range st.Ingress {
		x := ingressJSON{Host: ui.Clean(h.Host), Address: orNull(h.Address)}
		if h.TLS != nil {
			x.TLS = &tlsJSON{Secret: ui.Clean(h.TLS.Secret), Ready: h.TLS.Ready, NotAfter: timeOrNull(h.TLS.NotAfter)}
		}
		r.Ingress = append(r.Ingress, x)
	}
	if st.Drift.Verdict != "" {
		r.Drift = &driftJSON{st.Drift.Verdict, ui.Clean(st.Drift.Reason)}
	}
	return r
}
