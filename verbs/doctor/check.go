package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"homelab/pkg/fault"
)

// status is how a check ended.
type status string

// The ways a check can end. A warning costs something and hinders nothing.
const (
	passed  status = "ok"
	warned  status = "warn"
	failed  status = "fail"
	skipped status = "skipped" // not needed here, or what it needs has failed
)

// finding is what a check found. The zero value is a check that has not ended.
type finding struct {
	status status
	what   string     // a sentence
	why    string     // more of it, in the words of whoever said it; may be empty
	fix    string     // one command; may be empty
	kind   fault.Kind // of a failure: how the run ends
	cause  string     // of a skipped one: the failed check it goes back to; "": it is not needed
}

func (f finding) detail() string {
	if f.why != "" {
		return f.what + ": " + f.why
	}
	return f.what
}

func good(format string, args ...any) finding {
	return finding{status: passed, what: fmt.Sprintf(format, args...)}
}

func warning(fix, format string, args ...any) finding {
	return finding{status: warned, what: fmt.Sprintf(format, args...), fix: fix}
}

func needless(format string, args ...any) finding {
	return finding{status: skipped, what: fmt.Sprintf(format, args...)}
}

func failure(k fault.Kind, fix, format string, args ...any) finding {
	return finding{status: failed, kind: k, what: fmt.Sprintf(format, args...), fix: fix}
}

func (f finding) because(why string) finding { f.why = why; return f }

// check is one thing to look at.
type check struct {
	name  string
	needs []string // is skipped when one of these failed, or was skipped for that reason
	after []string // waits for these, whatever becomes of them
	limit time.Duration
	run   func(*patient, context.Context) finding
}

// checks returns all of them in the order they are told. Whatever a check
// needs stands before it.
func checks() []check {
	return []check{
		{name: "config", limit: 5 * time.Second, run: (*patient).configuration},
		{name: "git", limit: 5 * time.Second, run: (*patient).git, after: []string{"config"}},
		{name: "server", limit: time.Second, run: (*patient).server, needs: []string{"config"}},
		{name: "route", limit: time.Second, run: (*patient).route, needs: []string{"server"}},
		{name: "dns", limit: 6 * time.Second, run: (*patient).dns, needs: []string{"route"}},
		{name: "tcp", limit: 14 * time.Second, run: (*patient).tcp, needs: []string{"dns"}},
		{name: "tls", limit: time.Second, run: (*patient).tls, needs: []string{"tcp"}},
		{name: "version", limit: 10 * time.Second, run: (*patient).version, needs: []string{"tls"}},
		{name: "health", limit: 10 * time.Second, run: (*patient).health, needs: []string{"version"}},
		{name: "vault", limit: 14 * time.Second, run: (*patient).vault, needs: []string{"config"}},
		{name: "token", limit: 21 * time.Second, run: (*patient).token, needs: []string{"vault"}},
		{name: "user", limit: 10 * time.Second, run: (*patient).user, needs: []string{"version", "token"}},
		{name: "repository", limit: 12 * time.Second, run: (*patient).repository, needs: []string{"user"}, after: []string{"git"}},
		{name: "permissions", limit: 10 * time.Second, run: (*patient).permissions, needs: []string{"repository"}},
		{name: "events", limit: 4 * time.Second, run: (*patient).events, needs: []string{"version"}, after: []string{"permissions"}},
		{name: "cluster", limit: 10 * time.Second, run: (*patient).cluster, needs: []string{"config"}},
		{name: "access", limit: 20 * time.Second, run: (*patient).access, needs: []string{"cluster"}},
	}
}

// limitError is the cause of a check's context that its own limit ended.
type limitError struct{ after time.Duration }

func (e *limitError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }

// barred says which failed check keeps one with these needs from running; ""
// for none. A failure is passed on: what needs a check that was skipped for it
// is barred by the same.
func barred(needs []string, found map[string]finding) string {
	for _, n := range needs {
		switch f := found[n]; f.status {
		case failed:
			return n
		case skipped:
			if f.cause != "" {
				return f.cause
			}
		case passed, warned:
		}
	}
	return ""
}

// examine runs every check as soon as what it waits for has ended, and returns
// the findings in the checks' order. They are told in that order too, each
// once, whichever ends first.
func examine(ctx context.Context, all []check, p *patient, b *board) []finding {
	var mu sync.Mutex
	found := map[string]finding{}
	done := map[string]chan struct{}{}
	for _, c := range all {
		done[c.name] = make(chan struct{})
	}
	var running sync.WaitGroup
	for _, c := range all {
		running.Go(func() {
			defer close(done[c.name])
			for _, n := range slices.Concat(c.needs, c.after) {
				<-done[n] // every check is bounded
			}
			mu.Lock()
			by := barred(c.needs, found)
			mu.Unlock()
			var f finding
			if by != "" {
				f = finding{status: skipped, cause: by, what: "needs " + by}
			} else {
				b.started(c.name)
				f = one(ctx, c, p)
			}
			mu.Lock()
			found[c.name] = f
			mu.Unlock()
			b.found(c.name, f)
		})
	}
	out := make([]finding, len(all))
	for i, c := range all {
		<-done[c.name]
		mu.Lock()
		out[i] = found[c.name]
		mu.Unlock()
		b.tell(c.name, out[i])
	}
	running.Wait()
	return out
}

// one runs a check within its limit. What ends with the whole run was not
// found out.
func one(ctx context.Context, c check, p *patient) finding {
	limited, cancel := context.WithTimeoutCause(ctx, c.limit, &limitError{c.limit})
	defer cancel()
	var f finding
	if ctx.Err() == nil {
		f = c.run(p, limited)
	}
	if ctx.Err() == nil || f.status != "" && f.status != failed {
		return f
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, fault.ErrTimeUp) {
		return failure(fault.Timeout, "", "not known when the time was up")
	}
	return finding{status: skipped, what: "not known: interrupted"} // nothing has failed: what needs it is not known either
}
