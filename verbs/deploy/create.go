package deploy

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/stackview"
)

const (
	createKind    = "deploy.create"
	createTimeout = 15 * time.Minute
)

type createOptions struct {
	Deps
	directory.Options
	strict  bool
	timeout time.Duration

	networkDir, peers string
}

func newCreate(d Deps) *cobra.Command {
	o := &createOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "create --spec-file FILE [--deployment-dir DIR] [-- ARGS]", Short: "Make a deployment directory of a spec file, or bring one up to date",
		Long: `Make a deployment directory of a spec file: everything "homelab deployment"
needs to bring the stack up. Spec, stack and compose files are judged whole
before anything is written; the directory is there completely or not at all.

With --update a directory is brought up to date: equal files stay untouched, the
old version of a changed one is kept as FILE.bak, and data/ and deployment.yml
are never touched. No cluster is changed.`,
		Example: `  homelab deploy create --spec-file spec.yml --deployment-dir shop-deployment
  homelab deploy create --spec-file spec.yml --deployment-dir shop-deployment --update --dry-run
  homelab deploy create --spec-file spec.yml --cluster kind-lab --json`,
		Tier: verb.Write, Kind: createKind, Args: func([]string) error { return nil },
		Codes: []fault.Kind{fault.OK, fault.Failed, fault.Timeout, fault.Unsafe},
	}, func(c *cobra.Command, args []string) error { return o.run(c, args) })
	f := c.Flags()
	f.StringVar(&o.SpecFile, "spec-file", "", "the spec `FILE`")
	f.StringVar(&o.Dir, "deployment-dir", "deployment-001", "the `DIR` to make, or to bring up to date")
	f.BoolVar(&o.Update, "update", false, "bring a directory that is there up to date")
	f.StringVar(&o.Options.Cluster, "cluster", "", "the kind cluster's `NAME`; default: the one that runs, else a new one")
	f.StringVar(&o.ID, "deployment-id", "", "the `ID` all names begin with; default: a fresh one")
	f.StringVar(&o.Stack, "stack", "", "the `STACK` this is expected to be of; the spec decides")
	f.BoolVar(&o.DryRun, "dry-run", false, "judge everything and say what would be written, and write nothing")
	f.BoolVar(&o.NoHooks, "no-hooks", false, "go on although the stack has hooks, without running them")
	f.StringVar(&o.networkDir, "network-dir", "", "the first argument of the stack's create hooks: a `DIRECTORY`")
	f.StringVar(&o.peers, "initial-peers", "", "the second argument of the stack's create hooks: a list of `PEERS`")
	f.BoolVar(&o.strict, "strict", false, "refuse what has no, or another, effect here")
	f.DurationVar(&o.timeout, "timeout", createTimeout, "end after `DUR`: a directory may be locked; 0 means never")
	return c
}

func (o *createOptions) run(c *cobra.Command, args []string) error {
	help := c.CommandPath() + " --help"
	if err := notEmpty(c); err != nil {
		return err
	}
	switch {
	case o.timeout < 0:
		return fault.Usagef(help, "--timeout must not be negative")
	case !c.Flags().Changed("spec-file"):
		return fault.Usagef(help, "--spec-file is missing")
	}
	if at := c.ArgsLenAtDash(); len(args) > 0 && at != 0 {
		return fault.Usagef(help, "%s takes no arguments but those of hooks after --, got %q", c.CommandPath(), args[0])
	}
	if len(args) > 0 || o.networkDir != "" || o.peers != "" {
		o.HookArgs = append([]string{o.networkDir, o.peers}, args...)
	}
	ctx, cancel := verb.Bound(c.Context(), o.timeout)
	defer cancel()
	env, err := o.Stacks.Env(ctx)
	if err != nil {
		return err
	}
	o.Env, o.Clusters, o.Version = env, o.Stacks.Clusters, o.Stacks.Version
	o.Verb, o.Now, o.Random, o.Rules = "deploy create", time.Now(), rand.Reader, o.Stacks.Rules
	o.Hooks = o.Stacks.Hooks(env.WorkDir, func(line string) { o.IO.Note(ui.L(ui.Clean(line))) })
	o.Waiting = func(h directory.Holder) {
		o.IO.Note(ui.L("waiting for " + h.String() + ", which has " + o.Dir + " locked"))
	}
	if o.strict {
		o.Judge = strict
	}
	r := newStackResult(createKind)
	r.subject = ui.Clean(o.Dir)
	got, err := directory.Create(ctx, o.Options)
	if got != nil {
		r.Notices = clean(got.Notices)
		tell(o.IO, r.Notices)
	}
	if err != nil {
		return r.failed(o.IO, err, help)
	}
	o.phrase(r, got)
	r.Deployment = viewDeployment(got)
	d := got.Directory
	r.Source = &sourceJSON{Spec: placeJSON{Path: env.Path(o.SpecFile)}, Stack: placeJSON{Path: got.StackDir}}
	r.Plan = &stackview.Plan[string]{
		Create: notNil(got.Plan.Create), Update: notNil(got.Plan.Update), Replace: []string{}, Delete: notNil(got.Plan.Delete), Unchanged: got.Plan.Unchanged,
	}
	r.Volumes, r.Edited, r.Vanished = volumesOf(d.Spec, got.Rendered), got.Edited, got.Vanished
	return verb.Finish(o.IO, r, fault.OK, nil)
}

func viewDeployment(got *directory.Outcome) *stackview.Deployment {
	d := got.Directory
	rules, cluster := fmt.Sprintf("v%d", d.Deployment.Rules), d.Cluster()
	ns := d.Namespace()
	return &stackview.Deployment{
		Dir: &got.Dir, ID: &d.Deployment.ID, Cluster: &cluster, Namespace: &ns, Target: d.Spec.Target, Stack: d.Stack.Name, Render: &rules,
	}
}

// phrase says what was done, and what comes next.
func (o *createOptions) phrase(r *stackResult, got *directory.Outcome) {
	d, p := got.Directory, got.Plan
	start := ui.Command("homelab", "deployment", "start", "--dir", o.Dir)
	diff := ui.Command("homelab", "deployment", "update", "--dir", o.Dir)
	counts := fmt.Sprintf("%d new, %d changed, %d retired, %d unchanged", len(p.Create), len(p.Update), len(p.Delete), p.Unchanged)
	switch {
	case o.DryRun && !o.Update:
		r.Verdict, r.Reason = "changes", fmt.Sprintf("%d files would be written; nothing was", len(p.Create))
	case !p.Changes():
		r.Verdict, r.Reason = "same", fmt.Sprintf("all %d files are up to date", p.Unchanged)
	case o.DryRun:
		r.Verdict, r.Reason = "changes", counts+"; nothing was written"
	case o.Update:
		r.Verdict, r.Reason, r.Next = "changes", counts, ui.NextCommand(diff)
	default:
		r.Verdict = "created"
		r.Reason = fmt.Sprintf("stack %s as %s, namespace %s", d.Stack.Name, d.Deployment.ID, d.Namespace())
		if d.Spec.Target == file.Kind {
			r.Reason += ", kind cluster " + d.Cluster()
		}
		r.Next = ui.NextCommand(start)
	}
	r.Reason = ui.Clean(r.Reason)
}
