package deployment

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type portJSON struct {
	Port     int    `json:"port"`
	Protocol string `json:"protocol"`
}

type containerJSON struct {
	Name     string     `json:"name"`
	Image    string     `json:"image"`
	Init     bool       `json:"init"`
	State    string     `json:"state"`
	Reason   *string    `json:"reason"`
	Ready    bool       `json:"ready"`
	Restarts int        `json:"restarts"`
	ExitCode *int       `json:"exit_code"`
	Ports    []portJSON `json:"ports"`
}

type podJSON struct {
	Namespace   string          `json:"namespace"`
	Name        string          `json:"name"`
	Component   *string         `json:"component"`
	Phase       string          `json:"phase"`
	Reason      *string         `json:"reason"`
	Ready       bool            `json:"ready"`
	Terminating bool            `json:"terminating"`
	Node        *string         `json:"node"`
	IP          *string         `json:"ip"`
	Started     *time.Time      `json:"started"`
	Restarts    int             `json:"restarts"`
	Containers  []containerJSON `json:"containers"`
}

func viewPods(pods []stack.Pod) []podJSON {
	out := []podJSON{}
	for _, p := range pods {
		x := podJSON{
			Namespace: p.Namespace, Name: p.Name, Component: orNull(p.Component), Phase: ui.Clean(p.Phase), Reason: orNull(p.Reason),
			Ready: p.Ready, Terminating: p.Terminating, Node: orNull(p.Node), IP: orNull(p.IP), Started: timeOrNull(p.Started),
			Restarts: p.Restarts, Containers: []containerJSON{},
		}
		for _, c := range p.Containers {
			y := containerJSON{
				Name: c.Name, Image: ui.Clean(c.Image), Init: c.Init, State: c.State, Reason: orNull(c.Reason), Ready: c.Ready,
				Restarts: c.Restarts, ExitCode: c.ExitCode, Ports: []portJSON{},
			}
			for _, port := range c.Ports {
				y.Ports = append(y.Ports, portJSON{port.Number, port.Protocol})
			}
			x.Containers = append(x.Containers, y)
		}
		out = append(out, x)
	}
	return out
}

// psResult is what ps ends in. Its lines are read by scripts, so that the line
// of the result is on stderr.
type psResult struct {
	lookHead
	Pods []podJSON `json:"pods"`

	rows []stack.Pod
}

// Aside says that stdout belongs to the rows.
func (r *psResult) Aside() bool { return true }

// Text returns the rows and the line of the result.
func (r *psResult) Text(int, bool) []string {
	if r.ExitCode != 0 {
		return []string{r.line()}
	}
	out := []string{"No containers running"}
	if len(r.rows) > 0 {
		out[0] = "Running containers:"
	}
	for _, p := range r.rows {
		out = append(out, ui.Clean("id: "+p.Namespace+"/"+p.Name+", name: "+p.Name+", ports: "+strings.Join(p.Ports(), ", ")))
	}
	return append(out, r.line())
}

func newPs(g *group) *cobra.Command {
	c := verb.New(verb.Spec{
		Use: "ps", Short: "List the pods of a deployment",
		Long: `List the pods of a deployment, in whatever phase they are, with the ports of
their containers. That there are none is an answer, too.`,
		Example: `  homelab deployment ps --dir shop
  homelab deployment ps --dir shop --json`,
		Tier: verb.Read, Kind: "deployment.ps", Codes: looked(),
	}, func(c *cobra.Command, _ []string) error {
		ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
		defer cancel()
		tell := newTeller(ctx, g.IO)
		defer tell.close()
		r := &psResult{lookHead: lookHead{Header: ui.Header{Kind: "deployment.ps"}}, Pods: []podJSON{}}
		w, o, err := g.begin(ctx, c, tell)
		var out *stack.Outcome
		if err == nil {
			out, r.rows, err = w.Ps(ctx, o)
			r.Pods = viewPods(r.rows)
		}
		e := g.take(ctx, c, &r.lookHead, out, err, true)
		return verb.Finish(g.IO, r, kindOf(out, e), e)
	})
	g.Flags.Network(c, lookTimeout)
	return c
}
