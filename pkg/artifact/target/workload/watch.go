package workload

import (
	"context"

	"homelab/pkg/artifact"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
)

// Watch tells saw what C runs, at first and whenever the workload's image, or
// who wrote it, has changed, until ctx ends. It says nothing of a workload that
// is gone. It runs beside the other calls, and saw is
// called from its goroutine; ids are recognised as in the last Observe. What it
// returns is ctx's cause, or an *artifact.Failure when watching and listing are
// both refused: then Observe is all there is.
func (t *Target) Watch(ctx context.Context, saw func(artifact.Observation)) error {
	f := &feed{t: t, wake: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- t.d.Cluster.Follow(ctx, t.s.resource(), t.s.Namespace, kube.Query{Name: t.s.Name, Keep: f.keep}, f)
	}()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return t.failure(ctx, err)
		case <-f.wake:
		}
		w, err := t.get(ctx)
		if err != nil {
			continue // the next change, or the next Observe
		}
		t.mu.Lock()
		known := t.known
		t.mu.Unlock()
		if o, err := t.see(ctx, w, known); err == nil {
			saw(o)
		}
	}
}

// feed notices what is worth an observation.
type feed struct {
	t    *Target
	last string // uid, image, owner
	wake chan struct{}
}

func (f *feed) keep(o *kube.Object) bool {
	w, err := rollout.DecodeTarget(f.t.s.Kind, o.Raw)
	if err != nil {
		return false
	}
	c, _ := f.t.s.container(w)
	o.Value, o.Raw = w.UID+"\x00"+c.Image+"\x00"+f.t.s.stranger(w), nil
	return true
}

func (f *feed) notice(o kube.Object) {
	now, _ := o.Value.(string)
	if f.last != now {
		select {
		case f.wake <- struct{}{}:
		default: // one is due anyway
		}
	}
	f.last = now
}

// Synced implements kube.Sink.
func (f *feed) Synced(items []kube.Object) {
	for _, o := range items {
		f.notice(o)
	}
}

// Changed implements kube.Sink.
func (f *feed) Changed(o kube.Object) { f.notice(o) }

// Deleted implements kube.Sink: there is nothing to be seen.
func (f *feed) Deleted(kube.Object) {}

// State implements kube.Sink.
func (f *feed) State(kube.FollowState) {}
