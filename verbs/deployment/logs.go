package deployment

import (
	"bytes"
	"errors"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// containerLog are the lines of one container.
type containerLog struct {
	Pod       string   `json:"pod"`
	Container string   `json:"container"`
	Lines     []string `json:"lines"`
}

// logsResult is what logs ends in. Its text is the lines themselves, on stdout;
// the line of the result is on stderr.
type logsResult struct {
	lookHead
	Job        *string         `json:"job"`
	Containers []*containerLog `json:"containers"`

	nothing string // what scripts read when there are no lines
}

// Aside says that stdout belongs to the lines.
func (r *logsResult) Aside() bool { return true }

// Text returns the line of the result, after what stands for no lines at all.
func (r *logsResult) Text(int, bool) []string {
	if r.nothing != "" {
		return []string{r.nothing, r.line()}
	}
	return []string{r.line()}
}

const (
	noPods  = "******* Pods not running ********"
	noLines = "******* No logs available ********"
)

type logsFlags struct {
	o   stack.LogOptions
	raw bool
}

func newLogs(g *group) *cobra.Command {
	f := &logsFlags{}
	c := verb.New(verb.Spec{
		Use: "logs [SERVICE...]", Short: "Print the logs of a deployment; -f follows them",
		Long: `Print the logs of all containers of a deployment, or of these services, by time.

Each line has its container before it, and with several pods its pod. -f goes on
with what is written from then on, by pods that come later as well, through cut
connections and restarts.`,
		Example: `  homelab deployment logs --dir shop
  homelab deployment logs web -n 50 -f --dir shop
  homelab deployment logs --job migrate --dir shop`,
		Tier: verb.Read, Kind: "deployment.logs", Codes: looked(),
		Args: func([]string) error { return nil },
	}, func(c *cobra.Command, args []string) error { return g.logs(c, args, f) })
	g.Flags.Network(c, 0)
	s := c.Flags()
	s.IntVarP(&f.o.Tail, "lines", "n", -1, "only the last `N` lines of each container; default: all")
	s.BoolVarP(&f.o.Follow, "follow", "f", false, "go on with what is written from now on")
	s.DurationVar(&f.o.Since, "since", 0, "only lines of the last `DUR`")
	s.BoolVar(&f.o.Previous, "previous", false, "of each container's run before the last restart")
	s.StringVar(&f.o.Job, "job", "", "the pods of this `JOB` instead")
	s.BoolVar(&f.raw, "raw", false, "write the bytes as the program wrote them, escape sequences included")
	return c
}

// check refuses flags that say nothing or contradict each other.
func (f *logsFlags) check(g *group, c *cobra.Command) error {
	help := c.CommandPath() + " --help"
	switch {
	case c.Flags().Changed("lines") && f.o.Tail < 0:
		return fault.Usagef(help, "--lines must not be negative")
	case c.Flags().Changed("since") && f.o.Since <= 0:
		return fault.Usagef(help, "--since is a duration such as 10m")
	case f.o.Previous && f.o.Follow:
		return fault.Usagef(help, "--previous is about a run that has ended: there is nothing to follow")
	case f.raw && (g.Flags.JSON || g.Flags.JSONL):
		return fault.Usagef(help, "--raw is for text: JSON carries cleaned lines")
	}
	return nil
}

func (g *group) logs(c *cobra.Command, args []string, f *logsFlags) error {
	ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
	defer cancel()
	tell := newTeller(ctx, g.IO)
	defer tell.close()
	r := &logsResult{lookHead: lookHead{Header: ui.Header{Kind: "deployment.logs"}}, Job: orNull(f.o.Job), Containers: []*containerLog{}}
	p := &printer{io: g.IO, r: r, raw: f.raw, live: f.o.Follow, at: map[[2]string]*containerLog{}}
	err := f.check(g, c)
	var w *stack.World
	var out *stack.Outcome
	var end stack.LogEnd
	if err == nil {
		w, f.o.Options, err = g.begin(ctx, c, tell)
	}
	if err == nil {
		f.o.Services = args
		out, end, err = w.Logs(ctx, f.o, p.print)
		err = errors.Join(err, p.flush())
	}
	e := g.take(ctx, c, &r.lookHead, out, err, true)
	switch {
	case e != nil && e.Kind == fault.Absent && end.Pods == 0 && out.Deployment.Dir != "" && out.Context != "":
		r.nothing = noPods
	case e == nil && end.Lines == 0:
		r.nothing = noLines
	}
	return verb.Finish(g.IO, r, kindOf(out, e), e)
}

// printer hands lines out as they come: on stdout in text mode, as events, or
// into the result.
type printer struct {
	io    *ui.Streams
	r     *logsResult
	raw   bool
	at    map[[2]string]*containerLog
	live  bool // somebody waits for each line
	batch []ui.Line
}

func (p *printer) print(l stack.LogLine) error {
	name := l.Container + ": "
	if l.Several {
		name = l.Pod + " " + name
	}
	switch p.io.Settings().Mode {
	case ui.JSONL:
		p.io.Event("log", map[string]any{"pod": l.Pod, "container": l.Container, "written": l.Time.UTC(), "text": ui.Clean(string(l.Text))})
		return nil
	case ui.JSON:
		k := [2]string{l.Pod, l.Container}
		x := p.at[k]
		if x == nil {
			x = &containerLog{Pod: l.Pod, Container: l.Container, Lines: []string{}}
			p.at[k] = x
			p.r.Containers = append(p.r.Containers, x)
		}
		x.Lines = append(x.Lines, ui.Clean(string(l.Text)))
		return nil
	case ui.Text:
	}
	if p.raw {
		var b bytes.Buffer
		b.WriteString(ui.Clean(name))
		b.Write(l.Text)
		b.WriteByte('\n')
		_, err := p.io.Raw().Write(b.Bytes())
		return err
	}
	p.batch = append(p.batch, ui.Line{ui.T(ui.Dim, name), ui.T(ui.Plain, string(l.Text))})
	if len(p.batch) >= 256 || p.live {
		return p.flush()
	}
	return nil
}

func (p *printer) flush() error {
	err := p.io.Payload(p.batch...)
	p.batch = p.batch[:0]
	return err
}
