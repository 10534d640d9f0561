package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"homelab/pkg/poll"
)

// Class is what an exchange is worth (ADR 0005). The zero value is none of
// them and counts as Transient.
type Class int

// What an exchange can be.
const (
	Answer    Class = iota + 1 // hand it on
	Transient                  // a passing fault: ask again
	Confirm                    // a refusal: believed after asking again
	Final                      // asking again cannot change it
)

// Exchange is one attempt. Response is nil when Err is the connection's; both
// are set when the body broke off. Body is read whole, at most Call.MaxBody
// bytes of a 2xx and 64 KiB of anything else; nil for a 2xx stream.
type Exchange struct {
	Request  *http.Request
	Response *http.Response
	Body     []byte
	Err      error
}

// Judgement is what a Judge makes of an Exchange.
type Judgement struct {
	Class      Class
	Err        error         // what to report; nil: the exchange's own error or status
	RetryAfter time.Duration // the next wait, at most 60 s; 0: Retry-After of a 429 or 503, else the schedule

	// Times and Over replace, for Confirm, how often and over which time the
	// same answer must come. Times 0 means the rule of Retry. Times 2 and Over
	// 0 is "once more, then believe it".
	Times int
	Over  time.Duration
}

// Judge is the client's one function that sorts exchanges. It is called once
// per attempt, also for failed connections, and may be called concurrently.
type Judge func(Exchange) Judgement

// RetryOptions configure a Retry.
type RetryOptions struct {
	Next      http.RoundTripper
	Judge     Judge
	Healthy   func(context.Context) error      // asked after every status to confirm, 5 s at most; an error makes it transient
	CloseIdle func()                           // after two failures in a row; nil: nothing
	Trouble   func(err error)                  // once when trouble begins, at the second failure in a row
	Recovered func(after time.Duration)        // once when it ends; after: since the first failure
	Log       func(format string, args ...any) // -v; wrap with Redactor.Logf; nil: silent
	Jitter    float64                          // 0.25 varies each wait by ±25 %
}

// How refusals are believed: the same answer so often over at least so long;
// more so when the call has already succeeded in this run.
const (
	confirmTimes = 3
	confirmOver  = 3 * time.Second
	knownTimes   = 5
	knownOver    = 15 * time.Second

	firstWait     = 250 * time.Millisecond
	mostWait      = 8 * time.Second
	mostAfter     = 60 * time.Second // of a server's Retry-After
	healthTimeout = 5 * time.Second
)

// Retry sends a request until it has an answer, a confirmed refusal, or the
// budget is spent. Only GETs are repeated; anything else is sent once and
// judged. It is safe for concurrent use: waits and confirmation are each
// request's own, the failure streak behind Trouble and Health is shared.
//
// A client stacks it once: a Retry inside a Retry multiplies.
type Retry struct {
	o    RetryOptions
	next http.RoundTripper

	tell sync.Mutex // serialises callbacks; taken before mu
	mu   sync.Mutex // guards what follows
	h    Health
	row  int  // failures since the last good answer
	told bool // Trouble was reported
	seen map[string]bool
}

var _ http.RoundTripper = (*Retry)(nil)

// NewRetry returns a Retry around o.Next, which is usually a *Stack. It also
// applies the limits of Call to each attempt.
func NewRetry(o RetryOptions) *Retry {
	return &Retry{o: o, next: &limits{next: o.Next}, seen: map[string]bool{}}
}

// Health tells how the server has been. It is what the deadline's verdict
// depends on: time up with good contact, or unreachable.
type Health struct {
	AnyGood      bool      // there was an answer at all
	LastGood     time.Time // zero: never
	FailingSince time.Time // the first failure after it; zero: the last exchange was good
	Last         error     // the last failure of that streak
}

// Health returns the state over all requests so far.
func (r *Retry) Health() Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.h
}

// RoundTrip returns the good answer, its body in memory and seekable (a
// stream's as it comes), or an error: *ExhaustedError, *RefusedError,
// *FinalError, or ctx's cause as soon as ctx ends, also in mid-request.
func (r *Retry) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, call := req.Context(), callFor(req)
	waits := poll.Exponential(firstWait, mostWait, r.o.Jitter)
	var doubt doubt
	began := time.Now()
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		x := r.attempt(req, call, n)
		j := r.judge(ctx, call, x)
		if j.Class == Answer {
			r.good(call.Known)
			return x.Response, nil
		}
		if x.Response != nil {
			_ = x.Response.Body.Close() // a refused stream's; others are in memory
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if j.Class == Final {
			return nil, &FinalError{Name: call.Name, Err: j.Err}
		}
		r.failed(j)
		if j.Class == Confirm {
			doubt.add(x, j, r.known(call.Known))
			if doubt.resolved() || req.Method != http.MethodGet {
				return nil, doubt.refused(call, x, j)
			}
		}
		elapsed := time.Since(began)
		budget := call.Budget
		if j.Class == Confirm {
			budget += doubt.over // what was begun before the end of the budget is finished
		}
		if req.Method != http.MethodGet || n >= minTries && elapsed >= budget {
			return nil, &ExhaustedError{Name: call.Name, Last: j.Err, Tries: n, For: elapsed}
		}
		wait := doubt.pace(waits.Next(), j.Class, r.o.Jitter)
		switch {
		case j.RetryAfter > 0:
			wait = min(j.RetryAfter, mostAfter)
		case n+1 >= minTries && elapsed+wait > budget:
			wait = max(budget-elapsed, 0) // the last try falls on the end of the budget
		}
		if r.o.Log != nil {
			r.o.Log("%s: attempt %d: %v; again in %s", call.Name, n, j.Err, wait.Round(time.Millisecond))
		}
		if err := poll.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// attempt sends req once and reads what came back.
func (r *Retry) attempt(req *http.Request, call Call, n int) Exchange {
	req = req.Clone(context.WithValue(req.Context(), attemptKey{}, n))
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return Exchange{Request: req, Err: err}
	}
	x := Exchange{Request: req, Response: resp}
	limit, good := int64(maxErrorBody), resp.StatusCode/100 == 2
	if good {
		if call.Stream {
			return x
		}
		limit = call.MaxBody
	}
	var cut bool
	x.Body, cut, x.Err = readWhole(resp, limit)
	if cut && good {
		x.Err = &TooLargeError{Limit: limit}
	}
	return x
}

// judge asks the client's Judge and adds what holds for every client.
func (r *Retry) judge(ctx context.Context, call Call, x Exchange) Judgement {
	var tooLarge *TooLargeError
	var noToken *TokenError
	if errors.As(x.Err, &tooLarge) || errors.As(x.Err, &noToken) {
		return Judgement{Class: Final, Err: x.Err}
	}
	j := r.o.Judge(x)
	if j.Class == Answer && x.Err == nil && call.Check != nil && !call.Stream && x.Response.StatusCode/100 == 2 {
		if err := call.Check(x.Response, x.Body); err != nil {
			j = Judgement{Class: Transient, Err: err}
		}
	}
	if j.Class == Answer && x.Err != nil || j.Class == 0 {
		j.Class = Transient // what is no answer is never handed on as one
	}
	if j.Class == Answer {
		return j
	}
	if j.Err == nil {
		j.Err = x.Err
	}
	if j.Err == nil {
		j.Err = errors.New(x.Response.Status)
	}
	if j.RetryAfter <= 0 && x.Response != nil {
		j.RetryAfter = RetryAfter(x.Response)
	}
	if j.Class == Confirm && x.Response != nil && r.o.Healthy != nil && x.Request.Method == http.MethodGet {
		ctx, cancel := context.WithTimeoutCause(ctx, healthTimeout, &TimeoutError{What: "health answer", After: healthTimeout})
		defer cancel()
		if err := r.o.Healthy(ctx); err != nil {
			j = Judgement{Class: Transient, Err: fmt.Errorf("%w; not believed: %w", j.Err, err)}
		}
	}
	return j
}

// doubt counts how often one call got the same refusal. Passing faults in
// between change nothing, another refusal starts over: a server that cannot
// make up its mind is not believed.
type doubt struct {
	answer string
	count  int
	first  time.Time
	times  int           // the rule for this answer
	over   time.Duration // "
}

func (d *doubt) add(x Exchange, j Judgement, known bool) {
	if a := sameness(x); a != d.answer {
		*d = doubt{answer: a, first: time.Now()}
	}
	d.count++
	switch {
	case j.Times > 0:
		d.times, d.over = j.Times, j.Over
	case known:
		d.times, d.over = knownTimes, knownOver
	default:
		d.times, d.over = confirmTimes, confirmOver
	}
}

func (d *doubt) resolved() bool { return d.count >= d.times && time.Since(d.first) >= d.over }

func (d *doubt) refused(call Call, x Exchange, j Judgement) *RefusedError {
	e := &RefusedError{Name: call.Name, Body: x.Body, Err: j.Err, Times: d.count}
	if x.Response != nil {
		e.Status = x.Response.StatusCode
	}
	return e
}

// pace returns the wait before the next try: scheduled, unless there is a
// doubt to resolve. Then questions are spread evenly over the time the rule
// asks for, and passing faults in between cannot stretch that (ADR 0024).
func (d *doubt) pace(scheduled time.Duration, c Class, jitter float64) time.Duration {
	if d.count == 0 || d.times < 2 || d.over <= 0 {
		return scheduled
	}
	even := d.over / time.Duration(d.times-1)
	if c != Confirm {
		return min(scheduled, even)
	}
	wait := poll.Exponential(even, even, jitter).Next()
	if d.count+1 >= d.times {
		wait = max(wait, d.over-time.Since(d.first))
	}
	return wait
}

// sameness is equal for exchanges that say the same.
func sameness(x Exchange) string {
	if x.Response != nil {
		return strconv.Itoa(x.Response.StatusCode)
	}
	var cert *CertificateError
	var away *RedirectError
	switch {
	case errors.As(x.Err, &cert):
		return "certificate"
	case errors.As(x.Err, &away):
		return "redirect to " + away.Host
	}
	return "connection"
}

// RetryAfter returns how long resp asks to wait: Retry-After of a 429 or 503
// in seconds or as a date, which is compared with the server's own clock where
// it tells it. 0 means it does not ask, or asks for nothing that lies ahead.
func RetryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	v := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(at.Sub(now), 0)
}

func (r *Retry) known(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[key]
}

// good notes an answer and ends the trouble, if there was any.
func (r *Retry) good(key string) {
	r.tell.Lock()
	defer r.tell.Unlock()
	r.mu.Lock()
	r.seen[key] = true
	now := time.Now()
	after, told := now.Sub(r.h.FailingSince), r.told
	r.h = Health{AnyGood: true, LastGood: now}
	r.row, r.told = 0, false
	r.mu.Unlock()
	if told && r.o.Recovered != nil {
		r.o.Recovered(after)
	}
}

// failed notes a failure. A refusal is not told as trouble: the server
// answers, and its verdict follows soon.
func (r *Retry) failed(j Judgement) {
	r.tell.Lock()
	defer r.tell.Unlock()
	r.mu.Lock()
	r.row++
	if r.h.FailingSince.IsZero() {
		r.h.FailingSince = time.Now()
	}
	r.h.Last = j.Err
	again := r.row >= 2
	tell := again && j.Class == Transient && !r.told
	r.told = r.told || tell
	r.mu.Unlock()
	if again && r.o.CloseIdle != nil {
		r.o.CloseIdle()
	}
	if tell && r.o.Trouble != nil {
		r.o.Trouble(j.Err)
	}
}
