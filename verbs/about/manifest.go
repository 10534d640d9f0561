package about

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// Code is an exit code as documents list it.
type Code struct {
	Code    int    `json:"code"`
	Name    string `json:"name"`
	Meaning string `json:"meaning"`
}

// Flag is a verb's flag.
type Flag struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Type      string `json:"type"`
	Default   string `json:"default"`
	Usage     string `json:"usage"`
}

// Verb is one verb of the tree.
type Verb struct {
	Path      string    `json:"path"` // "ci watch"
	Usage     string    `json:"usage"`
	Summary   string    `json:"summary"`
	Tier      verb.Tier `json:"tier"`
	Kind      *string   `json:"kind"` // of its JSON result; null: it has none
	Flags     []Flag    `json:"flags"`
	ExitCodes []int     `json:"exit_codes"`
	Example   string    `json:"example"`
}

type manifestResult struct {
	ui.Header
	Verbs     []Verb `json:"verbs"`
	ExitCodes []Code `json:"exit_codes"`
}

func (r *manifestResult) Text(width int, color bool) []string {
	var rows [][]ui.Span
	for _, v := range r.Verbs {
		rows = append(rows, []ui.Span{ui.T(ui.Strong, v.Path), ui.T(ui.Plain, string(v.Tier)), ui.T(ui.Plain, v.Summary)})
	}
	var out []string
	for _, l := range ui.Table(rows) {
		out = append(out, l.Render(width, color))
	}
	return out
}

// Verbs lists every verb of the tree that root belongs to, in its order.
func Verbs(root *cobra.Command) []Verb {
	var out []Verb
	for _, c := range root.Commands() {
		info, ok := verb.InfoOf(c)
		if ok && !c.Hidden {
			out = append(out, describe(c, info))
		}
		out = append(out, Verbs(c)...)
	}
	return out
}

func describe(c *cobra.Command, info verb.Info) Verb {
	v := Verb{
		Path:    strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "),
		Usage:   c.UseLine(),
		Summary: c.Short,
		Tier:    info.Tier,
		Flags:   []Flag{},
		Example: c.Example,
	}
	if info.Kind != "" {
		v.Kind = &info.Kind
	}
	c.LocalFlags() // merges the persistent ones in
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		_, usage := pflag.UnquoteUsage(f)
		v.Flags = append(v.Flags, Flag{Name: f.Name, Shorthand: f.Shorthand, Type: f.Value.Type(), Default: f.DefValue, Usage: usage})
	})
	kinds := slices.Concat(info.Codes, []fault.Kind{fault.Usage, fault.Bug, fault.Interrupted, fault.Terminated})
	for _, row := range fault.Table() {
		if slices.Contains(kinds, row.Kind) {
			v.ExitCodes = append(v.ExitCodes, row.Code)
		}
	}
	return v
}

// Codes lists the exit codes.
func Codes() []Code {
	var out []Code
	for _, r := range fault.Table() {
		out = append(out, Code{r.Code, r.Name, r.Meaning})
	}
	return out
}

// NewManifest returns "manifest".
func NewManifest(d Deps) *cobra.Command {
	return verb.New(verb.Spec{
		Use: "manifest", Short: "List every verb with tier, flags and exit codes",
		Long: `List every verb: what it does, whether it only reads or also writes, its flags,
and how it can end. With --json this is how a program learns the tool in one
call.`,
		Example: "  homelab manifest\n  homelab manifest --json",
		Tier:    verb.Read, Kind: "manifest", Codes: []fault.Kind{fault.OK},
	}, func(c *cobra.Command, _ []string) error {
		return verb.Finish(d.IO, &manifestResult{
			Header: ui.Header{Kind: "manifest", Verdict: "ok", Reason: "every verb of this program"},
			Verbs:  Verbs(c.Root()), ExitCodes: Codes(),
		}, fault.OK, nil)
	})
}
