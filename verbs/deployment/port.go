package deployment

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type publishedJSON struct {
	Container string `json:"container"`
	Host      string `json:"host"`
	Port      int    `json:"port"`
}

// portResult is what port ends in. Its text is the addresses.
type portResult struct {
	lookHead
	Service   string          `json:"service"`
	Port      int             `json:"port"`
	Protocol  string          `json:"protocol"`
	Published []publishedJSON `json:"published"`
}

// Aside says that stdout belongs to the addresses.
func (r *portResult) Aside() bool { return true }

// Text returns an address per line, and the line of the result.
func (r *portResult) Text(int, bool) []string {
	var out []string
	for _, p := range r.Published {
		out = append(out, ui.Clean(fmt.Sprintf("%s:%d", p.Host, p.Port)))
	}
	return append(out, r.line())
}

func newPort(g *group) *cobra.Command {
	c := verb.New(verb.Spec{
		Use: "port SERVICE PORT[/udp]", Short: "Print where a service's port is published",
		Long: `Print the address and port of this machine at which a port of a service is
answered. It is for deployments to compose.`,
		Example: `  homelab deployment port --dir shop web 80
  homelab deployment port --dir shop dns 53/udp --json`,
		Tier: verb.Read, Kind: "deployment.port", Codes: looked(),
		Args: func(args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("needs a service and a port")
			}
			_, _, err := portOf(args[1])
			return err
		},
	}, g.port)
	g.Flags.Network(c, lookTimeout)
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

func (g *group) port(c *cobra.Command, args []string) error {
	ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
	defer cancel()
	tell := newTeller(ctx, g.IO)
	defer tell.close()
	r := &portResult{lookHead: lookHead{Header: ui.Header{Kind: "deployment.port"}}, Published: []publishedJSON{}}
	var err error
	if r.Port, r.Protocol, err = portOf(args[1]); err != nil {
		return err
	}
	r.Service = ui.Clean(args[0])
	var out *stack.Outcome
	w, o, err := g.begin(ctx, c, tell)
	if err == nil {
		var found []stack.Published
		out, found, err = w.Port(ctx, o, args[0], r.Port, r.Protocol)
		for _, p := range found {
			r.Published = append(r.Published, publishedJSON{ui.Clean(p.Container), ui.Clean(p.Host), p.Port})
		}
	}
	e := g.take(ctx, c, &r.lookHead, out, err, true)
	return verb.Finish(g.IO, r, kindOf(out, e), e)
}
