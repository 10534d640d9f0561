package deploy

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/workload"
)

const (
	waitKind    = "deploy.wait"
	waitTimeout = 15 * time.Minute
)

type waitOptions struct {
	Deps
	want expectation

	containers []string
	match      string
	settle     string
	onDelete   string
	since      string
	namespace  string
	heartbeat  time.Duration

	pullSecrets bool
	insecure    []string

	cfg rollout.Config // the flags that are a rollout's own
}

func newWait(d Deps) *cobra.Command {
	o := &waitOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "wait NS/[KIND/]NAME...", Short: "Wait until a commit is what workloads run, and healthy",
		Long: `Wait until each workload runs the commit (default: HEAD), completely.

First the workload's image must be the commit's, then the rollout of exactly
that revision must be finished and stay so for a moment; both are needed in one
and the same observation. A rollout that cannot succeed ends as soon as that is
certain, with the cause; one that is merely slow is waited for.

NS/NAME is a Deployment. KIND is deployment, statefulset, daemonset or cronjob
(deploy, sts, ds, cj). With -n NAMESPACE also NAME and KIND/NAME.`,
		Example: `  homelab deploy wait shop/web
  homelab deploy wait shop/web shop/sts/db --sha 3f9c2ab --timeout 10m
  homelab deploy wait -n shop web api --accept-newer --json`,
		Tier: verb.Read, Kind: waitKind,
		Codes: []fault.Kind{
			fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Unreachable, fault.Timeout,
		},
		Args: func(args []string) error {
			if len(args) == 0 {
				return errors.New("needs at least one workload: NAMESPACE/[KIND/]NAME")
			}
			return nil
		},
	}, func(c *cobra.Command, args []string) error { return o.run(c, args) })
	d.Flags.Network(c, waitTimeout)
	o.flags(c)
	return c
}

func (o *waitOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.want.sha, "sha", "", "the `COMMIT`, tag or build id that should run; default: HEAD")
	f.StringVar(&o.want.image, "image", "", "the image `REFERENCE` that should run")
	f.StringVar(&o.want.digest, "digest", "", "the image `DIGEST` that should run")
	f.BoolVar(&o.want.noGate, "no-image-gate", false, "wait for whatever rolls out, whichever image it is")
	f.StringSliceVar(&o.containers, "container", nil, "only these `CONTAINERS` are gated")
	f.StringVar(&o.match, "match", "auto", "`HOW` the commit shows: auto, tag, annotation[:KEY], label or digest")
	f.BoolVar(&o.cfg.AcceptNewer, "accept-newer", false, "a commit that contains the wanted one will do")
	f.StringVar(&o.settle, "settle", "auto", "a finished rollout must stay so for `DUR`; auto: 3s, 10s without a readiness probe")
	f.String("context", "", "the kubeconfig's `CONTEXT`")
	f.String("kubeconfig", "", "the kubeconfig `FILE`")
	f.StringVarP(&o.namespace, "namespace", "n", "", "the `NAMESPACE` of names without one")
	f.DurationVar(&o.heartbeat, "heartbeat", 30*time.Second, "off a terminal, say how it stands when nothing happened for `DUR`; 0: never")

	f.DurationVar(&o.cfg.ImagePullGrace, "image-pull-grace", time.Minute, "an image that cannot be pulled may be missing for `DUR`")
	f.DurationVar(&o.cfg.ReadinessGrace, "readiness-grace", 0, "a running container may be unready for `DUR`; 0: for ever")
	f.DurationVar(&o.cfg.UnschedulableGrace, "unschedulable-grace", 0, "a pod may wait for a node for `DUR`; 0: for ever")
	f.Int32Var(&o.cfg.MaxRestarts, "max-restarts", 3, "`N` restarts of a container are a crash loop")
	f.BoolVar(&o.cfg.WaitCreate, "wait-create", false, "a workload that does not exist yet is waited for")
	f.BoolVar(&o.cfg.FollowRecreate, "follow-recreate", false, "go on with a workload that is deleted and created anew")
	f.BoolVar(&o.cfg.RequireRunning, "require-running", false, "a workload scaled to zero has failed")
	f.BoolVar(&o.cfg.WaitTerminated, "wait-terminated", false, "also wait for old pods to be gone")
	f.BoolVar(&o.cfg.IgnoreProgressDeadline, "ignore-progress-deadline", false, "do not end at the workload's own progress deadline")
	f.BoolVar(&o.cfg.IgnoreNotReadyNodes, "ignore-not-ready-nodes", false, "leave out nodes that are not ready (DaemonSet)")
	f.StringVar(&o.onDelete, "on-delete", "fail", "old pods under the OnDelete strategy: `fail or wait`")
	f.BoolVar(&o.cfg.AllowPartition, "allow-partition", false, "a partition that keeps every pod will do (StatefulSet)")
	f.BoolVar(&o.cfg.AllowZero, "allow-zero", false, "a DaemonSet that no node runs will do")
	f.BoolVar(&o.cfg.AllowUnmatchable, "allow-unmatchable", false, "wait also where nothing could ever show the commit")
	f.StringVar(&o.since, "changed-since", "", "a restart or another digest since `TIME` (RFC 3339, or now) will do")
	f.BoolVar(&o.pullSecrets, "use-pull-secrets", false, "ask registries with the workload's pull secrets")
	f.StringSliceVar(&o.insecure, "insecure-registry", nil, "`HOST`s whose registry is asked by plain http")
}

// configs checks every flag and returns what is asked of each workload, before
// anything is contacted.
func (o *waitOptions) configs(ctx context.Context, c *cobra.Command, args []string) ([]rollout.Config, []workload.Ref, []string, *git.Repo, error) {
	help := c.CommandPath() + " --help"
	none := func(err error) ([]rollout.Config, []workload.Ref, []string, *git.Repo, error) {
		return nil, nil, nil, nil, err
	}
	if err := o.Flags.Check(c); err != nil {
		return none(err)
	}
	for _, name := range []string{"image", "digest", "container", "context", "kubeconfig", "namespace", "changed-since"} {
		if fl := c.Flags().Lookup(name); fl.Changed && (fl.Value.String() == "" || fl.Value.String() == "[]") {
			return none(fault.Usagef(help, "--%s is empty", name))
		}
	}
	targets, err := parseTargets(args, o.namespace, help)
	if err != nil {
		return none(err)
	}
	base := o.cfg
	if err := o.choices(&base, help); err != nil {
		return none(err)
	}
	repo, err := o.Checkout(ctx)
	if err != nil {
		return none(fault.New(fault.Usage, ui.Clean(err.Error()), "").From(err))
	}
	o.want.shaGiven, o.want.changed = c.Flags().Changed("sha"), o.since != ""
	expected, warnings, err := o.want.resolve(ctx, repo, help)
	if err != nil {
		return none(err)
	}
	base.Expected, base.NoGate, base.Containers = expected, o.want.noGate, o.containers
	var out []rollout.Config
	for _, t := range targets {
		if t.Kind == rollout.CronJob && o.want.noGate {
			return none(fault.Usagef(help, "%s is a CronJob: without the image gate there is nothing to wait for", t))
		}
		cfg := base
		cfg.Kind, cfg.Namespace, cfg.Name = t.Kind, t.Namespace, t.Name
		out = append(out, cfg)
	}
	return out, targets, warnings, repo, nil
}

// choices reads the flags that are words.
func (o *waitOptions) choices(cfg *rollout.Config, help string) error {
	how, key, keyed := strings.Cut(o.match, ":")
	switch m := rollout.Match(how); m {
	case rollout.MatchAuto, rollout.MatchTag, rollout.MatchAnnotation, rollout.MatchLabel, rollout.MatchDigest:
		if keyed && (m != rollout.MatchAnnotation || key == "") {
			return fault.Usagef(help, "--match %s: only annotation takes a key, as annotation:KEY", ui.Clean(o.match))
		}
		cfg.Match, cfg.Key = m, key
	default:
		return fault.Usagef(help, "--match is auto, tag, annotation[:KEY], label or digest, not %s", ui.Clean(o.match))
	}
	switch p := rollout.OnDeletePolicy(o.onDelete); p {
	case rollout.OnDeleteFail, rollout.OnDeleteWait:
		cfg.OnDelete = p
	default:
		return fault.Usagef(help, "--on-delete is fail or wait, not %s", ui.Clean(o.onDelete))
	}
	if o.settle != "auto" {
		d, err := time.ParseDuration(o.settle)
		if err != nil || d < 0 {
			return fault.Usagef(help, "--settle is auto or a duration such as 5s, not %s", ui.Clean(o.settle))
		}
		cfg.Settle = &d
	}
	if o.since != "" {
		at, err := time.Parse(time.RFC3339, o.since)
		if o.since == "now" {
			at, err = time.Now(), nil
		}
		if err != nil {
			return fault.Usagef(help, "--changed-since is a time such as 2026-01-31T15:04:05Z, or now, not %s", ui.Clean(o.since))
		}
		cfg.ChangedSince = at
	}
	if cfg.ImagePullGrace < 0 || cfg.ReadinessGrace < 0 || cfg.UnschedulableGrace < 0 || o.heartbeat < 0 {
		return fault.Usagef(help, "a duration must not be negative")
	}
	if cfg.MaxRestarts < 1 {
		return fault.Usagef(help, "--max-restarts must be at least 1")
	}
	if d := o.want.digest; d != "" && !strings.HasPrefix(d, "sha256:") {
		return fault.Usagef(help, "--digest is sha256:..., not %s", ui.Clean(d))
	}
	return nil
}

func (o *waitOptions) run(c *cobra.Command, args []string) error {
	ctx, cancel := verb.Bound(c.Context(), o.Flags.Timeout)
	defer cancel()
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		e := verb.Fault(err)
		return verb.Finish(o.IO, &Result{Header: verb.NewFailure(waitKind, e).Header, Targets: []workload.Target{}}, e.Kind, e)
	}
	began := time.Now()
	configs, targets, warnings, repo, err := o.configs(ctx, c, args)
	if err != nil {
		return fail(err)
	}
	conn, err := o.Cluster(ctx, o.namespace)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	images, err := o.Images(ctx, conn, ImageOptions{Insecure: o.insecure, UsePullSecrets: o.pullSecrets})
	if err != nil {
		return fail(err)
	}
	for i := range configs {
		configs[i].WithPipelines = conn.WithCI
		if o.Flags.Timeout > 0 {
			configs[i].Deadline = conn.Cluster.Now().Add(o.Flags.Timeout - time.Since(began))
		}
	}
	tell := workload.NewTeller(o.IO, targets)
	for _, w := range warnings {
		tell.Warn(w)
	}
	tell.Begin(ctx, o.heartbeat)
	defer tell.Close()
	sources := rollout.Sources{Images: images}
	if repo != nil && configs[0].Expected.Commit != "" {
		sources.History = &workload.History{Repo: repo, Commit: git.Commit(configs[0].Expected.Commit)}
	}
	if o.Pipeline != nil && conn.WithCI && configs[0].Expected.Commit != "" {
		commit := configs[0].Expected.Commit
		sources.Pipeline = func(ctx context.Context) *rollout.PipelineFact { return o.Pipeline(ctx, commit) }
	}
	verdicts := rollout.Wait(ctx, conn.Cluster, configs, sources, tell.Update)
	return o.finish(ctx, c, conn, targets, verdicts, tell)
}

// finish prints what each workload came to.
func (o *waitOptions) finish(ctx context.Context, c *cobra.Command, conn Conn, targets []workload.Ref, verdicts []rollout.Verdict, tell *workload.Teller) error {
	r := &Result{Targets: []workload.Target{}}
	kinds := make([]fault.Kind, len(verdicts))
	for i, v := range verdicts {
		kinds[i] = rollout.KindOf(v.Outcome, context.Cause(ctx))
		next := v.Next
		if next == "" && v.Repeat != nil {
			next = o.resume(c, targets[i], v)
		}
		if next == "" && kinds[i] == fault.Denied {
			next = doctor(c, targets[i])
		}
		out := workload.View(conn.Context, targets[i], v, kinds[i], next, tell.Took(i))
		r.Targets = append(r.Targets, out)
	}
	tell.Explain(verdicts, r.Targets)
	worst := fault.Worst(kinds...)
	r.Header = headline(targets, r.Targets, kinds, worst)
	return verb.Finish(o.IO, r, worst, nil)
}

// resume returns the command that waits on for one workload, with every flag
// that was given and those that the verdict adds.
func (o *waitOptions) resume(c *cobra.Command, t workload.Ref, v rollout.Verdict) string {
	words := []string{"homelab", "deploy", "wait", t.String()}
	if !o.want.shaGiven && v.Expected.Commit != "" {
		words = append(words, "--sha", v.Expected.Commit)
	}
	words = append(words, given(c)...)
	return ui.Command(append(words, v.Repeat...)...)
}

// doctor returns the command that looks at the credentials and at what they may
// read where the workload is.
func doctor(c *cobra.Command, t workload.Ref) string {
	words := []string{"homelab", "doctor", "--namespace", t.Namespace}
	for _, name := range []string{"config", "context", "kubeconfig"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			words = append(words, "--"+name, f.Value.String())
		}
	}
	return ui.Command(words...)
}

// given returns the flags of the command line that a command continuing it
// must repeat.
func given(c *cobra.Command) []string {
	var out []string
	for _, name := range flagNames(c) {
		switch name {
		case "json", "jsonl", "quiet", "verbose", "color", "namespace":
			continue
		}
		fl := c.Flags().Lookup(name)
		if !fl.Changed {
			continue
		}
		switch fl.Value.Type() {
		case "bool":
			out = append(out, "--"+name)
		case "stringSlice":
			values, err := c.Flags().GetStringSlice(name)
			if err == nil {
				out = append(out, "--"+name, strings.Join(values, ","))
			}
		default:
			out = append(out, "--"+name, fl.Value.String())
		}
	}
	return out
}

// flagNames lists a command's flags in their order.
func flagNames(c *cobra.Command) []string {
	var out []string
	c.Flags().VisitAll(func(f *pflag.Flag) { out = append(out, f.Name) })
	return out
}
