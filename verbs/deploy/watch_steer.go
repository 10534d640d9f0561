package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// steerOptions is what the verbs beside a watch share: they find its state, and
// the daemon that may be there.
type steerOptions struct {
	Deps
	kind string

	file, stateDir string
	expect         string
	wait           time.Duration
	until, reason  string
}

func (o *steerOptions) add(c *cobra.Command) {
	c.SetFlagErrorFunc(flagError)
	c.Flags().StringVarP(&o.file, "file", "f", "", "the watches `FILE`; default: the user's, else /etc/homelab/watches.yaml")
	c.Flags().StringVar(&o.stateDir, "state-dir", "", "keep state below `DIR`; default: $STATE_DIRECTORY, else $XDG_STATE_HOME/homelab/watch")
}

// root is where the watches keep their state: the flag, the file, the default.
func (o *steerOptions) root(c *cobra.Command) (string, error) {
	help := c.CommandPath() + " --help"
	for _, name := range []string{"file", "state-dir"} {
		if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return "", fault.Usagef(help, "--%s is empty", name)
		}
	}
	env := o.Watch.Env()
	dir := o.stateDir
	if dir == "" {
		path, named := env.File(o.file)
		w, err := config.ReadWatches(path, watchKeys())
		switch {
		case err == nil:
			for _, s := range w.Shared {
				if s.Key == "state-dir" && len(s.Values) == 1 {
					dir = s.Values[0]
				}
			}
		case named || !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return stateDir(dir, env, help)
}

// place is where the watch that is named keeps its state.
func (o *steerOptions) place(c *cobra.Command, name string) (run.Place, error) {
	if err := o.Flags.Check(c); err != nil {
		return run.Place{}, err
	}
	if err := checkName(name); err != nil {
		return run.Place{}, fault.Usagef(c.CommandPath()+" --help", "%s", err)
	}
	root, err := o.root(c)
	return run.Place{Root: root, Name: name}, err
}

func (o *steerOptions) fail(err error) error {
	e := verb.Fault(err)
	return verb.Finish(o.IO, verb.NewFailure(o.kind, e), e.Kind, e)
}

// oneName takes the name of a watch; some verbs take an id too.
func oneName(most int, what string) verb.Args {
	return func(args []string) error {
		switch {
		case len(args) == 0:
			return errors.New("needs the name of a watch")
		case len(args) > most:
			return fmt.Errorf("takes %s, got %d arguments", what, len(args))
		}
		return nil
	}
}

func newWatchStatus(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".status"}
	c := verb.New(verb.Spec{
		Use: "status [NAME]", Short: "Say how watches stand",
		Long: `Say what a watch runs, what its source offers and what it is doing, from the
daemon if there is one, else from the state it left. Without NAME all watches
that have state here. The exit code is the state's: 0 live, 5 held, paused or
drifted, 7 the source cannot be reached, 8 at work, 9 contended, 11 halted.`,
		Example: "  homelab deploy watch status\n  homelab deploy watch status www --json",
		Tier:    verb.Read, Kind: o.kind, Args: verb.AtMost(1), Codes: watchCodes(),
	}, func(c *cobra.Command, args []string) error { return o.status(c, args) })
	o.add(c)
	return c
}

func (o *steerOptions) status(c *cobra.Command, args []string) error {
	var names []string
	p := run.Place{}
	var err error
	if len(args) == 1 {
		p, err = o.place(c, args[0])
		names = args
	} else {
		if p.Root, err = o.root(c); err == nil {
			names, err = run.Watches(p.Root)
		}
	}
	if err != nil {
		return o.fail(err)
	}
	r := &watchStatus{Watches: []run.View{}}
	kinds := make([]fault.Kind, 0, len(names))
	for _, name := range names {
		p.Name = name
		v, err := run.Status(c.Context(), p)
		if err != nil {
			return o.fail(err)
		}
		r.Watches = append(r.Watches, v)
		kinds = append(kinds, v.Kind)
	}
	if len(names) == 0 {
		return o.fail(fault.New(fault.Absent, "no watch has state in "+p.Root, ""))
	}
	worst := worstWatch(kinds)
	r.Header = ui.Header{Kind: o.kind, Verdict: stateWord(worst)}
	for i, k := range kinds {
		if k == worst {
			v := r.Watches[i]
			r.Reason = ui.Clean(v.Watch + " " + sentence(v))
			if next := o.nextFor(c, v); next != "" {
				r.Next = &next
			}
			break
		}
	}
	return verb.Finish(o.IO, r, worst, nil)
}

// nextFor is what helps a watch that is looked at.
func (o *steerOptions) nextFor(c *cobra.Command, v run.View) string {
	why := artifact.Why("")
	switch v.Kind {
	case fault.OK, fault.Timeout:
		return ""
	case fault.Unsafe:
		why = artifact.HaltedWhy
	case fault.Conflict:
		why = artifact.Contended
	case fault.Held:
		why = heldWhy(v)
	case fault.Failed, fault.Absent, fault.Denied, fault.Replaced, fault.Unreachable, fault.LandedRed, fault.Usage, fault.Bug,
		fault.Interrupted, fault.Terminated:
	}
	if why == "" {
		return ui.Command(append([]string{"homelab", "deploy", "watch", "history", v.Watch}, carried(c)...)...)
	}
	return advice(artifact.Outcome{Kind: v.Kind, Why: why}, v.Watch, "", carried(c))
}

// heldWhy reads from the states that are shown what holds a watch.
func heldWhy(v run.View) artifact.Why {
	for _, w := range []artifact.Why{artifact.Paused, artifact.Pinned, artifact.Drifted} {
		if slices.Contains(v.States, string(w)) {
			return w
		}
	}
	return ""
}

func newWatchHistory(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".history"}
	c := verb.New(verb.Spec{
		Use: "history NAME", Short: "List what a watch did, and the evidence of what failed",
		Long: `List the journal of a watch, oldest first: what was offered, what was begun, how
it ended, and for what failed what was seen. Nobody is asked.`,
		Example: "  homelab deploy watch history www\n  homelab deploy watch history www --json",
		Tier:    verb.Read, Kind: o.kind, Args: oneName(1, "one name"), Codes: []fault.Kind{fault.OK, fault.Absent, fault.Denied},
	}, func(c *cobra.Command, args []string) error {
		p, err := o.place(c, args[0])
		if err != nil {
			return o.fail(err)
		}
		lines, err := run.History(p)
		if err != nil {
			return o.fail(err)
		}
		r := &watchHistory{Watch: p.Name, Entries: lines}
		if r.Entries == nil {
			r.Entries = []artifact.Line{}
		}
		r.Header = ui.Header{Kind: o.kind, Verdict: "ok", Reason: fmt.Sprintf("%d entries", len(lines))}
		return verb.Finish(o.IO, r, fault.OK, nil)
	})
	o.add(c)
	return c
}

func newWatchPoke(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".poke"}
	c := verb.New(verb.Spec{
		Use: "poke NAME", Short: "Make a daemon look now, and follow what comes of it",
		Long: `Tell the daemon of a watch to look at its source now. It ends with the answer of
that look, or when soaking begins. With --expect it waits for an artifact. This
can never choose what is deployed.`,
		Example: "  homelab deploy watch poke www\n  homelab deploy watch poke www --expect commit:3f9c2ab --wait 5m",
		Tier:    verb.Write, Kind: o.kind, Args: oneName(1, "one name"), Codes: watchCodes(),
	}, func(c *cobra.Command, args []string) error { return o.poke(c, args) })
	o.add(c)
	c.Flags().StringVar(&o.expect, "expect", "", "wait for the artifact `ID`, sha256:HEX, uuid:UUID or commit:HEX")
	c.Flags().DurationVar(&o.wait, "wait", 0, "wait `DUR` for it; default: 60s with --expect, else 0")
	return c
}

func (o *steerOptions) poke(c *cobra.Command, args []string) error {
	help := c.CommandPath() + " --help"
	req := artifact.Request{Verb: artifact.Hint, Wait: o.wait}
	switch {
	case c.Flags().Changed("expect") && o.expect == "":
		return o.fail(fault.Usagef(help, "--expect is empty"))
	case o.wait < 0:
		return o.fail(fault.Usagef(help, "--wait must not be negative"))
	case o.expect != "":
		var err error
		if req.Expect, err = artifact.ParseExpectation(o.expect); err != nil {
			return o.fail(fault.Usagef(help, "%s", ui.Clean(err.Error())))
		}
		if !c.Flags().Changed("wait") {
			req.Wait = expectWait
		}
	}
	return o.steer(c, args[0], req)
}

func newWatchPause(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".pause"}
	c := verb.New(verb.Spec{
		Use: "pause NAME", Short: "Let a watch deploy nothing until it is resumed",
		Long: `Let a watch look on and deploy nothing, until resume or for a time. A switch that
has begun goes on to its end.`,
		Example: "  homelab deploy watch pause www --reason 'the demo'\n  homelab deploy watch pause www --until 2h",
		Tier:    verb.Write, Kind: o.kind, Args: oneName(1, "one name"), Codes: steerCodes(),
	}, func(c *cobra.Command, args []string) error {
		until, err := parseUntil(o.until, time.Now())
		if err != nil || c.Flags().Changed("until") && o.until == "" {
			return o.fail(fault.Usagef(c.CommandPath()+" --help", "--until is a time such as 2026-01-31T15:04:05Z or 15:04, or a duration such as 2h, ahead of now; not %q", ui.Clean(o.until)))
		}
		return o.steer(c, args[0], artifact.Request{Verb: artifact.PauseVerb, Until: until, Reason: ui.Clean(o.reason)})
	})
	o.add(c)
	c.Flags().StringVar(&o.until, "until", "", "end the pause at `TIME` (RFC 3339, 15:04 or a duration)")
	c.Flags().StringVar(&o.reason, "reason", "", "`TEXT` that others see in the status")
	return c
}

// parseUntil reads a time ahead of now: RFC 3339, the next 15:04 of the host's
// clock, or a duration.
func parseUntil(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if d, derr := time.ParseDuration(s); derr == nil {
		at, err = now.Add(d), nil
	} else if t, terr := time.ParseInLocation("15:04", s, now.Location()); terr == nil {
		at, err = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location()), nil
		if !at.After(now) {
			at = at.AddDate(0, 0, 1)
		}
	}
	if err == nil && !at.After(now) {
		err = errors.New("it is over")
	}
	return at, err
}

func steerCodes() []fault.Kind {
	return []fault.Kind{fault.OK, fault.Absent, fault.Denied, fault.Held, fault.Conflict, fault.Unsafe}
}

func newWatchResume(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".resume"}
	c := verb.New(verb.Spec{
		Use: "resume NAME", Short: "Let a watch go on that was paused, pinned, drifted or contended",
		Long: `End a pause, lift the pin that a rollback by hand left, and take what runs for
right where somebody else had changed it. What is quarantined stays out, and a
halted watch stays halted: see retry and rollback.`,
		Example: "  homelab deploy watch resume www",
		Tier:    verb.Write, Kind: o.kind, Args: oneName(1, "one name"), Codes: steerCodes(),
	}, func(c *cobra.Command, args []string) error {
		return o.steer(c, args[0], artifact.Request{Verb: artifact.ResumeVerb})
	})
	o.add(c)
	return c
}

func newWatchRetry(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".retry"}
	c := verb.New(verb.Spec{
		Use: "retry NAME [ID]", Short: "Let a watch try once more what it keeps out",
		Long: `Lift a quarantine, a halt or the hold of a first start, for one more attempt at
ID, or at what the source offers. Without a daemon it is noted, and the next run
does it.`,
		Example: "  homelab deploy watch retry www",
		Tier:    verb.Write, Kind: o.kind, Args: oneName(2, "a name and an id"), Codes: watchCodes(),
	}, func(c *cobra.Command, args []string) error { return o.withID(c, args, artifact.RetryVerb) })
	o.add(c)
	return c
}

func newWatchRollback(d Deps) *cobra.Command {
	o := &steerOptions{Deps: d, kind: watchKind + ".rollback"}
	c := verb.New(verb.Spec{
		Use: "rollback NAME [ID]", Short: "Go back to what ran before, and stay there until resume",
		Long: `Activate the version that ran before, or ID of those that are kept, probe it, and
stay there until resume. Without a daemon it is done here, by what the watches
file says.`,
		Example: "  homelab deploy watch rollback www",
		Tier:    verb.Write, Kind: o.kind, Args: oneName(2, "a name and an id"), Codes: watchCodes(),
	}, func(c *cobra.Command, args []string) error { return o.withID(c, args, artifact.RollbackVerb) })
	o.add(c)
	return c
}

func (o *steerOptions) withID(c *cobra.Command, args []string, v artifact.Verb) error {
	req := artifact.Request{Verb: v}
	if len(args) > 1 {
		var err error
		if req.Target, err = artifact.ParseID(args[1]); err != nil {
			return o.fail(fault.Usagef(c.CommandPath()+" --help", "%s", ui.Clean(err.Error())))
		}
	}
	return o.steer(c, args[0], req)
}

// steer gives the request to whoever is the watch, and tells what came of it.
func (o *steerOptions) steer(c *cobra.Command, name string, req artifact.Request) error {
	ctx := c.Context()
	p, err := o.place(c, name)
	if err != nil {
		return o.fail(err)
	}
	story := beginWatch(ctx, o.IO, name)
	defer story.close()
	res, err := run.Steer(ctx, p, req, story.tell)
	if errors.Is(err, run.ErrNoDaemon) {
		res, err = o.alone(c, name, req, err, story)
	}
	story.close()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return o.fail(err)
	}
	next := advice(res.Outcome, name, verb.Again(c), carried(c))
	if flagless := elsewhere(res.Outcome, name, carried(c)); flagless != "" {
		next = flagless
	}
	if res.Outcome.Kind == fault.Held && req.Verb == artifact.RetryVerb && !res.Handed {
		next = o.once(c, name)
	}
	return verb.Finish(o.IO, newWatchResult(o.kind, res.Outcome, res.Report, next), res.Outcome.Kind, nil)
}

// once is the command that looks once, where the watches file has the watch.
func (o *steerOptions) once(c *cobra.Command, name string) string {
	path, _ := o.Watch.Env().File(o.file)
	if w, err := config.ReadWatches(path, watchKeys()); err != nil || w.Named(name) == nil {
		return ui.Command(append([]string{"homelab", "deploy", "watch", "status", name}, carried(c)...)...)
	}
	return ui.Command(append([]string{"homelab", "deploy", "watch", name, "--once"}, carried(c)...)...)
}

// alone does what no daemon is there for. A hint means nothing then; a
// rollback is done here, if the watches file says how.
func (o *steerOptions) alone(c *cobra.Command, name string, req artifact.Request, missing error, story *watchStory) (run.Result, error) {
	e := verb.Fault(missing)
	e.Next = o.once(c, name)
	if req.Verb != artifact.RollbackVerb {
		return run.Result{}, e
	}
	flags, set := fresh(c.Flags())
	flags.once = true
	s, err := flags.spec(set, c.CommandPath()+" --help", o.Watch.Env(), []string{name})
	if err != nil {
		if fault.KindOf(err) == fault.Absent || errors.Is(err, fs.ErrNotExist) {
			return run.Result{}, e.Because("and no watches file says how to do it here")
		}
		return run.Result{}, err
	}
	w := &watchOptions{Deps: o.Deps}
	opts, err := w.options(c.Context(), c, s)
	if err != nil {
		return run.Result{}, err
	}
	opts.Events = story.tell
	opts.Heartbeat = onceHeartbeat
	opts.Signals = o.Watch.Signals(s.Grace + endPatience).Stop
	return run.Once(c.Context(), opts, req)
}
