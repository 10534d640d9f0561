// Package legacy reads the command line of laconic-so, so that scripts written
// for it go on working when this program is called by that name. It does
// nothing itself: every command is put into this program's own words and run by
// the same verbs. What differs from them by default, and nowhere else, is
// decided here.
package legacy

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// Name is what the program is called by to speak this way.
const Name = "laconic-so"

// Named tells whether a program that was called by that path speaks this way:
// packages of the tool carry a version behind its name.
func Named(path string) bool { return strings.HasPrefix(filepath.Base(path), Name) }

// Call is a command line in this program's own words.
type Call struct {
	Args []string // the verb's words, then flags and arguments
	// Look: scripts ask in a loop until something is there, so the code is 0
	// whatever was seen.
	Look    bool
	Payload bool // stdout has nothing but what was asked for, and errors
	// LocalStack: repositories lie beside the one that is around the working
	// directory, not where they usually do.
	LocalStack     bool
	Quiet, Verbose bool
	Notices        []string // what was given and has no effect
}

// Deps is what running a command line takes.
type Deps struct {
	IO *ui.Streams
	// Run runs the verb of this program. Its result is printed by it.
	Run func(ctx context.Context, c Call) error
	// Tree is this program's commands: a flag or a verb it does not have is
	// refused by name.
	Tree *cobra.Command
	// Clusters lists the kind clusters of this machine that run.
	Clusters func(ctx context.Context) ([]string, error)
}

// global are the flags that stand before the first word.
type global struct {
	Deps
	stack                                     string
	quiet, verbose, dry, local, debug, onward bool
}

// New returns the whole command tree.
func New(d Deps) *cobra.Command {
	g := &global{Deps: d}
	root := verb.Group(Name, "Deploy stacks, with the command line of laconic-so", `This is homelab, called by the name of laconic-so: it takes that tool's command
line for stacks and deployments, and prints what scripts read on stdout.
"homelab deploy --help" and "homelab deployment --help" show all it can do.`)
	f := root.PersistentFlags()
	f.StringVar(&g.stack, "stack", "", "the `STACK`: a directory, or a name below the configured roots")
	f.BoolVar(&g.quiet, "quiet", false, "do not tell the story")
	f.BoolVar(&g.verbose, "verbose", false, "tell requests and retries on stderr")
	f.BoolVar(&g.dry, "dry-run", false, "say what would be done and change nothing")
	f.BoolVar(&g.local, "local-stack", false, "look for repositories beside the stack-orchestrator that is around the working directory")
	f.BoolVar(&g.debug, "debug", false, "the same as --verbose")
	f.BoolVar(&g.onward, "continue-on-error", false, "has no effect on these verbs")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.Usagef(c.CommandPath()+" --help", "%s", ui.Clean(err.Error()))
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	root.AddCommand(g.deploy("deploy"), g.deploy("deploy-system"), g.deployment(), g.version())
	for _, name := range others() {
		root.AddCommand(other(name))
	}
	return root
}

// others are the tool's verbs that are no part of this program.
func others() []string {
	return []string{
		"fetch-stack", "setup-repositories", "build-containers", "fetch-containers", "build-npms", "build-webapp", "run-webapp",
		"deploy-webapp", "deploy-webapp-from-registry", "undeploy-webapp-from-registry", "publish-deployer-to-registry",
		"publish-deployment-auction", "handle-deployment-auction", "request-webapp-deployment", "request-webapp-undeployment", "update",
	}
}

// other refuses a verb that is known and not part of this program, whatever
// follows it.
func other(name string) *cobra.Command {
	c := leaf(name, "Not part of this program", nil, func(c *cobra.Command, _ []string) error {
		return fault.Usagef(Name+" --help", "%s is not part of this program", c.CommandPath()).
			Because("it deploys stacks; building and fetching them is left to the original tool")
	})
	c.Hidden, c.DisableFlagParsing = true, true
	c.Args = cobra.ArbitraryArgs
	return c
}

// leaf is a command with its checks; what it does to the world is declared by
// the verb it calls.
func leaf(use, short string, args verb.Args, run func(c *cobra.Command, args []string) error) *cobra.Command {
	c := verb.New(verb.Spec{Use: use, Short: short, Args: args, Tier: verb.Write}, run)
	c.DisableFlagsInUseLine = false
	return c
}

func anyArgs([]string) error { return nil }

func (g *global) version() *cobra.Command {
	return leaf("version", "Print the version of this program", nil, func(c *cobra.Command, _ []string) error {
		return g.call(c, line("version"))
	})
}

// words is a command line that is being put together.
type words struct {
	verb  []string
	flags []string
	names []string // of the flags
	args  []string
	look  bool
	plain bool // what it prints is what was asked for
	notes []string
	dry   bool // a dry run needs no flag: nothing is changed anyway
}

func line(verb ...string) *words { return &words{verb: verb} }

// set adds a flag.
func (w *words) set(name, value string) {
	w.flags = append(w.flags, "--"+name+"="+value)
	w.names = append(w.names, name)
}

// on adds a flag that is given or not.
func (w *words) on(name string) {
	w.flags = append(w.flags, "--"+name)
	w.names = append(w.names, name)
}

// note says that what was given has no effect.
func (w *words) note(text string) { w.notes = append(w.notes, text) }

// same hands on the flags of c that were given and are called the same in this
// program.
func (w *words) same(c *cobra.Command, names ...string) {
	for _, name := range names {
		f := c.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			for _, x := range v.GetSlice() {
				w.set(name, x)
			}
		default:
			w.set(name, f.Value.String())
		}
	}
}

// call completes the command line and runs it. What this program has no verb or
// flag for is refused by the name it was given.
func (g *global) call(c *cobra.Command, w *words) error {
	help := c.CommandPath() + " --help"
	target, rest, err := g.Tree.Find(w.verb)
	if _, is := verb.InfoOf(target); err != nil || len(rest) > 0 || !is {
		return fault.Usagef(help, "%s is not supported yet", c.CommandPath())
	}
	if g.dry && !w.dry {
		if lookup(target, "dry-run") == nil {
			return fault.Usagef(help, "%s has no dry run", c.CommandPath())
		}
		w.on("dry-run")
	}
	for _, name := range w.names {
		if lookup(target, name) == nil {
			return fault.Usagef(help, "%s: --%s is not supported yet", c.CommandPath(), name)
		}
	}
	if g.onward {
		w.note("--continue-on-error has no effect on this verb")
	}
	return g.Run(c.Context(), Call{
		Args: slices.Concat(w.verb, w.flags, w.args), Look: w.look, Payload: w.look || w.plain, Notices: w.notes,
		LocalStack: g.local, Quiet: g.quiet, Verbose: g.verbose || g.debug,
	})
}

func lookup(c *cobra.Command, name string) *pflag.Flag {
	if f := c.Flags().Lookup(name); f != nil {
		return f
	}
	return c.InheritedFlags().Lookup(name)
}
