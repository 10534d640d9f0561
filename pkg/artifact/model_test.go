package artifact

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"homelab/pkg/fault"
)

// model watches a world from outside, by its effects and their results alone,
// and knows what may never happen.
type model struct {
	w        *world
	r        *rand.Rand
	orders   map[ID]int64
	offers   []ID           // ever answered by the source
	begun    map[int]ID     // attempt -> id, from its intent on
	open     bool           // a switch has begun and has no end yet
	by       Cause          // of the last one
	auto     map[ID]int     // id -> attempt that activated it by itself
	permits  map[ID]int     // retries asked for
	back     bool           // a rollback by hand was asked for
	halted   bool           // and nobody acted since
	pinned   bool           //
	paused   bool           //
	ready    map[Do]ID      // fetched, verified, staged: the id it last worked for
	seen     Observation    // the last observation that was answered
	passes   int            // rounds in a row
	about    ID             // whom they were about
	running  []Effect       // without looks
	looks    int            //
	ending   bool           // a signal came
	rolled   map[int]int    // rollbacks per attempt
	notes    map[string]int // how often what happened
	names    int
	enforced int
}

func newModel(w *world, r *rand.Rand) *model {
	return &model{
		w: w, r: r, orders: map[ID]int64{}, auto: map[ID]int{}, begun: map[int]ID{}, permits: map[ID]int{}, ready: map[Do]ID{},
		rolled: map[int]int{}, notes: map[string]int{},
	}
}

func (o *model) breaks(format string, args ...any) { o.w.breaks(format, args...) }

func (o *model) effect(e Effect) {
	m := &o.w.s.Memory
	switch e.Do {
	case Write:
		o.line(e.Line)
	case DoLook:
		if o.looks++; o.looks > 1 {
			o.breaks("two looks at once")
		}
	case DoObserve, DoFetch, DoVerify, DoStage, DoBaseline, DoProbe, DoCheck, DoActivate, DoRollback:
		if len(o.running) > 0 {
			o.breaks("%s beside %s", e.Do, o.running[0].Do)
		}
		o.running = append(o.running, e)
		if e.Do == DoActivate {
			o.notes["activate "+string(m.Attempt.By)]++
			if o.halted {
				o.breaks("activated while halted")
			}
			if o.begun[m.Attempt.N] != e.Switch.To.ID {
				o.breaks("%s is activated without its intent on disk", e.Switch.To.ID.Short())
			}
		}
		if e.Do == DoRollback {
			o.notes["rollback"]++
			if o.rolled[e.Switch.Attempt]++; m.Attempt == nil || m.Attempt.Backs > 2 {
				o.breaks("a third rollback of attempt %d", e.Switch.Attempt)
			}
			if o.halted {
				o.breaks("rollback while halted")
			}
		}
	case Cancel:
		for _, p := range o.running {
			if p.Op == e.Op && (p.Do == DoActivate || p.Do == DoRollback) && !o.ending {
				o.breaks("%s was cancelled", p.Do)
			}
		}
		n := len(o.running)
		o.running = slices.DeleteFunc(o.running, func(p Effect) bool { return p.Op == e.Op })
		if len(o.running) == n {
			o.looks = 0
		}
	case Tell, Reply, Discard, Prune, After, End:
	}
}

func (o *model) line(l Line) {
	if l.Op == OpDone && l.State == Idle && l.ID == "" && o.open {
		o.breaks("attempt %d was dropped after it had begun: %s", l.Attempt, l.Reason)
	}
	switch {
	case l.Op == OpIntent && l.State == Switching:
		o.open = true
	case l.Op == OpLater, l.Op == OpDone && (l.State == Idle || l.State == Live || l.State == RolledBack || l.State == Halted):
		o.open = false
	}
	switch {
	case l.Op == OpIntent && l.State == Fetching:
		o.ready = map[Do]ID{}
	case l.Op == OpDone && l.State == Live:
		o.notes["live"]++
		if o.by != ByEnforce {
			o.enforced = 0
		}
		if o.passes < passesNeeded || o.about != l.ID {
			o.breaks("%s is live after %d passes", l.ID.Short(), o.passes)
		}
		if !o.seen.Is(l.ID) {
			o.breaks("%s is live, and the target was seen to run %s", l.ID.Short(), o.seen)
		}
	case l.Op == OpDone && l.State == RolledBack:
		o.notes["rolled back"]++
		if o.passes < passesNeeded || o.about == l.ID {
			o.breaks("rolled back without proof")
		}
	case l.Op == OpDone && l.State == Halted:
		o.notes["halted"]++
		o.halted = true
	case l.Op == OpIntent && l.State == Switching:
		o.switching(l.ID)
	case l.Op == OpLater:
		delete(o.begun, l.Attempt)
		delete(o.auto, l.ID)
		switch o.by {
		case ByRetry:
			o.permits[l.ID]++
		case ByEnforce:
			o.enforced--
		case ByItself, ByRollback:
		}
	case l.Op == OpResume:
		o.paused = false
	case l.Op == OpPause:
		o.paused = l.Pause != nil
	}
}

// switching looks at the intent to activate.
func (o *model) switching(id ID) {
	m := &o.w.s.Memory
	a := m.Attempt
	again := o.begun[a.N] == id // the same attempt is finished
	o.begun[a.N] = id
	if !again && (o.ready[DoVerify] != id || o.ready[DoStage] != id || o.seen.Sight == Unknown) {
		o.breaks("%s touched before it was verified and the way back was ready: %v", id.Short(), o.ready)
	}
	switch a.By {
	case ByItself, ByRetry:
		if !slices.Contains(o.offers, id) {
			o.breaks("%s was never offered", id.Short())
		}
		if (o.paused || o.pinned) && !again {
			o.breaks("activated while paused %v, pinned %v", o.paused, o.pinned)
		}
		if m.Offered.ID != id && !again {
			o.breaks("%s was not the newest", id.Short())
		}
	case ByRollback:
		if !o.back {
			o.breaks("a rollback nobody asked for")
		}
		o.pinned = true
	case ByEnforce:
		if o.paused && !again {
			o.breaks("enforced while paused")
		}
		if o.w.c.OnDrift != EnforceDrift {
			o.breaks("enforced, and nobody wanted that")
		}
		if again {
			break
		}
		if o.enforced++; o.enforced > 2 {
			o.breaks("enforced for the third time")
		}
	}
	switch a.By {
	case ByItself:
		if n, before := o.auto[id]; before && n != a.N {
			o.breaks("%s was activated by itself in attempt %d and in %d", id.Short(), n, a.N)
		}
		if r := m.Running; r != nil && !again {
			was, is := o.orders[r.ID], a.Candidate.Order
			if !m.Deployed {
				was = r.Order // it was found: only the source could tell
			}
			if was != 0 && is != 0 && is < was {
				o.breaks("backwards by itself: %d to %d", was, is)
			}
		}
		o.auto[id] = a.N
	case ByRetry:
		if n, before := o.auto[id]; !before || n != a.N {
			if o.permits[id]--; o.permits[id] < 0 {
				o.breaks("%s was retried without being asked", id.Short())
			}
		}
		o.auto[id] = a.N
	case ByRollback, ByEnforce:
	}
	if a.Previous == nil && a.By != ByEnforce && a.By != ByRollback && (a.By != ByRetry || m.Running == nil || m.Running.ID != id) && a.Before.Sight != Nothing && m.Running != nil {
		o.breaks("no way back from %s", a.Before)
	}
	o.by = a.By
	o.orders[id] = a.Candidate.Order
}

func (o *model) result(e Effect, in Input) {
	o.running = slices.DeleteFunc(o.running, func(p Effect) bool { return p.Op == e.Op })
	switch e.Do {
	case DoBaseline, DoCheck, Write, Tell, Reply, Cancel, Discard, Prune, After, End: // change nothing the model knows
	case DoLook:
		o.looks = 0
		if in.Err == nil && in.Look.Candidate != nil {
			c := *in.Look.Candidate
			if !slices.Contains(o.offers, c.ID) {
				o.offers = append(o.offers, c.ID)
			}
		}
	case DoObserve:
		if in.Err == nil {
			o.seen = in.Observation
		}
	case DoFetch, DoVerify, DoStage:
		delete(o.ready, e.Do)
		if in.Err == nil {
			o.ready[e.Do] = e.Switch.To.ID
		}
	case DoActivate:
		o.passes, o.seen = 0, Observation{}
	case DoRollback:
		o.passes, o.seen = 0, Observation{}
	case DoProbe:
		ok := in.Ready.State == IsReady
		for _, p := range in.Probes {
			ok = ok && p.OK
		}
		switch {
		case in.Ready.State == NotAsked: // neither yes nor no
		case !ok || o.about != e.Switch.To.ID:
			o.passes, o.about = 0, e.Switch.To.ID
			if ok {
				o.passes = 1
			}
			// One failure within a soak is forgiven.
			if !ok && o.w.s.Memory.Phase == Soaking {
				o.passes = passesNeeded - 1
			}
		default:
			o.passes++
		}
	default:
	}
}

// crash kills the process. What was being done happened, or did not.
func (o *model) crash() {
	w := o.w
	o.notes["crash"]++
	for _, e := range o.running {
		if o.r.IntN(2) == 0 && (e.Do == DoActivate || e.Do == DoRollback) {
			in := w.result(e)
			_ = in
		}
	}
	o.running, o.looks, o.ready, o.passes, o.seen, o.ending = nil, 0, map[Do]ID{}, 0, Observation{}, false
	w.s.Over = false
	w.restart()
}

func (o *model) pick(n int) bool { return o.r.IntN(n) == 0 }

// act does one thing to the world.
func (o *model) act() {
	w, r := o.w, o.r
	fresh := func(order int64) {
		o.names++
		c := Candidate{ID: ID(fmt.Sprintf("sha256:%064x", o.names)), Kind: File, Order: order, Size: 1}
		w.offer = &c
		w.bad[c.ID] = o.pick(3)
	}
	some := func() ID {
		if len(o.offers) == 0 {
			return id("a")
		}
		return o.offers[r.IntN(len(o.offers))]
	}
	switch r.IntN(22) {
	case 0, 1, 2, 3:
		order := int64(0)
		if w.offer != nil && w.offer.Order != 0 {
			order = w.offer.Order + int64(r.IntN(4)) - 1
		}
		fresh(order)
	case 4: // the source goes back, or a revert is built anew
		c := Candidate{ID: some(), Kind: File, Order: int64(r.IntN(2)) * (o.orders[some()] + int64(r.IntN(2))), Size: 1}
		w.offer = &c
	case 5:
		w.lookErr = [...]error{nil, nil, fails(Transient, ""), fails(Absent, ""), fails(Denied, "")}[r.IntN(5)]
	case 6: // somebody acts on the target
		w.runs = [...]ID{id("x"), id("y"), some(), ""}[r.IntN(4)]
		o.notes["stranger"]++
		if o.pick(3) {
			w.input(Input{What: Saw, Observation: Observation{Sight: Runs, ID: w.runs, Owner: "helm"}})
		}
	case 7:
		blind := [...]func() (Observation, error){
			nil, nil, nil,
			func() (Observation, error) { return Observation{Sight: Unknown}, nil },
			func() (Observation, error) { return Observation{}, fails(Transient, "") },
		}
		w.observe = blind[r.IntN(len(blind))]
	case 8:
		lazy := [...]func(ID) error{
			nil, nil, nil,
			func(ID) error { return nil },
			func(ID) error { return fails(Later, "") },
			func(ID) error { return fails(Failed, "") },
			func(ID) error { return fails(Transient, "") },
			func(ID) error { w.runs = id("z"); return fails(Failed, "") },
			func(to ID) error { w.runs = to; return fails(Failed, "") },
		}
		w.activates = lazy[r.IntN(len(lazy))]
	case 9:
		lazy := [...]func(ID) error{nil, nil, func(ID) error { return fails(Failed, "") }, func(to ID) error { w.bad[to] = true; w.runs = to; return nil }}
		w.backs = lazy[r.IntN(len(lazy))]
	case 10:
		errs := [...]error{nil, nil, nil, fails(Transient, ""), fails(Refused, ""), fails(Hold, DiskFull)}
		err := errs[r.IntN(len(errs))]
		w.fetch = func() error { return err }
		other := errs[r.IntN(4)]
		w.stage = func() error { return other }
	case 11:
		states := [...]ReadyState{IsReady, IsReady, IsReady, NotYet, NotReady, NotAsked}
		st := states[r.IntN(len(states))]
		w.ready = func(ID) Readiness { return Readiness{State: st} }
	case 12:
		w.bad[w.runs] = !w.bad[w.runs]
	case 13, 14:
		o.crash()
	case 15: // right after a line
		n := r.IntN(12) + 1
		w.torn = func(Line) bool { n--; return n == 0 }
	case 16:
		w.ask(Request{Verb: PauseVerb})
	case 17:
		o.pinned = false
		w.ask(Request{Verb: ResumeVerb})
	case 18:
		target := some()
		if w.s.Memory.Offered != nil && !o.pick(3) {
			target = w.s.Memory.Offered.ID
		}
		o.permits[target]++
		o.halted = false
		w.ask(Request{Verb: RetryVerb, Target: target})
	case 19:
		o.back, o.halted = true, false
		w.ask(Request{Verb: RollbackVerb})
	case 20:
		w.ask(Request{Verb: Hint, Wait: time.Duration(r.IntN(60)) * time.Second, Expect: [...]Expectation{{}, {ByID, some().Hex()}}[r.IntN(2)], Detached: o.pick(2)})
	case 21:
		o.ending = true
		w.input(Input{What: Stop, Kind: fault.Terminated})
		w.run(time.Minute)
		o.crash()
	}
}

// life is one random life of a watch. It returns the first broken invariant.
func life(tb testing.TB, seed uint64) (*world, *model, string) {
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(tb)
	o := newModel(w, r)
	w.model, w.dice = o, r.Float64
	w.c.Idempotent = r.IntN(2) == 0
	w.c.OnDrift = [...]OnDrift{HoldDrift, AdoptDrift, EnforceDrift}[r.IntN(3)]
	w.c.Soak = time.Duration(r.IntN(30)) * time.Second
	if r.IntN(4) > 0 {
		w.settled()
		w.offer.Order = int64(r.IntN(2))
		o.offers = []ID{id("a")}
	} else if r.IntN(2) == 0 {
		w.runs = id("a")
	}
	for _, do := range []Do{DoLook, DoFetch, DoActivate, DoProbe, DoRollback, DoObserve} {
		w.took[do] = time.Duration(r.IntN(4)) * time.Second
	}
	w.input(Input{What: Begin})
	for range 40 {
		o.act()
		w.run(time.Duration(r.ExpFloat64() * float64(40*time.Second)))
		if w.crashed {
			o.crash()
		}
		if len(w.broken) > 0 {
			return w, o, w.broken[0]
		}
	}
	// Left alone with a good world, it comes to rest.
	w.lookErr, w.observe, w.activates, w.backs, w.ready = nil, nil, nil, nil, nil
	w.fetch, w.stage, w.torn = nil, nil, nil
	w.run(2 * time.Hour)
	var m Memory
	for _, l := range w.lines {
		m = m.Apply(l)
	}
	a, _ := json.Marshal(m)
	b, _ := json.Marshal(w.s.Memory)
	switch {
	case len(w.broken) > 0:
		return w, o, w.broken[0]
	case string(a) != string(b):
		return w, o, "the journal is not memory"
	case w.s.Memory.Phase.Working():
		return w, o, fmt.Sprintf("it does not come to rest: %v, step %d", w.s.Shown(), w.s.step)
	case !w.s.Over && len(w.s.requests) > 0:
		return w, o, fmt.Sprintf("a request is never answered: %+v, hold %+v, %v", w.s.requests[0], w.s.Hold, w.s.Shown())
	}
	return w, o, ""
}

// TestModel lives thousands of random lives. A failure prints its seed; with
// MODEL_SEED set only that one is lived, and told.
func TestModel(t *testing.T) {
	if s := os.Getenv("MODEL_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		w, _, broken := life(t, seed)
		t.Fatalf("%s\n%s", broken, w.story())
	}
	lives := 2000
	if testing.Short() {
		lives = 300
	}
	all, failed := map[string]int{}, 0
	for seed := range uint64(lives) {
		_, o, broken := life(t, seed)
		for k, n := range o.notes {
			all[k] += n
		}
		if broken != "" {
			if failed++; failed <= 5 {
				t.Errorf("MODEL_SEED=%d: %s", seed, broken)
			}
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d lives", failed, lives)
	}
	// A model that never gets anywhere proves nothing.
	for _, what := range []string{"live", "rolled back", "halted", "crash", "activate auto", "activate retry", "activate rollback", "activate enforce"} {
		if all[what] < lives/50 {
			t.Errorf("%q happened %d times in %d lives", what, all[what], lives)
		}
	}
	t.Logf("%v", all)
}
