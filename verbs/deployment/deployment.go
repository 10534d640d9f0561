// Package deployment holds the verbs that bring a deployment directory to a
// cluster and look at it there. They parse, call package stack, and phrase;
// what is done, and when it is called up, is decided there.
package deployment

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/kube"
	"homelab/pkg/stack"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/workload"
)

// Deps is all this group needs. cmd fills it; nothing is read or dialled
// before a func is called.
type Deps struct {
	IO    *ui.Streams
	Flags *verb.Flags
	// World joins what the workflows stand on; nothing is dialled by it. A usage
	// error for a configuration that cannot be used.
	World func(ctx context.Context, tell stack.Story) (*stack.World, error)
	// Checkout opens the repository around the working directory; nil and no
	// error outside of one.
	Checkout func(ctx context.Context) (*git.Repo, error)
	// WithCI says whether a CI server is configured.
	WithCI func(ctx context.Context) bool
}

// writeTimeout is the default of --timeout for verbs that bring something up.
const writeTimeout = 15 * time.Minute

// New returns the group's command.
func New(d Deps) *cobra.Command {
	g := &group{Deps: d}
	c := verb.Group("deployment", "Bring a deployment directory to its cluster, and look at it there", `Run what a deployment directory says.

The directory decides: which cluster, which namespace, which images. A stack is
up when each of its Deployments runs exactly the images that were rendered, all
of its pods, in one observation. What users keep on disk is never touched.`)
	c.PersistentFlags().StringVar(&g.dir, "dir", ".", "the deployment `DIRECTORY`")
	c.AddCommand(newStart(g), newStop(g), newRestart(g), newUpdate(g), newDiff(g), newHistory(g), newRollback(g), newRunJob(g), newPushImages(g))
	c.AddCommand(newStatus(g), newPs(g), newLogs(g), newExec(g), newVolumes(g), newPort(g))
	return c
}

// group is what every verb here shares.
type group struct {
	Deps
	dir string
}

// common are the flags of the verbs that write.
type common struct {
	g *group
	o stack.Options

	sha     string
	perform bool
	skip    bool
}

// flags adds what every verb that brings something up can be told.
func (w *common) flags(f *pflag.FlagSet) {
	w.plain(f)
	f.BoolVar(&w.o.NoWait, "no-wait", false, "end when everything is applied; nothing is verified then")
	f.StringToStringVar(&w.o.Images, "image", nil, "run `CONTAINER=REFERENCE` instead of what the files say")
	f.StringVar(&w.sha, "sha", "", "the images must also be of this `COMMIT`")
	f.StringSliceVar(&w.o.Containers, "container", nil, "only these `CONTAINERS` are looked at for --sha")
	f.BoolVar(&w.o.RollbackOnFailure, "rollback-on-failure", false, "when the wait fails, go back to the last good revision, and end with 1")
	f.StringSliceVar(&w.o.AcceptVolumes, "accept-volume", nil, "the data of this `VOLUME` was moved: its objects may be replaced")
}

// plain adds what also the verbs have that take something down.
func (w *common) plain(f *pflag.FlagSet) {
	f.BoolVar(&w.o.DryRun, "dry-run", false, "show the plan and change nothing")
	f.BoolVar(&w.o.Strict, "strict", false, "refuse what has no, or another, effect here")
	f.BoolVar(&w.o.NoHooks, "no-hooks", false, "go on without the stack's hooks")
	f.BoolVar(&w.o.AdoptNamespace, "adopt-namespace", false, "the directory was moved: take its namespace over")
}

// cluster adds who manages the kind cluster.
func (w *common) cluster(f *pflag.FlagSet) {
	f.BoolVar(&w.perform, "perform-cluster-management", false, "make, take over and delete the kind cluster with this deployment")
	f.BoolVar(&w.skip, "skip-cluster-management", false, "use the kind cluster as it is, never make or delete one")
}

// options checks the flags and completes what they come to. Nothing is
// contacted.
func (w *common) options(ctx context.Context, c *cobra.Command, word string) (stack.Options, error) {
	o, help := w.o, c.CommandPath()+" --help"
	if err := w.g.Flags.Check(c); err != nil {
		return o, err
	}
	if err := given(c); err != nil {
		return o, err
	}
	switch {
	case w.perform && w.skip:
		return o, fault.Usagef(help, "--perform-cluster-management and --skip-cluster-management exclude each other")
	case w.perform:
		o.Mode = kind.Perform
	case w.skip:
		o.Mode = kind.Skip
	}
	if len(o.Containers) > 0 && !c.Flags().Changed("sha") {
		return o, fault.Usagef(help, "--container says where --sha is looked for, and there is no --sha")
	}
	for name, ref := range o.Images {
		if name == "" || ref == "" || strings.ContainsAny(ref, " \t\r\n") {
			return o, fault.Usagef(help, "--image is CONTAINER=REFERENCE, not %s=%s", ui.Clean(name), ui.Clean(ref))
		}
	}
	if c.Flags().Changed("sha") {
		repo, err := w.g.Checkout(ctx)
		if err != nil {
			return o, fault.New(fault.Usage, ui.Clean(err.Error()), "").From(err)
		}
		warning, err := workload.Commit(ctx, repo, w.sha, &o.Expected, help)
		if err != nil {
			return o, err
		}
		if warning != "" {
			w.g.IO.Note(ui.L("warning: " + warning))
		}
	}
	o.Dir, o.Verb = w.g.dir, word
	o.CI = w.g.WithCI(ctx)
	if d := w.g.Flags.Timeout; d > 0 {
		o.Deadline = time.Now().Add(d - w.g.IO.Elapsed())
	}
	if o.RollbackOnFailure && o.NoWait {
		return o, fault.Usagef(help, "--rollback-on-failure and --no-wait exclude each other").
			Because("what is not waited for is not seen to fail")
	}
	o.Anew = func() (context.Context, context.CancelFunc, time.Time) {
		again, cancel := verb.Bound(c.Context(), w.g.Flags.Timeout)
		deadline, _ := again.Deadline()
		return again, cancel, deadline
	}
	return o, nil
}

// given refuses flags that say nothing: most likely a variable that is not set.
func given(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if v := f.Value.String(); (strings.TrimSpace(v) == "" || v == "[]") && err == nil {
			err = fault.Usagef(c.CommandPath()+" --help", "--%s is empty; give a value or leave it out", f.Name)
		}
	})
	return err
}

// codes are how a verb that brings something up can end.
func codes(more ...fault.Kind) []fault.Kind {
	return append([]fault.Kind{
		fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Unreachable, fault.Timeout, fault.Conflict, fault.Unsafe,
	}, more...)
}

// action is a workflow that a verb calls.
type action func(ctx context.Context, w *stack.World) (*stack.Outcome, error)

// do runs a workflow under the verb's time limit and prints what it came to.
func (g *group) do(c *cobra.Command, word string, prepare func(ctx context.Context) (action, error)) error {
	ctx, cancel := verb.Bound(c.Context(), g.Flags.Timeout)
	defer cancel()
	kind := "deployment." + word
	tell := newTeller(ctx, g.IO)
	defer tell.close()
	out := &stack.Outcome{}
	run, err := prepare(ctx)
	var w *stack.World
	if err == nil {
		w, err = g.World(ctx, tell)
	}
	if err == nil {
		out, err = run(ctx, w)
	}
	if err != nil && ctx.Err() != nil && !decided(err) {
		err = context.Cause(ctx)
	}
	return g.finish(c, kind, out, err, tell)
}

// decided tells whether err is a verdict of its own, which a context that ended
// meanwhile does not replace.
func decided(err error) bool {
	e, ok := errors.AsType[*fault.Error](err)
	return ok && !slices.Contains([]fault.Kind{fault.Unreachable, fault.Bug}, e.Kind)
}

// finish prints the one result.
func (g *group) finish(c *cobra.Command, kind string, out *stack.Outcome, err error, tell *teller) error {
	r := view(kind, out)
	r.diff = kind == "deployment.diff" || out.Plan != nil && c.Flags().Changed("dry-run")
	if err == nil {
		r.Header = ui.Header{Kind: kind, Verdict: out.Verdict, Reason: ui.Clean(out.Reason), Next: ui.NextCommand(ui.Clean(out.Next))}
		tell.explain(out, r.Targets)
		return verb.Finish(g.IO, r, out.Kind, nil)
	}
	e := g.worded(c, out.Deployment, err, true)
	if e.Kind == fault.Bug {
		return err
	}
	r.Header = verb.NewFailure(kind, e).Header
	if e.Kind == fault.Conflict {
		r.Verdict = "conflict"
	}
	return verb.Finish(g.IO, r, e.Kind, e)
}

// worded returns err, which was met while working on d, with the command that
// helps; what is wrong with files is told whole. again: the same command line is
// the next one when the verdict is not known.
func (g *group) worded(c *cobra.Command, d stack.Identity, err error, again bool) *fault.Error {
	if p, ok := errors.AsType[*file.Problems](err); ok {
		if len(p.List) > 1 {
			for _, x := range p.List {
				g.IO.Note(ui.L(ui.Clean(x.String())))
			}
		}
		err = p.Fault("")
	}
	e := verb.Fault(err)
	if e.Next != "" {
		return e
	}
	switch e.Kind { //nolint:exhaustive // the others have no command of their own
	case fault.Usage:
		e.Next = c.CommandPath() + " --help"
	case fault.Denied:
		if kube.IsDenied(err) && !kube.IsForbidden(err) {
			e.Next = doctorOf(d)
		}
	case fault.Timeout, fault.Unreachable, fault.Interrupted, fault.Terminated:
		if again {
			e.Next = verb.Again(c)
		}
	}
	return e
}

// doctorOf is the command that looks at d's own cluster; "" while it is not
// known which that is.
func doctorOf(d stack.Identity) string {
	switch d.Target {
	case file.K8s:
		return ui.Command("homelab", "doctor", "--kubeconfig", filepath.Join(d.Dir, "kubeconfig.yml"))
	case file.Kind:
		return ui.Command("homelab", "doctor", "--context", "kind-"+d.Cluster)
	case file.Compose:
	}
	return ""
}
