package about

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

type completionResult struct {
	ui.Header
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func (r *completionResult) Text(int, bool) []string { return nil } // the script was the result

// NewCompletion returns "completion".
func NewCompletion(d Deps) *cobra.Command {
	c := verb.New(verb.Spec{
		Use: "completion bash|zsh|fish", Short: "Print a shell's completion script",
		Long: `Print the completion script of a shell. It completes verbs and flags, and asks
the server for pipeline numbers and step names as long as that is quick.

  bash: source <(homelab completion bash)
  zsh:  homelab completion zsh > "${fpath[1]}/_homelab"
  fish: homelab completion fish > ~/.config/fish/completions/homelab.fish`,
		Example: "  homelab completion bash",
		Tier:    verb.Read, Kind: "completion", Codes: []fault.Kind{fault.OK},
		Args: func(args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("takes one shell: bash, zsh or fish")
			}
			return nil
		},
	}, func(c *cobra.Command, args []string) error {
		var b bytes.Buffer
		var err error
		switch root := c.Root(); args[0] {
		case "bash":
			err = root.GenBashCompletionV2(&b, true)
		case "zsh":
			err = root.GenZshCompletion(&b)
		case "fish":
			err = root.GenFishCompletion(&b, true)
		default:
			return fault.Usagef("homelab completion --help", "there is no completion for %s", ui.Clean(args[0])).Because("bash, zsh and fish have one")
		}
		if err != nil {
			return err
		}
		if _, err := d.IO.Raw().Write(b.Bytes()); err != nil {
			return err
		}
		return verb.Finish(d.IO, &completionResult{
			Header: ui.Header{Kind: "completion", Verdict: "ok", Reason: "a completion script"},
			Shell:  args[0], Script: b.String(),
		}, fault.OK, nil)
	})
	c.ValidArgs = []string{"bash", "zsh", "fish"}
	return c
}
