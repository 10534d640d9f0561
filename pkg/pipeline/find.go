package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

// AmbiguousError is a commit prefix that fits rows of several commits.
type AmbiguousError struct {
	Prefix  string
	Commits []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s fits several commits: %v", e.Prefix, e.Commits)
}

const (
	lookPage  = 20 // rows of one look
	lookPages = 5  // pages of the first look; later ones read the first page
	pushWait  = 5 * time.Second
)

// found is a row to watch and why it is the one.
type found struct {
	row    woodpecker.Pipeline
	whole  bool // row is a complete answer, not a list's
	covers bool // row is not the target's own, but of a commit that contains it
	others []woodpecker.Pipeline
	why    string
}

// find waits for the row that speaks for the target. Without one it returns
// why, and no error.
func (w *watch) find(ctx context.Context) (*found, *missing, error) {
	if w.target.Number > 0 {
		return w.findNumber(ctx)
	}
	var (
		start   = time.Now()
		sawRow  time.Time            // when a row of the commit was first seen
		ghost   *woodpecker.Pipeline // the row seen last, if the last look did not have it
		without int                  // looks without it since then
	)
	pause := poll.Steps(time.Second, 2*time.Second, 3*time.Second)
	for looks := 1; ; looks++ {
		rows, err := w.look(ctx, looks == 1)
		if err != nil {
			return nil, nil, err
		}
		c := choose(rows, w.target, w.src.Now())
		if w.target.Prefix && len(c.distinct) > 1 {
			return nil, nil, &AmbiguousError{Prefix: w.target.Commit, Commits: c.distinct}
		}
		wait := pause.Next()
		if c.row != nil {
			if sawRow.IsZero() {
				sawRow = time.Now()
			}
			left := pushWait - time.Since(sawRow)
			if !c.unsure || left <= 0 || w.limits.Once && looks >= 2 {
				w.complete(c.row.Commit)
				return &found{row: *c.row, others: c.others}, nil, nil
			}
			ghost, without, wait = c.row, 0, min(wait, left)
		} else {
			if ghost != nil {
				without++
			}
			cover, unproven := w.covering(ctx, rows, looks)
			if cover != nil && looks >= 2 {
				return &found{
					row: *cover, covers: true, others: c.others,
					why: fmt.Sprintf("%s has no pipeline of its own; it is covered by %s", Short(w.target.Commit), describe(*cover)),
				}, nil, nil
			}
			gone := without >= 2
			m := absence(w.facts(ctx, c.excluded, unproven, gone), Short(w.target.Commit), w.limits.Appear)
			if gone && w.target.Repo.Active && !unstarted(*ghost, false) {
				m = deleted(*ghost)
			}
			elapsed := time.Since(start)
			due := looks >= m.looks && elapsed >= m.after
			if cover == nil && (due || w.limits.Once && looks >= 2) {
				if !due && m.full {
					m.reason = "there is no pipeline of " + Short(w.target.Commit)
				}
				m.confirmed = m.confirmed && due
				w.out.Others = c.others
				return nil, &m, nil
			}
			if left := m.after - elapsed; left > 0 {
				wait = min(wait, left)
			}
		}
		if err := w.untilLook(ctx, wait); err != nil {
			return nil, nil, err
		}
	}
}

const lookGap = 500 * time.Millisecond // between looks, however much happens in a repository

// untilLook waits for the next look: wait, or until a new row is told of.
func (w *watch) untilLook(ctx context.Context, wait time.Duration) error {
	due := time.Now().Add(wait)
	earliest := time.Now().Add(lookGap)
	for {
		if w.hear() && earliest.Before(due) {
			due = earliest
		}
		if !due.After(time.Now()) {
			return nil
		}
		if _, err := poll.Wait(ctx, time.Until(due), w.ears.channel()); err != nil {
			return err
		}
	}
}

// complete replaces a prefix by the commit it turned out to mean.
func (w *watch) complete(commit string) {
	if w.target.Prefix {
		w.target.Commit, w.target.Prefix = strings.ToLower(commit), false
		w.out.Target = w.target
	}
}

// covering looks for a descendant's push row. It asks the checkout about every
// commit in the list, so it does that only when the commit's own row is late
// or none can come.
func (w *watch) covering(ctx context.Context, rows []woodpecker.Pipeline, looks int) (*woodpecker.Pipeline, []woodpecker.Pipeline) {
	t := w.target
	wrong := t.Event != "" && t.Event != woodpecker.Push
	if t.Local == nil || t.Prefix || wrong || looks < 2 && t.Repo.Active {
		return nil, nil
	}
	return covering(rows, t, func(commit string) ancestry { return w.contains(ctx, commit) })
}

// findNumber reads a row that was named. A 404 is no proof that it does not
// exist: lists that lack it are.
func (w *watch) findNumber(ctx context.Context) (*found, *missing, error) {
	number := w.target.Number
	for {
		row, err := w.read(woodpecker.Unconfirmed(ctx), number)
		switch {
		case err == nil && w.target.ID > 0 && row.ID != w.target.ID:
			return nil, &missing{reason: fmt.Sprintf("#%d was deleted on the server, and its number belongs to another run", number)}, nil
		case err == nil:
			return &found{row: row, whole: true}, nil, nil
		case !refusedAs(err, http.StatusNotFound):
			return nil, nil, err
		}
		listed, err := w.listed(ctx, number, func(r woodpecker.Pipeline) bool { return r.Number == number })
		if err != nil {
			return nil, nil, err
		}
		if !listed {
			return nil, &missing{reason: fmt.Sprintf("%s has no pipeline #%d", w.target.Repo.FullName, number), hint: Hint{Advice: SeePage}}, nil
		}
		if err := w.missed(ctx, number); err != nil {
			return nil, nil, err
		}
	}
}

// look reads the list: its first page, and on the first look as many as it
// takes to find a push row of the commit, five at most. What those held below
// the first page stands for later looks too: old rows do not move.
func (w *watch) look(ctx context.Context, first bool) ([]woodpecker.Pipeline, error) {
	pages := 1
	if first {
		pages = lookPages
	}
	var rows []woodpecker.Pipeline
	whole := false // the list was read to its end
	for page := 1; page <= pages && !whole; page++ {
		part, err := w.list(ctx, page, lookPage)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		whole = len(part) < lookPage
		c := choose(rows, w.target, w.src.Now())
		if !w.target.Prefix && c.row != nil && (c.row.Event == woodpecker.Push || w.target.Event != "") {
			break
		}
	}
	if !whole && len(rows) > 0 {
		lowest := rows[len(rows)-1].Number
		for _, r := range w.history {
			if r.Number < lowest {
				rows = append(rows, r)
			}
		}
	}
	w.history = rows
	return rows, nil
}

func (w *watch) list(ctx context.Context, page, size int) ([]woodpecker.Pipeline, error) {
	var rows []woodpecker.Pipeline
	err := w.asking(ctx, func() (err error) {
		rows, err = w.src.Pipelines(ctx, w.target.Repo.ID, woodpecker.ListOptions{Page: page, PerPage: size})
		return err
	})
	for i, r := range rows {
		rows[i] = cleaned(r)
		w.newest = max(w.newest, r.ID)
	}
	return rows, err
}

// listed says whether one of two lists, a second apart, has the row. Only
// lists that lack it prove that a row is gone.
func (w *watch) listed(ctx context.Context, number int64, fits func(woodpecker.Pipeline) bool) (bool, error) {
	for i := range 2 {
		if i > 0 {
			if err := poll.Sleep(ctx, time.Second); err != nil {
				return false, err
			}
		}
		if has, err := w.inList(w.patient(ctx), number, fits); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

const mostPages = 100 // of a list that are read to find one row

// inList reads the list where number must be, if it is there. Numbers fall by
// at least one from row to row, so a row is at most as far down as its number
// is below the highest.
func (w *watch) inList(ctx context.Context, number int64, fits func(woodpecker.Pipeline) bool) (bool, error) {
	const size = 50
	been := map[int]bool{}
	for page := 1; !been[page] && len(been) < mostPages; {
		been[page] = true
		rows, err := w.list(ctx, page, size)
		if err != nil {
			return false, err
		}
		switch {
		case slices.ContainsFunc(rows, fits):
			return true, nil
		case len(rows) == 0 || rows[0].Number < number: // too far down
			page = max(page-1, 1)
		case len(rows) == size && rows[size-1].Number > number: // not far enough
			page = max(page+1, int((rows[0].Number-number)/size)+page)
		}
	}
	return false, nil
}

const fewestMisses = 4 // of a row, before it is given up

// missed waits before the next reading of a row that a list has and the server
// does not show, longer each time.
func (w *watch) missed(ctx context.Context, number int64) error {
	since, most, longest := w.start, 20*time.Second, 2*time.Second
	if w.known {
		most, longest = patience, 8*time.Second
	}
	if w.row.ID > 0 {
		since = w.began
	}
	if w.lastRead.After(since) {
		since = w.lastRead
	}
	if time.Since(since) >= most && w.misses >= fewestMisses {
		return &woodpecker.APIError{
			Op: fmt.Sprintf("pipeline %d", number), Class: woodpecker.Exhausted, For: time.Since(since),
			Err: errors.New("the server does not show it, although its list has it"),
		}
	}
	pause := min(time.Second<<min(w.misses, 3), longest)
	w.misses++
	return poll.Sleep(ctx, pause)
}

// contains says whether the target's commit is contained in commit, as far as
// the checkout can tell. Answers are kept: commits do not change.
func (w *watch) contains(ctx context.Context, commit string) ancestry {
	switch {
	case w.target.matches(commit) && !w.target.Prefix:
		return proven
	case w.target.Local == nil || w.target.Prefix || w.target.Commit == "":
		return unknown
	}
	if known, ok := w.ancestry[commit]; ok {
		return known
	}
	answer := unknown
	switch a, err := w.target.Local.IsAncestor(ctx, git.Commit(w.target.Commit), git.Commit(commit)); {
	case err != nil:
	case a == git.Yes:
		answer = proven
	case a == git.No:
		answer = refuted
	}
	w.ancestry[commit] = answer
	return answer
}

// facts gathers what is known of the commit besides rows. What the checkout
// cannot tell stays unknown.
func (w *watch) facts(ctx context.Context, excluded, unproven []woodpecker.Pipeline, vanished bool) facts {
	if w.local == nil {
		f := w.localFacts(ctx)
		w.local = &f
	}
	f := *w.local
	f.inactive, f.vanished = !w.target.Repo.Active, vanished
	for _, r := range excluded {
		f.excluded = append(f.excluded, fmt.Sprintf("#%d event %s", r.Number, r.Event))
	}
	for i, r := range unproven {
		if i == 3 {
			break
		}
		f.unproven = append(f.unproven, describe(r))
	}
	return f
}

func (w *watch) localFacts(ctx context.Context) (f facts) {
	t := w.target
	if t.Local == nil || t.Prefix || t.Commit == "" {
		return f
	}
	commit := git.Commit(t.Commit)
	if t.Event == "" || t.Event == woodpecker.Push || t.Event == woodpecker.PullRequest {
		if message, err := t.Local.Message(ctx, commit); err == nil {
			f.skip = skipMarked(message)
		}
	}
	if t.Repo.ConfigFile == "" && t.Repo.ConfigService == "" {
		if files, err := t.Local.TreeFiles(ctx, commit); err == nil {
			f.noFile = true
			for _, name := range files {
				f.noFile = f.noFile && !pipelineFile(name)
			}
		}
	}
	if sent, err := t.Local.OnRemote(ctx, commit); err == nil {
		f.notSent = !sent
	}
	return f
}
