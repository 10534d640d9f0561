package work

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/landing"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const startKind = "work.start"

type startOptions struct {
	Deps
	landing.StartOptions
	timeout time.Duration
}

// startResult is what work start ends in. Its text is the path alone, so that
// cd "$(homelab work start x)" works.
type startResult struct {
	ui.Header
	Topic    string `json:"topic,omitempty"`
	Branch   string `json:"branch,omitempty"`
	Path     string `json:"path,omitempty"`
	Base     string `json:"base,omitempty"`
	Remote   string `json:"remote,omitempty"`
	Existing bool   `json:"existing"`
}

func (r *startResult) Text(width int, _ bool) []string {
	switch {
	case r.ExitCode != 0:
		return []string{verb.Line(&r.Header, r.Topic)}
	case width > 0: // a terminal; what reads a pipe needs the name as it is
		return []string{ui.Clean(r.Path)}
	}
	return []string{r.Path}
}

func newStart(d Deps) *cobra.Command {
	o := &startOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "start TOPIC", Short: "Make a work tree and a branch for a task",
		Long: `Make a work tree for TOPIC at .worktrees/TOPIC of the clone, on a new branch
USER/TOPIC at the base's present tip, and print its path. The base is the
remote's default branch unless --base or .homelab.yaml there names another.

The same topic again gives the same path. A branch of that name that has no
work tree gets one. What a failed run made is removed.`,
		Example: `  cd "$(homelab work start fan-curve)"
  homelab work start hotfix --base release-2
  homelab work start next-step --from HEAD`,
		Tier: verb.Write, Kind: startKind, Args: exactly(1, "a topic"),
		Codes: []fault.Kind{fault.OK, fault.Denied, fault.Unreachable, fault.Timeout},
	}, func(c *cobra.Command, args []string) error {
		o.Topic = args[0]
		ctx, cancel := verb.Bound(c.Context(), o.timeout)
		defer cancel()
		return runStart(ctx, c, o)
	})
	f := c.Flags()
	f.StringVar(&o.Base, "base", "", "branch off the branch `B`, and land on it later")
	f.StringVar(&o.Remote, "remote", "", "the base is at the remote `R`")
	f.StringVar(&o.From, "from", "", "begin the branch at `COMMITISH` instead of the base's tip")
	addTimeout(c, &o.timeout)
	return c
}

// exactly takes n arguments.
func exactly(n int, what string) verb.Args {
	return func(args []string) error {
		if len(args) != n {
			return fmt.Errorf("takes %s, got %d argument(s)", what, len(args))
		}
		return nil
	}
}

func runStart(ctx context.Context, c *cobra.Command, o *startOptions) error {
	s, err := o.start(ctx, c)
	if err != nil {
		e := wrong(ctx, err)
		return verb.Finish(o.IO, &startResult{Header: ended(startKind, e), Topic: o.Topic}, e.Kind, e)
	}
	r := &startResult{
		Header: ui.Header{Kind: startKind, Verdict: "started", Next: ui.NextCommand(ui.Command("cd", s.Path))},
		Topic:  s.Topic, Branch: s.Branch, Path: s.Path, Base: s.Base, Remote: s.Remote, Existing: s.Existing,
	}
	r.Reason = fmt.Sprintf("%s begins at %s of %s", s.Branch, s.Start.Short(), s.Base)
	switch {
	case s.Existing:
		r.Verdict, r.Reason = "existing", "the task was started before"
	case s.Start == "":
		r.Reason = fmt.Sprintf("%s was there and has a work tree now", s.Branch)
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}

func (o *startOptions) start(ctx context.Context, c *cobra.Command) (landing.Started, error) {
	help := c.CommandPath() + " --help"
	for _, name := range []string{"base", "remote", "from"} {
		fl := c.Flags().Lookup(name)
		switch v := fl.Value.String(); {
		case fl.Changed && strings.TrimSpace(v) == "":
			return landing.Started{}, fault.Usagef(help, "--%s is empty", name)
		case strings.HasPrefix(v, "-"):
			return landing.Started{}, fault.Usagef(help, "--%s must not begin with a dash", name)
		}
	}
	desk, err := o.desk(ctx, c, o.timeout)
	if err != nil {
		return landing.Started{}, err
	}
	s, failed := desk.Start(ctx, o.StartOptions)
	if failed != nil {
		return s, failed
	}
	return s, nil
}
