package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
)

// LogOptions choose what is read of a deployment's logs.
type LogOptions struct {
	Options
	Services []string // containers; none: all
	Job      string   // the pods of this job instead
	Tail     int      // lines of each container; negative: all
	Since    time.Duration
	Previous bool // of each container's run before
	Follow   bool
}

// LogLine is a line of a container.
type LogLine struct {
	Pod, Container string
	Several        bool // there are several pods, so that a line needs its pod's name
	Time           time.Time
	Text           []byte
}

// LogEnd is how much was read.
type LogEnd struct {
	Pods  int
	Lines int
}

// Logs hands on the lines of all containers of a deployment, by time. With
// Follow it goes on with what is written from then on, by the pods that come as
// well, until ctx ends or, for a job, its pods have ended. No pod is an error of
// kind Absent. An error of emit ends it.
func (w *World) Logs(ctx context.Context, o LogOptions, emit func(LogLine) error) (*Outcome, LogEnd, error) {
	var end LogEnd
	r, rendered, err := w.look(ctx, o.Options)
	defer r.close()
	if err != nil {
		return r.out, end, err
	}
	if rendered {
		if err := r.knownLogs(o); err != nil {
			return r.out, end, err
		}
	}
	if r.composed() {
		end, err := r.composeLogs(ctx, o, emit)
		return r.out, end, err
	}
	if err := r.reach(ctx); err != nil {
		return r.out, end, err
	}
	pods, err := r.pods(ctx, o.Job != "")
	if err != nil {
		return r.out, end, err
	}
	l := &logs{r: r, o: o, tell: w.Tell, readers: map[string]*reader{}, changed: make(chan struct{})}
	l.emit = func(x LogLine) error {
		end.Lines++
		return emit(x)
	}
	pods = slices.DeleteFunc(pods, func(p Pod) bool { return !l.wanted(p) })
	end.Pods = len(pods)
	if len(pods) == 0 {
		what := "no pod of " + r.d.Stack.Name + " is there"
		if o.Job != "" {
			what = "no pod of job " + o.Job + " is there"
		}
		return r.out, end, fault.New(fault.Absent, what, "homelab deployment ps --dir "+r.o.Dir)
	}
	if err := l.past(ctx, pods); err != nil {
		return r.out, end, err
	}
	if o.Follow {
		if err := l.follow(ctx, pods); err != nil {
			return r.out, end, err
		}
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", fmt.Sprintf("%d lines printed", end.Lines)
	switch end.Lines {
	case 0:
		r.out.Reason = "no logs available"
	case 1:
		r.out.Reason = "1 line printed"
	}
	return r.out, end, nil
}

// knownLogs refuses services and jobs that no file has.
func (r *run) knownLogs(o LogOptions) error {
	if o.Job == "" {
		return r.known(o.Services, false)
	}
	var all []string
	for _, j := range r.rules.Jobs {
		all = append(all, j.Job)
		if j.Job != o.Job {
			continue
		}
		for _, s := range o.Services {
			if _, ok := j.Images[s]; !ok {
				return fault.New(fault.Usage, "the job "+o.Job+" has no service "+s, "")
			}
		}
		return nil
	}
	return fault.New(fault.Usage, "the stack "+r.d.Stack.Name+" has no job "+o.Job, "").Because("it has " + words(all))
}

// logs is one reading of logs.
type logs struct {
	r    *run
	o    LogOptions
	tell Story

	out     sync.Mutex // of emit
	emit    func(LogLine) error
	several bool

	mu      sync.Mutex
	readers map[string]*reader // by pod UID and container
	pods    map[string]Pod     // by UID, those that are there
	changed chan struct{}      // closed and replaced when pods change
}

// reader is one container whose log is read.
type reader struct {
	pod, uid, container string
	mark                kube.Mark
	last                time.Time // of the newest line, for lines without a time
	since               time.Time // lines before it are not asked for
	whole               int       // runs that have been read whole; of logs.mu
}

// wanted says whether a pod is one whose logs are asked for.
func (l *logs) wanted(p Pod) bool {
	switch {
	case l.o.Job != "":
		if !jobOf(p.job, l.r.scope.ID+"-job-"+l.o.Job) {
			return false
		}
	case p.job != "":
		return false
	}
	return len(l.chosen(p)) > 0
}

// jobOf says whether a Job is the one of that name, or a single run of it,
// which has the time behind its name.
func jobOf(job, name string) bool {
	rest, ok := strings.CutPrefix(job, name)
	if !ok {
		return false
	}
	digits, single := strings.CutPrefix(rest, "-")
	return rest == "" || single && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// chosen are the containers of a pod whose logs are asked for.
func (l *logs) chosen(p Pod) []PodContainer {
	var out []PodContainer
	for _, c := range p.Containers {
		if len(l.o.Services) == 0 || slices.Contains(l.o.Services, c.Name) {
			out = append(out, c)
		}
	}
	return out
}

// reader returns the one of a container, made when it is new.
func (l *logs) reader(p Pod, container string) *reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := p.uid + "/" + container
	x := l.readers[k]
	if x == nil {
		x = &reader{pod: p.Name, uid: p.uid, container: container}
		l.readers[k] = x
	}
	return x
}

// parallelLogs are read at once.
const parallelLogs = 8

// past reads what there is, and hands it on by time.
func (l *logs) past(ctx context.Context, pods []Pod) error {
	l.several = len(pods) > 1
	since := time.Time{}
	if l.o.Since > 0 {
		since = l.r.c.Now().Add(-l.o.Since)
	}
	var mu sync.Mutex
	var all []LogLine
	var failed error
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallelLogs)
	for _, p := range pods {
		for _, c := range l.chosen(p) {
			x := l.reader(p, c.Name)
			x.since = since
			if l.o.Tail == 0 {
				x.since = l.r.c.Now()
			}
			if !c.begun && !l.o.Previous {
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				var mine []LogLine
				o := kube.LineOptions{Container: c.Name, Previous: l.o.Previous, Tail: l.o.Tail, Since: since, Cut: c.over || !l.o.Follow}
				err := persist(ctx, func() error {
					return l.r.c.Lines(ctx, p.Namespace, p.Name, o, &x.mark, func(line kube.Line) error {
						mine = append(mine, x.line(line))
						return nil
					})
				})
				mu.Lock()
				defer mu.Unlock()
				all = append(all, mine...)
				if !skipped(err) {
					failed = first(failed, err)
				}
			})
		}
	}
	wg.Wait()
	// What was read is told, whatever could not be.
	slices.SortStableFunc(all, func(a, b LogLine) int { return a.Time.Compare(b.Time) })
	for _, line := range all {
		if err := l.hand(line); err != nil {
			return err
		}
	}
	return told("the logs cannot be read", failed)
}

// skipped says whether err means that there is no log (any more).
func skipped(err error) bool {
	return err == nil || kube.IsAbsent(err) || notStarted(err)
}

func notStarted(err error) bool {
	s, ok := errors.AsType[*kube.StatusError](err)
	return ok && s.Code == 400 && !s.Proxy
}

// line is a container's line; one without a time stands where it was read.
func (x *reader) line(l kube.Line) LogLine {
	if l.Time.IsZero() {
		l.Time = x.last
	}
	x.last = l.Time
	return LogLine{Pod: x.pod, Container: x.container, Time: l.Time, Text: l.Text}
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (l *logs) hand(line LogLine) error {
	l.out.Lock()
	defer l.out.Unlock()
	line.Several = l.several
	return l.emit(line)
}

// follow goes on with the logs of these pods and of those that come.
func (l *logs) follow(ctx context.Context, pods []Pod) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	l.pods = map[string]Pod{}
	for _, p := range pods {
		l.pods[p.uid] = p
	}
	var wg sync.WaitGroup
	begin := func(p Pod) {
		for _, c := range l.chosen(p) {
			x := l.reader(p, c.Name)
			wg.Go(func() {
				if err := l.read(ctx, x); err != nil && ctx.Err() == nil {
					stop(err)
				}
			})
		}
	}
	for _, p := range pods {
		begin(p)
	}
	sink := &podSink{l: l, begin: begin}
	wg.Go(func() {
		err := l.r.c.Follow(ctx, kube.Core("pods"), l.r.scope.Namespace, kube.Query{Labels: l.r.selector(l.o.Job != "")}, sink)
		if ctx.Err() == nil {
			stop(told("the pods of "+l.r.scope.Namespace+" cannot be followed", err))
		}
	})
	if l.o.Job != "" {
		wg.Go(func() { l.untilOver(ctx, func() { stop(errLogsEnd) }) })
	}
	wg.Wait()
	if err := context.Cause(ctx); err != errLogsEnd { //nolint:errorlint // it is ours and never wrapped
		return err
	}
	return nil
}

const errLogsEnd = logsEnd("the logs have ended")

type logsEnd string //nolint:errname // it is an end, and an error in form only

func (e logsEnd) Error() string { return string(e) }

// podSink takes what is learned of pods.
type podSink struct {
	l     *logs
	begin func(Pod)
	told  bool
}

// Synced takes the whole selection.
func (s *podSink) Synced(items []kube.Object) {
	seen := map[string]bool{}
	for _, o := range items {
		seen[o.UID] = true
		s.Changed(o)
	}
	s.l.mu.Lock()
	for uid := range s.l.pods {
		if !seen[uid] {
			delete(s.l.pods, uid)
		}
	}
	s.l.mu.Unlock()
	s.l.wake()
}

// Changed takes a pod that is new or has changed.
func (s *podSink) Changed(o kube.Object) {
	p, err := decodePod(o.Raw)
	if err != nil || !s.l.wanted(p) {
		return
	}
	s.l.mu.Lock()
	_, known := s.l.pods[p.uid]
	s.l.pods[p.uid] = p
	n := len(s.l.pods)
	s.l.mu.Unlock()
	if n > 1 {
		s.l.out.Lock()
		s.l.several = true
		s.l.out.Unlock()
	}
	if !known {
		s.begin(p)
	}
	s.l.wake()
}

// Deleted takes a pod that is gone.
func (s *podSink) Deleted(o kube.Object) {
	s.l.mu.Lock()
	delete(s.l.pods, o.UID)
	s.l.mu.Unlock()
	s.l.wake()
}

// State tells once that the server does not answer, and that it does again.
func (s *podSink) State(f kube.FollowState) {
	switch {
	case f.Err != nil && !s.told:
		s.told = true
		s.l.tell.Line("the API server does not answer: " + f.Err.Error())
	case f.Err == nil && s.told:
		s.told = false
		s.l.tell.Line("the API server answers again")
	}
}

func (l *logs) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// state is how a container is doing, and what is closed when that changes. A
// pod that is gone has none.
func (l *logs) state(x *reader) (c PodContainer, there bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, there := l.pods[x.uid]
	i := slices.IndexFunc(p.Containers, func(c PodContainer) bool { return c.Name == x.container })
	if i < 0 {
		return c, false, l.changed
	}
	return p.Containers[i], there, l.changed
}

// pauses of a reader.
const (
	logPause = 500 * time.Millisecond // before a log that ended too early is asked for again
	logCheck = time.Minute            // for news of a container that nobody tells
)

// read follows one container through all its runs, until its pod is gone. That
// a stream has ended says little: somebody in between may have cut it. A run
// has been read whole once a stream that began after the run's end came to its
// own end.
func (l *logs) read(ctx context.Context, x *reader) error {
	waits := poll.Exponential(250*time.Millisecond, 5*time.Second, 0.25)
	reading := -1 // the run that the last stream was of
	for ctx.Err() == nil {
		c, there, changed := l.state(x)
		if !there {
			return nil
		}
		if !c.begun || c.Restarts < l.done(x) {
			_, _ = poll.Wait(ctx, logCheck, changed) // an ended ctx shows at the top
			continue
		}
		if reading >= 0 && reading < c.Restarts && reading >= l.done(x) {
			// The run that was being read is the one before now: its end first.
			if err := l.stream(ctx, x, kube.LineOptions{Previous: true, Cut: true}); err != nil && !skipped(err) && !kube.IsTransient(err) {
				return told("the logs of "+x.pod+" cannot be read", err)
			}
			l.finished(x, reading)
		}
		reading = c.Restarts
		err := l.stream(ctx, x, kube.LineOptions{Follow: !c.over, Cut: c.over})
		pause := time.Duration(0)
		switch {
		case err == nil && c.over:
			l.finished(x, reading)
			waits.Reset()
		case err == nil:
			waits.Reset()
			pause = logPause
		case kube.IsAbsent(err):
			return nil
		case notStarted(err), kube.IsTransient(err):
			pause = waits.Next()
		default:
			return told("the logs of "+x.pod+" cannot be read", err)
		}
		if pause > 0 && poll.Sleep(ctx, pause) != nil {
			break
		}
	}
	return nil //nolint:nilerr // each error was decided on where it came
}

// stream reads on behind what was read.
func (l *logs) stream(ctx context.Context, x *reader, o kube.LineOptions) error {
	o.Container, o.Tail, o.Since = x.container, -1, x.since
	return l.r.c.Lines(ctx, l.r.scope.Namespace, x.pod, o, &x.mark, func(line kube.Line) error {
		if err := l.hand(x.line(line)); err != nil {
			return &emitError{err}
		}
		return nil
	})
}

// emitError keeps what a reader of lines says apart from what a server says.
type emitError struct{ err error }

func (e *emitError) Error() string { return e.err.Error() }
func (e *emitError) Unwrap() error { return e.err }

// done is how many runs of a container have been read whole.
func (l *logs) done(x *reader) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return x.whole
}

// finished notes that a run, counted from 0, has been read whole.
func (l *logs) finished(x *reader, run int) {
	l.mu.Lock()
	x.whole = run + 1
	l.mu.Unlock()
	l.wake()
}

// untilOver calls f once all pods have ended and been read.
func (l *logs) untilOver(ctx context.Context, f func()) {
	for ctx.Err() == nil {
		l.mu.Lock()
		over, changed := len(l.pods) > 0, l.changed
		for _, p := range l.pods {
			over = over && (p.Phase == "Succeeded" || p.Phase == "Failed")
			for _, c := range l.chosen(p) {
				x := l.readers[p.uid+"/"+c.Name]
				over = over && (!c.begun || x != nil && x.whole > c.Restarts)
			}
		}
		l.mu.Unlock()
		if over {
			f()
			return
		}
		_, _ = poll.Wait(ctx, logCheck, changed) // an ended ctx shows at the top
	}
}
