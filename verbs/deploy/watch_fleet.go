package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/config"
	"homelab/pkg/fault"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
)

// fleet is several watches of a file in one process.
type fleet struct {
	*watchOptions
	c     *cobra.Command
	names []string
	specs []WatchSpec
	opts  []run.Options
}

// several runs the watches that are named.
func (o *watchOptions) several(c *cobra.Command, names []string) error {
	ctx := c.Context()
	f := &fleet{watchOptions: o, c: c, names: names}
	if err := f.read(ctx); err != nil {
		return o.fail(ctx, err)
	}
	story := beginWatch(ctx, o.IO, names...)
	defer story.close()
	for i := range f.opts {
		f.opts[i].Events = story.tell
	}
	var ended []run.Member
	var err error
	switch {
	case o.check:
		for i := range f.opts {
			f.opts[i].Events = story.look
		}
		ended = run.Checks(ctx, f.opts)
	case o.once:
		for i := range f.opts {
			f.opts[i].Heartbeat = onceHeartbeat
		}
		ended = run.Onces(ctx, f.opts, o.Watch.Signals(f.patience()).Stop, artifact.Request{Verb: artifact.Hint, Wait: f.specs[0].Wait})
	default:
		ended, err = f.daemons(ctx, story)
	}
	if err != nil {
		story.close()
		return o.fail(ctx, err)
	}
	return f.finish(ctx, ended, story)
}

// read understands all watches, or none. Nothing is contacted.
func (f *fleet) read(ctx context.Context) error {
	help := f.c.CommandPath() + " --help"
	for i, name := range f.names {
		if slices.Contains(f.names[:i], name) {
			return fault.Usagef(help, "watch %q is named twice", ui.Clean(name))
		}
	}
	if f.expect != "" || f.expectFromEnv {
		return fault.Usagef(help, "an expectation is of one watch: name one, not %d", len(f.names))
	}
	env := f.Watch.Env()
	var file *config.Watches // read once, so that all are of one state of it
	f.specs = nil
	for _, name := range f.names {
		flags, set := fresh(f.c.Flags())
		flags.read = file
		s, err := flags.spec(set, help, env, []string{name})
		if err != nil {
			return of(name, err)
		}
		file = flags.read
		f.specs = append(f.specs, s)
	}
	leases := map[string]string{}
	for _, s := range f.specs {
		if other := leases[s.Lease]; s.Lease != "" && other != "" {
			return fault.Usagef(help, "watches %q and %q have the same lease", other, s.Name).
				Because("only one of them would ever act: a Lease is of one watch")
		}
		leases[s.Lease] = s.Name
	}
	build := f.Watch.Together(f.specs)
	f.opts = nil
	for _, s := range f.specs {
		carry := carried(f.c)
		opts, err := f.built(ctx, s, build, verb.AgainWith(f.c, s.Name), carry)
		if err != nil {
			return of(s.Name, err)
		}
		f.opts = append(f.opts, opts)
	}
	return run.Distinct(f.opts)
}

// of says of which watch an error is.
func of(name string, err error) error {
	e := *verb.Fault(err)
	if !strings.Contains(e.What, name) {
		e.What = "watch " + ui.Clean(name) + ": " + e.What
	}
	return &e
}

// patience is how long the process may take to end after a first signal.
func (f *fleet) patience() time.Duration {
	var most time.Duration
	for _, s := range f.specs {
		most = max(most, s.Grace)
	}
	return most + endPatience
}

// daemons runs the watches until a signal, and reads their file again on a
// hangup: all of it is taken over, or nothing.
func (f *fleet) daemons(ctx context.Context, story *watchStory) ([]run.Member, error) {
	listen, err := f.listening(f.specs[0])
	if err != nil {
		return nil, err
	}
	for i := range f.opts {
		f.opts[i].Heartbeat = daemonHeartbeat
	}
	sig := f.Watch.Signals(f.patience())
	reload := make(chan []run.Options)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-sig.Reload:
			}
			next, err := f.again(ctx)
			if err != nil {
				story.tell(refusedReload(err, "", ""))
				continue
			}
			select {
			case reload <- next:
			case <-ctx.Done():
				return
			}
		}
	}()
	return run.Daemons(ctx, run.Fleet{
		Watches: f.opts, Listen: listen, Notify: f.Watch.Notify(), Signals: sig.Stop, Reload: reload,
	})
}

// again reads the file anew for all watches that run: those that were named.
func (f *fleet) again(ctx context.Context) ([]run.Options, error) {
	next := &fleet{watchOptions: f.watchOptions, c: f.c, names: f.names}
	if err := next.read(ctx); err != nil {
		return nil, err
	}
	for i, s := range next.specs {
		if err := unchanged(f.specs[i], s); err != nil {
			return nil, of(s.Name, err)
		}
	}
	return next.opts, nil
}

// fleetResult is what several watches end in.
type fleetResult struct {
	ui.Header
	Watches []run.Ended `json:"watches"`

	lines []*watchResult
}

// Text returns a line for each watch.
func (r *fleetResult) Text(w int, color bool) []string {
	var out []string
	for _, l := range r.lines {
		out = append(out, l.Text(w, color)...)
	}
	return out
}

// finish prints how each ended. The code is that of the worst of them; where
// one that ended by itself took the others along, it is that one's.
func (f *fleet) finish(ctx context.Context, ended []run.Member, story *watchStory) error {
	kinds := make([]fault.Kind, len(ended))
	var errs []*fault.Error
	r := &fleetResult{Watches: []run.Ended{}}
	for i, m := range ended {
		line, e := f.line(ctx, i, m)
		if e != nil {
			errs = append(errs, e)
			kinds[i] = e.Kind
		} else {
			kinds[i] = m.Result.Outcome.Kind
			story.evidence(m.Result.Outcome, m.Name+"  ")
		}
		line.Elapsed = m.Result.Elapsed.Round(time.Millisecond).Seconds()
		r.lines = append(r.lines, line)
		r.Watches = append(r.Watches, run.Ended{
			Kind: watchKind, Verdict: artifact.Verdict(line.Verdict), ExitCode: kinds[i].Code(), Reason: line.Reason, Next: line.Next,
			Elapsed: line.Elapsed, Report: line.Report,
		})
	}
	story.close()
	worst, at := deciding(ended, kinds)
	d := r.lines[at]
	r.Header = ui.Header{Kind: watchKind, Verdict: d.Verdict, Reason: d.Watch + ": " + d.Reason, Next: d.Next}
	if strings.HasPrefix(d.Reason, d.Watch+" ") {
		r.Reason = d.Reason
	}
	if same := len(ended); worst == fault.OK && same == count(kinds, worst) {
		r.Reason = fmt.Sprintf("%d watches are well", same)
	}
	for _, e := range errs {
		if e.Kind == worst {
			return verb.Finish(f.IO, r, worst, e)
		}
	}
	return verb.Finish(f.IO, r, worst, nil)
}

// line is the result of one watch; e is the error it ended with instead.
func (f *fleet) line(ctx context.Context, i int, m run.Member) (*watchResult, *fault.Error) {
	carry := carried(f.c)
	if m.Err != nil {
		err := m.Err
		if ctx.Err() != nil && fault.KindOf(err) == fault.Bug {
			err = context.Cause(ctx)
		}
		e := verb.Fault(of(m.Name, err))
		o := f.opts[i]
		out := artifact.Outcome{Kind: e.Kind, Verdict: artifact.Verdict(e.Kind.Name()), Reason: strings.TrimSpace(e.What), Health: artifact.HealthUnknown}
		if e.Why != "" && e.Kind != fault.Bug {
			out.Reason += ": " + e.Why
		}
		rep := artifact.Show(out, o.Config, artifact.Memory{}, o.From, o.To)
		rep.Watch = m.Name
		return newWatchResult(watchKind, out, rep, e.Next), e
	}
	out := m.Result.Outcome
	line := newWatchResult(watchKind, out, m.Result.Report, f.opts[i].Advise(out))
	if out.Verdict == artifact.VerdictLive {
		line.took = m.Result.Elapsed
	}
	if next := elsewhere(out, m.Name, carry); m.Result.Handed && next != "" {
		line.Next = &next
	}
	return line, nil
}

// deciding is the kind that decides, and which watch has it.
func deciding(ended []run.Member, kinds []fault.Kind) (fault.Kind, int) {
	var alone []fault.Kind
	for i, m := range ended {
		if m.Alone {
			alone = append(alone, kinds[i])
		}
	}
	if alone == nil {
		alone = kinds
	}
	worst := worstWatch(alone)
	for i, m := range ended {
		if kinds[i] == worst && (m.Alone || len(alone) == len(kinds)) {
			return worst, i
		}
	}
	return worst, 0
}

func count(kinds []fault.Kind, k fault.Kind) int {
	n := 0
	for _, x := range kinds {
		if x == k {
			n++
		}
	}
	return n
}
