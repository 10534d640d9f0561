package stack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// Console is what looks into containers; *kube.Cluster is one.
type Console interface {
	Lines(ctx context.Context, ns, pod string, o kube.LineOptions, m *kube.Mark, emit func(kube.Line) error) error
	Exec(ctx context.Context, ns, pod string, o kube.ExecOptions) (int, error)
	Tunnel(ctx context.Context, ns, pod string) (*kube.Tunnel, error)
}

// How long a server may fail without a break while somebody looks.
const lookBudget = 20 * time.Second

// silent tells nobody: a look is not the place for notices about files, which
// every verb that writes has told.
type silent struct{}

func (silent) Stage(string)                  {}
func (silent) Line(string)                   {}
func (silent) Notice(file.Notice)            {}
func (silent) Rollout(string, []string)      {}
func (silent) Progress(int, rollout.Verdict) {}

// look opens a directory and reaches its cluster. A stack whose files cannot be
// rendered any more can be looked at all the same: it runs under its labels.
// rendered says whether they can.
func (w *World) look(_ context.Context, o Options) (r *run, rendered bool, err error) {
	quiet := *w
	quiet.Tell = silent{}
	r, err = quiet.open(o)
	rendered = err == nil
	if err != nil && r.d == nil {
		return r, false, err
	}
	if !rendered {
		if fault.KindOf(err) != fault.Usage {
			return r, false, err
		}
		r.rules = &render.Result{}
	}
	return r, rendered, nil
}

// reach connects for a look.
func (r *run) reach(ctx context.Context) error { return r.connect(ctx) }

// list lists until there is an answer, for a while.
func (r *run) list(ctx context.Context, res kube.Resource, ns string, q kube.Query) ([]kube.Object, error) {
	var items []kube.Object
	err := persist(ctx, func() (err error) {
		items, _, err = r.c.List(ctx, res, ns, q)
		return err
	})
	if err != nil && r.w.gone(ctx, r.d, told("", err)) {
		return nil, notRunning(r.d)
	}
	return items, told(res.Plural+" cannot be listed", err)
}

// persist calls f until it says something else than that there was no answer,
// for a while.
func persist(ctx context.Context, f func() error) error {
	waits, began := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25), time.Now()
	var last error
	for {
		err := f()
		if last != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return outOfTime(ctx, last) // it was being asked again
		}
		last = err
		if !kube.IsTransient(err) || time.Since(began) > lookBudget {
			return err
		}
		if poll.Sleep(ctx, waits.Next()) != nil {
			return outOfTime(ctx, err)
		}
	}
}

// outOfTime is why something was not to be had: when time is up, what the
// server said last; an interruption is told as one.
func outOfTime(ctx context.Context, last error) error {
	if cause := context.Cause(ctx); !errors.Is(cause, fault.ErrTimeUp) {
		return cause
	}
	return last
}

// unanswered tells a look that was out of time because the server did not answer
// from one that took too long.
func (r *run) unanswered(ctx context.Context, err error) error {
	if err == nil || r.c == nil || !errors.Is(context.Cause(ctx), fault.ErrTimeUp) {
		return err
	}
	if h := r.c.Health(); !h.FailingSince.IsZero() && h.Last != nil {
		return fault.New(fault.Unreachable, "the API server did not answer", "").Because(h.Last.Error()).From(err)
	}
	return err
}

// selector finds the pods of the deployment; jobs: those of its Jobs as well.
func (r *run) selector(jobs bool) string {
	if jobs {
		return apply.LabelApp + " in (" + r.scope.ID + "," + r.scope.ID + "-job)"
	}
	return apply.LabelApp + "=" + r.scope.ID
}

// known refuses services that no file has. A directory that cannot be rendered
// knows none.
func (r *run) known(services []string, jobs bool) error {
	var all []string
	for _, wl := range r.rules.Workloads {
		for c := range wl.Images {
			all = append(all, c)
		}
	}
	if jobs {
		for _, j := range r.rules.Jobs {
			for c := range j.Images {
				all = append(all, c)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, s := range services {
		if !slices.Contains(all, s) {
			return fault.New(fault.Usage, "the stack "+r.d.Stack.Name+" has no service "+s, "").Because("it has " + words(all))
		}
	}
	return nil
}

// words lists names as people read them.
func words(all []string) string {
	switch len(all) {
	case 0:
		return "none"
	case 1:
		return all[0]
	}
	last := len(all) - 1
	out := strings.Join(all[:last], ", ") + " and " + all[last]
	return out
}
