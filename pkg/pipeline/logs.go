package pipeline

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"homelab/pkg/poll"
	"homelab/pkg/ui"
	"homelab/pkg/woodpecker"
)

// How a log is settled: lines arrive up to about a second after the step ended.
const (
	logPause  = 700 * time.Millisecond // between two readings that must agree
	logMost   = 5 * time.Second        // then what is there is taken
	logEmpty  = 2 * time.Second        // before that, a log that is empty may not have arrived
	logSettle = 10 * time.Second       // after a step's end one reading is enough
	logGiveUp = 20 * time.Second       // of readings that break off, where the log is what was asked for
	logsAside = 4                      // logs that are read at once
)

// What a tail may hold.
const (
	tailLine = 4 << 10  // bytes of a line
	tailStep = 64 << 10 // bytes of a step
)

// tail keeps the last lines of a log while it is read, in the order of their
// line numbers and without duplicates, in bounded memory.
type tail struct {
	most  int
	lines []logLine // ascending
	size  int       // bytes of lines
	floor int       // lines up to this number are not kept any more; -1: none
	cut   bool      // lines were dropped for their size
	total int       // entries seen, duplicates included
	last  int       // highest line number; -1: none
}

type logLine struct {
	n    int
	text string
}

func newTail(most int) *tail { return &tail{most: most, floor: -1, last: -1} }

func (t *tail) add(e woodpecker.LogEntry) {
	t.total++
	t.last = max(t.last, e.Line)
	if e.Line <= t.floor || len(t.lines) == t.most && e.Line < t.lines[0].n {
		return
	}
	i, dup := slices.BinarySearchFunc(t.lines, e.Line, func(l logLine, n int) int { return cmp.Compare(l.n, n) })
	if dup {
		return
	}
	data := e.Data
	cut := ""
	if len(data) > tailLine {
		end := tailLine
		for end > 0 && !utf8.RuneStart(data[end]) {
			end--
		}
		data, cut = data[:end], " …[cut]"
	}
	text := ui.Clean(string(data)) + cut
	t.lines = slices.Insert(t.lines, i, logLine{e.Line, text})
	for t.size += len(text); len(t.lines) > t.most || t.size > tailStep; {
		t.cut = t.cut || len(t.lines) <= t.most
		t.floor, t.size = t.lines[0].n, t.size-len(t.lines[0].text)
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
}

// text returns the lines, and what to say of lines that are missing.
func (t *tail) text() (lines []string, note string) {
	for _, l := range t.lines {
		lines = append(lines, l.text)
	}
	if t.cut {
		note = fmt.Sprintf("cut to the last %d KiB", tailStep>>10)
	}
	return lines, note
}

// mark is what two readings of a log must agree in.
type mark struct {
	entries int
	last    int // highest line number
}

// settled says whether a step ended so long ago by the server's clock that its
// log is complete.
func settled(clock Contact, step woodpecker.Step) bool {
	return step.State.Ended() && step.Finished > 0 && clock.Now().Sub(woodpecker.Moment(step.Finished)) >= logSettle
}

// settle reads a log until two readings agree, five seconds at most, on an
// empty one not within two; one is enough where that is said. Readings that break off are repeated for up to
// give. It returns nil once a reading succeeded, else the last error.
func settle(ctx context.Context, one bool, give time.Duration, read func(context.Context) (mark, error)) error {
	start := time.Now()
	var before *mark
	for {
		m, err := read(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && (one || before != nil && *before == m && (m.entries > 0 || time.Since(start) >= logEmpty)):
			return nil
		case err == nil:
			before = &m
		case !again(err):
			return err
		}
		next := time.Since(start) + logPause
		switch {
		case before != nil && next > logMost:
			return nil
		case before == nil && next > give:
			return err
		}
		if err := poll.Sleep(ctx, logPause); err != nil {
			return err
		}
	}
}

// again says whether a log that could not be read may be readable yet: what
// broke off is, what the client has given up on already is not.
func again(err error) bool {
	var api *woodpecker.APIError
	return errors.As(err, &api) && api.Class == woodpecker.Exhausted && api.Tries == 0
}

// tails reads the tail of each failing step's log, a few at once. A log that
// cannot be read costs five seconds at most and leaves a note.
func (w *watch) tails(ctx context.Context) {
	var wait sync.WaitGroup
	slots := make(chan struct{}, logsAside)
	for i := range w.out.Failed {
		s := &w.out.Failed[i]
		slots <- struct{}{}
		wait.Go(func() {
			s.LogTail, s.LogNote = settledTail(ctx, w.src, w.target.Repo.ID, w.row, s.id, w.limits.LogLines)
			<-slots
		})
	}
	wait.Wait()
}

// stepOf finds a step by its id.
func stepOf(row woodpecker.Pipeline, id int64) woodpecker.Step {
	for _, w := range row.Workflows {
		for _, s := range w.Steps {
			if s.ID == id {
				return s
			}
		}
	}
	return woodpecker.Step{}
}

// LogSource is what reading logs needs of a server.
type LogSource interface {
	Reader
	Contact
}

// settledTail reads the last lines of a finished step's log.
func settledTail(ctx context.Context, src LogSource, repo woodpecker.RepoID, row woodpecker.Pipeline, step int64, most int) (lines []string, note string) {
	of := stepOf(row, step)
	if of.Started == 0 {
		return nil, "it never started"
	}
	guarded, feed, stop := poll.Watchdog(ctx, logMost)
	defer stop()
	var best *tail
	err := settle(woodpecker.WithPatience(guarded, logMost-logPause), settled(src, of), logMost, func(ctx context.Context) (mark, error) {
		t := newTail(most)
		err := src.Log(ctx, repo, row.Number, step, func(e woodpecker.LogEntry) error {
			if t.total%64 == 0 {
				feed()
			}
			t.add(e)
			return nil
		})
		if err == nil || best == nil && t.total > 0 {
			best = t // a broken reading is better than none
		}
		return mark{t.total, t.last}, err
	})
	switch {
	case best == nil && errors.Is(err, poll.ErrIdle):
		return nil, fmt.Sprintf("the log could not be read in %s", span(logMost))
	case best == nil && err != nil:
		return nil, "the log could not be read: " + words(err)
	case best == nil || best.total == 0:
		return nil, "no output"
	}
	lines, note = best.text()
	if err != nil && note == "" {
		note = "the log was not read to its end: " + words(err)
	}
	return lines, note
}

// LogLine is one line of a step's log.
type LogLine struct {
	Step StepRef
	Line int       // from 0
	At   time.Time // zero when the step's start is not known
	Text string    // cleaned
	Raw  []byte    // as the step wrote it
}

// StepRef is a step with the workflow it belongs to.
type StepRef struct {
	Workflow string
	Step     woodpecker.Step
}

// Address names the step for "ci logs --step".
func (s StepRef) Address() string { return s.Workflow + "/" + s.Step.Name }

// NoStepError says that nothing in the tree fits the step that was asked for.
type NoStepError struct {
	Want  string
	Names []string // workflow/step of all there are
}

func (e *NoStepError) Error() string {
	if len(e.Names) == 0 {
		return fmt.Sprintf("no step is called %s; the pipeline has none", e.Want)
	}
	return fmt.Sprintf("no step is called %s; there are: %s", e.Want, strings.Join(e.Names, ", "))
}

// Select returns the steps that want names: a name, workflow/step or a pid,
// every match; "" all. onlyFailed leaves the failing ones.
func Select(row woodpecker.Pipeline, want string, onlyFailed bool) ([]StepRef, error) {
	var out []StepRef
	var all []string
	var failedIDs []int64
	for _, f := range failing(row.Workflows, 1<<20) {
		failedIDs = append(failedIDs, f.id)
	}
	matched := want == ""
	for _, w := range row.Workflows {
		for _, s := range w.Steps {
			ref := StepRef{Workflow: w.Name, Step: s}
			all = append(all, ref.Address())
			if want != "" && want != s.Name && want != ref.Address() && want != strconv.Itoa(s.PID) {
				continue
			}
			matched = true
			if onlyFailed && !slices.Contains(failedIDs, s.ID) {
				continue
			}
			out = append(out, ref)
		}
	}
	if !matched {
		return nil, &NoStepError{Want: want, Names: all}
	}
	return out, nil
}

// What a reading of a whole log holds back to put lines in order.
const (
	windowLines = 4096
	windowBytes = 8 << 20

	mostLines = 1 << 26 // a number beyond it is not a log's
)

// printer hands a log's lines on in order, each once, however often and in
// whatever order they are read. What it remembers is a bit per line.
type printer struct {
	ref  StepRef
	emit func(LogLine) error
	done []uint64 // a bit per line that was handed on
	held lineHeap
	size int
	// Of the reading under way:
	seen  mark
	bytes int
}

func (p *printer) begin() { p.seen, p.bytes = mark{last: -1}, 0 }

func (p *printer) add(e woodpecker.LogEntry) error {
	p.seen.entries++
	p.seen.last = max(p.seen.last, e.Line)
	p.bytes += len(e.Data)
	if e.Line < 0 || e.Line > mostLines || p.has(e.Line) {
		return nil
	}
	heap.Push(&p.held, e)
	p.size += len(e.Data)
	for p.held.Len() > windowLines || p.size > windowBytes {
		if err := p.pop(); err != nil {
			return err
		}
	}
	return nil
}

// flush hands on what is held back.
func (p *printer) flush() error {
	for p.held.Len() > 0 {
		if err := p.pop(); err != nil {
			return err
		}
	}
	return nil
}

func (p *printer) pop() error {
	e, _ := heap.Pop(&p.held).(woodpecker.LogEntry)
	p.size -= len(e.Data)
	if p.has(e.Line) {
		return nil
	}
	p.set(e.Line)
	l := LogLine{Step: p.ref, Line: e.Line, Text: ui.Clean(string(e.Data)), Raw: e.Data}
	if start := p.ref.Step.Started; start > 0 {
		l.At = woodpecker.Moment(start + e.Time)
	}
	return p.emit(l)
}

func (p *printer) has(n int) bool { return n/64 < len(p.done) && p.done[n/64]&(1<<(n%64)) != 0 }

func (p *printer) set(n int) {
	for n/64 >= len(p.done) {
		p.done = append(p.done, 0)
	}
	p.done[n/64] |= 1 << (n % 64)
}

type lineHeap []woodpecker.LogEntry

func (h lineHeap) Len() int           { return len(h) }
func (h lineHeap) Less(i, j int) bool { return h[i].Line < h[j].Line }
func (h lineHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lineHeap) Push(x any)        { *h = append(*h, x.(woodpecker.LogEntry)) } //nolint:forcetypeassert // container/heap's contract
func (h *lineHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = woodpecker.LogEntry{}
	*h = old[:len(old)-1]
	return last
}

// logReader prints steps' logs.
type logReader struct {
	src    LogSource
	repo   woodpecker.RepoID
	number int64
	emit   func(LogLine) error
	steps  map[int64]*printer

	row     woodpecker.Pipeline // the last reading; for following only, as are the next two
	began   time.Time
	cadence cadence
}

func (r *logReader) printer(ref StepRef) *printer {
	p, ok := r.steps[ref.Step.ID]
	if !ok {
		p = &printer{emit: r.emit}
		r.steps[ref.Step.ID] = p
	}
	p.ref = ref
	return p
}

// read prints what one reading of the stored log adds.
func (r *logReader) read(ctx context.Context, p *printer) (mark, error) {
	p.begin()
	var stop error // of emit: not the server's fault
	err := r.src.Log(ctx, r.repo, r.number, p.ref.Step.ID, func(e woodpecker.LogEntry) error {
		stop = p.add(e)
		return stop
	})
	if stop == nil {
		stop = p.flush()
	}
	if stop != nil {
		return p.seen, &sinkError{stop}
	}
	return p.seen, err
}

// sinkError is an error of whoever takes the lines; nothing is read again for
// it.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// whole prints the log of a step: of an ended one all there will be, of a
// running one all there is.
func (r *logReader) whole(ctx context.Context, ref StepRef) error {
	p := r.printer(ref)
	var sink *sinkError
	one := !ref.Step.State.Ended() || settled(r.src, ref.Step)
	err := settle(ctx, one, logGiveUp, func(ctx context.Context) (mark, error) {
		m, err := r.read(ctx, p)
		errors.As(err, &sink)
		return m, err
	})
	if sink != nil {
		return sink.err
	}
	return err
}

// PrintLogs hands every line of these steps to emit, step by step; those that
// have not started are passed over, and a running one is read once. Each line
// comes once and in order.
func PrintLogs(ctx context.Context, src LogSource, repo woodpecker.RepoID, row woodpecker.Pipeline, steps []StepRef, emit func(LogLine) error) error {
	r := &logReader{src: src, repo: repo, number: row.Number, emit: emit, steps: map[int64]*printer{}}
	for _, ref := range steps {
		if ref.Step.Started == 0 {
			continue
		}
		if err := r.whole(ctx, ref); err != nil {
			return fmt.Errorf("log of %s: %w", ref.Address(), err)
		}
	}
	return nil
}

// FollowLogs prints like PrintLogs and goes on with running steps, in turn,
// until every step that want names (and each that may still come) has ended.
// What ends a step is its state in a complete answer, never the stream's end;
// then the stored log fills every gap. It returns the last reading.
func FollowLogs(ctx context.Context, src LogSource, repo woodpecker.RepoID, number int64, want string, onlyFailed bool, emit func(LogLine) error) (woodpecker.Pipeline, error) {
	r := &logReader{src: src, repo: repo, number: number, emit: emit, steps: map[int64]*printer{}}
	finished := map[int64]bool{}
	for fresh := false; ; {
		row, err := r.row, error(nil)
		if !fresh {
			row, err = r.tree(ctx)
		}
		if fresh = false; err != nil {
			return row, err
		}
		refs, err := Select(row, want, onlyFailed)
		if err != nil && (row.Status.Ended() || len(row.Workflows) > 0) {
			return row, err
		}
		slices.SortStableFunc(refs, func(a, b StepRef) int { return cmp.Compare(a.Step.Started, b.Step.Started) })
		advanced := false
		for _, ref := range refs {
			if finished[ref.Step.ID] || ref.Step.Started == 0 {
				continue
			}
			if !ref.Step.State.Ended() {
				if err := r.follow(ctx, ref); err != nil {
					return r.row, err
				}
				advanced, fresh = true, true
				break // the tree has changed meanwhile
			}
			if err := r.whole(ctx, ref); err != nil {
				return row, fmt.Errorf("log of %s: %w", ref.Address(), err)
			}
			finished[ref.Step.ID] = true
		}
		if advanced {
			continue
		}
		open := !row.Status.Ended()
		if want != "" {
			open = slices.ContainsFunc(refs, func(s StepRef) bool { return !s.Step.State.Ended() }) || len(refs) == 0 && open
		}
		if !open {
			return row, nil
		}
		if err := poll.Sleep(ctx, r.pause()); err != nil {
			return row, err
		}
	}
}

// tree reads the pipeline whose logs are followed.
func (r *logReader) tree(ctx context.Context) (woodpecker.Pipeline, error) {
	if r.row.ID > 0 {
		ctx = woodpecker.WithPatience(ctx, patience)
	}
	next, err := r.src.Pipeline(ctx, r.repo, r.number)
	if err != nil {
		return r.row, err
	}
	if r.row.ID > 0 && next.ID != r.row.ID {
		return r.row, &woodpecker.APIError{
			Op: fmt.Sprintf("pipeline %d", r.number), Class: woodpecker.Refused, Status: http.StatusNotFound,
			Text: "it was deleted, and its number belongs to another run",
		}
	}
	if r.row.ID == 0 {
		r.cadence, r.began = newCadence(time.Now()), time.Now()
	}
	r.row = cleaned(next)
	return r.row, nil
}

// pause is how long to wait before the tree is read again.
func (r *logReader) pause() (d time.Duration) {
	d, r.cadence = r.cadence.next(time.Now(), r.began, r.row, 0, 0)
	return d
}

// rereadPause says how soon a stored log of that size is read again.
func rereadPause(size int) time.Duration {
	switch {
	case size > 2<<20:
		return 10 * time.Second
	case size > 256<<10:
		return 3 * time.Second
	}
	return time.Second
}

// inbox holds what the log stream brought until the printer takes it. When it
// is full, lines are dropped: the stored log brings them again.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex
	entries []woodpecker.LogEntry
	closed  bool
}

const inboxLines = 8192

func (b *inbox) put(e woodpecker.LogEntry) error {
	b.mu.Lock()
	if len(b.entries) < inboxLines {
		b.entries = append(b.entries, e)
	}
	b.mu.Unlock()
	b.nudge()
	return nil
}

func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.nudge()
}

func (b *inbox) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) take() (entries []woodpecker.LogEntry, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entries, b.entries = b.entries, nil
	return entries, b.closed
}

// follow prints a running step until a reading shows that it has ended. Lines
// come from the log stream where the server bears it, else from reading the
// stored log again and again.
func (r *logReader) follow(ctx context.Context, ref StepRef) error {
	p := r.printer(ref)
	in := &inbox{wake: make(chan struct{}, 1)}
	streaming, hangUp := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer func() { hangUp(); wait.Wait() }()
	if r.src.Version().StreamSafe() {
		wait.Go(func() {
			// However it ends, the stored log is read after it.
			_ = r.src.LogStream(streaming, r.repo, r.number, ref.Step.ID, in.put)
			in.close()
		})
	} else {
		in.close()
	}
	var nextLog time.Time
	nextTree := time.Now().Add(r.pause())
	for {
		told, closed := in.take()
		for _, e := range told {
			if err := p.add(e); err != nil {
				return err
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		if closed && !time.Now().Before(nextLog) {
			_, err := r.read(ctx, p)
			if sink, ok := errors.AsType[*sinkError](err); ok {
				return sink.err
			}
			nextLog = time.Now().Add(rereadPause(p.bytes)) // a reading that failed is made good by the next
		}
		if !time.Now().Before(nextTree) {
			row, err := r.tree(ctx)
			if err != nil {
				return err
			}
			if s := stepOf(row, ref.Step.ID); s.ID == 0 || s.State.Ended() {
				return nil
			}
			nextTree = time.Now().Add(r.pause())
		}
		due := nextTree
		wake := in.wake
		if closed {
			wake = nil
			if nextLog.Before(due) {
				due = nextLog
			}
		}
		if _, err := poll.Wait(ctx, time.Until(due), wake); err != nil {
			return err
		}
	}
}
