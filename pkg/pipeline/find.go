package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"homelab/pkg/git"
	"homelab/pkg/poll"
	"homelab/pkg/woodpecker"
)

// AmbiguousError: a commit prefix fits rows of several commits.
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
	others []woodpecker.Pipeline
	why    string
}

// find waits for the row that speaks for the target. Without one it returns
// why, and no error.
func (w *watch) find(ctx context.Context) (*found, *missing, error) {
	if w.target.Number > 0 {
		return w.findNumber(ctx)
	}
	start := time.Now()
	var sawRow time.Time
	var ghost *woodpecker.Pipeline // a row of the commit that was seen, and is not in the last list
	var lastSeen *woodpecker.Pipeline
	gone := 0
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
		if c.row != nil {
			if sawRow.IsZero() {
				sawRow = time.Now()
			}
			lastSeen, ghost, gone = c.row, nil, 0
			enough := time.Since(sawRow) >= pushWait || w.limits.Once && looks >= 2
			if !c.unsure || enough {
				return &found{row: *c.row, others: c.others}, nil, nil
			}
		} else if lastSeen != nil {
			ghost = lastSeen
			gone++
		}
		var unproven []woodpecker.Pipeline
		if c.row == nil {
			cover, open := covering(rows, w.target, func(commit string) ancestry { return w.contains(ctx, commit) })
			if cover != nil && looks >= 2 {
				return &found{
					row: *cover, others: c.others,
					why: fmt.Sprintf("%s has no pipeline of its own; it is covered by %s", Short(w.target.Commit), describe(*cover)),
				}, nil, nil
			}
			unproven = open
		}
		m := absence(w.facts(ctx, c.excluded, unproven, ghost != nil && gone >= 2), Short(w.target.Commit), w.limits.Appear)
		elapsed := time.Since(start)
		if w.limits.Once && looks >= 2 && c.row == nil {
			m.confirmed = m.confirmed && elapsed >= m.after && looks >= m.looks
			if m.after == w.limits.Appear && len(c.excluded) == 0 {
				m.reason = "there is no pipeline of " + Short(w.target.Commit)
			}
			w.out.Others = c.others
			return nil, &m, nil
		}
		if c.row == nil && looks >= m.looks && elapsed >= m.after {
			w.out.Others = c.others
			return nil, &m, nil
		}
		wait := pause.Next()
		if left := m.after - elapsed; left > 0 {
			wait = min(wait, left)
		}
		if _, err := poll.Wait(ctx, wait, w.ears.channel()); err != nil {
			return nil, nil, err
		}
		w.hear()
	}
}

// findNumber reads a row that was named. A refusal is no proof that it does
// not exist: a list that lacks it is.
func (w *watch) findNumber(ctx context.Context) (*found, *missing, error) {
	row, err := w.read(ctx, w.target.Number)
	var api *woodpecker.APIError
	switch {
	case err == nil:
		if w.target.ID > 0 && row.ID != w.target.ID {
			return nil, &missing{reason: fmt.Sprintf("#%d was deleted on the server, and its number belongs to another run", w.target.Number)}, nil
		}
		return &found{row: row}, nil, nil
	case errors.As(err, &api) && api.Class == woodpecker.Refused && api.Status == 404:
		rows, listErr := w.rowsDownTo(ctx, w.target.Number)
		if listErr != nil {
			return nil, nil, listErr
		}
		for _, r := range rows {
			if r.Number == w.target.Number {
				return nil, nil, err // it exists, and the server would not show it
			}
		}
		return nil, &missing{reason: fmt.Sprintf("%s has no pipeline #%d", w.target.Repo.FullName, w.target.Number), hint: Hint{Advice: SeePage}}, nil
	}
	return nil, nil, err
}

// look reads the list once: its first page, and on the first look as many as
// it takes to find a push row of the commit, five at most.
func (w *watch) look(ctx context.Context, first bool) ([]woodpecker.Pipeline, error) {
	pages := 1
	if first {
		pages = lookPages
	}
	var rows []woodpecker.Pipeline
	for page := 1; page <= pages; page++ {
		part, err := w.list(ctx, page, lookPage)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		c := choose(rows, w.target, w.src.Now())
		if len(part) < lookPage || c.row != nil && (c.row.Event == woodpecker.Push || w.target.Event != "") {
			break
		}
	}
	if first || len(w.history) == 0 {
		w.history = rows
	}
	return rows, nil
}

func (w *watch) list(ctx context.Context, page, size int) ([]woodpecker.Pipeline, error) {
	rows, err := w.src.Pipelines(ctx, w.target.Repo.ID, woodpecker.ListOptions{Page: page, PerPage: size})
	for i, r := range rows {
		rows[i] = cleaned(r)
	}
	return rows, err
}

const mostPages = 100 // of 50 rows: how far down a list is read

// rowsDownTo reads the list from the top down to number.
func (w *watch) rowsDownTo(ctx context.Context, number int64) ([]woodpecker.Pipeline, error) {
	const size = 50
	var rows []woodpecker.Pipeline
	for page := 1; page <= mostPages; page++ {
		part, err := w.list(ctx, page, size)
		if err != nil {
			return nil, err
		}
		rows = append(rows, part...)
		if len(part) < size || part[len(part)-1].Number <= number {
			break
		}
	}
	return rows, nil
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
