package config

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	settings "homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

const initKind = "config.init"

type initOptions struct {
	Deps
	answers settings.InitAnswers
	force   bool
}

// initResult is what config init ends in.
type initResult struct {
	ui.Header
	File     string   `json:"file"`
	Replaced bool     `json:"replaced"` // a file that was there
	Keys     []string `json:"keys"`     // what is filled in; the rest is a commented example
}

func (r *initResult) Text(int, bool) []string { return []string{verb.Line(&r.Header, r.File)} }

func newInit(d Deps) *cobra.Command {
	o := &initOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "init", Short: "Write a first configuration file",
		Long: `Write a first configuration file, filled in from the flags; what is not given
stays in it as a commented example. Nothing is asked and nothing contacted. The
file goes where --config, HOMELAB_CONFIG or XDG_CONFIG_HOME says, by default
~/.config/homelab/config.yaml, and one that is there stays unless --force.

Tokens do not belong into it: WOODPECKER_TOKEN holds the token, or
--vault-path and --vault-field say where Vault keeps it.`,
		Example: `  homelab config init --server https://ci.example.lan
  homelab config init --server https://ci.example.lan --dial 10.0.20.203 \
    --vault-address https://vault.example.lan \
    --vault-path secret/ci/global --vault-field woodpecker_api_token`,
		Tier: verb.Write, Kind: initKind, Args: verb.NoArgs, Codes: []fault.Kind{fault.OK},
	}, func(c *cobra.Command, _ []string) error { return runInit(c, o) })
	set, a := c.Flags(), &o.answers
	set.StringVar(&a.Server, "server", "", "Woodpecker's `URL`")
	set.StringVar(&a.Dial, "dial", "", "reach the server at `ADDR[:PORT]` instead of asking DNS")
	set.StringVar(&a.CAFile, "ca-file", "", "trust the certificates in `FILE` too")
	set.StringVar(&a.VaultPath, "vault-path", "", "read the token from Vault's `PATH`, such as secret/ci/global")
	set.StringVar(&a.VaultField, "vault-field", "", "read it from this `FIELD` there")
	set.StringVar(&a.VaultAddress, "vault-address", "", "Vault's `URL`; default: VAULT_ADDR")
	set.StringVar(&a.Context, "context", "", "kubeconfig `CONTEXT` to use")
	set.BoolVar(&o.force, "force", false, "replace a file that is there")
	return c
}

func runInit(c *cobra.Command, o *initOptions) error {
	if err := given(c); err != nil {
		return err
	}
	path, err := o.Path()
	if err != nil {
		return err
	}
	data, err := settings.InitTemplate(o.answers)
	if err != nil {
		return err
	}
	_, err = os.Lstat(path.V)
	there := err == nil
	if err := settings.WriteInit(path.V, data, o.force); err != nil {
		return err
	}
	r := &initResult{
		Header: ui.Header{Kind: initKind, Verdict: "written", Next: ui.NextCommand(next(c, o))},
		File:   path.V, Replaced: there, Keys: filled(c),
	}
	switch {
	case len(r.Keys) == 0:
		r.Reason = "a commented example, nothing filled in yet"
	default:
		r.Reason = "sets " + strings.Join(r.Keys, ", ")
	}
	if there {
		r.Reason += "; the file that was there is replaced"
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}

// given refuses flags that were given and say nothing: most likely a variable
// that is not set.
func given(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && strings.TrimSpace(f.Value.String()) == "" && err == nil {
			err = fault.Usagef(c.CommandPath()+" --help", "--%s is empty; give a value or leave it out", f.Name)
		}
	})
	return err
}

// filled returns the keys that the flags gave, in the file's order.
func filled(c *cobra.Command) []string {
	out := []string{}
	for _, k := range []struct{ flag, key string }{
		{"server", "woodpecker.server"},
		{"dial", "woodpecker.dial"},
		{"ca-file", "woodpecker.ca-file"},
		{"vault-path", "woodpecker.token-vault"},
		{"vault-address", "vault.address"},
		{"context", "kubernetes.context"},
	} {
		if c.Flags().Changed(k.flag) {
			out = append(out, k.key)
		}
	}
	return out
}

// next returns the command that checks what was written. A file that only a
// flag names has to be named again.
func next(c *cobra.Command, o *initOptions) string {
	words := []string{"homelab", "doctor"}
	if c.Flags().Changed("config") {
		words = append(words, "--config", o.Flags.Config)
	}
	return ui.Command(words...)
}
