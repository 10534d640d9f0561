package ci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

const logsKind = "ci.logs"

type logsOptions struct {
	Deps
	arg    string
	target targetFlags
	step   string
	failed bool
	follow bool
	raw    bool
}

type logStep struct {
	Workflow string            `json:"workflow"`
	Step     string            `json:"step"`
	PID      int               `json:"pid"`
	State    woodpecker.Status `json:"state"`
	ExitCode int               `json:"exit_code"`
	Lines    []string          `json:"lines"`

	id int64
}

// logsResult is what ci logs ends in. Its text is the lines themselves, unless
// there are none.
type logsResult struct {
	ui.Header
	Repo     *repoJSON     `json:"repo,omitempty"`
	Commit   string        `json:"commit,omitempty"`
	Pipeline *pipelineJSON `json:"pipeline"`
	Steps    []*logStep    `json:"steps"`

	printed bool
	subject string
}

func (r *logsResult) Text(int, bool) []string {
	if r.ExitCode == 0 && r.printed {
		return nil // the lines were the result
	}
	return []string{verb.Line(&r.Header, r.subject)}
}

func newLogs(d Deps) *cobra.Command {
	o := &logsOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "logs [COMMITISH|#N]", Short: "Print step logs; -f follows a running step",
		Long: `Print the logs of a commit's pipeline (default: HEAD) on stdout.

Without --step all steps that ran are printed, with --failed only those that
failed. With more than one, each line carries its step's name. Printing logs is
0, also those of a red pipeline.`,
		Example: `  homelab ci logs --failed
  homelab ci logs --number 57 --step test/unit
  homelab ci logs --step build -f`,
		Tier: verb.Read, Kind: logsKind, Args: verb.AtMost(1),
		Codes: []fault.Kind{fault.OK, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout},
	}, func(c *cobra.Command, args []string) error {
		o.arg = verb.Arg(args, 0, "")
		ctx, cancel := verb.Bound(c.Context(), d.Flags.Timeout)
		defer cancel()
		return runLogs(ctx, c, o)
	})
	d.Flags.Network(c, watchTimeout)
	o.target.add(c)
	c.Flags().StringVar(&o.step, "step", "", "only this step: `NAME`, WORKFLOW/NAME or its pid")
	c.Flags().BoolVar(&o.failed, "failed", false, "only the failing steps")
	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with running steps until they end")
	c.Flags().BoolVar(&o.raw, "raw", false, "write the bytes as the step wrote them, escape sequences included")
	completeTargets(d, c)
	completeSteps(d, c)
	return c
}

func runLogs(ctx context.Context, c *cobra.Command, o *logsOptions) error {
	tell := newTeller(o.IO)
	r := &logsResult{Header: ui.Header{Kind: logsKind}, Steps: []*logStep{}}
	help := c.CommandPath() + " --help"
	if c.Flags().Changed("step") && o.step == "" {
		return o.end(r, fault.Usagef(help, "--step is empty"))
	}
	if o.raw && (o.Flags.JSON || o.Flags.JSONL) {
		return o.end(r, fault.Usagef(help, "--raw is for text: JSON carries cleaned lines"))
	}
	s, err := o.open(ctx, c, o.arg, o.target, false, tell.reporter())
	if err != nil {
		return o.end(r, explain(ended(ctx, c, s, err), o.Flags.Repo))
	}
	tell.quietNote(s.warning)
	r.Repo, r.Commit = &repoJSON{s.target.Repo.ID, s.target.Repo.FullName}, s.target.Commit
	out, err := o.look(ctx, s, pipeline.Gate{})
	if err != nil {
		return o.end(r, explain(ended(ctx, c, s, err), o.Flags.Repo))
	}
	p := o.phrase(c, s)
	p.resume = func(int64) string { return verb.Again(c) }
	r.subject = subject(s.target.Repo.FullName, out.Row, r.Commit)
	if out.Row == nil || out.Err != nil {
		e := fault.New(kindOf(out), out.Reason, p.next(out)).From(out.Err)
		return o.end(r, e)
	}
	row := *out.Row
	r.Commit, r.Pipeline = row.Commit, viewRow(row, pageOf(s))
	row, err = o.print(ctx, s, row, r)
	r.Pipeline = viewRow(row, pageOf(s))
	for _, st := range r.Steps {
		for _, w := range row.Workflows {
			for _, x := range w.Steps {
				if x.ID == st.id {
					st.State, st.ExitCode = x.State, x.ExitCode
				}
			}
		}
	}
	var none *pipeline.NoStepError
	switch {
	case err == nil:
	case errors.As(err, &none):
		return o.end(r, fault.New(fault.Absent, none.Error(), p.command("status", "--number", itoa(row.Number))))
	default:
		e := explain(ended(ctx, c, s, err), o.Flags.Repo)
		if ctx.Err() != nil {
			e.What = "the logs were not printed to their end: " + endWords(e.Kind)
			words := []string{"logs", "--number", itoa(row.Number)}
			if o.step != "" {
				words = append(words, "--step", o.step)
			}
			if o.follow {
				words = append(words, "-f")
			}
			e.Next = p.command(words...)
		}
		return o.end(r, e)
	}
	r.Verdict, r.Reason = "ok", "logs printed"
	if !r.printed {
		r.Reason = "no output"
		if o.failed {
			r.Reason = "no step failed"
		}
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}

// end ends a run that could not print what was asked for.
func (o *logsOptions) end(r *logsResult, e *fault.Error) error {
	r.Header = verbHeader(logsKind, e)
	return verb.Finish(o.IO, r, e.Kind, e)
}

// print hands the lines out as they come: on stdout in text mode, as events,
// or into the result.
func (o *logsOptions) print(ctx context.Context, s *session, row woodpecker.Pipeline, r *logsResult) (woodpecker.Pipeline, error) {
	refs, err := pipeline.Select(row, o.step, o.failed)
	if err != nil && (!o.follow || len(row.Workflows) > 0) {
		return row, err
	}
	prefixed := len(refs) > 1 || o.follow && o.step == ""
	mode := o.IO.Settings().Mode
	byID := map[int64]*logStep{}
	var batch []ui.Line
	flush := func() error {
		err := o.IO.Payload(batch...)
		batch = batch[:0]
		return err
	}
	raw := o.IO.Raw()
	emit := func(l pipeline.LogLine) error {
		r.printed = true
		st, ok := byID[l.Step.Step.ID]
		if !ok {
			st = &logStep{
				Workflow: l.Step.Workflow, Step: l.Step.Step.Name, PID: l.Step.Step.PID,
				State: l.Step.Step.State, ExitCode: l.Step.Step.ExitCode, Lines: []string{}, id: l.Step.Step.ID,
			}
			byID[st.id] = st
			r.Steps = append(r.Steps, st)
		}
		switch mode {
		case ui.JSONL:
			o.IO.Event("log", map[string]any{"workflow": st.Workflow, "step": st.Step, "line": l.Line, "text": l.Text})
			return nil
		case ui.JSON:
			st.Lines = append(st.Lines, l.Text)
			return nil
		case ui.Text:
		}
		if o.raw {
			return writeRaw(raw, l, prefixed)
		}
		line := ui.Line{ui.T(ui.Plain, l.Text)}
		if prefixed {
			line = ui.Line{ui.T(ui.Dim, l.Step.Address()+" | "), ui.T(ui.Plain, l.Text)}
		}
		batch = append(batch, line)
		if len(batch) >= 256 || o.follow {
			return flush()
		}
		return nil
	}
	if o.follow {
		row, err = pipeline.FollowLogs(ctx, s.conn.Client, s.target.Repo.ID, row.Number, o.step, o.failed, emit)
	} else {
		err = pipeline.PrintLogs(ctx, s.conn.Client, s.target.Repo.ID, row, refs, emit)
	}
	return row, errors.Join(err, flush())
}

func writeRaw(w io.Writer, l pipeline.LogLine, prefixed bool) error {
	var b bytes.Buffer
	if prefixed {
		b.WriteString(ui.Clean(l.Step.Address()) + " | ")
	}
	b.Write(l.Raw)
	if !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}
