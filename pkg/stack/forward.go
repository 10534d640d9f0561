package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

// ForwardOptions name a port of a service, and where it is to be had here.
type ForwardOptions struct {
	PortOptions
	Local int // on 127.0.0.1; 0: a free one
}

// Forwarded is a port that is forwarded.
type Forwarded struct {
	Address     string // on this machine, "" before it is
	Pod         string // the last one
	Connections int    // that were begun
}

// What somebody who connects waits for a pod, and how long a tunnel that could
// not be opened is left alone.
const (
	podPatience = 10 * time.Second
	forwardIdle = time.Minute
	acceptPause = 200 * time.Millisecond // when this machine gives no connection
)

// What one connection tries before it is given up.
const forwardTries = 3

// Forward answers on this machine for a port of a service until ctx ends, which
// is its only end once it stands; then the error is ctx's cause. Connections go
// to a pod in which the service runs; when that is replaced, new ones go to the
// one that replaces it. ready is called when a connection can be made, and again
// for each further pod. A local port that is not to be had is a usage error,
// before anything is contacted; no pod at the beginning one of kind Absent.
func (w *World) Forward(ctx context.Context, o ForwardOptions, ready func(Forwarded)) (*Outcome, Forwarded, error) {
	r, rendered, err := w.look(ctx, o.Options)
	defer r.close()
	if err != nil {
		return r.out, Forwarded{}, err
	}
	if r.composed() {
		return r.out, Forwarded{}, fault.New(fault.Usage, "--forward is not supported with deploy-to: compose",
			fmt.Sprintf("homelab deployment port %s %d --dir %s", o.Service, o.Port, r.o.Dir)).
			Because("the engine publishes what the stack says, and nothing else")
	}
	if rendered {
		if err := r.known([]string{o.Service}, false); err != nil {
			return r.out, Forwarded{}, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Local)))
	if err != nil {
		return r.out, Forwarded{}, r.occupied(o, err)
	}
	f := &forward{
		r: r, o: o, tell: w.Tell, ready: ready, pods: map[string]Pod{}, all: map[*kube.Tunnel]bool{},
		wake: make(chan struct{}, 1), news: make(chan struct{}),
		end: Forwarded{Address: listener.Addr().String()},
	}
	err = f.run(ctx, listener)
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.out, f.end, err
}

// occupied words why a local port is not to be had.
func (r *run) occupied(o ForwardOptions, err error) error {
	why := err.Error()
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		why = "something listens there already"
	case errors.Is(err, os.ErrPermission):
		why = "ports below 1024 are for the administrator"
	}
	return fault.New(fault.Usage, fmt.Sprintf("port %d of this machine is not to be had", o.Local),
		fmt.Sprintf("homelab deployment port %s %d --forward --local 0 --dir %s", o.Service, o.Port, r.o.Dir)).Because(why).From(err)
}

// forward is one port that is forwarded.
type forward struct {
	r     *run
	o     ForwardOptions
	tell  Story
	ready func(Forwarded)
	wake  chan struct{} // delivers when there may be something to do

	mu     sync.Mutex
	pods   map[string]Pod        // by UID, all that are there
	pod    Pod                   // the tunnel's
	tunnel *kube.Tunnel          // nil: none
	all    map[*kube.Tunnel]bool // that are open, retired ones among them
	news   chan struct{}         // closed and replaced when there is another tunnel
	end    Forwarded
}

func (f *forward) run(ctx context.Context, listener net.Listener) error {
	defer func() { _ = listener.Close() }()
	if err := f.r.reach(ctx); err != nil {
		return err
	}
	pods, err := f.r.pods(ctx, false)
	if err != nil {
		return err
	}
	if len(serving(pods, f.o.Service)) == 0 {
		return fault.New(fault.Absent, "no pod runs a container "+f.o.Service, "homelab deployment ps --dir "+f.r.o.Dir)
	}
	for _, p := range pods {
		f.pods[p.uid] = p
	}
	err = persist(ctx, func() error { return f.open(ctx, serving(pods, f.o.Service)[0]) })
	if err != nil {
		if ctx.Err() == nil && kube.IsAbsent(err) {
			return fault.New(fault.Absent, "the pod is gone", "homelab deployment ps --dir "+f.r.o.Dir).Because(err.Error()).From(err)
		}
		return told("no tunnel to "+f.o.Service+" can be opened", err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := f.r.c.Follow(ctx, kube.Core("pods"), f.r.scope.Namespace, kube.Query{Labels: f.r.selector(false)}, &forwardSink{f: f})
		if ctx.Err() == nil {
			stop(told("the pods of "+f.r.scope.Namespace+" cannot be followed", err))
		}
	})
	wg.Go(func() { stop(f.keep(ctx)) })
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			switch {
			case err == nil:
				wg.Go(func() { f.serve(ctx, conn) })
			case poll.Sleep(ctx, acceptPause) != nil: // it is closed, as the run is over
				return
			}
		}
	})
	<-ctx.Done()
	_ = listener.Close()
	f.close()
	wg.Wait()
	f.close() // one may have been opened meanwhile
	return context.Cause(ctx)
}

// open makes a tunnel to this pod the one for new connections.
func (f *forward) open(ctx context.Context, p Pod) error {
	t, err := f.r.c.Tunnel(ctx, p.Namespace, p.Name)
	if err != nil {
		return err
	}
	f.mu.Lock()
	again := f.pod.uid == p.uid
	f.tunnel, f.pod, f.end.Pod, f.all[t] = t, p, p.Name, true
	close(f.news)
	f.news = make(chan struct{})
	end := f.end
	f.mu.Unlock()
	go func() {
		<-t.Down() // at the latest when the run ends
		f.mu.Lock()
		delete(f.all, t)
		f.mu.Unlock()
		f.nudge()
	}()
	if again {
		return nil
	}
	line := fmt.Sprintf("forwarding %s to port %d of %s", end.Address, f.o.Port, p.Name)
	if !p.Ready {
		line += ", which is not ready"
	}
	f.tell.Line(line)
	f.ready(end)
	return nil
}

func (f *forward) nudge() {
	select {
	case f.wake <- struct{}{}:
	default: // somebody has
	}
}

// drop gives a tunnel up: what it carries may end in its own time.
func (f *forward) drop(t *kube.Tunnel) {
	f.mu.Lock()
	if f.tunnel == t {
		f.tunnel = nil
	}
	f.mu.Unlock()
	t.Retire()
	f.nudge()
}

// close ends all there is.
func (f *forward) close() {
	f.mu.Lock()
	all := slices.Collect(maps.Keys(f.all))
	f.mu.Unlock()
	for _, t := range all {
		t.Close()
	}
}

// keep sees that there is a tunnel to a pod that runs, until ctx ends.
func (f *forward) keep(ctx context.Context) error {
	waits := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25)
	pause, waiting := forwardIdle, false
	for {
		if _, err := poll.Wait(ctx, pause, f.wake); err != nil {
			return err
		}
		pause = forwardIdle
		next, found, fine := f.better()
		switch {
		case fine:
			continue
		case !found:
			if !waiting {
				f.tell.Line("no pod runs a container " + f.o.Service + " any more: waiting for one")
			}
			waiting = true
			continue
		}
		waiting = false
		err := f.open(ctx, next)
		switch {
		case err == nil:
			waits.Reset()
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case kube.IsDenied(err):
			return told("no tunnel to "+next.Name+" can be opened", err)
		default:
			pause = waits.Next()
		}
	}
}

// better says whether the tunnel there is will do, and else which pod the next
// one is to lead to.
func (f *forward) better() (next Pod, found, fine bool) {
	f.mu.Lock()
	t := f.tunnel
	if t != nil {
		select {
		case <-t.Down():
			f.tunnel, t = nil, nil
		default:
		}
	}
	all := make([]Pod, 0, len(f.pods))
	for _, p := range f.pods {
		all = append(all, p)
	}
	at := f.pod.uid
	f.mu.Unlock()
	fit := serving(all, f.o.Service)
	if len(fit) == 0 {
		if t != nil {
			f.drop(t)
		}
		return Pod{}, false, false
	}
	next = fit[0]
	for _, p := range fit {
		if p.uid == at && p.Ready == fit[0].Ready {
			next = p // a pod that will do is stayed with
		}
	}
	if t != nil && next.uid == at {
		return next, true, true
	}
	if t != nil {
		f.drop(t)
	}
	return next, true, false
}

// serve carries one connection, through a second tunnel where the first was
// down without anybody knowing.
func (f *forward) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	f.mu.Lock()
	f.end.Connections++
	f.mu.Unlock()
	patient, cancel := context.WithTimeout(ctx, podPatience)
	defer cancel()
	for range forwardTries {
		t, err := f.current(patient)
		if err != nil {
			if ctx.Err() == nil {
				f.tell.Line("a connection was closed: no pod to forward it to")
			}
			return
		}
		err = t.Carry(conn, f.o.Port)
		refused, said := errors.AsType[*kube.PortError](err)
		switch {
		case ctx.Err() != nil:
			return
		case said:
			// It may be the pod's and it may be the tunnel's, of a pod that was
			// made anew under its name.
			f.tell.Line(refused.Error())
			f.drop(t)
			return
		case err == nil:
			return
		}
		f.drop(t)
	}
}

// current waits for a tunnel.
func (f *forward) current(ctx context.Context) (*kube.Tunnel, error) {
	for {
		f.mu.Lock()
		t, news := f.tunnel, f.news
		f.mu.Unlock()
		if t != nil {
			return t, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// forwardSink takes what is learned of pods.
type forwardSink struct {
	f    *forward
	told bool
}

// Synced takes the whole selection.
func (s *forwardSink) Synced(items []kube.Object) {
	all := map[string]Pod{}
	for _, o := range items {
		if p, err := decodePod(o.Raw); err == nil {
			all[p.uid] = p
		}
	}
	s.f.mu.Lock()
	s.f.pods = all
	s.f.mu.Unlock()
	s.f.nudge()
}

// Changed takes a pod that is new or has changed.
func (s *forwardSink) Changed(o kube.Object) {
	p, err := decodePod(o.Raw)
	if err != nil {
		return
	}
	s.f.mu.Lock()
	s.f.pods[p.uid] = p
	s.f.mu.Unlock()
	s.f.nudge()
}

// Deleted takes a pod that is gone.
func (s *forwardSink) Deleted(o kube.Object) {
	s.f.mu.Lock()
	delete(s.f.pods, o.UID)
	s.f.mu.Unlock()
	s.f.nudge()
}

// State tells once that the server does not answer, and that it does again.
func (s *forwardSink) State(x kube.FollowState) {
	switch {
	case x.Err != nil && !s.told:
		s.told = true
		s.f.tell.Line("the API server does not answer: " + x.Err.Error())
	case x.Err == nil && s.told:
		s.told = false
		s.f.tell.Line("the API server answers again")
	}
}
