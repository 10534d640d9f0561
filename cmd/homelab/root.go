package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
	"homelab/verbs/about"
	"homelab/verbs/ci"
	configverbs "homelab/verbs/config"
	"homelab/verbs/deploy"
	"homelab/verbs/deployment"
	"homelab/verbs/doctor"
	"homelab/verbs/legacy"
	"homelab/verbs/verb"
	"homelab/verbs/work"
)

// process is what a run gets from the operating system. Tests give their own.
type process struct {
	streams *ui.Streams
	env     config.Env
	dir     string
	version string
	name    string // what it was called by; "" is homelab
	// outlive makes the process go on when nobody reads its output any more: what
	// a write verb has begun ends in order, whoever looks. nil: nothing to do.
	outlive func()
	signals *signals
}

// run executes one command line and returns the exit code. Whatever happens,
// stdout gets exactly one result.
func run(ctx context.Context, args []string, p process) (code int) {
	a := &app{process: p, flags: &verb.Flags{}, older: older{is: legacy.Named(p.name)}}
	a.ran = func(*cobra.Command) {}
	root := a.root() //nolint:contextcheck // verbs get theirs when they run
	if a.older.is {
		root = a.olderRoot() //nolint:contextcheck // as above
	}
	root.SetArgs(args)
	// Before flags are parsed, what is said already obeys the ones that can be
	// recognised: a wrong flag under --json is told as JSON.
	_ = p.streams.Configure(a.settings(a.guess(args))) // the guessed values are valid
	p.streams.Redact(a.redact.String)
	for _, s := range p.env.Secrets() {
		a.redact.Add(s)
	}
	current := root
	defer func() {
		if r := recover(); r != nil {
			code = a.endOlder(a.bug(current, r, debug.Stack()))
		}
	}()
	a.ran = func(c *cobra.Command) { current = c }
	found, err := root.ExecuteContextC(ctx)
	if !a.older.is || current == root {
		current = found
	}
	return a.endOlder(a.end(ctx, current, err))
}

// end prints the result of a run whose verb could not, and returns the code.
func (a *app) end(ctx context.Context, c *cobra.Command, err error) int {
	var done *verb.Exit
	if err == nil || errors.As(err, &done) {
		return exitCode(err)
	}
	if ctx.Err() != nil && fault.KindOf(err) == fault.Bug {
		err = context.Cause(ctx)
	}
	e := verb.Fault(err)
	if e.Kind == fault.Usage && e.Next == "" {
		e.Next = c.CommandPath() + " --help"
	}
	if a.streams.Finished() {
		a.streams.Error(e)
		return exitCode(err)
	}
	if end := verb.Finish(a.streams, verb.NewFailure(kindOf(c), e), e.Kind, e); end != nil {
		return exitCode(end)
	}
	return exitCode(err)
}

// bug tells a panic: one sentence, the stack only under --verbose.
func (a *app) bug(c *cobra.Command, r any, stack []byte) int {
	for line := range strings.SplitSeq(strings.TrimSpace(string(stack)), "\n") {
		a.streams.Verbosef("%s", line)
	}
	e := fault.New(fault.Bug, fmt.Sprintf("a bug in homelab: %v", r), "").Because("run it again with --verbose to see the stack")
	if a.streams.Finished() {
		a.streams.Error(e)
		return e.Kind.Code()
	}
	return exitCode(verb.Finish(a.streams, verb.NewFailure(kindOf(c), e), fault.Bug, e))
}

func kindOf(c *cobra.Command) string {
	if info, ok := verb.InfoOf(c); ok && info.Kind != "" {
		return info.Kind
	}
	return "homelab"
}

// guess reads the output flags of a command line that may not parse.
func (a *app) guess(args []string) *verb.Flags {
	if a.older.is {
		return &verb.Flags{} // it has none of them
	}
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	f := &verb.Flags{
		JSON:  slices.Contains(args, "--json") || slices.Contains(args, "--json=true"),
		JSONL: slices.Contains(args, "--jsonl") || slices.Contains(args, "--jsonl=true"),
	}
	if f.JSON && f.JSONL {
		f.JSONL = false
	}
	return f
}

func (a *app) settings(f *verb.Flags) ui.Settings {
	mode, err := f.Mode()
	if err != nil {
		mode = ui.JSON
	}
	return ui.Settings{
		Mode: mode, Quiet: f.Quiet, Verbose: f.Verbose, Color: f.Color,
		NoColor: a.env.NoColor(), Dumb: a.env.DumbTerminal(), CI: a.env.CI(), Script: a.script(),
	}
}

// root builds the command tree. Nothing is read and nothing dialled by it.
func (a *app) root() *cobra.Command {
	root := verb.Group("homelab", "Carry a commit to green in CI and running in the cluster",
		`homelab carries a commit from "done on my branch" to "green in CI" to "running
in the cluster", and says exactly where it stopped and why.`)
	root.Use = "homelab"
	a.flags.Output(root.PersistentFlags())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.Usagef(c.CommandPath()+" --help", "%s", ui.Clean(err.Error()))
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		a.current = c
		a.ran(c)
		if info, ok := verb.InfoOf(c); ok && info.Tier == verb.Write && a.outlive != nil {
			a.outlive()
		}
		if _, err := a.flags.Mode(); err != nil {
			return err
		}
		return a.streams.Configure(a.settings(a.flags))
	}
	root.SetOut(helpOut{a.streams.Out, &a.redact})
	root.SetErr(a.streams.Err)
	root.AddCommand(
		ci.New(a.ciDeps()),
		deploy.New(a.deployDeps()),
		deployment.New(a.deploymentDeps()),
		configverbs.New(a.configDeps()),
		work.New(a.workDeps()),
		doctor.New(a.doctorDeps()),
	)
	d := about.Deps{IO: a.streams, Version: a.version}
	root.AddCommand(about.NewManifest(d), about.NewVersion(d), about.NewCompletion(d), about.NewTables(d))
	root.SetHelpCommand(about.NewHelp(d))
	return root
}

// helpOut takes what is said beside results, in any form of output: help, and
// what a shell asks for while somebody types. It comes in whole lines.
type helpOut struct {
	out    io.Writer
	redact *transport.Redactor
}

func (w helpOut) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.out, w.redact.String(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
