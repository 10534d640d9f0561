package deployment

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type publishedJSON struct {
	Pod       *string `json:"pod"`
	Container string  `json:"container"`
	Host      string  `json:"host"`
	Port      int     `json:"port"`
}

type forwardJSON struct {
	Address     string `json:"address"`
	Pod         string `json:"pod"`
	Connections int    `json:"connections"`
}

// portResult is what port ends in. Its text is the addresses.
type portResult struct {
	lookHead
	Service   string          `json:"service"`
	Port      int             `json:"port"`
	Protocol  string          `json:"protocol"`
	Published []publishedJSON `json:"published"`
	URLs      []string        `json:"urls"`
	Forward   *forwardJSON    `json:"forward"`

	lines []string
}

// Aside says that stdout belongs to the addresses.
func (r *portResult) Aside() bool { return true }

// Text returns an address per line, and the line of the result.
func (r *portResult) Text(int, bool) []string { return append(r.lines, r.line()) }

type portFlags struct {
	forward bool
	local   int
}

func newPort(g *group) *cobra.Command {
	f := &portFlags{}
	c := verb.New(verb.Spec{
		Use: "port SERVICE PORT[/udp]", Short: "Print where a service's port is published, or forward to it",
		Long: `Print the addresses at which a port of a service is answered, IP:PORT on lines of
their own: where the engine publishes it, or the NodePorts of the nodes on which
its pods run. There may be none: then the result names the Ingress that leads to
it, if one does.

--forward answers for it on 127.0.0.1 of this machine, whether it is published or
not, and prints that address as soon as a connection can be made. It goes on
until it is interrupted, or --timeout is over, which has no default then. The
connections lead to a pod that runs; when it is replaced, new ones lead to the
one that replaces it.`,
		Example: `  homelab deployment port --dir shop web 80
  homelab deployment port --dir shop dns 53/udp --json
  homelab deployment port --dir shop db 5432 --forward --local 15432`,
		Tier: verb.Read, Kind: "deployment.port", Codes: looked(),
		Args: func(args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("needs a service and a port")
			}
			_, _, err := portOf(args[1])
			return err
		},
	}, func(c *cobra.Command, args []string) error { return g.port(c, args, f) })
	g.Flags.Network(c, lookTimeout)
	s := c.Flags()
	s.BoolVar(&f.forward, "forward", false, "answer for the port on this machine, until interrupted")
	s.IntVar(&f.local, "local", 0, "with --forward: on this `PORT` of 127.0.0.1, 0 for a free one; default: the service's")
	return c
}

// portOf reads PORT[/PROTOCOL].
func portOf(text string) (int, string, error) {
	number, protocol, named := strings.Cut(text, "/")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > 65535 || named && protocol != "tcp" && protocol != "udp" {
		return 0, "", fmt.Errorf("%q is no PORT, PORT/tcp or PORT/udp", text)
	}
	if !named {
		protocol = "tcp"
	}
	return n, protocol, nil
}

// check refuses flags that say nothing or contradict the port.
func (f *portFlags) check(c *cobra.Command, o stack.PortOptions) error {
	help, local := c.CommandPath()+" --help", c.Flags().Changed("local")
	switch {
	case local && !f.forward:
		return fault.Usagef(help, "--local says where --forward listens, and there is no --forward")
	case local && (f.local < 0 || f.local > 65535):
		return fault.Usagef(help, "--local is a port, or 0 for a free one")
	case f.forward && o.Protocol != "tcp":
		return fault.Usagef(help, "--forward carries tcp only")
	}
	if !local {
		f.local = o.Port
	}
	return nil
}

func (g *group) port(c *cobra.Command, args []string, f *portFlags) error {
	limit := g.Flags.Timeout
	if f.forward && !c.Flags().Changed("timeout") {
		limit, g.Flags.Timeout = 0, 0
	}
	ctx, cancel := verb.Bound(c.Context(), limit)
	defer cancel()
	tell := newTeller(ctx, g.IO)
	defer tell.close()
	r := &portResult{lookHead: lookHead{Header: ui.Header{Kind: "deployment.port"}}, Published: []publishedJSON{}, URLs: []string{}}
	o := stack.PortOptions{Service: args[0]}
	var err error
	if o.Port, o.Protocol, err = portOf(args[1]); err != nil {
		return err
	}
	r.Service, r.Port, r.Protocol = ui.Clean(o.Service), o.Port, o.Protocol
	var out *stack.Outcome
	err = f.check(c, o)
	var w *stack.World
	if err == nil {
		w, o.Options, err = g.begin(ctx, c, tell)
	}
	switch {
	case err != nil:
	case f.forward:
		out, err = g.forward(ctx, w, stack.ForwardOptions{PortOptions: o, Local: f.local}, r)
	default:
		var end stack.PortEnd
		out, end, err = w.Port(ctx, o)
		r.take(end)
	}
	e := g.take(ctx, c, &r.lookHead, out, err, true)
	return verb.Finish(g.IO, r, kindOf(out, e), e)
}

func (r *portResult) take(end stack.PortEnd) {
	for _, p := range end.Published {
		r.Published = append(r.Published, publishedJSON{orNull(ui.Clean(p.Pod)), ui.Clean(p.Container), ui.Clean(p.Host), p.Port})
		r.lines = append(r.lines, ui.Clean(p.String()))
	}
	for _, u := range end.URLs {
		r.URLs = append(r.URLs, ui.Clean(u))
	}
}

// forward tells the address when it can be used, not at the end.
func (g *group) forward(ctx context.Context, w *stack.World, o stack.ForwardOptions, r *portResult) (*stack.Outcome, error) {
	told := false
	out, end, err := w.Forward(ctx, o, func(x stack.Forwarded) {
		g.IO.Event("forward", forwardJSON{x.Address, ui.Clean(x.Pod), x.Connections})
		if !told { // it stays the same
			_ = g.IO.Payload(ui.L(x.Address)) // a failure is kept for the result
		}
		told = true
	})
	if told {
		r.Forward = &forwardJSON{end.Address, ui.Clean(end.Pod), end.Connections}
	}
	return out, err
}
