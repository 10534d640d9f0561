package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/woodpecker"
)

// condition is what a row means here.
type condition int

const (
	other  condition = iota // blocked, skipped, or a status nobody knows: it brings nothing by itself
	active                  // it may still pass
	passed
	failed
)

// run is a row whose place in the order is known.
type run struct {
	woodpecker.Pipeline
	// order is the number of the row whose commit this is: its own or, for a
	// restart, that of the first of its chain. Running last month's commit again
	// makes the highest number, and nothing newer.
	order int64
}

// look is one look at the pipelines.
type look struct {
	*Source
	q       artifact.Query
	handled int64
	rows    []woodpecker.Pipeline // highest number first

	read    map[int64]condition // of rows whose workflows were read in this look
	newest  int64               // order of the newest row that passed; 0 none
	chosen  *artifact.Candidate
	missing *run // the newest row that passed, if its artifact is not there
	settled int64
	out     artifact.Look
}

// list reads the rows, back to the last one that was handled; at first, back to
// one that passed.
func (w *look) list(ctx context.Context) error {
	if w.repo == 0 {
		r, err := w.d.Server.Lookup(ctx, w.spec.Repo)
		if err != nil {
			return err
		}
		w.repo = r.ID
	}
	o := woodpecker.ListOptions{PerPage: perPage, Branch: w.spec.Branch, Events: []woodpecker.Event{w.spec.Event}}
	for o.Page = 1; o.Page <= maxPages; o.Page++ {
		rows, err := w.d.Server.Pipelines(ctx, w.repo, o)
		if err != nil {
			return err
		}
		reached := len(rows) < perPage
		for _, r := range rows {
			reached = reached || w.handled > 0 && r.Number <= w.handled ||
				w.handled == 0 && r.Parent == 0 && r.Status == woodpecker.Success
			// A row that came meanwhile moves others to the next page. A server
			// that does not know a filter sends everything.
			again := slices.ContainsFunc(w.rows, func(o woodpecker.Pipeline) bool { return o.Number == r.Number })
			if again || r.Branch != w.spec.Branch || r.Event != w.spec.Event {
				continue
			}
			r.Commit = strings.ToLower(r.Commit)
			w.rows = append(w.rows, r)
		}
		if reached {
			break
		}
	}
	slices.SortFunc(w.rows, func(a, b woodpecker.Pipeline) int { return cmp.Compare(b.Number, a.Number) })
	return nil
}

// bound is the highest order that r can have.
func bound(r woodpecker.Pipeline) int64 {
	if r.Parent > 0 && r.Parent < r.Number {
		return r.Parent
	}
	return r.Number
}

// choose finds the newest row that passed and has its artifact. It asks no more
// than it must: neither for parents nor for workflows nor for artifacts of rows
// that cannot be newer than what was offered last.
func (w *look) choose(ctx context.Context) error {
	var floor int64
	if w.q.Offered != nil {
		floor = w.q.Offered.Order
	}
	rest := slices.Clone(w.rows)
	slices.SortStableFunc(rest, func(a, b woodpecker.Pipeline) int { return cmp.Compare(bound(b), bound(a)) })
	var good []run // newest first
	for tries := 0; tries < maxTries; {
		for len(rest) > 0 && bound(rest[0]) >= floor && (len(good) == 0 || bound(rest[0]) >= good[0].order) {
			r := rest[0]
			rest = rest[1:]
			c, err := w.condition(ctx, r)
			if err != nil {
				return err
			}
			if c != passed {
				continue
			}
			order, err := w.root(ctx, r)
			if err != nil {
				return err
			}
			if order < floor {
				continue
			}
			good = append(good, run{r, order})
			slices.SortFunc(good, func(a, b run) int {
				return cmp.Or(cmp.Compare(b.order, a.order), cmp.Compare(b.Number, a.Number))
			})
		}
		if len(good) == 0 {
			break
		}
		g := good[0]
		good = good[1:]
		w.newest = max(w.newest, g.order)
		if w.offered(g) {
			break
		}
		if commit(g.Commit) == "" {
			return &artifact.Failure{Class: artifact.Refused, What: fmt.Sprintf("pipeline %d names no commit", g.Number)}
		}
		if w.missing != nil && w.barren[g.Number] {
			continue // asked before; only of the newest one an artifact is still hoped for
		}
		tries++
		c, err := w.find(ctx, g)
		if f, ok := errors.AsType[*artifact.Failure](err); ok && f.Class == artifact.Absent {
			if w.missing == nil {
				w.missing = &g
			}
			if w.uploading(g) {
				break // its turn may come any moment
			}
			w.barren = kept(w.barren)
			w.barren[g.Number] = true
			continue // it makes none: the one before has its say
		}
		if err != nil {
			return err
		}
		w.chosen = &c
		break
	}
	w.newest = max(w.newest, floor)
	return nil
}

// offered says that g brings nothing that was not offered before: it is the
// same run, or an earlier one of the same commit.
func (w *look) offered(g run) bool {
	o := w.q.Offered
	return o != nil && g.order == o.Order && g.Number <= o.Meta.Pipeline
}

// uploading says that an artifact may well be on its way.
func (w *look) uploading(r run) bool {
	ended := r.Finished
	if ended == 0 {
		return !r.Status.Ended()
	}
	return w.d.Server.Now().Sub(woodpecker.Moment(ended)) < uploading
}

// root follows a restart to the row it repeats in the end. A row that is gone,
// or a chain that does not end, orders below everything: that is never newer.
func (w *look) root(ctx context.Context, r woodpecker.Pipeline) (int64, error) {
	n, parent := r.Number, r.Parent
	for range maxChain {
		if parent <= 0 {
			return n, nil
		}
		if parent >= n {
			break
		}
		n = parent
		if i := slices.IndexFunc(w.rows, func(o woodpecker.Pipeline) bool { return o.Number == n }); i >= 0 {
			parent = w.rows[i].Parent
			continue
		}
		known, ok := w.parents[n]
		if !ok {
			p, gone, err := w.detail(ctx, n)
			if err != nil {
				return 0, err
			}
			known = p.Parent
			if gone {
				known = -1
			}
			w.parents = kept(w.parents)
			w.parents[n] = known
		}
		if known < 0 {
			break
		}
		parent = known
	}
	return 1, nil
}

// condition says what r means, by its workflows if some are named.
func (w *look) condition(ctx context.Context, r woodpecker.Pipeline) (condition, error) {
	if len(w.spec.Workflows) == 0 {
		return of(r.Status), nil
	}
	switch r.Status {
	case woodpecker.Created, woodpecker.Pending:
		return active, nil
	case woodpecker.Blocked, woodpecker.Declined:
		return of(r.Status), nil
	case woodpecker.Running, woodpecker.Success, woodpecker.Failure, woodpecker.Error,
		woodpecker.Killed, woodpecker.Canceled, woodpecker.Skipped:
	}
	if !r.Status.Known() {
		return other, nil
	}
	for _, known := range []map[int64]condition{w.flows, w.read} {
		if c, ok := known[r.Number]; ok {
			return c, nil
		}
	}
	if o := w.q.Offered; o != nil && o.Meta.Pipeline == r.Number {
		return passed, nil
	}
	p, gone, err := w.detail(ctx, r.Number)
	if err != nil || gone {
		return other, err
	}
	c := named(p, w.spec.Workflows)
	w.read = kept(w.read)
	w.read[r.Number] = c
	if p.Status.Ended() {
		w.flows = kept(w.flows)
		w.flows[r.Number] = c
	}
	return c, nil
}

// detail reads one row whole. Rows are deleted: gone, confirmed, is an answer.
func (w *look) detail(ctx context.Context, number int64) (p woodpecker.Pipeline, gone bool, err error) {
	p, err = w.d.Server.Pipeline(ctx, w.repo, number)
	api, ok := errors.AsType[*woodpecker.APIError](err)
	if ok && api.Class == woodpecker.Refused && api.Status == http.StatusNotFound {
		return p, true, nil
	}
	return p, false, err
}

// kept is m, or an empty map in its place if it has grown too large: what is
// in it can be asked for again.
func kept[V any](m map[int64]V) map[int64]V {
	if m == nil || len(m) > maxKnown {
		return map[int64]V{}
	}
	return m
}

// named is the condition of the named workflows alone, every variant of them.
func named(p woodpecker.Pipeline, names []string) condition {
	all := passed
	for _, name := range names {
		one := other
		if !p.Status.Ended() {
			one = active // it may not have been made yet
		}
		if p.Status.Bad() {
			one = failed
		}
		first := true
		for _, f := range p.Workflows {
			if f.Name != name {
				continue
			}
			if c := of(f.State); first {
				one, first = c, false
			} else {
				one = worse(one, c)
			}
		}
		all = worse(all, one)
	}
	return all
}

// worse is the condition of two that are both needed.
func worse(a, b condition) condition {
	for _, c := range []condition{failed, other, active} {
		if a == c || b == c {
			return c
		}
	}
	return passed
}

func of(s woodpecker.Status) condition {
	switch s {
	case woodpecker.Success:
		return passed
	case woodpecker.Created, woodpecker.Pending, woodpecker.Running:
		return active
	case woodpecker.Failure, woodpecker.Error, woodpecker.Killed, woodpecker.Canceled, woodpecker.Declined:
		return failed
	case woodpecker.Blocked, woodpecker.Skipped:
	}
	return other
}

// report says what the rows mean to the watch and to whoever waits.
func (w *look) report(ctx context.Context) error {
	w.out.Unchanged = w.chosen == nil && w.q.Offered != nil
	current := w.q.Offered
	if w.chosen != nil {
		w.out.Candidate, current = w.chosen, w.chosen
		r := w.q.Running
		w.out.Rebuilt = r != nil && r.ID == w.chosen.ID && r.Meta.Pipeline != 0 && r.Meta.Pipeline != w.chosen.Meta.Pipeline
	}
	if w.missing != nil {
		w.out.Missing = true
		w.out.Hot = fmt.Sprintf("the artifact of pipeline %d is not there", w.missing.Number)
	}
	if len(w.rows) > 0 {
		w.settled = w.rows[0].Number
	}
	w.settled = max(w.settled, w.handled)
	if w.missing != nil && w.uploading(*w.missing) {
		w.settled = min(w.settled, w.missing.Number-1)
	}
	newest := true
	for _, r := range w.rows {
		if bound(r) < w.newest {
			continue // whatever becomes of it is older
		}
		c, err := w.condition(ctx, r)
		if err != nil {
			return err
		}
		if newest {
			newest = false
			w.out.Failing = w.failing(r, c)
		}
		if c == active {
			w.settled = min(w.settled, r.Number-1)
			if !w.warm() {
				w.out.Hot = fmt.Sprintf("pipeline %d is not finished", r.Number)
			}
		}
	}
	return w.expected(ctx, current)
}

// warm says that a pipeline in progress has been noted.
func (w *look) warm() bool { return strings.HasPrefix(w.out.Hot, "pipeline ") }

// failing tells of the newest row, if it will bring nothing.
func (w *look) failing(r woodpecker.Pipeline, c condition) string {
	switch {
	case c == failed:
		return w.ended(r)
	case !r.Status.Known():
		return fmt.Sprintf("pipeline %d has the status %q, which means nothing here", r.Number, source.Text(string(r.Status)))
	}
	return ""
}

// ended says how r ended badly.
func (w *look) ended(r woodpecker.Pipeline) string {
	how := "has not passed"
	switch r.Status {
	case woodpecker.Failure:
		how = "failed"
	case woodpecker.Error:
		how = "could not be run"
	case woodpecker.Killed, woodpecker.Canceled:
		how = "was cancelled"
	case woodpecker.Declined:
		how = "was declined"
	case woodpecker.Created, woodpecker.Pending, woodpecker.Running, woodpecker.Blocked, woodpecker.Success, woodpecker.Skipped:
	}
	if len(w.spec.Workflows) > 0 {
		how = "did not pass " + strings.Join(w.spec.Workflows, ", ")
	}
	return fmt.Sprintf("pipeline %d %s: %s", r.Number, how, w.d.Server.PageURL(w.repo, r.Number, 0))
}

// expected says how it stands with what somebody waits for.
func (w *look) expected(ctx context.Context, current *artifact.Candidate) error {
	e := w.q.Expect
	if e.IsZero() || current != nil && e.Is(*current) {
		return nil
	}
	passedBy := func() {
		w.out.Expected = artifact.Passed
		if current != nil {
			w.out.By = current.ID
			w.out.Reason = fmt.Sprintf("pipeline %d brought %s", current.Meta.Pipeline, current.ID.Short())
		}
	}
	if o := w.q.Offered; o != nil && e.Is(*o) {
		passedBy() // offered before, and something newer since
		return nil
	}
	if e.Form != artifact.ByCommit {
		return nil
	}
	var newest *woodpecker.Pipeline
	best := other
	for _, r := range w.rows {
		if !strings.HasPrefix(r.Commit, e.Value) {
			continue
		}
		c, err := w.condition(ctx, r)
		if err != nil {
			return err
		}
		if newest == nil {
			newest, best = &r, c
		} else if c == active || c == passed && best != active {
			best = c // an earlier run counts as well
		}
	}
	switch {
	case newest == nil:
		w.out.Reason = fmt.Sprintf("no pipeline of that commit among the newest %d of branch %s", len(w.rows), w.spec.Branch)
	case best == failed:
		w.out.Expected, w.out.Reason = artifact.Broken, w.ended(*newest)
	case best == active:
		w.out.Reason = fmt.Sprintf("pipeline %d is not finished", newest.Number)
		if !w.warm() {
			w.out.Hot = w.out.Reason
		}
	case best == passed && current != nil && bound(*newest) < current.Order:
		passedBy()
	case best == passed:
		w.out.Reason = fmt.Sprintf("pipeline %d passed and its artifact is not there", newest.Number)
	case newest.Status == woodpecker.Blocked:
		w.out.Reason = fmt.Sprintf("pipeline %d waits for approval", newest.Number)
	default:
		w.out.Reason = fmt.Sprintf("pipeline %d is %s", newest.Number, source.Text(string(newest.Status)))
	}
	return nil
}
