package about

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type codesResult struct {
	ui.Header
	ExitCodes []Code `json:"exit_codes"`
}

func (r *codesResult) Text(_ int, color bool) []string {
	var rows [][]ui.Span
	for _, c := range r.ExitCodes {
		rows = append(rows, []ui.Span{ui.T(ui.Strong, fmt.Sprint(c.Code)), ui.T(ui.Plain, c.Name), ui.T(ui.Plain, c.Meaning)})
	}
	var out []string
	for _, l := range ui.Table(rows, 0) {
		out = append(out, l.Render(0, color))
	}
	return out
}

// NewHelp returns "help", with its topic exit-codes.
func NewHelp(d Deps) *cobra.Command {
	help := &cobra.Command{
		Use: "help [VERB...]", Short: "Show the help of a verb, or a topic: exit-codes",
		SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			target, rest, err := c.Root().Find(args)
			if err != nil || target == nil || len(rest) > 0 {
				return fault.Usagef("homelab --help", "there is no help for %q", strings.Join(args, " "))
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
	help.AddCommand(verb.New(verb.Spec{
		Use: "exit-codes", Short: "List the exit codes and what each means",
		Example: "  homelab help exit-codes",
		Tier:    verb.Read, Kind: "help.exit-codes", Codes: []fault.Kind{fault.OK},
	}, func(*cobra.Command, []string) error {
		return verb.Finish(d.IO, &codesResult{
			Header:    ui.Header{Kind: "help.exit-codes", Verdict: "ok", Reason: "how a run can end"},
			ExitCodes: Codes(),
		}, fault.OK, nil)
	}))
	return help
}
