// Package lease lets processes on several machines take turns at one watch,
// with a Kubernetes Lease. It decides who acts and for how long that is sure;
// what is done about it is the runner's.
//
// The object is only read and replaced, never made: a Role can name it for
// those two verbs and not for a create, so it comes with the manifest. A
// replacement is bound to the version that was read, which is what keeps two
// from holding it. Nobody trusts another machine's clock: a lease is free when
// it was seen not to change for as long as it lasts.
//
// What became of the last ids stands on the lease in an annotation, written
// before the change it announces begins, so that whoever takes over repeats
// nothing.
package lease

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/run"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/ui"
)

// Annotation is where the lease tells what became of the last ids.
const Annotation = "homelab/attempted"

const (
	lasts  = 15 * time.Second
	renews = 5 * time.Second
	margin = 5 * time.Second // left before anything is changed
	looks  = 2 * time.Second // of who waits for it
	again  = time.Second     // after a failure
	asking = 4 * time.Second // one request
	tries  = 3               // failures before they are told as more than a moment's
)

// Spec names a Lease.
type Spec struct{ Namespace, Name string }

func (s Spec) String() string { return s.Namespace + "/" + s.Name }

// Parse reads NAMESPACE/NAME. The error is a *fault.Error, Usage.
func Parse(s string) (Spec, error) {
	ns, name, ok := strings.Cut(s, "/")
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	if !ok || !label.MatchString(ns) || strings.Contains(ns, ".") || len(ns) > 63 || !label.MatchString(name) {
		return Spec{}, fault.Usagef("homelab deploy watch --help", "--lease is NAMESPACE/NAME, not %.80q", s)
	}
	return Spec{ns, name}, nil
}

// Cluster is all that is needed of an API server. *kube.Cluster is one.
type Cluster interface {
	ReadLease(ctx context.Context, ns, name string) (kube.Lease, error)
	WriteLease(ctx context.Context, ns, name string, l kube.Lease) (kube.Lease, error)
	Now() time.Time
}

var (
	_ Cluster   = (*kube.Cluster)(nil)
	_ run.Lease = (*Keeper)(nil)
)

// Keeper holds a lease, or waits for it.
type Keeper struct {
	c    Cluster
	s    Spec
	me   string
	bell chan struct{}

	mu    sync.Mutex
	live  kube.Lease
	held  bool
	until time.Time // it may be somebody else's from here on
	fates []artifact.Attempted
	noted int           // changes of fates
	wrote int           // of them, how many stand on the lease
	turn  chan struct{} // closed when any of that changed

	seen   string // the version that somebody else's had
	seenAt time.Time
	fails  int // in a row
}

// New returns what holds the lease under the name me, which must be another
// one on each machine and for each state directory. Nothing is contacted.
func New(s Spec, c Cluster, me string) *Keeper {
	return &Keeper{c: c, s: s, me: me, bell: make(chan struct{}, 1), turn: make(chan struct{})}
}

func (k *Keeper) what() string { return "lease " + k.s.String() }

// Keep is run.Lease's.
func (k *Keeper) Keep(ctx context.Context, changed func(run.Tenure)) {
	for ctx.Err() == nil {
		k.mu.Lock()
		held := k.held
		k.mu.Unlock()
		var wait time.Duration
		if held {
			wait = k.renew(ctx, changed)
		} else {
			wait = k.try(ctx, changed)
		}
		if _, err := poll.Wait(ctx, wait, k.bell); err != nil {
			return
		}
	}
}

// change does something to k that others may wait for.
func (k *Keeper) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.turn)
	k.turn = make(chan struct{})
}

func (k *Keeper) ring() {
	select {
	case k.bell <- struct{}{}:
	default:
	}
}

// try takes the lease if it is free, and returns when to look again.
func (k *Keeper) try(ctx context.Context, changed func(run.Tenure)) time.Duration {
	l, err := k.read(ctx)
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		return k.failed(err, changed)
	}
	if t := k.taken(l); !t.Held {
		k.fails = 0
		changed(t)
		return looks
	}
	fates, err := artifact.ParseAttempted(l.Annotations[Annotation])
	if err != nil {
		// What was activated before is not known, so nothing is.
		changed(run.Tenure{Kind: fault.Held, Why: fmt.Sprintf("the annotation %s of %s cannot be read (%s): mend or remove it", Annotation, k.what(), ui.Clean(err.Error()))})
		return looks
	}
	if l.Holder != k.me {
		l.Transitions++
		l.Acquired = k.c.Now()
	}
	switch err := k.put(ctx, l, fates); {
	case ctx.Err() != nil:
		return 0
	case kube.IsConflict(err):
		return again // another was faster
	case err != nil:
		return k.failed(err, changed)
	}
	k.fails = 0
	changed(run.Tenure{Held: true, Attempted: fates, Me: k.me})
	return renews
}

// failed tells that the lease cannot be had; a single time may be a moment's.
func (k *Keeper) failed(err error, changed func(run.Tenure)) time.Duration {
	k.fails++
	t := k.refused(err)
	t.Soon = k.fails < tries
	changed(t)
	return looks
}

// taken is whether l can be had: somebody else's only when it was seen not to
// change for its whole term.
func (k *Keeper) taken(l kube.Lease) run.Tenure {
	term := max(l.Lasts, lasts)
	if l.Version != k.seen {
		k.seen, k.seenAt = l.Version, time.Now()
	}
	if l.Holder == "" || l.Holder == k.me || time.Since(k.seenAt) > term {
		return run.Tenure{Held: true}
	}
	return run.Tenure{
		Kind: fault.Conflict, Why: k.what() + " is held by " + ui.Clean(l.Holder), Soon: l.Expired(k.c.Now(), term),
	}
}

// put makes the lease this process's.
func (k *Keeper) put(ctx context.Context, l kube.Lease, fates []artifact.Attempted) error {
	k.mu.Lock()
	n := k.noted
	k.mu.Unlock()
	began := time.Now()
	got, err := k.write(ctx, l, k.me, fates)
	if err != nil {
		return err
	}
	k.change(func() {
		k.live, k.held, k.until, k.fates, k.wrote = got, true, began.Add(lasts), fates, n
	})
	return nil
}

func (k *Keeper) write(ctx context.Context, l kube.Lease, holder string, fates []artifact.Attempted) (kube.Lease, error) {
	text, err := json.Marshal(fates)
	if err != nil {
		return l, err
	}
	l.Holder, l.Lasts, l.Renewed = holder, lasts, k.c.Now()
	l.Annotations = maps.Clone(l.Annotations)
	if l.Annotations == nil {
		l.Annotations = map[string]string{}
	}
	if len(fates) > 0 {
		l.Annotations[Annotation] = string(text)
	} else {
		delete(l.Annotations, Annotation)
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	return k.c.WriteLease(ctx, k.s.Namespace, k.s.Name, l)
}

func (k *Keeper) read(ctx context.Context) (kube.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	return k.c.ReadLease(ctx, k.s.Namespace, k.s.Name)
}

// renew keeps the lease, and returns when to do it again. It is lost when
// another has it, or when its term is over.
func (k *Keeper) renew(ctx context.Context, changed func(run.Tenure)) time.Duration {
	k.mu.Lock()
	l, fates, n, until := k.live, k.fates, k.noted, k.until
	k.mu.Unlock()
	late, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	began := time.Now()
	got, err := k.write(late, l, k.me, fates)
	if kube.IsConflict(err) {
		// Somebody changed it, or an answer of ours was lost.
		now, look := k.read(late)
		switch {
		case look == nil && now.Holder != k.me:
			k.lose()
			changed(run.Tenure{Kind: fault.Conflict, Why: k.what() + " was taken by " + cmp.Or(ui.Clean(now.Holder), "nobody")})
			return looks
		case look == nil:
			k.change(func() { k.live = now })
			return 0
		}
		err = look
	}
	switch {
	case ctx.Err() != nil:
		return 0
	case err == nil:
		k.change(func() { k.live, k.until, k.wrote = got, began.Add(lasts), max(k.wrote, n) })
		return renews
	case !time.Now().Before(until):
		k.lose()
		changed(k.refused(err))
		return again
	}
	return min(again, time.Until(until))
}

func (k *Keeper) lose() {
	k.change(func() { k.held = false })
	k.seen, k.seenAt, k.fails = "", time.Time{}, tries
}

// refused says why the lease cannot be had.
func (k *Keeper) refused(err error) run.Tenure {
	t := run.Tenure{Kind: fault.Unreachable, Why: k.what() + " cannot be asked for: " + ui.Clean(err.Error())}
	switch {
	case kube.IsAbsent(err):
		t.Kind, t.Why = fault.Absent, "there is no "+k.what()+": it comes with the manifest, as the Role cannot allow to make one by name"
	case kube.IsDenied(err):
		t.Kind, t.Why = fault.Denied, k.what()+": "+ui.Clean(err.Error())+"; the role needs get and update on leases.coordination.k8s.io"
	}
	return t
}

// Sure is run.Lease's: five seconds are left then.
func (k *Keeper) Sure(ctx context.Context) error {
	for {
		k.mu.Lock()
		sure, turn := k.held && k.wrote == k.noted && time.Until(k.until) >= margin, k.turn
		k.mu.Unlock()
		if sure {
			return nil
		}
		k.ring()
		if _, err := poll.Wait(ctx, again, turn); err != nil {
			return err
		}
	}
}

// Note is run.Lease's.
func (k *Keeper) Note(fates []artifact.Attempted) {
	k.change(func() {
		for _, e := range fates {
			e.By = k.me
			k.fates = artifact.Recall(k.fates, e)
		}
		k.noted++
	})
	k.ring()
}

// Release is run.Lease's. Only once Keep has returned.
func (k *Keeper) Release(ctx context.Context) error {
	k.mu.Lock()
	held, l, fates := k.held && time.Now().Before(k.until), k.live, k.fates
	k.mu.Unlock()
	if !held {
		return nil
	}
	k.lose()
	_, err := k.write(ctx, l, "", fates)
	if kube.IsConflict(err) {
		// Another's by now; or the last renewal was cut short and arrived.
		if l, err = k.read(ctx); err != nil || l.Holder != k.me {
			return err
		}
		_, err = k.write(ctx, l, "", fates)
	}
	return err
}

// Look is run.Lease's.
func (k *Keeper) Look(ctx context.Context) run.Tenure {
	l, err := k.read(ctx)
	for n := 1; err != nil && n < tries && ctx.Err() == nil; n++ {
		if poll.Sleep(ctx, again) != nil {
			break
		}
		l, err = k.read(ctx)
	}
	if err != nil {
		return k.refused(err)
	}
	if t := k.taken(l); !t.Held && !t.Soon {
		return t
	}
	return run.Tenure{Held: true}
}
