package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/legacy"
	"homelab/verbs/verb"
)

// older is a run under the name of laconic-so: the same verbs, told as that
// tool's scripts read it.
type older struct {
	is      bool
	look    bool // the code says nothing of what was seen
	payload bool // the story is not on stdout
	local   bool // --local-stack
}

// olderRoot builds the command tree of that name.
func (a *app) olderRoot() *cobra.Command {
	tree := a.root()
	root := legacy.New(legacy.Deps{
		IO: a.streams, Tree: tree,
		Run: func(ctx context.Context, c legacy.Call) error { return a.runOlder(ctx, tree, c) },
		Clusters: func(ctx context.Context) ([]string, error) {
			all, err := a.kindClusters(ctx)
			var names []string
			for _, c := range all {
				names = append(names, c.Name)
			}
			return names, err
		},
	})
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		a.ran(c)
		return nil
	}
	root.SetOut(helpOut{a.streams.Out, &a.redact})
	root.SetErr(a.streams.Err)
	return root
}

// runOlder runs a verb under its own name.
func (a *app) runOlder(ctx context.Context, tree *cobra.Command, c legacy.Call) error {
	a.older.look, a.older.payload, a.older.local = c.Look, c.Payload, c.LocalStack
	said := &verb.Flags{Quiet: c.Quiet, Verbose: c.Verbose}
	if err := a.streams.Configure(a.settings(said)); err != nil {
		return err
	}
	for _, n := range c.Notices {
		a.streams.Note(ui.L("notice: " + n))
	}
	if a.older.local {
		if _, err := a.besides(); err != nil {
			return err
		}
	}
	// Output flags stand right behind the verb's words: what follows an
	// argument may belong to a command in a container.
	at := slices.IndexFunc(c.Args, func(w string) bool { return strings.HasPrefix(w, "-") })
	if at < 0 {
		at = len(c.Args)
	}
	var output []string
	if c.Quiet {
		output = append(output, "--quiet")
	}
	if c.Verbose {
		output = append(output, "--verbose")
	}
	tree.SetArgs(slices.Insert(slices.Clone(c.Args), at, output...))
	_, err := tree.ExecuteContextC(ctx)
	return err
}

// script is how results are told.
func (a *app) script() ui.Script {
	switch {
	case !a.older.is:
		return ui.NoScript
	case a.older.payload:
		return ui.ScriptLook
	}
	return ui.ScriptStory
}

// besides is where repositories lie for --local-stack: beside the
// stack-orchestrator that is around the working directory.
func (a *app) besides() (string, error) {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return "", err
	}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if filepath.Base(d) == "stack-orchestrator" {
			return filepath.Dir(d), nil
		}
	}
	return "", fault.Usagef(legacy.Name+" --help", "--local-stack is for a working directory inside of stack-orchestrator, which %s is not", ui.Clean(dir))
}

// endOlder says on stdout that the run failed, unless that was said, and
// returns the code: a look that was possible, or will be, ends with 0.
func (a *app) endOlder(code int) int {
	if !a.older.is || code == fault.OK.Code() {
		return code
	}
	final := []int{fault.Usage.Code(), fault.Bug.Code(), fault.Interrupted.Code(), fault.Terminated.Code()}
	if a.older.look && !slices.Contains(final, code) {
		return fault.OK.Code()
	}
	if told, last := a.streams.Told(); !told && last != nil {
		a.streams.Error(fault.New(fault.Failed, last.Head().Reason, ""))
	}
	return code
}
