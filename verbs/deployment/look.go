package deployment

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"homelab/pkg/fault"
	"homelab/pkg/stack"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/stackview"
)

// looked are how a verb that looks at a cluster can end.
func looked(more ...fault.Kind) []fault.Kind {
	return append([]fault.Kind{fault.OK, fault.Absent, fault.Denied, fault.Unreachable, fault.Timeout}, more...)
}

// lookHead is what the results of such verbs begin with.
type lookHead struct {
	ui.Header
	Deployment *stackview.Deployment `json:"deployment,omitempty"`

	subject string
}

func (l *lookHead) line() string { return verb.Line(&l.Header, l.subject) }

// take fills the head from what a look came to, and returns the error that
// decides, nil for none. again: the same command line is the next one when the
// verdict is not known.
func (g *group) take(ctx context.Context, c *cobra.Command, l *lookHead, out *stack.Outcome, err error, again bool) *fault.Error {
	kind := l.Kind
	var d stack.Identity
	if out != nil {
		d = out.Deployment
		v := view(kind, out)
		l.Deployment, l.subject = v.Deployment, v.subject
	}
	if err == nil {
		l.Header = ui.Header{Kind: kind, Verdict: out.Verdict, Reason: ui.Clean(out.Reason), Next: ui.NextCommand(ui.Clean(out.Next))}
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !decided(err) && (fault.KindOf(err) != fault.Unreachable || !errors.Is(cause, fault.ErrTimeUp)) {
		err = cause
	}
	e := g.worded(c, d, err, again)
	l.Header = verb.NewFailure(kind, e).Header
	return e
}

// begin checks what every look can be told, and joins what it stands on.
func (g *group) begin(ctx context.Context, c *cobra.Command, tell *teller) (*stack.World, stack.Options, error) {
	o := stack.Options{Dir: g.dir, CI: g.WithCI(ctx)}
	if err := g.Flags.Check(c); err != nil {
		return nil, o, err
	}
	if err := given(c); err != nil {
		return nil, o, err
	}
	if d := g.Flags.Timeout; d > 0 {
		o.Deadline = time.Now().Add(d - g.IO.Elapsed())
	}
	w, err := g.World(ctx, tell)
	return w, o, err
}

// kindOf is what decides the exit code of a look.
func kindOf(out *stack.Outcome, e *fault.Error) fault.Kind {
	if e != nil {
		return e.Kind
	}
	return out.Kind
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
