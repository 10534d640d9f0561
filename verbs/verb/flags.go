package verb

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
)

// Flags are the flags that verbs share. One value is filled per run, whatever
// the verb.
type Flags struct {
	JSON, JSONL, Quiet, Verbose bool
	Color                       string
	Config                      string

	Repo         string
	Server       string
	Dial         string
	InsecureHTTP bool
	Timeout      time.Duration
}

// Output adds the flags every verb has.
func (f *Flags) Output(set *pflag.FlagSet) {
	set.BoolVar(&f.JSON, "json", false, "print one JSON object at the end")
	set.BoolVar(&f.JSONL, "jsonl", false, "print one JSON event per line as it happens, the result last")
	set.BoolVarP(&f.Quiet, "quiet", "q", false, "do not tell the story on stderr")
	set.BoolVarP(&f.Verbose, "verbose", "v", false, "tell requests and retries on stderr, secrets redacted")
	set.StringVar(&f.Color, "color", "auto", "`WHEN` to colour: auto, always or never")
	set.StringVar(&f.Config, "config", "", "read the user configuration from `FILE`")
}

// Network adds the flags of verbs that ask the CI server. timeout is the
// default of --timeout.
func (f *Flags) Network(c *cobra.Command, timeout time.Duration) {
	set := c.Flags()
	set.StringVar(&f.Repo, "repo", "", "repository as `OWNER/NAME or ID`; default: the checkout's remote")
	set.StringVar(&f.Server, "server", "", "Woodpecker's `URL`")
	set.StringVar(&f.Dial, "dial", "", "reach the server at `ADDR[:PORT]` instead of asking DNS; its name stays the URL's")
	set.BoolVar(&f.InsecureHTTP, "insecure-http", false, "allow plain http to other hosts than loopback")
	// The defaults differ, and a flag writes its default as soon as it is made:
	// each verb keeps its own value until it runs.
	own := timeout
	set.DurationVar(&own, "timeout", timeout, "end after `DUR`, requests included; 0 means never")
	c.PreRun = func(*cobra.Command, []string) { f.Timeout = own }
}

// Mode returns the form of the result. Asking for both JSON forms is a usage
// error.
func (f *Flags) Mode() (ui.Mode, error) {
	switch {
	case f.JSON && f.JSONL:
		return ui.JSON, fault.Usagef("", "--json and --jsonl exclude each other")
	case f.JSON:
		return ui.JSON, nil
	case f.JSONL:
		return ui.JSONL, nil
	}
	return ui.Text, nil
}

// Check refuses values no verb can use, before anything is contacted.
func (f *Flags) Check(c *cobra.Command) error {
	help := c.CommandPath() + " --help"
	if f.Timeout < 0 {
		return fault.Usagef(help, "--timeout must not be negative")
	}
	for _, name := range []string{"repo", "server", "dial", "config"} {
		if fl := c.Flags().Lookup(name); fl != nil && fl.Changed && fl.Value.String() == "" {
			return fault.Usagef(help, "--%s is empty", name)
		}
	}
	_, err := f.Mode()
	return err
}

// Carried returns the shared flags that were given and that a command meant to
// continue this one must repeat.
func (f *Flags) Carried(c *cobra.Command) []string {
	var out []string
	for _, name := range []string{"server", "dial", "config"} {
		if fl := c.Flags().Lookup(name); fl != nil && fl.Changed {
			out = append(out, "--"+name, fl.Value.String())
		}
	}
	if f.InsecureHTTP {
		out = append(out, "--insecure-http")
	}
	return out
}

// Again returns c's command line as it was given, without what only says how
// to print: the command that does the same once more.
func Again(c *cobra.Command) string { return AgainWith(c, c.Flags().Args()...) }

// AgainWith is Again with other arguments than those that were given.
func AgainWith(c *cobra.Command, args ...string) string {
	words := append(strings.Fields(c.CommandPath()), args...)
	c.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "json", "jsonl", "quiet", "verbose", "color":
			return
		}
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			for _, x := range v.GetSlice() {
				words = append(words, "--"+f.Name, x)
			}
		default:
			if f.Value.Type() == "bool" {
				words = append(words, "--"+f.Name+"="+f.Value.String())
				if f.Value.String() == "true" {
					words[len(words)-1] = "--" + f.Name
				}
				return
			}
			words = append(words, "--"+f.Name, f.Value.String())
		}
	})
	return ui.Command(words...)
}
