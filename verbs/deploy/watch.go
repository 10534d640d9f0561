package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
	"homelab/verbs/verb"
)

// WatchDeps is what the watches need.
type WatchDeps struct {
	// Env is what a watch takes from the process's surroundings.
	Env func() WatchEnv
	// Build understands and makes source, target and probes. Nothing is
	// contacted; what cannot be understood is a usage error. From, To, Source,
	// Target, Prober, Desk, AfterRollback, NeedObserve and what follows from
	// them for Config are filled in.
	Build func(ctx context.Context, s WatchSpec) (run.Options, error)
	// Together is Build for several watches of one process: what they have in
	// common they ask and reach together.
	Together func(all []WatchSpec) (build func(ctx context.Context, s WatchSpec) (run.Options, error))
	// Signals takes the signals of the process over: the first and the second
	// are sent, and the process is given patience to end after the first. A
	// hangup ends nothing any more but is sent to its own channel, nor does an
	// output that nobody reads.
	Signals func(patience time.Duration) WatchSignals
	// Secret reads a file that holds one secret, and keeps it out of all output.
	Secret func(path string) (transport.Secret, error)
	// Notify is where the service manager wants to be told; zero: none does.
	Notify func() run.Notify
}

// WatchSignals is what is sent to a watch.
type WatchSignals struct {
	Stop   <-chan fault.Kind
	Reload <-chan struct{}
}

// WatchEnv is what a watch takes from the process's surroundings.
type WatchEnv struct {
	Dir        string                                      // the working directory
	State      string                                      // where state is kept by default; "" nowhere
	SSHCommand string                                      // what somebody with a restricted key asked for
	File       func(flag string) (path string, named bool) // the watches file
}

// The heartbeat of a run somebody waits for, and of one nobody looks at.
const (
	onceHeartbeat   = 30 * time.Second
	daemonHeartbeat = time.Hour
	endPatience     = 15 * time.Second // beyond a hook's grace: it is killed, and the result is told
)

type watchOptions struct {
	Deps
	watchFlags
}

func watchCodes() []fault.Kind {
	return []fault.Kind{
		fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Unreachable, fault.Timeout,
		fault.Conflict, fault.Unsafe,
	}
}

func newWatch(d Deps) *cobra.Command {
	o := &watchOptions{Deps: d}
	c := verb.New(verb.Spec{
		Use: "watch [NAME]...", Short: "Deploy when a new artifact appears, prove it, and go back if it fails",
		Long: `Look at a source again and again, and make a target run what is new there: fetch
it, verify it, switch, probe it, and go back by itself if the probes fail.

The host pulls from its own source, so nobody outside can name an artifact; who
may say "look now" (a hint, a poke, a restricted ssh key) can only say when. An
artifact is activated once. What failed stays out until "retry" or until
something else is on offer.

NAME is a watch of the watches file, whose keys are these flags. Without --once
or --check the watch goes on until a signal. Several names are several watches in
one process: each on its own, with one listener and one result, whose exit code
is the worst in the order 11, 1, 9, 6, 3, 5, 4, 7, 8, 0.

SOURCES
  builder-web+https://HOST/job/J[?platform=P][&artifact=bin/x.hvt]
  https://HOST/PATH                       with --from-sums URL, if there is one
  oci://REGISTRY/REPO:TAG[?platform=os/arch]
  woodpecker:OWNER/REPO?branch=B[&event=push][&workflow=W]     with --artifact

TARGETS
  k8s://NS/[KIND/]NAME?container=C        takes images
  stack:DIR?container=C                   takes images; DIR as of "deployment"
  file:PATH[?unit=NAME][&copy=true]       takes files
  exec:PATH                               takes both; --arg, --env, --ready-hook

PROBES
  http:URL [status=N] [body=TEXT] [header=NAME:VALUE] [dial=ADDR[:PORT]]
  tcp:HOST:PORT, exec:PATH
  {sha256}, {sha256:12}, {commit} and {uuid} stand for the artifact's own.`,
		Example: `  homelab deploy watch --from https://dl.example.org/www.hvt --to 'file:/srv/www.hvt?unit=www.service' --check
  homelab deploy watch www
  homelab deploy watch www shop
  homelab deploy watch www --once --expect sha256:3f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c0
  homelab deploy watch --from oci://reg.example.lan/shop:live --to 'k8s://shop/shop?container=web' \
    --probe 'http:https://shop.example.lan/version body={sha256:12}'`,
		Tier: verb.Write, Kind: watchKind, Codes: watchCodes(),
		Args: func([]string) error { return nil },
	}, func(c *cobra.Command, args []string) error { return o.run(c, args) })
	c.SetFlagErrorFunc(flagError)
	f := c.Flags()
	o.add(f)
	f.StringVar(&d.Flags.Server, "server", "", "Woodpecker's `URL`")
	f.StringVar(&d.Flags.Dial, "dial", "", "reach the Woodpecker server at `ADDR[:PORT]` instead of asking DNS; its name stays the URL's")
	f.BoolVar(&d.Flags.InsecureHTTP, "insecure-http", false, "allow plain http to other hosts than loopback")
	f.String("context", "", "the kubeconfig's `CONTEXT`")
	f.String("kubeconfig", "", "the kubeconfig `FILE`")
	c.AddCommand(newWatchStatus(d), newWatchHistory(d), newWatchPoke(d), newWatchPause(d), newWatchResume(d), newWatchRetry(d), newWatchRollback(d))
	return c
}

// fail ends a run that has not begun.
func (o *watchOptions) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil && fault.KindOf(err) == fault.Bug {
		err = context.Cause(ctx)
	}
	e := verb.Fault(err)
	return verb.Finish(o.IO, verb.NewFailure(watchKind, e), e.Kind, e)
}

func (o *watchOptions) run(c *cobra.Command, args []string) error {
	ctx := c.Context()
	if err := o.Flags.Check(c); err != nil {
		return o.fail(ctx, err)
	}
	if len(args) > 1 && args[0] != "pin" && args[0] != "unpin" && !c.Flags().Changed("from") && !c.Flags().Changed("to") && !c.Flags().Changed("name") {
		return o.several(c, args)
	}
	s, err := o.spec(c.Flags(), c.CommandPath()+" --help", o.Watch.Env(), args)
	if err != nil {
		return o.fail(ctx, err)
	}
	opts, err := o.options(ctx, c, s)
	if err != nil {
		return o.fail(ctx, err)
	}
	if !s.Expect.IsZero() && !opts.Source.Answers(s.Expect.Form) {
		return o.fail(ctx, fault.Usagef(c.CommandPath()+" --help", "the source cannot tell %s: it does not know the form %s", s.Expect.Short(), s.Expect.Form))
	}
	story := beginWatch(ctx, o.IO, s.Name)
	defer story.close()
	opts.Events = story.tell
	var res run.Result
	switch {
	case o.check:
		opts.Events = story.look
		res, err = run.Check(ctx, opts, s.Expect)
	case o.once:
		opts.Heartbeat = onceHeartbeat
		opts.Signals = o.Watch.Signals(s.Grace + endPatience).Stop
		res, err = run.Once(ctx, opts, artifact.Request{Verb: artifact.Hint, Expect: s.Expect, Wait: s.Wait})
	default:
		res, err = o.daemon(ctx, c, args, s, opts, story)
	}
	if err != nil {
		story.close()
		return o.fail(ctx, err)
	}
	return o.finish(res, story, opts.Advise, carried(c))
}

// daemon runs the watch until a signal, and reads its file again on a hangup.
func (o *watchOptions) daemon(ctx context.Context, c *cobra.Command, args []string, s WatchSpec, opts run.Options, story *watchStory) (run.Result, error) {
	opts.Heartbeat = daemonHeartbeat
	opts.Notify = o.Watch.Notify()
	var err error
	if opts.Listen, err = o.listening(s); err != nil {
		return run.Result{}, err
	}
	sig := o.Watch.Signals(s.Grace + endPatience)
	opts.Signals = sig.Stop
	reload := make(chan run.Options)
	opts.Reload = reload
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-sig.Reload:
			}
			next, err := o.again(ctx, c, args, s)
			if err != nil {
				story.tell(refusedReload(err, s.Name, opts.Config.Run))
				continue
			}
			next.Config.Run = opts.Config.Run
			select {
			case reload <- next: // which it says when nothing is in progress any more
			case <-ctx.Done():
				return
			}
		}
	}()
	return run.Daemon(ctx, opts)
}

// listening is where the process listens; nil: nowhere.
func (o *watchOptions) listening(s WatchSpec) (*run.Listen, error) {
	if s.Listen == "" {
		return nil, nil
	}
	l := &run.Listen{Addr: s.Listen}
	if s.ListenTokenFile != "" {
		var err error
		if l.Token, err = o.Watch.Secret(s.ListenTokenFile); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// refusedReload tells that a file is not taken over: all or nothing, what is
// wrong is told, and what was goes on. name is empty where it is of all watches.
func refusedReload(err error, name, id string) run.Event {
	e := verb.Fault(err)
	return run.Event{
		Type: artifact.TroubleEvent, Time: time.Now(), Watch: name, Run: id, Text: strings.TrimSpace("not reloaded: " + e.Error() + " " + e.Why),
	}
}

// again reads the file anew, with the flags that were given. What a process
// cannot change of itself is refused with all the rest.
func (o *watchOptions) again(ctx context.Context, c *cobra.Command, args []string, now WatchSpec) (run.Options, error) {
	flags, set := fresh(c.Flags())
	s, err := flags.spec(set, c.CommandPath()+" --help", o.Watch.Env(), args)
	if err != nil {
		return run.Options{}, err
	}
	if err := unchanged(now, s); err != nil {
		return run.Options{}, err
	}
	return o.options(ctx, c, s)
}

// unchanged refuses what takes a restart.
func unchanged(now, s WatchSpec) error {
	for _, x := range []struct{ key, was, is string }{
		{"state-dir", now.State, s.State},
		{"listen", now.Listen, s.Listen},
		{"listen-token-file", now.ListenTokenFile, s.ListenTokenFile},
		{"lease", now.Lease, s.Lease},
	} {
		if x.was != x.is {
			return fault.Usagef("", "%s has changed, which takes a restart", x.key)
		}
	}
	return nil
}

// options makes what the runner needs of what was told.
func (o *watchOptions) options(ctx context.Context, c *cobra.Command, s WatchSpec) (run.Options, error) {
	return o.built(ctx, s, o.Watch.Build, verb.Again(c), carried(c))
}

// built is options with what makes them. again is the command that was given,
// carry what others about the watch must repeat.
func (o *watchOptions) built(ctx context.Context, s WatchSpec, build func(context.Context, WatchSpec) (run.Options, error), again string, carry []string) (run.Options, error) {
	s.Run = run.FreshRun()
	opts, err := build(ctx, s)
	if err != nil {
		return opts, err
	}
	opts.Place = run.Place{Root: s.State, Name: s.Name}
	opts.MaxSize = s.MaxSize
	opts.Policy = policy(s)
	opts.Advise = func(out artifact.Outcome) string { return advice(out, s.Name, again, carry) }
	return opts, nil
}

// finish prints what a call came to.
func (o *watchOptions) finish(res run.Result, story *watchStory, advise func(artifact.Outcome) string, carry []string) error {
	r := newWatchResult(watchKind, res.Outcome, res.Report, advise(res.Outcome))
	if res.Outcome.Verdict == artifact.VerdictLive {
		r.took = res.Elapsed
	}
	if next := elsewhere(res.Outcome, res.Report.Watch, carry); res.Handed && next != "" {
		r.Next = &next
	}
	story.evidence(res.Outcome, "")
	story.close()
	return verb.Finish(o.IO, r, res.Outcome.Kind, nil)
}

// policy is everything that decides what is deployed and when it is good,
// beside source and target. Two processes with other policies are not the same
// watch.
func policy(s WatchSpec) string {
	var out []string
	add := func(name string, v any) {
		b, err := json.Marshal(v)
		if err == nil {
			out = append(out, name+"="+string(b))
		}
	}
	probes := []string{}
	for _, p := range s.ProbeTexts {
		words := []string{p.Text}
		for _, x := range p.Parts {
			words = append(words, x.Key+"="+x.Value)
		}
		probes = append(probes, strings.TrimSpace(strings.Join(words, " ")))
	}
	add("probe", probes)
	add("after-rollback", s.AfterRollback)
	windows := []string{}
	for _, w := range s.Windows {
		windows = append(windows, fmt.Sprintf("%v %d-%d %s", w.Days, w.From, w.To, w.Zone))
	}
	add("window", windows)
	add("initial", s.Initial)
	add("on-drift", s.OnDrift)
	add("min-age", s.MinAge.String())
	add("max-age", s.MaxAge.String())
	add("activate-timeout", s.ActivateTimeout.String())
	add("ready-timeout", s.ReadyTimeout.String())
	add("keep", s.Keep)
	add("max-size", s.MaxSize)
	s.Proofs.policy(add, s.ReproduceWait)
	if s.Lease != "" {
		add("lease", s.Lease)
	}
	return strings.Join(out, " ")
}

// carried are the flags that commands about the same watch must repeat.
func carried(c *cobra.Command) []string {
	var out []string
	for _, name := range []string{"file", "state-dir"} {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			out = append(out, "--"+name, f.Value.String())
		}
	}
	return out
}
