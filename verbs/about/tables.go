package about

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type tablesResult struct {
	ui.Header
	File string `json:"file"`
}

func (r *tablesResult) Text(int, bool) []string { return []string{verb.Line(&r.Header, r.File)} }

// NewTables returns the hidden verb that rewrites the generated tables of the
// README: verbs and exit codes, each between a pair of marker comments.
func NewTables(d Deps) *cobra.Command {
	return verb.New(verb.Spec{
		Use: "readme-tables FILE", Short: "Rewrite the generated tables of FILE", Hidden: true,
		Tier: verb.Write, Kind: "readme-tables", Codes: []fault.Kind{fault.OK},
		Args: func(args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("takes one file")
			}
			return nil
		},
	}, func(c *cobra.Command, args []string) error {
		old, err := os.ReadFile(args[0])
		if err != nil {
			return fault.Usagef("", "%s cannot be read", args[0]).Because(err.Error())
		}
		text := string(old)
		for name, table := range map[string]string{"verbs": verbTable(c.Root()), "exit-codes": codeTable()} {
			if text, err = replace(text, name, table); err != nil {
				return fault.Usagef("", "%s: %v", args[0], err)
			}
		}
		verdict := "unchanged"
		if text != string(old) {
			verdict = "rewritten"
			if err := os.WriteFile(args[0], []byte(text), 0o644); err != nil { //nolint:gosec // a document everybody may read
				return err
			}
		}
		return verb.Finish(d.IO, &tablesResult{
			Header: ui.Header{Kind: "readme-tables", Verdict: verdict, Reason: "the generated tables are up to date"}, File: args[0],
		}, fault.OK, nil)
	})
}

// replace puts table between the markers of name.
func replace(text, name, table string) (string, error) {
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end: "+name+" -->"
	head, rest, ok1 := strings.Cut(text, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("no markers for the table %q", name)
	}
	return head + begin + table + end + tail, nil
}

func verbTable(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("| verb | does | tier |\n|---|---|---|\n")
	for _, v := range Verbs(root) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.ReplaceAll(strings.TrimPrefix(v.Usage, "homelab "), "|", "\\|"), v.Summary, v.Tier)
	}
	return b.String()
}

func codeTable() string {
	var b strings.Builder
	b.WriteString("| code | name | meaning |\n|---|---|---|\n")
	for _, c := range Codes() {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", c.Code, c.Name, c.Meaning)
	}
	return b.String()
}
