package ci

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/pipeline"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
	"homelab/verbs/verb"
)

// actOptions is what the verbs share that act on a pipeline.
type actOptions struct {
	watchOptions
	kind  string
	watch bool
}

// done is what an action came to.
type done struct {
	row     woodpecker.Pipeline
	verdict string // "done", or "unchanged" when it was so already
	reason  string
}

const (
	verdictDone      = "done"
	verdictUnchanged = "unchanged"
)

// actEnds is how an action can end.
func actEnds() []fault.Kind {
	return []fault.Kind{
		fault.OK, fault.Failed, fault.Absent, fault.Denied, fault.Held, fault.Replaced, fault.Unreachable, fault.Timeout,
	}
}

// newAct declares a verb that acts on the pipeline its argument names.
func newAct(d Deps, s verb.Spec, do func(ctx context.Context, o *actOptions, s *session, out pipeline.Outcome) (done, error)) *cobra.Command {
	o := &actOptions{kind: s.Kind}
	o.Deps = d
	s.Tier, s.Args = verb.Write, verb.AtMost(1)
	c := verb.New(s, func(c *cobra.Command, args []string) error {
		o.arg = verb.Arg(args, 0, "")
		return o.run(c, func(ctx context.Context, s *session, _ *teller) (done, error) {
			out, err := o.look(ctx, s, pipeline.Gate{})
			switch {
			case err != nil:
				return done{}, err
			case out.Row == nil || out.Err != nil:
				p := o.phrase(c, s)
				p.resume = func(int64) string { return verb.Again(c) }
				return done{}, fault.New(kindOf(out), out.Reason, p.next(out)).From(out.Err)
			}
			return do(ctx, o, s, out)
		})
	})
	o.flags(c)
	o.target.add(c)
	completeTargets(d, c)
	return c
}

func (o *actOptions) flags(c *cobra.Command) {
	o.Flags.Network(c, lookTimeout)
	c.Flags().BoolVar(&o.watch, "watch", false, "then follow the pipeline as ci watch does; --timeout is then 60m unless given")
	o.addWatch(c)
}

// run opens the session, acts, and ends with the action's result or, with
// --watch, the watch's.
func (o *actOptions) run(c *cobra.Command, act func(context.Context, *session, *teller) (done, error)) error {
	if err := o.check(c); err != nil {
		return o.refuse(err, nil, o.kind)
	}
	if !o.watch {
		for _, name := range []string{"appear-timeout", "fail-fast", "workflow", "ignore-workflow", "log-lines", "heartbeat"} {
			if c.Flags().Changed(name) {
				return o.refuse(fault.Usagef(c.CommandPath()+" --help", "--%s needs --watch", name), nil, o.kind)
			}
		}
	}
	timeout := o.Flags.Timeout
	if o.watch && !c.Flags().Changed("timeout") {
		timeout = watchTimeout
	}
	ctx, cancel := verb.Bound(c.Context(), timeout)
	defer cancel()
	tell := newTeller(o.IO)
	s, err := o.openFor(ctx, c, tell)
	if err != nil {
		return o.refuse(ended(ctx, c, s, err), s, o.kind)
	}
	got, err := act(ctx, s, tell)
	if err != nil {
		e := o.refused(ctx, c, s, err)
		r := failure(o.kind, e, s, s.target)
		var w *pipeline.WriteError
		if errors.As(err, &w) && w.Row != nil {
			r.Pipeline = viewRow(*w.Row, pageOf(s))
			r.subject = subject(s.target.Repo.FullName, w.Row, w.Row.Commit)
		}
		return verb.Finish(o.IO, r, e.Kind, e)
	}
	p := o.phrase(c, s)
	if o.watch && got.row.ID > 0 {
		o.IO.Event("note", map[string]string{"text": got.reason})
		tell.say(got.reason)
		s.target = pipeline.Target{Repo: s.target.Repo, Number: got.row.Number, ID: got.row.ID, Local: s.target.Local}
		return o.follow(ctx, c, s, tell, o.kind)
	}
	next := ""
	if got.row.ID > 0 && !got.row.Status.Ended() {
		next = p.command("watch", "--number", itoa(got.row.Number))
	}
	r := &Result{
		Header: ui.Header{Kind: o.kind, Verdict: got.verdict, Reason: got.reason, Next: ui.NextCommand(next)},
		Repo:   &repoJSON{s.target.Repo.ID, s.target.Repo.FullName}, Commit: got.row.Commit,
		Pipeline: viewRow(got.row, pageOf(s)), Others: []otherJSON{}, FailedSteps: []failedJSON{},
		subject: subject(s.target.Repo.FullName, &got.row, got.row.Commit),
	}
	return verb.Finish(o.IO, r, fault.OK, nil)
}

// openFor opens the session of the verb at hand: ci run names a branch, the
// others a pipeline.
func (o *actOptions) openFor(ctx context.Context, c *cobra.Command, tell *teller) (*session, error) {
	if o.kind != runKind {
		return o.open(ctx, c, o.arg, o.target, true, tell.reporter())
	}
	if err := o.Flags.Check(c); err != nil {
		return nil, err
	}
	repo, err := o.checkout(ctx)
	if err != nil {
		return nil, err
	}
	if o.arg, err = branchFor(ctx, repo, o.arg); err != nil {
		return nil, err
	}
	s := &session{}
	if repo != nil {
		s.target.Local = repo
	}
	if err := o.locate(ctx, s, repo, asked{}, true, tell.reporter()); err != nil {
		return s, err
	}
	return s, nil
}

// refused words a write that did not happen.
func (o *actOptions) refused(ctx context.Context, c *cobra.Command, s *session, err error) *fault.Error {
	var w *pipeline.WriteError
	if !errors.As(err, &w) {
		return explain(ended(ctx, c, s, err), o.Flags.Repo)
	}
	p := o.phrase(c, s)
	status := p.command("list")
	if w.Row != nil {
		status = p.command("status", "--number", itoa(w.Row.Number))
	}
	e := fault.New(fault.Failed, w.Op+" was not done", status).From(err)
	switch w.Why {
	case pipeline.WrongState:
		e.Why = w.Text
	case pipeline.NotAllowed:
		e.Kind, e.Next = fault.Denied, "homelab doctor"
		e.Why = fmt.Sprintf("%s has no push permission on %s", w.Login, s.target.Repo.FullName)
	case pipeline.NotFound:
		e.Kind, e.Why, e.Next = fault.Absent, "it does not exist", p.command("list")
	case pipeline.Filtered:
		e.Kind, e.Why = fault.Absent, "the conditions of the pipeline file leave nothing to run"
	case pipeline.NoBranch:
		e.Why, e.Next = fmt.Sprintf("the server could not start it; does the forge know a branch %s?", w.Branch), "git push -u origin "+ui.Quote(w.Branch)
	case pipeline.Unclear:
		e.Kind, e.What = fault.Unreachable, w.Op+" may or may not have taken effect"
		e.Why = w.Text
		if sig, ok := errors.AsType[*fault.Signal](context.Cause(ctx)); ok {
			e.Kind = sig.Kind()
		}
	}
	return e
}

// numbers lists rows by their numbers.
func numbers(rows []woodpecker.Pipeline) string {
	var out []string
	for _, r := range rows {
		out = append(out, "--number "+itoa(r.Number)+" ("+string(r.Event)+")")
	}
	return strings.Join(out, ", ")
}
