package kube

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"homelab/pkg/poll"
)

// The pace of Follow.
const (
	relistGap  = time.Second      // between the starts of two lists
	pollGap    = 2 * time.Second  // where watching is not permitted
	quietLimit = 30 * time.Second // of silence about one object, then it is fetched
	deafLimit  = time.Second      // for a watch to tell what a GET has shown
	firstWait  = time.Second
	mostWait   = 10 * time.Second
	sound      = 5 * time.Second // a stream that lived so long was healthy

	relistAfter  = 3 // watches failed in a row
	mostOldLists = 5 // in a row, then the server was set back
)

// Sink is told what Follow learns. Its methods are called from one goroutine,
// and versions of an object never go back.
type Sink interface {
	// Synced gives the whole selection, after the first list, after every
	// further one, and in the polling modes whenever something changed.
	Synced(items []Object)
	// Changed gives an object that is new in the selection or has a new version.
	Changed(o Object)
	// Deleted gives an object that is gone or has left the selection, at its
	// last known version. Raw and Value may be empty.
	Deleted(o Object)
	// State is called when it differs from the last one; at first it is Listing.
	State(s FollowState)
}

// Mode is how a Follow learns about changes.
type Mode string

// How a Follow learns about changes.
const (
	Listing     Mode = "listing"      // nothing is known yet
	Watching    Mode = "watching"     // changes are pushed
	PollingList Mode = "polling-list" // watching is not permitted: a list every 2 s
	PollingGet  Mode = "polling-get"  // listing is not permitted: a GET of Query.Name every 2 s
)

// FollowState is how a Follow is doing.
type FollowState struct {
	Mode    Mode
	Refused error // why it polls; nil otherwise
	Err     error // what keeps it from being up to date; nil: it is
}

func (s FollowState) equal(t FollowState) bool {
	return s.Mode == t.Mode && text(s.Refused) == text(t.Refused) && text(s.Err) == text(t.Err)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Follow lists and watches until ctx ends, and repairs whatever breaks: cut
// streams, expired versions, overload, restarts, connections gone silent. It
// returns only ctx's cause or a confirmed refusal: a *StatusError, when
// listing (with Query.Name: getting, too) is not permitted or the credentials
// are not accepted, or a *PluginError. A refused watch makes it poll.
//
// The stream continues from the last version seen and lists only when the
// server no longer has that, or three watches in a row gave nothing.
func (c *Cluster) Follow(ctx context.Context, r Resource, ns string, q Query, sink Sink) error {
	s, err := newSieve(ns, q)
	if err != nil {
		return err
	}
	q.Limit = 0
	f := &follower{c: c, r: r, ns: ns, q: q, sieve: s, sink: sink, mode: Listing, known: map[string]entry{}}
	f.tell(nil)
	for ctx.Err() == nil {
		err := f.step(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// follower is one Follow; all of it belongs to one goroutine.
type follower struct {
	c     *Cluster
	r     Resource
	ns    string
	q     Query
	sieve sieve
	sink  Sink

	now      FollowState
	told     bool
	mode     Mode
	refused  error
	listed   bool // rv is good to watch from
	synced   bool // the sink has a selection
	rv       string
	highest  uint64           // of all resourceVersions seen
	known    map[string]entry // by namespace/name
	failures int              // since the last thing that worked
	old      int              // lists in a row that were older than what is known
	lastList time.Time
	lastFree time.Time // the last retry without a wait
	noGet    bool      // the object may not be fetched
}

type entry struct {
	uid, rv string
}

func key(o *Object) string { return o.Namespace + "/" + o.Name }

// step does one list, one watch or one poll. An error ends Follow.
func (f *follower) step(ctx context.Context) error {
	switch {
	case f.mode == PollingGet:
		return f.poll(ctx, f.get)
	case f.mode == PollingList:
		if err := poll.Sleep(ctx, time.Until(f.lastList.Add(relistGap))); err != nil {
			return err
		}
		return f.poll(ctx, f.list)
	case !f.listed:
		if err := poll.Sleep(ctx, time.Until(f.lastList.Add(relistGap))); err != nil {
			return err
		}
		err := f.list(ctx)
		if err == nil {
			f.mode = Watching
			f.tell(nil)
			return nil
		}
		if IsForbidden(err) && f.q.Name != "" {
			f.mode, f.refused = PollingGet, err
			return nil
		}
		return f.after(ctx, err)
	}
	return f.watch(ctx)
}

// list makes the selection that of one list.
func (f *follower) list(ctx context.Context) error {
	f.lastList = time.Now()
	items, rv, err := f.c.List(ctx, f.r, f.ns, f.q)
	if err != nil {
		return err
	}
	n := version(rv)
	if n != 0 && n < f.highest && f.old < mostOldLists {
		f.old++
		err := &UnreachableError{What: "list " + f.r.String(), Err: errors.New("the server answered from an older state")}
		f.c.bad(err)
		return err
	}
	f.old = 0
	f.highest = n
	f.rv, f.listed = rv, true
	known := make(map[string]entry, len(items))
	same := f.synced && len(items) == len(f.known)
	for i := range items {
		k, e := key(&items[i]), entry{items[i].UID, items[i].ResourceVersion}
		same = same && f.known[k] == e
		known[k] = e
	}
	f.known = known
	if f.mode == PollingList && same {
		return nil
	}
	f.synced = true
	f.sink.Synced(items)
	return nil
}

// get makes the selection that of one GET.
func (f *follower) get(ctx context.Context) error {
	o, err := f.c.Get(ctx, f.r, f.ns, f.q.Name)
	var items []Object
	switch {
	case err == nil:
		items = []Object{o}
	case !IsAbsent(err):
		return err
	}
	known := map[string]entry{}
	if len(items) == 1 {
		e := entry{o.UID, o.ResourceVersion}
		if f.synced && f.known[key(&o)] == e {
			return nil
		}
		known[key(&o)] = e
		if !f.sieve.keeps(&items[0]) {
			items = nil
		}
	} else if f.synced && len(f.known) == 0 {
		return nil
	}
	f.known, f.synced = known, true
	f.sink.Synced(items)
	return nil
}

// poll looks once and waits.
func (f *follower) poll(ctx context.Context, look func(context.Context) error) error {
	start := time.Now()
	if err := look(ctx); err != nil {
		return f.after(ctx, err)
	}
	f.failures = 0
	f.tell(nil)
	return poll.Sleep(ctx, time.Until(start.Add(pollGap)))
}

// after sorts a failure: a refusal ends Follow, the rest is waited out.
func (f *follower) after(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !IsTransient(err) {
		return err
	}
	f.failures++
	wait := max(retryAfter(err), f.backoff())
	f.tell(err)
	return poll.Sleep(ctx, wait)
}

// backoff is between one second and twice as much per failure, up to ten.
func (f *follower) backoff() time.Duration {
	most := min(mostWait, firstWait*time.Duration(math.Exp2(float64(min(f.failures, 10)))))
	return firstWait + time.Duration(f.c.random()*float64(most-firstWait))
}

// again waits before the next watch: not at all when a healthy stream ended,
// but never twice within a second.
func (f *follower) again(ctx context.Context, err error, healthy bool) error {
	if healthy {
		f.failures = 0
	}
	wait := retryAfter(err)
	if f.failures == 0 && wait == 0 && time.Since(f.lastFree) >= relistGap {
		f.lastFree = time.Now()
		f.failures++
		return nil
	}
	f.failures++
	if wait == 0 {
		wait = f.backoff()
	}
	if err != nil {
		f.tell(err)
	}
	if f.failures%relistAfter == 0 {
		f.listed = false
	}
	return poll.Sleep(ctx, wait)
}

// tell reports the state to the sink when it is another one.
func (f *follower) tell(err error) {
	s := FollowState{Mode: f.mode, Refused: f.refused, Err: err}
	if f.told && s.equal(f.now) {
		return
	}
	f.now, f.told = s, true
	f.sink.State(s)
}

// watch runs one stream to its end and decides what comes next.
func (f *follower) watch(ctx context.Context) error {
	start := time.Now()
	s, err := f.c.open(ctx, f.r, f.ns, f.q, f.rv)
	if err != nil {
		var status *StatusError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &status) && status.expired():
			return f.expired(ctx, err, false)
		case errors.As(err, &status) && status.Refused() && status.Code != http.StatusUnauthorized:
			f.mode, f.refused = PollingList, err
			return nil
		case !IsTransient(err):
			return err
		}
		return f.again(ctx, err, false)
	}
	f.tell(nil)
	heard, err := f.read(ctx, s)
	s.close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var status *StatusError
	healthy := heard || time.Since(start) >= sound
	if errors.As(err, &status) && status.expired() {
		return f.expired(ctx, err, healthy)
	}
	return f.again(ctx, err, healthy)
}

// expired asks for a list, at once as long as that leads to working streams.
func (f *follower) expired(ctx context.Context, err error, healthy bool) error {
	f.listed = false
	if healthy {
		f.failures = 0
	}
	if f.failures++; f.failures <= relistAfter {
		return nil
	}
	f.tell(err)
	return poll.Sleep(ctx, f.backoff())
}

// read takes events until the stream ends; nil is its regular end.
func (f *follower) read(ctx context.Context, s *stream) (heard bool, err error) {
	feed, quiet, stop := f.listen(ctx)
	defer func() { stop() }()
	for {
		select {
		case e, open := <-s.events:
			if !open {
				return heard, s.err
			}
			if err := f.apply(e); err != nil {
				return heard, err
			}
			heard = true
			feed()
		case <-quiet:
			stop()
			if ctx.Err() != nil {
				return heard, context.Cause(ctx)
			}
			if err := f.check(ctx, s); err != nil {
				return heard, err
			}
			feed, quiet, stop = f.listen(ctx)
		case <-ctx.Done():
			return heard, context.Cause(ctx)
		}
	}
}

// listen starts the clock of silence, where one object is followed.
func (f *follower) listen(ctx context.Context) (feed func(), quiet <-chan struct{}, stop func()) {
	if f.q.Name == "" || f.noGet {
		return func() {}, nil, func() {}
	}
	watched, feed, stop := poll.Watchdog(ctx, quietLimit)
	return feed, watched.Done(), stop
}

// check fetches the followed object after a silence. When the watch does not
// tell what the GET shows, or nothing answers, the connections are taken for
// dead: all streams start anew, each from its own version.
func (f *follower) check(ctx context.Context, s *stream) error {
	o, err := f.c.Get(ctx, f.r, f.ns, f.q.Name)
	absent := IsAbsent(err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case IsDenied(err):
		f.noGet = true // it can be listed and watched; the next list or watch tells more
		return nil
	case err != nil && !absent:
		f.c.redial()
		return err
	}
	has := func() bool {
		k, known := f.known[f.ns+"/"+f.q.Name]
		if absent {
			return !known
		}
		return k.uid == o.UID && version(k.rv) >= version(o.ResourceVersion)
	}
	wait, _, stop := poll.Watchdog(ctx, deafLimit)
	defer stop()
	for !has() {
		select {
		case e, open := <-s.events:
			if !open {
				return s.err
			}
			if err := f.apply(e); err != nil {
				return err
			}
		case <-wait.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if absent {
				k := f.known[f.ns+"/"+f.q.Name]
				f.deleted(Object{Name: f.q.Name, Namespace: f.ns, UID: k.uid, ResourceVersion: k.rv})
			} else {
				f.changed(o)
			}
			f.c.redial()
			return &UnreachableError{What: "watch " + f.r.String(), Err: errDeaf}
		}
	}
	return nil
}

// apply hands on one event. An ERROR event is returned.
func (f *follower) apply(e event) error {
	if e.err != nil {
		return e.err
	}
	f.c.good()
	if rv := e.object.ResourceVersion; rv != "" {
		f.rv = rv
		f.highest = max(f.highest, version(rv))
	}
	switch e.kind {
	case "ADDED", "MODIFIED":
		f.changed(e.object)
	case "DELETED":
		if f.sieve.namespace == "" || e.object.Namespace == f.sieve.namespace {
			f.deleted(e.object)
		}
	case "BOOKMARK":
	default:
		f.c.log("watch %s: event %q is not known", f.r, e.kind)
	}
	return nil
}

// changed drops what is no newer than what is known: after a GET has overtaken
// the stream, the stream tells it again.
func (f *follower) changed(o Object) {
	k, known := f.known[key(&o)]
	n := version(o.ResourceVersion)
	if known && n != 0 && n <= version(k.rv) {
		return
	}
	if !f.sieve.keeps(&o) {
		// A server that ignores selectors says MODIFIED where another says DELETED.
		if known {
			delete(f.known, key(&o))
			f.sink.Deleted(o)
		}
		return
	}
	f.known[key(&o)] = entry{o.UID, o.ResourceVersion}
	f.sink.Changed(o)
}

func (f *follower) deleted(o Object) {
	k, known := f.known[key(&o)]
	if !known || k.uid != o.UID && version(k.rv) > version(o.ResourceVersion) {
		return // never ours, or an older one of the name
	}
	delete(f.known, key(&o))
	f.sink.Deleted(o)
}
