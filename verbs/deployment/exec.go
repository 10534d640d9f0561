package deployment

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// execResult is what exec ends in. In text mode stdout and stderr are the
// command's, and the line of the result is behind them on stderr.
type execResult struct {
	lookHead
	Service   string  `json:"service"`
	Pod       *string `json:"pod"`
	Container *string `json:"container"`
	Code      *int    `json:"command_exit_code"`
	Stdout    *string `json:"stdout,omitempty"`
	Stderr    *string `json:"stderr,omitempty"`
	Truncated bool    `json:"truncated"`
}

// Aside says that stdout belongs to the command.
func (r *execResult) Aside() bool { return true }

// Text returns the line of the result.
func (r *execResult) Text(int, bool) []string { return []string{r.line()} }

func newExec(g *group) *cobra.Command {
	pod := ""
	c := verb.New(verb.Spec{
		Use: "exec SERVICE [--] COMMAND...", Short: "Run a command in a container of a deployment",
		Long: `Run a command in the container of a service, in a ready pod of the current
revision. One word is a line for the container's shell, several are run as they
are; what looks like a flag behind SERVICE is the command's.

stdin, stdout and stderr are the command's; it has a terminal if stdin and stdout
are one. Its exit code is told in the result, and homelab's own is 0 or 1. A
command that is interrupted while it has no terminal may run on.`,
		Example: `  homelab deployment exec --dir shop db 'pg_dump -U shop shop' > shop.sql
  homelab deployment exec --dir shop web -- ls -la /data
  homelab deployment --dir shop exec web sh`,
		Tier: verb.Write, Kind: "deployment.exec", Codes: looked(fault.Failed),
	}, func(c *cobra.Command, args []string) error { return g.exec(c, args, pod) })
	c.Args = func(c *cobra.Command, args []string) error {
		help := c.CommandPath() + " --help"
		switch {
		case len(args) == 0 || args[0] == "":
			return fault.Usagef(help, "%s needs a service and a command", c.CommandPath())
		case len(command(args)) == 0 || command(args)[0] == "":
			return fault.Usagef(help, "%s needs a command to run in %s", c.CommandPath(), ui.Clean(args[0]))
		}
		return nil // an argument of the command may be empty
	}
	g.Flags.Network(c, 0)
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&pod, "pod", "", "in this `POD` of the deployment, ready or not")
	return c
}

// command is what stands behind the service.
func command(args []string) []string {
	args = args[1:]
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

// mostOutput is how much of a command's output a JSON result carries.
const mostOutput = 4 << 20

// capture keeps a command's output for a result.
type capture struct {
	mu  *sync.Mutex
	b   bytes.Buffer
	cut *bool
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := max(0, mostOutput-c.b.Len())
	if len(p) > room {
		*c.cut = true
	}
	c.b.Write(p[:min(room, len(p))])
	return len(p), nil
}

func (c *capture) text() *string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.ToValidUTF8(c.b.String(), "\uFFFD")
	return &s
}

// lines tells a command's output as events.
type lines struct {
	io     *ui.Streams
	stream string
	mu     sync.Mutex
	rest   []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 && len(l.rest) < 64<<10 {
			return len(p), nil
		}
		l.tell(i + 1)
	}
}

// tell tells the first n bytes of what waits; 0 is all of it.
func (l *lines) tell(n int) {
	if n == 0 {
		n = len(l.rest)
	}
	if n == 0 {
		return
	}
	l.io.Event("output", map[string]string{"stream": l.stream, "text": ui.Clean(strings.TrimRight(string(l.rest[:n]), "\r\n"))})
	l.rest = slices.Delete(l.rest, 0, n)
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(0)
}

func (g *group) exec(c *cobra.Command, args []string, pod string) error {
	ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
	defer cancel()
	tell := newTeller(ctx, g.IO)
	defer tell.close()
	r := &execResult{lookHead: lookHead{Header: ui.Header{Kind: "deployment.exec"}}, Service: ui.Clean(args[0])}
	o := stack.ExecOptions{Service: args[0], Command: command(args), Pod: pod, Stdin: g.IO.In}
	done := g.connect(ctx, &o, r)
	w, all, err := g.begin(ctx, c, tell)
	var out *stack.Outcome
	var end stack.Exec
	if err == nil {
		o.Options = all
		out, end, err = w.Exec(ctx, o)
	}
	done()
	r.Pod, r.Container, r.Code = orNull(end.Pod), orNull(end.Container), end.Code
	e := g.take(ctx, c, &r.lookHead, out, err, false)
	return verb.Finish(g.IO, r, kindOf(out, e), e)
}

// connect gives the command its streams, by the form of the output. done is
// called when it has ended.
func (g *group) connect(ctx context.Context, o *stack.ExecOptions, r *execResult) (done func()) {
	switch g.IO.Settings().Mode {
	case ui.JSON:
		var mu sync.Mutex
		out, errs := &capture{mu: &mu, cut: &r.Truncated}, &capture{mu: &mu, cut: &r.Truncated}
		o.Stdout, o.Stderr = out, errs
		return func() { r.Stdout, r.Stderr = out.text(), errs.text() }
	case ui.JSONL:
		out, errs := &lines{io: g.IO, stream: "stdout"}, &lines{io: g.IO, stream: "stderr"}
		o.Stdout, o.Stderr = out, errs
		return func() { out.end(); errs.end() }
	case ui.Text:
	}
	o.Stdout, o.Stderr = g.IO.Foreign()
	restore := func() {}
	o.Terminal = func() (func() (uint16, uint16, bool), func()) {
		size, back := g.IO.Terminal(ctx)
		restore = back
		return size, back
	}
	return func() { restore() }
}
