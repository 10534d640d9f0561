package ci

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// Completion asks the server only as long as a person at a prompt waits
// without noticing. Whatever goes wrong completes nothing.
const completeWithin = 1500 * time.Millisecond

func (d Deps) newest(c *cobra.Command) (*session, []woodpecker.Pipeline) {
	ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
	defer cancel()
	repo, err := d.Checkout(ctx)
	if err != nil {
		return nil, nil
	}
	s := &session{}
	if d.locate(ctx, s, repo, asked{}, false, Reporter{}) != nil {
		return nil, nil
	}
	rows, err := pipeline.Newest(ctx, s.conn.Client, s.target.Repo.ID, woodpecker.ListOptions{PerPage: listRows})
	if err != nil {
		return nil, nil
	}
	return s, rows
}

// completeTargets completes pipeline numbers and events.
func completeTargets(d Deps, c *cobra.Command) {
	number := func(prefix string) cobra.CompletionFunc {
		return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var out []string
			_, rows := d.newest(c)
			for _, r := range rows {
				out = append(out, prefix+itoa(r.Number)+"\t"+string(r.Status)+" "+string(r.Event)+" "+pipeline.Short(r.Commit)+" "+title(r))
			}
			return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		}
	}
	c.ValidArgsFunction = number("#")
	register(c, "number", number(""))
	register(c, "event", cobra.FixedCompletions(strings.Fields(eventNames()), cobra.ShellCompDirectiveNoFileComp))
}

// completeSteps completes the steps of the newest pipeline, or of the one that
// --number names.
func completeSteps(d Deps, c *cobra.Command) {
	register(c, "step", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		s, rows := d.newest(c)
		if len(rows) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		n := rows[0].Number
		if given, err := c.Flags().GetInt64("number"); err == nil && given > 0 {
			n = given
		}
		ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
		defer cancel()
		row, err := s.conn.Client.Pipeline(ctx, s.target.Repo.ID, n)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		refs, _ := pipeline.Select(row, "", false) // naming no step, it cannot miss one
		var out []string
		for _, ref := range refs {
			out = append(out, ui.Clean(ref.Address())+"\t"+ui.Clean(string(ref.Step.State)))
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	})
}

// register attaches a completion to a flag of c.
func register(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag does not exist: a bug that any run of the tree shows
	}
}
