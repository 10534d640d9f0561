package rollout

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

// Cluster is all a wait needs of an API server. *kube.Cluster is one.
type Cluster interface {
	Get(ctx context.Context, r kube.Resource, ns, name string) (kube.Object, error)
	List(ctx context.Context, r kube.Resource, ns string, q kube.Query) ([]kube.Object, string, error)
	Follow(ctx context.Context, r kube.Resource, ns string, q kube.Query, sink kube.Sink) error
	Log(ctx context.Context, ns, pod string, o kube.LogOptions) ([]byte, error)
	Contact
}

// Contact is how things stand with the API server.
type Contact interface {
	Now() time.Time // its clock
	Health() kube.Health
}

// Images answers what a registry has under a reference; target is whose pull
// secrets and nodes matter.
type Images interface {
	Image(ctx context.Context, reference string, target Target) ImageAnswer
}

// History answers what git knows.
type History interface {
	// Descent says whether a revision descends from the wanted commit.
	Descent(ctx context.Context, revision string) Descent
	// Remote says whether the wanted commit is anywhere images are built from.
	Remote(ctx context.Context) RemoteAnswer
}

// Sources are what a wait may ask beside the cluster; each may be nil.
type Sources struct {
	Images   Images
	History  History
	Pipeline func(ctx context.Context) *PipelineFact
}

// Wait watches every workload to its own end and returns their verdicts in
// the order of targets. emit is told, from the calling goroutine, whenever a
// workload's sentence or phase changes, and at its end. When ctx ends, what is
// still open ends as timed out or interrupted, by ctx's cause.
func Wait(ctx context.Context, c Cluster, targets []Config, src Sources, emit func(i int, v Verdict)) []Verdict {
	watching, stop := context.WithCancel(ctx)
	h := &hub{
		c: c, src: src, emit: emit, ctx: watching,
		wake: make(chan struct{}, 1), spaces: map[string]*space{},
	}
	defer func() { stop(); h.work.Wait() }()
	for i, cfg := range targets {
		t := &tracked{i: i, cfg: cfg, asked: map[Want]*ask{}, dirty: true}
		t.snap.Events, t.snap.Nodes, t.snap.Claims = map[string]Events{}, map[string]NodeAnswer{}, map[string]ClaimAnswer{}
		t.snap.Logs, t.snap.Images, t.snap.Ancestry = map[Want]LogTail{}, map[string]ImageAnswer{}, map[string]Descent{}
		h.targets = append(h.targets, t)
		h.space(cfg.Namespace).targets = append(h.space(cfg.Namespace).targets, t)
	}
	h.start()
	h.run(ctx)
	out := make([]Verdict, len(targets))
	for i, t := range h.targets {
		out[i] = t.verdict
	}
	return out
}

// hub is the state of one Wait. Everything in it but the inbox belongs to the
// goroutine that runs it: followers and fetches post what they learn.
type hub struct {
	c    Cluster
	src  Sources
	emit func(int, Verdict)
	ctx  context.Context //nolint:containedctx // of the followers and fetches, ended by Wait
	work sync.WaitGroup
	wake chan struct{}

	mu    sync.Mutex
	inbox []func()

	targets []*tracked
	spaces  map[string]*space
}

// tracked is one workload that is waited for.
type tracked struct {
	i       int
	cfg     Config
	snap    Snapshot
	verdict Verdict
	told    string // what was last emitted
	dirty   bool
	done    bool
	wake    time.Time // on the local clock; zero: only news
	asked   map[Want]*ask
	answers bool // the target's first list has been answered, one way or another

	explain   int       // fetches that would explain the end and are under way
	explainBy time.Time // zero: not explaining
}

type ask struct {
	at       time.Time // when it was last sent
	underway bool
}

// space is one namespace: what its workloads share.
type space struct {
	name    string
	targets []*tracked
	pods    map[string]Pod
	sets    map[string]ReplicaSet
	revs    map[string]Revision
	follows map[string]*following // by resource
}

// following is one running Follow of dependents.
type following struct {
	query  kube.Query
	stop   context.CancelFunc
	sight  Sight
	covers map[*tracked]string // the workloads it was opened for, by their selectors
}

func (h *hub) space(name string) *space {
	s, ok := h.spaces[name]
	if !ok {
		s = &space{
			name: name, pods: map[string]Pod{}, sets: map[string]ReplicaSet{}, revs: map[string]Revision{},
			follows: map[string]*following{},
		}
		h.spaces[name] = s
	}
	return s
}

// post hands f to the hub's goroutine.
func (h *hub) post(f func()) {
	h.mu.Lock()
	h.inbox = append(h.inbox, f)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hub) drain() {
	h.mu.Lock()
	posted := h.inbox
	h.inbox = nil
	h.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

func (h *hub) background(f func(ctx context.Context)) {
	h.work.Go(func() { f(h.ctx) })
}

// start opens a follower per kind and namespace, and asks for the pipeline.
func (h *hub) start() {
	for _, s := range h.spaces {
		byKind := make(map[Kind][]*tracked)
		for _, t := range s.targets {
			byKind[t.cfg.Kind] = append(byKind[t.cfg.Kind], t)
		}
		for kind, ts := range byKind {
			h.followTargets(s, kind, ts, len(ts) == 1)
		}
	}
	if h.src.Pipeline != nil {
		h.background(func(ctx context.Context) {
			if fact := h.src.Pipeline(ctx); fact != nil {
				h.post(func() {
					for _, t := range h.targets {
						t.snap.Pipeline, t.dirty = fact, true
					}
				})
			}
		})
	}
}

// resourceOf returns where a kind stands in the API.
func resourceOf(k Kind) kube.Resource {
	switch k {
	case Deployment:
		return kube.Apps("deployments")
	case StatefulSet:
		return kube.Apps("statefulsets")
	case DaemonSet:
		return kube.Apps("daemonsets")
	case CronJob:
		return kube.Batch("cronjobs")
	}
	return kube.Resource{}
}

// followTargets watches workloads of one kind in one namespace: each for
// itself, or all with one request. Where that is forbidden (a role that names
// its resources), each for itself.
func (h *hub) followTargets(s *space, kind Kind, ts []*tracked, apart bool) {
	if apart {
		for _, t := range ts {
			sink := &targetSink{h: h, byName: map[string]*tracked{t.cfg.Name: t}}
			h.background(func(ctx context.Context) {
				err := h.c.Follow(ctx, resourceOf(kind), s.name, kube.Query{Name: t.cfg.Name, Keep: keepTarget(kind, nil)}, sink)
				h.refusedTarget(ctx, t, kind, err)
			})
		}
		return
	}
	sink := &targetSink{h: h, byName: map[string]*tracked{}}
	for _, t := range ts {
		sink.byName[t.cfg.Name] = t
	}
	h.background(func(ctx context.Context) {
		err := h.c.Follow(ctx, resourceOf(kind), s.name, kube.Query{Keep: keepTarget(kind, sink.byName)}, sink)
		if ctx.Err() != nil {
			return
		}
		if kube.IsForbidden(err) {
			h.post(func() { h.followTargets(s, kind, ts, true) })
			return
		}
		for _, t := range ts {
			h.refusedTarget(ctx, t, kind, err)
		}
	})
}

// refusedTarget takes the end of a target's follower: the target may not be
// read.
func (h *hub) refusedTarget(ctx context.Context, t *tracked, kind Kind, err error) {
	if ctx.Err() != nil || err == nil {
		return
	}
	r := &Refusal{Code: 403, Message: err.Error(), Verb: "get", Resource: resourceOf(kind).String()}
	if status, ok := errors.AsType[*kube.StatusError](err); ok {
		r.Code, r.Message, r.Verb = status.Code, status.Message, status.Verb
	}
	if _, ok := errors.AsType[*kube.PluginError](err); ok {
		r.Code = 401
	}
	h.post(func() { //nolint:contextcheck // followers live as long as the hub
		t.snap.Refused, t.dirty, t.answers = r, true, true
		h.ensure(h.space(t.cfg.Namespace))
	})
}

// keepTarget decodes workloads as they arrive; names, when given, leaves out
// all others.
func keepTarget(kind Kind, names map[string]*tracked) func(*kube.Object) bool {
	return func(o *kube.Object) bool {
		if names != nil && names[o.Name] == nil {
			return false
		}
		t, err := DecodeTarget(kind, o.Raw)
		if err != nil {
			return false
		}
		o.Value, o.Raw = t, nil
		return true
	}
}

// targetSink takes what a follower of workloads learns.
type targetSink struct {
	h      *hub
	byName map[string]*tracked
}

func (s *targetSink) Synced(items []kube.Object) {
	items = slices.Clone(items)
	s.h.post(func() {
		seen := map[string]bool{}
		for _, o := range items {
			seen[o.Name] = true
			s.h.sawTarget(s.byName[o.Name], o)
		}
		for name, t := range s.byName {
			if !seen[name] {
				s.h.lostTarget(t)
			}
		}
	})
}

func (s *targetSink) Changed(o kube.Object) {
	s.h.post(func() { s.h.sawTarget(s.byName[o.Name], o) })
}

func (s *targetSink) Deleted(o kube.Object) {
	s.h.post(func() { s.h.lostTarget(s.byName[o.Name]) })
}

func (s *targetSink) State(kube.FollowState) {
	s.h.post(func() {
		for _, t := range s.byName {
			t.dirty = true // the state of the connection is part of what is judged
		}
	})
}

// sawTarget takes a version of a workload.
func (h *hub) sawTarget(t *tracked, o kube.Object) {
	target, ok := o.Value.(Target)
	if t == nil || !ok || t.done {
		return
	}
	t.snap.Target, t.snap.Missing, t.snap.Refused = &target, nil, nil
	t.dirty, t.answers = true, true
	h.ensure(h.space(t.cfg.Namespace))
}

// lostTarget takes that a selection lacks a workload: it is asked for by name
// before that is believed.
func (h *hub) lostTarget(t *tracked) {
	if t == nil || t.done {
		return
	}
	h.fetch(t, Want{Kind: WantTarget})
}

// ensure opens what the namespace's workloads need beside themselves, once
// each of them has been answered: one list and one watch per resource for all.
func (h *hub) ensure(s *space) {
	needs := map[string][]*tracked{}
	for _, t := range s.targets {
		if !t.answers {
			return
		}
		if t.snap.Target == nil || t.done {
			continue
		}
		switch t.cfg.Kind {
		case Deployment:
			needs["replicasets"] = append(needs["replicasets"], t)
			needs["pods"] = append(needs["pods"], t)
		case StatefulSet:
			needs["pods"] = append(needs["pods"], t)
			if _, asked := t.asked[Want{Kind: WantRevisions}]; asked {
				needs["controllerrevisions"] = append(needs["controllerrevisions"], t)
			}
		case DaemonSet:
			needs["controllerrevisions"] = append(needs["controllerrevisions"], t)
			needs["pods"] = append(needs["pods"], t)
		case CronJob:
		}
	}
	for name, ts := range needs {
		h.followDependents(s, name, ts)
	}
}

// merged returns the label selector that covers all of the workloads: the one
// there is, "key in (a,b,c)" where one label tells them apart, else none.
func merged(ts []*tracked) string {
	if len(ts) == 1 {
		return ts[0].snap.Target.Selector.String()
	}
	values := map[string]map[string]bool{}
	count := map[string]int{}
	for _, t := range ts {
		for k, v := range t.snap.Target.Selector.Labels {
			if values[k] == nil {
				values[k] = map[string]bool{}
			}
			values[k][v] = true
			count[k]++
		}
	}
	best := ""
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if count[k] == len(ts) && (best == "" || len(values[k]) > len(values[best])) {
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return best + " in (" + strings.Join(slices.Sorted(maps.Keys(values[best])), ",") + ")"
}

// followDependents opens or widens the follower of one resource. It is never
// narrowed: a workload that has its end costs less than a new list.
func (h *hub) followDependents(s *space, resource string, ts []*tracked) {
	covers := map[*tracked]string{}
	for _, t := range ts {
		covers[t] = t.snap.Target.Selector.String()
	}
	if old := s.follows[resource]; old != nil {
		missing := func(t *tracked) bool { return old.covers[t] != covers[t] }
		if old.query.Labels == "" || !slices.ContainsFunc(ts, missing) {
			return
		}
		old.stop()
	}
	labels := merged(ts)
	r := kube.Apps(resource)
	if resource == "pods" {
		r = kube.Core(resource)
	}
	ctx, stop := context.WithCancel(h.ctx)
	f := &following{query: kube.Query{Labels: labels, Keep: keepDependent(resource)}, stop: stop, covers: covers}
	s.follows[resource] = f
	sink := &dependentSink{h: h, s: s, f: f, resource: resource}
	h.work.Go(func() {
		defer stop()
		err := h.c.Follow(ctx, r, s.name, f.query, sink)
		if ctx.Err() != nil || err == nil {
			return
		}
		h.post(func() {
			if s.follows[resource] == f {
				f.sight = Forbidden
				s.spoil(resource)
			}
		})
	})
}

// keepDependent decodes dependents as they arrive.
func keepDependent(resource string) func(*kube.Object) bool {
	return func(o *kube.Object) bool {
		var v any
		var err error
		switch resource {
		case "pods":
			v, err = DecodePod(o.Raw)
		case "replicasets":
			v, err = DecodeReplicaSet(o.Raw)
		default:
			v, err = DecodeRevision(o.Raw)
		}
		if err != nil {
			return false
		}
		o.Value, o.Raw = v, nil
		return true
	}
}

// dependentSink takes what a follower of dependents learns.
type dependentSink struct {
	h        *hub
	s        *space
	f        *following
	resource string
}

// current says whether the follower has not been replaced meanwhile.
func (d *dependentSink) current() bool { return d.s.follows[d.resource] == d.f }

func (d *dependentSink) Synced(items []kube.Object) {
	items = slices.Clone(items)
	d.h.post(func() {
		if !d.current() {
			return
		}
		d.f.sight = Seen
		d.s.clear(d.resource)
		for _, o := range items {
			d.s.store(o)
		}
		d.s.spoil(d.resource)
	})
}

func (d *dependentSink) Changed(o kube.Object) {
	d.h.post(func() {
		if d.current() {
			d.s.store(o)
			d.s.spoil(d.resource)
		}
	})
}

func (d *dependentSink) Deleted(o kube.Object) {
	d.h.post(func() {
		if d.current() {
			d.s.drop(d.resource, o.Name)
			d.s.spoil(d.resource)
		}
	})
}

func (d *dependentSink) State(kube.FollowState) {}

func (s *space) store(o kube.Object) {
	switch v := o.Value.(type) {
	case Pod:
		s.pods[o.Name] = v
	case ReplicaSet:
		s.sets[o.Name] = v
	case Revision:
		s.revs[o.Name] = v
	}
}

func (s *space) drop(resource, name string) {
	switch resource {
	case "pods":
		delete(s.pods, name)
	case "replicasets":
		delete(s.sets, name)
	default:
		delete(s.revs, name)
	}
}

func (s *space) clear(resource string) {
	switch resource {
	case "pods":
		clear(s.pods)
	case "replicasets":
		clear(s.sets)
	default:
		clear(s.revs)
	}
}

// spoil marks the workloads that a change of a resource may concern.
func (s *space) spoil(string) {
	for _, t := range s.targets {
		t.dirty = true
	}
}

// gather puts what the namespace knows of a workload into its snapshot.
func (s *space) gather(t *tracked) {
	sight := func(resource string) Sight {
		if f := s.follows[resource]; f != nil {
			return f.sight
		}
		return Unread
	}
	t.snap.PodSight, t.snap.ReplicaSetSight, t.snap.RevisionSight = sight("pods"), sight("replicasets"), sight("controllerrevisions")
	t.snap.Pods, t.snap.ReplicaSets, t.snap.Revisions = nil, nil, nil
	if t.snap.Target == nil {
		return
	}
	uid := t.snap.Target.UID
	for _, name := range slices.Sorted(maps.Keys(s.pods)) {
		if p := s.pods[name]; t.snap.Target.Selector.Matches(p.Labels) {
			t.snap.Pods = append(t.snap.Pods, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.sets)) {
		if r := s.sets[name]; r.Owner.UID == uid {
			t.snap.ReplicaSets = append(t.snap.ReplicaSets, r)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.revs)) {
		if r := s.revs[name]; r.Owner.UID == uid {
			t.snap.Revisions = append(t.snap.Revisions, r)
		}
	}
}

// run judges until every workload has its end.
func (h *hub) run(ctx context.Context) {
	for {
		h.drain()
		if ctx.Err() != nil {
			h.close(ctx)
			return
		}
		open := false
		for _, t := range h.targets {
			if t.done {
				continue
			}
			h.judge(t)
			open = open || !t.done
		}
		if !open {
			return
		}
		// An ended ctx shows at the top of the loop.
		_, _ = poll.Wait(ctx, h.untilWake(), h.wake)
	}
}

// untilWake is how long only news can change anything.
func (h *hub) untilWake() time.Duration {
	wait := time.Minute
	if !h.c.Health().FailingSince.IsZero() {
		wait = time.Second // how long it has been failing is told
	}
	now := time.Now()
	for _, t := range h.targets {
		for _, at := range []time.Time{t.wake, t.explainBy} {
			if !t.done && !at.IsZero() {
				wait = min(wait, max(at.Sub(now), time.Millisecond))
			}
		}
	}
	return wait
}

// judge assesses a workload if anything may have changed.
func (h *hub) judge(t *tracked) {
	now := time.Now()
	failing := !h.c.Health().FailingSince.IsZero()
	due := !t.wake.IsZero() && !now.Before(t.wake) || !t.explainBy.IsZero() && !now.Before(t.explainBy)
	if !t.dirty && !due && !failing {
		return
	}
	t.dirty, t.wake = false, time.Time{}
	if !t.explainBy.IsZero() {
		if t.explain == 0 || !now.Before(t.explainBy) {
			h.finish(t, h.assess(t))
		}
		return // what was seen when the end was confirmed stands still
	}
	h.space(t.cfg.Namespace).gather(t)
	v := h.assess(t)
	live := t.snap.Live
	t.snap.Live = false
	if v.Final() && v.Confirmed {
		t.snap.Live = live
		h.end(h.ctx, t, v)
		return
	}
	t.verdict = v
	if !v.Final() {
		h.tell(t, v) // an end is not to be believed before it is confirmed
	}
	for _, w := range v.Fetch {
		if v.Final() && explains(w.Kind) {
			continue // an end is explained once it is confirmed
		}
		h.fetch(t, w)
	}
	if !v.Wake.IsZero() {
		t.wake = now.Add(v.Wake.Sub(h.c.Now()))
	}
}

func (h *hub) assess(t *tracked) Verdict {
	health := h.c.Health()
	t.snap.Trouble = Trouble{Never: !health.AnyGood, FailingSince: health.FailingSince}
	if health.Last != nil {
		t.snap.Trouble.Last = health.Last.Error()
	}
	now := h.c.Now()
	t.snap.Memory = Remember(t.snap.Memory, t.snap, t.cfg, now)
	return Assess(t.snap, t.cfg, now)
}

// tell emits a verdict when its sentence or phase is new.
func (h *hub) tell(t *tracked, v Verdict) {
	key := string(v.Outcome) + "\x00" + string(v.Phase) + "\x00" + v.Sentence
	if key != t.told {
		t.told = key
		h.emit(t.i, v)
	}
}

const explainWithin = 1500 * time.Millisecond // for one more event list and log

// explains says whether a thing only explains an end: it is worth fetching
// once that is certain.
func explains(k WantKind) bool { return k == WantEvents || k == WantLog || k == WantAncestry }

// end takes a confirmed end. What would explain it better is fetched first,
// once and for a short time.
func (h *hub) end(ctx context.Context, t *tracked, v Verdict) {
	if v.Outcome != Ready && t.explainBy.IsZero() {
		for _, w := range v.Fetch {
			if !explains(w.Kind) {
				continue
			}
			t.explain++
			t.asked[w] = &ask{at: time.Now(), underway: true}
			h.answer(ctx, t, w, func() { t.explain-- })
		}
		if t.explain > 0 {
			t.explainBy = time.Now().Add(explainWithin)
			t.verdict = v
			return
		}
	}
	h.finish(t, v)
}

func (h *hub) finish(t *tracked, v Verdict) {
	if !v.Final() {
		v = t.verdict // explaining must not unmake an end
	}
	t.verdict, t.done = v, true
	h.tell(t, v)
}

// close ends the workloads that are still open when ctx ends.
func (h *hub) close(ctx context.Context) {
	timeUp := errors.Is(context.Cause(ctx), fault.ErrTimeUp)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainWithin)
	defer cancel()
	var looks sync.WaitGroup
	for _, t := range h.targets {
		if t.done || !t.explainBy.IsZero() {
			continue
		}
		t.snap.Ended = BySignal
		if timeUp {
			t.snap.Ended = TimeUp
		}
		h.space(t.cfg.Namespace).gather(t)
		v := h.assess(t)
		if !timeUp || !h.c.Health().FailingSince.IsZero() {
			continue
		}
		// One more look explains what it is still waiting for.
		for _, w := range v.Fetch {
			if explains(w.Kind) {
				looks.Go(func() {
					f := h.ask(last, t.cfg, t.snap.Target, w)
					h.post(func() { f(t) })
				})
			}
		}
	}
	looks.Wait()
	h.drain()
	for _, t := range h.targets {
		switch {
		case t.done:
		case !t.explainBy.IsZero():
			h.finish(t, t.verdict)
		default:
			h.finish(t, h.assess(t))
		}
	}
}

// pace is how soon a thing is fetched again when a verdict still wants it.
func pace(k WantKind) time.Duration {
	switch k {
	case WantTarget:
		return 200 * time.Millisecond
	case WantEvents, WantLog:
		return 5 * time.Second
	case WantNamespace, WantNode, WantClaim:
		return 10 * time.Second
	case WantImage:
		return 30 * time.Second
	case WantAncestry, WantRemote, WantRevisions:
		return 24 * time.Hour // once
	}
	return time.Minute
}

// fetch gets one thing in the background unless it is under way or was fetched
// just now.
func (h *hub) fetch(t *tracked, w Want) {
	a := t.asked[w]
	if a == nil {
		a = &ask{}
		t.asked[w] = a
	}
	if a.underway {
		return
	}
	if wait := time.Until(a.at.Add(pace(w.Kind))); !a.at.IsZero() && wait > 0 {
		if again := time.Now().Add(wait); pace(w.Kind) < time.Minute && (t.wake.IsZero() || again.Before(t.wake)) {
			t.wake = again
		}
		return
	}
	a.at, a.underway = time.Now(), true
	h.answer(h.ctx, t, w, func() {})
}

// answer asks for w and posts the answer.
func (h *hub) answer(ctx context.Context, t *tracked, w Want, then func()) {
	if w.Kind == WantRevisions {
		h.ensure(h.space(t.cfg.Namespace)) //nolint:contextcheck // followers live as long as the hub
		t.asked[w].underway = false
		return
	}
	cfg, target := t.cfg, t.snap.Target
	h.work.Go(func() {
		f := h.ask(ctx, cfg, target, w)
		h.post(func() {
			t.asked[w].underway = false
			f(t)
			t.dirty = true
			then()
		})
	})
}
