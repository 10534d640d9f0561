package builderweb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/poll"
)

const (
	mostMoves  = 4 // newest builds read in one look, each overtaken by the next
	mostFailed = 5 // failed builds whose time is asked for
)

// errMoved is: another build has become the newest in between.
var errMoved = errors.New("the newest build is another one by now")

// Look asks which build is the newest: one request if it is the one seen last.
// The candidate's order is the build's start in milliseconds, which is what the
// server sorts by.
func (s *Source) Look(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	for range mostMoves {
		l, err := s.look(ctx, q)
		if !errors.Is(err, errMoved) {
			return l, err
		}
	}
	return artifact.Look{}, source.Failf(artifact.Transient, nil, "the newest build of %s changes faster than it can be read", s.spec.Job)
}

// seen ties a build to the configuration it was looked at with: another file
// of the same build is another offer.
func (s *Source) seen(uuid string) string { return s.spec.String() + " " + uuid }

func (s *Source) look(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	uuid, header, err := s.latest(ctx)
	if err != nil {
		return artifact.Look{}, err
	}
	limit := source.Limit(header)
	if uuid == "" {
		l, err := s.none(ctx, q)
		l.Limit = limit
		return l, err
	}
	s.mu.Lock()
	s.nothing = nil
	s.mu.Unlock()
	l := artifact.Look{Unchanged: true, Seen: s.seen(uuid), Limit: limit}
	offer := q.Offered
	if offer == nil || l.Seen != q.Seen {
		if l, err = s.newest(ctx, q, uuid); err != nil {
			if source.IsAbsent(err) {
				// Deleted while it was read, if it is not the newest any more.
				if now, _, again := s.latest(ctx); again == nil && now != uuid {
					err = errMoved
				}
			}
			return artifact.Look{}, err
		}
		l.Limit = limit
		offer = l.Candidate
	}
	if l.RunningOrder, err = s.runningOrder(ctx, q, l, offer); err != nil {
		return artifact.Look{}, err
	}
	return l, s.expected(ctx, q, offer, uuid, &l)
}

// none tells what the 404 of latest means. Once that is known it is not asked
// again until a build appears.
func (s *Source) none(ctx context.Context, q artifact.Query) (artifact.Look, error) {
	s.mu.Lock()
	v := s.nothing
	s.mu.Unlock()
	if v == nil {
		rows, err := s.rows(ctx, false)
		switch {
		case source.IsAbsent(err):
			v = &verdict{source.Failf(artifact.Absent, err, "%s has no job %s", s.base, s.spec.Job)}
		case err != nil:
			return artifact.Look{}, err
		case len(rows) > 0:
			return artifact.Look{}, source.Failf(artifact.Transient, nil, "job %s lists %d builds and names none as the newest", s.spec.Job, len(rows))
		default:
			v = &verdict{}
		}
		s.mu.Lock()
		s.nothing = v
		s.mu.Unlock()
	}
	if v.f != nil {
		return artifact.Look{}, v.f
	}
	l := artifact.Look{Seen: q.Seen}
	return l, s.expected(ctx, q, nil, "", &l)
}

// newest reads the build that has become the newest.
func (s *Source) newest(ctx context.Context, q artifact.Query, uuid string) (artifact.Look, error) {
	var running artifact.ID
	if q.Running != nil {
		running = q.Running.ID
	}
	var (
		b    *build
		f    file
		rows []row
	)
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() (err error) { b, err = s.build(inner, uuid, false); return err })
	g.Go(func() (err error) { f, err = s.file(inner, uuid, running); return err })
	if s.spec.Artifact == "" {
		g.Go(func() (err error) { rows, err = s.rows(inner, false); return err })
	}
	if err := g.Wait(); err != nil {
		return artifact.Look{}, err
	}
	if p := s.spec.Platform; p != "" && b.platform != p {
		return artifact.Look{}, source.Failf(artifact.Refused, nil, "build %s is of platform %s, not %s", uuid, b.platform, p)
	}
	c := artifact.Candidate{
		ID: f.id, Kind: artifact.File, Order: b.order(), Size: max(f.size, 0), Made: b.finish,
		Location: f.at.EscapedPath(),
		Meta:     artifact.Meta{UUID: uuid, URL: s.at("job", s.spec.Job, "build", uuid).String(), Platform: b.platform},
	}
	l := artifact.Look{Candidate: &c, Seen: s.seen(uuid)}
	switch {
	case f.same:
		c.ID, c.Size, l.Rebuilt = running, q.Running.Size, true
	case s.spec.Artifact == "":
		size, err := s.match(ctx, rows, f)
		if err != nil {
			return artifact.Look{}, err
		}
		c.Size = size
	}
	if q.Running != nil && !l.Rebuilt && isUUID(q.Running.Meta.UUID) {
		l.Compare = s.at("compare", q.Running.Meta.UUID, uuid).String()
	}
	return l, nil
}

// match finds the row of the file's hash, which may be written a moment after
// the build, and returns the size it announces.
func (s *Source) match(ctx context.Context, rows []row, f file) (int64, error) {
	waits := []time.Duration{time.Second, time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}
	for n := 0; ; n++ {
		at := slices.IndexFunc(rows, func(r row) bool { return r.sum == f.id.Hex() })
		if at >= 0 {
			if size := rows[at].size; f.size >= 0 && size != f.size {
				return 0, source.Failf(artifact.Refused, nil, "job %s lists %s with %d bytes, its file has %d", s.spec.Job, f.id.Short(), size, f.size)
			}
			return rows[at].size, nil
		}
		if n == len(waits) {
			return 0, source.Failf(artifact.Refused, nil, "job %s lists no output %s, which its newest build's file has", s.spec.Job, f.id.Short())
		}
		if err := poll.Sleep(ctx, waits[n]); err != nil {
			return 0, err
		}
		var err error
		if rows, err = s.rows(ctx, false); err != nil {
			return 0, err
		}
	}
}

// runningOrder asks once per id for the order of what runs, if nobody knows
// it, and again when a build appears.
func (s *Source) runningOrder(ctx context.Context, q artifact.Query, l artifact.Look, offer *artifact.Candidate) (int64, error) {
	if q.Running == nil || q.Running.Order != 0 || etagOf(q.Running.ID) == "" || offer != nil && offer.ID == q.Running.ID {
		return 0, nil
	}
	s.mu.Lock()
	known := s.ordered == q.Running.ID
	s.mu.Unlock()
	if l.Unchanged && known {
		return 0, nil
	}
	order, _, err := s.orderOf(ctx, q.Running.ID)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.ordered = q.Running.ID
	s.mu.Unlock()
	return order, nil
}

// expected tells how it stands with what somebody waits for: asked when the
// wait begins, when another build becomes the newest, and at half and at the
// end of the wait.
func (s *Source) expected(ctx context.Context, q artifact.Query, offer *artifact.Candidate, newest string, l *artifact.Look) error {
	if q.Expect.IsZero() || offer != nil && q.Expect.Is(*offer) {
		return nil
	}
	key := q.Expect.String() + " " + newest
	s.mu.Lock()
	asked := s.standing == key
	s.mu.Unlock()
	if asked && !q.Half && !q.End {
		return nil
	}
	if offer != nil {
		if err := s.passed(ctx, q.Expect, offer, newest, l); err != nil {
			return err
		}
	}
	if l.Expected == artifact.Awaited && (q.Half || q.End) {
		if err := s.failed(ctx, q.Expect, offer, l); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.standing = key
	s.mu.Unlock()
	return nil
}

// passed finds out whether the expected build exists and started before the
// one on offer: then it will never be the newest.
func (s *Source) passed(ctx context.Context, e artifact.Expectation, offer *artifact.Candidate, newest string, l *artifact.Look) error {
	var started int64
	switch e.Form {
	case artifact.ByID:
		p, err := s.find(ctx, artifact.ID(e.String()))
		if err != nil || p == nil {
			return err
		}
		if p.job != s.spec.Job {
			return s.listed(ctx, func(r row) bool { return r.sum == e.Value }, e, offer, newest, l)
		}
		b, err := s.build(ctx, p.uuid, true)
		if err != nil || b == nil {
			return err
		}
		if s.spec.Platform != "" && b.platform != s.spec.Platform {
			l.Reason = fmt.Sprintf("build %s with it is of platform %s", b.uuid, b.platform)
			return nil
		}
		started = b.order()
	case artifact.ByUUID:
		b, err := s.build(ctx, e.Value, true)
		if err != nil || b == nil || !b.main || b.order() >= offer.Order {
			return err
		}
		// The server finds a build under any job's name: whose it is shows in the
		// job's own list only.
		l.Reason = fmt.Sprintf("build %s started before the newest one", b.uuid)
		return s.listed(ctx, func(r row) bool { return r.uuid == e.Value && r.sum != "" }, e, offer, newest, l)
	case artifact.ByCommit:
		return nil
	}
	if started < offer.Order {
		s.overtaken(e, offer, l)
	}
	return nil
}

// listed looks for the expectation among the job's outputs. The newest is
// asked for again, lest a build that came in between seems overtaken.
func (s *Source) listed(ctx context.Context, is func(row) bool, e artifact.Expectation, offer *artifact.Candidate, newest string, l *artifact.Look) error {
	if s.spec.Artifact != "" && e.Form == artifact.ByID {
		return nil // the list has main binaries only
	}
	rows, err := s.rows(ctx, false)
	if err != nil || !slices.ContainsFunc(rows, is) {
		return err
	}
	now, _, err := s.latest(ctx)
	if err != nil {
		return err
	}
	if now != newest {
		return errMoved
	}
	s.overtaken(e, offer, l)
	return nil
}

func (s *Source) overtaken(e artifact.Expectation, offer *artifact.Candidate, l *artifact.Look) {
	l.Expected, l.By = artifact.Passed, offer.ID
	l.Reason = fmt.Sprintf("the newest build of %s is %s, and %s is of an earlier one", s.spec.Job, offer.Meta.UUID, e.Short())
}

// failed asks whether the expected build failed, or another one that is newer
// than what is on offer.
func (s *Source) failed(ctx context.Context, e artifact.Expectation, offer *artifact.Candidate, l *artifact.Look) error {
	rows, err := s.rows(ctx, true)
	if err != nil {
		if source.IsAbsent(err) {
			return nil // the job is told of elsewhere
		}
		return err
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return r.sum != "" })
	if e.Form == artifact.ByUUID && slices.ContainsFunc(rows, func(r row) bool { return r.uuid == e.Value }) {
		l.Expected, l.Reason = artifact.Broken, "build "+e.Value+" failed"
		return nil
	}
	for _, r := range rows[:min(len(rows), mostFailed)] {
		b, err := s.build(ctx, r.uuid, true)
		if err != nil {
			return err
		}
		if b == nil {
			continue // deleted in between
		}
		if offer == nil || b.order() > offer.Order {
			l.Reason = fmt.Sprintf("build %s, started %s, failed", b.uuid, b.start.Format(time.RFC3339))
		}
		break // the newest is first
	}
	return nil
}
