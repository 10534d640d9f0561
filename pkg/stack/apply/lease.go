package apply

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

// How long a lease is good for, and how often it is renewed.
const (
	leaseLasts  = 30 * time.Second
	leaseRenews = 10 * time.Second
	leaseLooks  = time.Second
)

// errContested says that another run was faster.
const errContested = constError("another run changed the lease")

type constError string

func (e constError) Error() string { return string(e) }

// Lease keeps the runs of other machines from writing at the same time.
type Lease struct {
	c      Client
	leases dynamic.ResourceInterface
	ref    Ref
	who    string
	waited bool

	mu   sync.Mutex
	live *unstructured.Unstructured
	stop func()
	end  context.CancelCauseFunc
}

// Waited says that another run held the lease first: what was read and planned
// before is old, and has to be read and planned again.
func (l *Lease) Waited() bool { return l.waited }

// Hold takes the Lease ID-lock in the deployment's namespace, which it makes
// first if p does. While another holds it, waiting is called once with its
// name, and Hold waits. who must be the same for every run from one directory
// of one machine: such a run takes over what a killed one left.
//
// held ends when the lease is lost: its cause is a *fault.Error, Conflict when
// another took it, Unreachable when it could not be renewed. The error is a
// *fault.Error: Timeout naming the holder; or as Apply's.
func Hold(ctx context.Context, c Client, p *Plan, who string, o Options, waiting func(holder string)) (held context.Context, lease *Lease, err error) {
	if len(p.steps) > 0 && p.steps[0].Kind == "Namespace" && p.steps[0].Action == Created {
		if err := run(ctx, c, p.scope, p.steps[:1], o); err != nil {
			return nil, nil, err
		}
		p.steps = p.steps[1:]
	}
	k, err := kindOf("Lease")
	if err != nil {
		return nil, nil, err
	}
	d, err := c.Dynamic()
	if err != nil {
		return nil, nil, err
	}
	l := &Lease{
		c: c, who: who, ref: p.scope.own("Lease", p.scope.ID+"-lock"),
		leases: resourceOf(d, k, p.scope.Namespace),
	}
	holder := ""
	err = poll.Until(ctx, poll.Steps(leaseLooks), func(ctx context.Context) (poll.State, error) {
		was, err := l.take(ctx, p.scope)
		if err != nil {
			return poll.Unknown, err
		}
		if was == "" {
			return poll.Done, nil
		}
		if holder != was && waiting != nil {
			waiting(was)
		}
		holder, l.waited = was, true
		return poll.NotYet, nil
	})
	switch {
	case err != nil && holder != "" && ctx.Err() != nil && fault.KindOf(context.Cause(ctx)) == fault.Timeout:
		return nil, nil, fault.New(fault.Timeout, l.ref.String()+" is held by "+holder, "").From(err)
	case err != nil:
		return nil, nil, failed(ctx, err, l.ref.String())
	}
	held, l.end = context.WithCancelCause(ctx)
	l.stop = poll.Every(held, leaseRenews, func() { l.renew(held) })
	return held, l, nil
}

// take takes the lease and returns "", or the name of who holds it.
func (l *Lease) take(ctx context.Context, s Scope) (string, error) {
	live, err := get(ctx, l.c, l.ref)
	if err != nil {
		return "", err
	}
	now := l.c.Now()
	if live == nil {
		o := &unstructured.Unstructured{Object: object{
			"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": object{"name": l.ref.Name, "namespace": l.ref.Namespace, "labels": object{
				LabelApp: s.ID, LabelStack: s.Stack, LabelManagedBy: Manager,
			}},
		}}
		l.stamp(o, now, now)
		err = persist(ctx, func(ctx context.Context) error {
			return l.write(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
				return l.leases.Create(ctx, o, metav1.CreateOptions{FieldManager: Manager})
			})
		})
	} else {
		was := kube.LeaseOf(live.Object)
		if was.Holder != "" && was.Holder != l.who && !was.Expired(now, leaseLasts) {
			return was.Holder, nil
		}
		o := live.DeepCopy()
		l.stamp(o, now, now)
		err = l.write(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
			return l.leases.Update(ctx, o, metav1.UpdateOptions{FieldManager: Manager})
		})
	}
	if err == errContested { //nolint:errorlint // returned as it is by write
		return "another run", nil // look again
	}
	return "", err
}

// write sends a change once, and after an unclear answer looks who holds the
// lease now.
func (l *Lease) write(ctx context.Context, f func(context.Context) (*unstructured.Unstructured, error)) error {
	err := kube.Confirm(ctx, func() error {
		o, err := f(ctx)
		if err == nil {
			l.mu.Lock()
			l.live = o
			l.mu.Unlock()
		}
		return err
	})
	if !kube.IsTransient(err) {
		return err
	}
	o, look := get(ctx, l.c, l.ref)
	switch {
	case look != nil:
		return look
	case o == nil:
		return err
	case kube.LeaseOf(o.Object).Holder == l.who:
		l.mu.Lock()
		l.live = o
		l.mu.Unlock()
		return nil
	}
	return errContested
}

func (l *Lease) stamp(o *unstructured.Unstructured, acquired, now time.Time) {
	k := kube.LeaseOf(o.Object)
	k.Holder, k.Lasts, k.Acquired, k.Renewed = l.who, leaseLasts, acquired, now
	k.Put(o.Object)
}

// renew keeps the lease, or ends the run when it is lost.
func (l *Lease) renew(ctx context.Context) {
	l.mu.Lock()
	o := l.live.DeepCopy()
	l.mu.Unlock()
	now := l.c.Now()
	old := kube.LeaseOf(o.DeepCopy().Object)
	l.stamp(o, old.Acquired, now)
	err := l.write(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return l.leases.Update(ctx, o, metav1.UpdateOptions{FieldManager: Manager})
	})
	if err != nil && kube.IsTransient(err) {
		// A server says of a lease that goes with its namespace that it changed.
		if o, look := get(ctx, l.c, l.ref); look == nil && o == nil {
			return
		}
	}
	switch {
	case err == nil, ctx.Err() != nil:
	case kube.IsAbsent(err): // gone with its namespace: nobody holds it
	case err == errContested: //nolint:errorlint // returned as it is by write
		l.end(fault.New(fault.Conflict, l.ref.String()+" was taken by another run", ""))
	case old.Expired(now, leaseLasts), !kube.IsTransient(err) && fault.KindOf(err) != fault.Unreachable:
		l.end(failed(ctx, err, "renewing "+l.ref.String()))
	}
}

// Release gives the lease up. It may be called with an ended context's
// successor, and more than once.
func (l *Lease) Release(ctx context.Context) error {
	l.stop()
	l.end(nil)
	l.mu.Lock()
	live := l.live
	l.live = nil
	l.mu.Unlock()
	if live == nil {
		return nil
	}
	uid, version := live.GetUID(), live.GetResourceVersion()
	err := kube.Confirm(ctx, func() error {
		return l.leases.Delete(ctx, l.ref.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: (*types.UID)(&uid), ResourceVersion: &version}})
	})
	if err == nil || kube.IsAbsent(err) || isConflict(err) {
		return nil // gone, with its namespace perhaps, or another's by now
	}
	return fmt.Errorf("releasing %s: %w", l.ref, err)
}
