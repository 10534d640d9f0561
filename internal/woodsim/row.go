package woodsim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// The words of the server.
const (
	created  = "created"
	pending  = "pending"
	running  = "running"
	blocked  = "blocked"
	success  = "success"
	failure  = "failure"
	killed   = "killed"
	canceled = "canceled"
	skipped  = "skipped"
	declined = "declined"
	errored  = "error"
)

// row is a pipeline as stored.
type row struct {
	repo *Repo
	plan Plan

	id, number, parent                   int64
	event, status                        string
	errors                               []Notice
	created, updated, started, finished  int64
	commit, branch, ref, refspec         string
	deployTo                             string
	author, email, title, message        string
	sender, forgeURL, reviewedBy         string
	reviewed, timestamp, rerun           int64
	cancelUser, cancelStep               string
	supersededBy                         int64
	workflows                            []*workflow
	changed                              []string
	variables                            map[string]string
	prLabels                             []string
	cron, tagTitle                       string
	prerelease, fromFork, stored, zombie bool

	life     int // raised when what was planned no longer holds
	history  []Change
	onCancel func()
}

type workflow struct {
	plan              Workflow
	id                int64
	pid               int
	state, err        string
	started, finished int64
	agent             int64
	steps             []*step
}

type step struct {
	plan              Step
	id                int64
	uuid              string
	pid, ppid         int
	kind              string
	state, err        string
	exit              int
	started, finished int64
	log               logbook
}

// at plans f for the row, d from now, unless its life takes another turn.
func (r *row) at(t time.Time, f func()) {
	life := r.life
	r.repo.s.plan(t, func() {
		if r.life == life {
			f()
		}
	})
}

func (r *row) set(status string) {
	r.status = status
	r.touch()
	r.history = append(r.history, Change{Time: r.repo.s.clock, Status: status})
}

func (r *row) touch() { r.updated = r.repo.s.unix() }

// insert stores the row under the next number: one more than the highest that
// exists, so that the number of a deleted row is used again.
func (r *row) insert() {
	s := r.repo.s
	s.lastRow++
	r.id = s.lastRow
	r.number = 1
	for _, o := range r.repo.rows {
		r.number = max(r.number, o.number+1)
	}
	r.created = s.unix()
	if r.timestamp == 0 {
		r.timestamp = r.created
	}
	r.repo.rows = append(r.repo.rows, r)
}

// create is a row's way from the hook until it is pending or needs no more.
// sync leaves out the waiting, as when a request waits for the outcome.
func (r *row) create(sync bool) {
	r.insert()
	if r.plan.Blocked {
		r.set(blocked)
	} else {
		r.set(created)
	}
	if sync {
		r.configure()
		return
	}
	r.at(r.repo.s.clock.Add(r.plan.Configure), r.configure)
}

func (r *row) configure() {
	s := r.repo.s
	switch {
	case r.plan.Filtered:
		r.remove()
		return
	case r.plan.FetchError != "":
		r.fail(Notice{Type: "generic", Message: "could not load config from forge: " + r.plan.FetchError})
		s.publish(r)
		return
	}
	r.stored = !r.plan.Unstored
	if slices.ContainsFunc(r.plan.Errors, func(n Notice) bool { return !n.Warning }) {
		r.fail(r.plan.Errors...)
		s.publish(r)
		return
	}
	r.errors = r.plan.Errors
	if r.plan.Blocked {
		r.build(blocked)
		s.publish(r)
		return
	}
	r.build(pending)
	s.publish(r)
	r.set(pending)
	s.publish(r)
	r.start()
}

// fail ends the row with a configuration or system error.
func (r *row) fail(n ...Notice) {
	r.errors = n
	r.started = r.repo.s.unix()
	r.finished = r.started
	r.set(errored)
}

func (r *row) remove() {
	r.life++
	r.repo.rows = slices.DeleteFunc(r.repo.rows, func(o *row) bool { return o == r })
	r.zombie = true
	s := r.repo.s
	r.history = append(r.history, Change{Time: s.clock, Status: "deleted"})
	s.grave = append(s.grave, r)
	if r.onCancel != nil {
		r.onCancel()
	}
}

// build stores workflows and steps. Workflows are numbered first, then steps.
func (r *row) build(state string) {
	s := r.repo.s
	r.workflows = nil
	pid := len(r.plan.Workflows)
	for i, wp := range r.plan.Workflows {
		s.lastWorkflow++
		w := &workflow{plan: wp, id: s.lastWorkflow, pid: i + 1, state: state}
		steps := wp.Steps
		if !wp.NoClone && len(steps) > 0 && !slices.ContainsFunc(steps, func(s Step) bool { return s.Type == "clone" }) {
			steps = append([]Step{{Name: "clone", Type: "clone", Log: Log{Lines: []string{"+ git fetch"}}}}, steps...)
		}
		for _, sp := range steps {
			s.lastStep++
			pid++
			w.steps = append(w.steps, &step{
				plan: sp, id: s.lastStep, uuid: s.ulid(s.lastStep),
				pid: pid, ppid: w.pid, kind: cmp.Or(sp.Type, "commands"), state: state,
			})
		}
		r.workflows = append(r.workflows, w)
	}
}

// start is what follows pending: older rows give way, then the agents may come.
func (r *row) start() {
	s := r.repo.s
	r.supersede()
	s.publish(r)
	if r.plan.run != nil {
		r.plan.run(r)
		return
	}
	base := s.clock.Add(r.plan.Queue)
	if len(r.workflows) == 0 {
		r.at(base, func() { r.close() })
		return
	}
	for _, w := range r.workflows {
		r.schedule(w, base.Add(w.plan.Start))
	}
}

func (r *row) supersede() {
	if !slices.Contains(r.repo.o.CancelPrevious, r.event) {
		return
	}
	for _, o := range slices.Clone(r.repo.rows) {
		if o == r || o.event != r.event || !o.active() {
			continue
		}
		if same := o.refspec == r.refspec; r.event == "push" && o.branch == r.branch || r.event != "push" && same {
			o.cancel(func() { o.supersededBy = r.number })
		}
	}
}

func (r *row) active() bool {
	return r.status == pending || r.status == running || r.status == blocked
}

// schedule plans a whole workflow that starts at begin.
func (r *row) schedule(w *workflow, begin time.Time) {
	s := r.repo.s
	if w.plan.Status == skipped {
		r.at(begin, func() {
			w.state = skipped
			for _, st := range w.steps {
				st.state = skipped
			}
			r.ended()
		})
		return
	}
	r.at(begin, func() { r.begin(w) })

	prev, last, failed := begin, begin, false
	var services, left []*step
	for _, st := range w.steps {
		if st.kind == "service" {
			services = append(services, st)
			r.at(begin, func() { r.stepStart(st) })
			continue
		}
		if failed && !st.plan.Always {
			left = append(left, st)
			continue
		}
		from := prev.Add(st.plan.Start)
		if st.plan.Parallel {
			from = begin.Add(st.plan.Start)
		}
		to := from.Add(st.plan.Takes)
		r.at(from, func() { r.stepStart(st) })
		r.at(to, func() { r.stepEnd(st) })
		prev = to
		if to.After(last) {
			last = to
		}
		failed = failed || failing(st.endState()) && !st.plan.Ignore
	}
	if len(w.steps) == 0 {
		last = begin.Add(w.plan.Takes)
	}
	if len(left)+len(services) > 0 {
		r.at(last, func() {
			for _, st := range left {
				st.state = skipped
			}
			for _, st := range services {
				st.state, st.finished = success, s.unix()
				st.log.stop(s.clock)
			}
			s.publish(r)
		})
	}
	r.at(last.Add(w.plan.Gap), func() {
		w.state = cmp.Or(w.plan.Status, w.outcome())
		w.err = w.plan.Error
		w.finished = s.unix()
		r.ended()
	})
}

func (r *row) begin(w *workflow) {
	s := r.repo.s
	if r.status == pending {
		r.started = s.unix()
		r.set(running)
	}
	w.state, w.started, w.agent = running, s.unix(), 1
	s.publish(r)
}

func (r *row) stepStart(st *step) {
	s := r.repo.s
	st.state, st.started = running, s.unix()
	st.log = plannedLog(st, st.plan.Log, s.clock, st.plan.Takes)
	s.publish(r)
}

func (r *row) stepEnd(st *step) {
	s := r.repo.s
	st.state, st.finished, st.exit, st.err = st.endState(), s.unix(), st.plan.Exit, st.plan.Error
	if st.state == skipped {
		st.started, st.finished = 0, 0
	}
	s.publish(r)
	if st.plan.Cancel && failing(st.state) {
		r.cancel(func() { r.cancelStep = st.plan.Name })
	}
}

func (st *step) endState() string {
	switch {
	case st.plan.State != "":
		return st.plan.State
	case st.plan.Exit != 0 || st.plan.Error != "":
		return failure
	default:
		return success
	}
}

func failing(state string) bool { return state == failure || state == errored || state == killed }

// ended follows a workflow's end: with the last one the pipeline's, and after
// the forge has been told the event.
func (r *row) ended() {
	s := r.repo.s
	for _, o := range r.workflows {
		if o.state == pending || o.state == running {
			r.at(s.clock.Add(r.plan.Forge), func() { s.publish(r) })
			return
		}
	}
	switch {
	case r.plan.Stuck:
		r.at(s.clock.Add(r.plan.Forge), func() { s.publish(r) })
	case r.plan.Gap > 0:
		r.at(s.clock.Add(r.plan.Forge), func() { s.publish(r) })
		r.at(s.clock.Add(r.plan.Gap), func() { r.close() })
	default:
		r.close()
	}
}

func (r *row) close() {
	s := r.repo.s
	r.finished = s.unix()
	r.set(cmp.Or(r.plan.Status, r.outcome()))
	r.at(s.clock.Add(r.plan.Forge), func() { s.publish(r) })
}

// outcome merges the steps: an ignored failure does not count.
func (w *workflow) outcome() string {
	if w.plan.Error != "" {
		return failure
	}
	status := success
	for _, st := range w.steps {
		if st.plan.Ignore && failing(st.state) {
			continue
		}
		status = merge(status, st.state)
	}
	return status
}

func (r *row) outcome() string {
	status := success
	for _, w := range r.workflows {
		status = merge(status, w.state)
	}
	return status
}

// merge gives the weightier of two statuses; something cancelled beside
// something else means that it had begun, so it counts as killed.
func merge(a, b string) string {
	if a == canceled && b == canceled {
		return canceled
	}
	order := []string{declined, blocked, created, errored, killed, canceled, running, pending, failure, success, skipped}
	weight := func(x string) int {
		if x == canceled {
			x = killed
		}
		return slices.Index(order, x)
	}
	return order[max(0, min(weight(a), weight(b)))]
}

// cancel writes the end at once; what runs stops a little later.
func (r *row) cancel(why func()) {
	s := r.repo.s
	r.life++
	onlyPending := true
	for _, w := range r.workflows {
		if w.state == pending {
			w.state = skipped
		} else {
			onlyPending = false
		}
		for _, st := range w.steps {
			if st.state != pending {
				continue
			}
			if st.state = canceled; !s.v.atLeast(14) {
				st.state = skipped
			}
		}
	}
	r.cancelUser, r.cancelStep, r.supersededBy = "", "", 0
	why()
	r.finished = s.unix()
	if onlyPending && s.v.atLeast(14) {
		r.set(canceled)
	} else {
		r.set(killed)
	}
	s.publish(r)
	if r.onCancel != nil {
		r.onCancel()
		return
	}
	r.at(s.clock.Add(cmp.Or(r.plan.KillDelay, 30*time.Millisecond)), r.stopRunning)
	if r.plan.Flip != "" {
		r.at(s.clock.Add(r.plan.FlipAfter), func() {
			r.set(r.plan.Flip)
			s.publish(r)
		})
	}
}

func (r *row) stopRunning() {
	s := r.repo.s
	for _, w := range r.workflows {
		if w.state != running {
			continue
		}
		for _, st := range w.steps {
			if st.state == running {
				st.state, st.err, st.exit, st.finished = killed, "Canceled", 130, s.unix()
				st.log.stop(s.clock)
			}
		}
		s.publish(r)
		w.state, w.err, w.finished = killed, "Canceled", s.unix()
		r.finished = s.unix()
		r.touch()
		s.publish(r)
	}
}

// restart makes the new row of an old one: a copy, with what was cancelled and
// reviewed before still in it.
func (r *row) restart(plan *Plan) *row {
	n := *r
	n.parent, n.rerun = r.number, r.rerun+1
	n.life, n.history, n.workflows, n.errors, n.onCancel = 0, nil, nil, nil, nil
	n.started, n.finished = 0, 0
	switch {
	case plan != nil:
		n.plan = *plan
	case r.plan.Rerun != nil:
		n.plan = *r.plan.Rerun
	}
	n.plan.Delay, n.plan.Configure, n.plan.Blocked = 0, 0, false
	n.insert()
	if !r.stored {
		n.set(pending)
		n.fail(Notice{Type: "generic", Message: "pipeline definition not found"})
		return &n
	}
	n.set(pending)
	if r.plan.RerunBroken {
		n.fail(Notice{Type: "compiler", Message: "could not compile the stored configuration"})
		return &n
	}
	n.build(pending)
	n.repo.s.publish(&n)
	n.start()
	return &n
}

func (r *row) approve(login string) {
	s := r.repo.s
	r.life++
	r.plan.Blocked = false
	r.build(pending)
	r.reviewedBy, r.reviewed = login, s.unix()
	r.set(pending)
	s.publish(r)
	r.start()
}

func (r *row) decline(login string) {
	s := r.repo.s
	r.life++
	r.reviewedBy, r.reviewed = login, s.unix()
	for _, w := range r.workflows {
		w.state = declined
		for _, st := range w.steps {
			st.state = declined
		}
	}
	r.set(declined)
	s.publish(r)
}

// obj is a JSON object that keeps the order of its keys.
type obj []member

type member struct {
	key string
	val any
}

func (o *obj) add(key string, val any) { *o = append(*o, member{key, val}) }

func (o *obj) addIf(on bool, key string, val any) {
	if on {
		o.add(key, val)
	}
}

func (o obj) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		k, _ := json.Marshal(m.key)
		v, err := json.Marshal(m.val)
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// json gives the row as the interface shows it; only a detail has workflows.
// pad makes it larger by that many bytes.
func (r *row) json(detail bool, pad int) obj {
	v := r.repo.s.v
	var o obj
	o.add("id", r.id)
	o.add("number", r.number)
	o.add("author", r.author)
	o.add("parent", r.parent)
	o.add("event", r.event)
	o.addIf(v.atLeast(10), "event_reason", nil)
	o.add("status", r.status)
	if r.errors == nil {
		o.add("errors", nil)
	} else {
		list := make([]obj, len(r.errors))
		for i, n := range r.errors {
			list[i].add("type", cmp.Or(n.Type, "compiler"))
			list[i].add("message", n.Message)
			list[i].add("is_warning", n.Warning)
			list[i].add("data", nil)
		}
		o.add("errors", list)
	}
	o.add("created", r.created)
	o.add("updated", r.updated)
	o.add("started", r.started)
	o.add("finished", r.finished)
	o.add("deploy_to", r.deployTo)
	o.add("deploy_task", "")
	o.add("commit", r.commit)
	o.add("branch", r.branch)
	o.addIf(v.atLeast(15), "rerun_count", r.rerun)
	o.add("ref", r.ref)
	o.add("refspec", r.refspec)
	o.add("author_avatar", r.repo.s.o.ForgeURL+"/avatars/"+r.author)
	o.add("forge_url", r.forgeURL)
	o.add("reviewed_by", r.reviewedBy)
	o.add("reviewed", r.reviewed)
	if v.atLeast(14) && (r.cancelUser != "" || r.cancelStep != "" || r.supersededBy != 0) {
		var c obj
		c.addIf(r.cancelUser != "", "canceled_by_user", r.cancelUser)
		c.addIf(r.supersededBy != 0, "superseded_by", r.supersededBy)
		c.addIf(r.cancelStep != "", "canceled_by_step", r.cancelStep)
		o.add("cancel_info", c)
	}
	if detail && len(r.workflows) > 0 {
		list := make([]obj, len(r.workflows))
		for i, w := range r.workflows {
			list[i] = w.json(r.id)
		}
		o.add("workflows", list)
	}
	changed := r.changed
	if pad > 0 {
		changed = append(slices.Clone(changed), string(bytes.Repeat([]byte("x"), pad)))
	}
	o.addIf(len(changed) > 0, "changed_files", changed)
	o.addIf(len(r.variables) > 0, "variables", r.variables)
	o.addIf(len(r.prLabels) > 0, "pr_labels", r.prLabels)
	o.addIf(v.atLeast(14) && r.cron != "", "cron", r.cron)
	o.addIf(r.fromFork, "from_fork", r.fromFork)
	o.addIf(v.atLeast(14), "version", r.repo.s.o.Version)
	o.addIf(v.atLeast(17) && r.tagTitle != "", "tag_title", r.tagTitle)
	o.add("title", r.title)
	o.add("message", r.message)
	o.add("timestamp", r.timestamp)
	o.add("sender", r.sender)
	o.add("author_email", r.email)
	o.addIf(r.prerelease, "is_prerelease", true)
	return o
}

func (w *workflow) json(row int64) obj {
	var o obj
	o.add("id", w.id)
	o.add("pipeline_id", row)
	o.add("pid", w.pid)
	o.add("name", cmp.Or(w.plan.Name, "woodpecker"))
	o.add("state", w.state)
	o.addIf(w.err != "", "error", w.err)
	o.addIf(w.started != 0, "started", w.started)
	o.addIf(w.finished != 0, "finished", w.finished)
	o.addIf(w.agent != 0, "agent_id", w.agent)
	o.addIf(len(w.plan.Environ) > 0, "environ", w.plan.Environ)
	if len(w.steps) == 0 {
		return o
	}
	list := make([]obj, len(w.steps))
	for i, st := range w.steps {
		c := &list[i]
		c.add("id", st.id)
		c.add("uuid", st.uuid)
		c.add("pipeline_id", row)
		c.add("pid", st.pid)
		c.add("ppid", st.ppid)
		c.add("name", st.plan.Name)
		c.add("state", st.state)
		c.addIf(st.err != "", "error", st.err)
		c.add("exit_code", st.exit)
		c.addIf(st.started != 0, "started", st.started)
		c.addIf(st.finished != 0, "finished", st.finished)
		c.add("type", st.kind)
	}
	o.add("children", list)
	return o
}
