package woodsim

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const pingAfter = 30 * time.Second

// StreamFaults are the hazards of the event stream.
type StreamFaults struct {
	Lose    int           // this many events are lost, -1 all
	Reorder time.Duration // each event is held back for a random time up to this, so they overtake
	Pad     int           // events grow by this many bytes
}

// SetStreamFaults replaces the hazards of all event streams.
func (s *Server) SetStreamFaults(f StreamFaults) {
	s.lock()
	defer s.unlock()
	s.faults.StreamFaults = f
}

type streamFaults struct {
	StreamFaults
	stall time.Time // nothing is sent before then
}

// DropStreams ends all open streams; what has happened before is still sent.
func (s *Server) DropStreams() {
	s.lock()
	defer s.unlock()
	s.stopped++
	s.dirty = true
}

// StallStreams lets all streams send nothing for d, no pings either. What
// happens meanwhile is sent afterwards.
func (s *Server) StallStreams(d time.Duration) {
	s.lock()
	defer s.unlock()
	s.faults.stall = s.clock.Add(d)
}

// Streams counts the open event streams that have subscribed.
func (s *Server) Streams() int {
	s.lock()
	defer s.unlock()
	return len(s.subs)
}

// subscriber is an open event stream. Its topics do not change any more.
type subscriber struct {
	topics map[*Repo]bool
	queue  [][]byte
}

// publish sends the row as it is now to whom it concerns.
func (s *Server) publish(r *row) {
	s.dirty = true
	if len(s.subs) == 0 {
		return
	}
	if s.faults.Lose != 0 {
		s.faults.Lose = max(s.faults.Lose-1, -1)
		return
	}
	var o obj
	o.add("repo", r.repo.json())
	o.add("pipeline", r.json(true, s.faults.Pad))
	data := mustJSON(o)
	public := r.repo.o.Visibility == "public"
	for sub := range s.subs {
		if !public && !sub.topics[r.repo] {
			continue
		}
		if s.faults.Reorder > 0 {
			s.after(time.Duration(s.rand.Int64N(int64(s.faults.Reorder))), func() { sub.queue = append(sub.queue, data) })
			continue
		}
		sub.queue = append(sub.queue, data)
	}
}

func streamHeader(cache string) http.Header {
	return http.Header{"Cache-Control": {cache}, "X-Accel-Buffering": {"no"}}
}

// events answers GET /api/stream/events. A bad token is not refused.
func (c *call) events() answer {
	s, sub := c.s, &subscriber{topics: map[*Repo]bool{}}
	if c.user != nil {
		for r, g := range c.user.perms {
			if g.synced != 0 && !r.o.Inactive {
				sub.topics[r] = true
			}
		}
	}
	stopped := s.stopped
	serve := func(w http.ResponseWriter, r *http.Request) {
		out := &sse{w: w}
		out.write(": ping\n\n")
		if s.o.SubscribeDelay > 0 && !sleep(r.Context(), nil, s.o.SubscribeDelay) {
			return
		}
		s.lock()
		s.subs[sub] = struct{}{}
		s.unlock()
		defer func() {
			s.lock()
			delete(s.subs, sub)
			s.unlock()
		}()
		s.pump(r.Context(), stopped, out, func() ([]string, time.Time, bool) {
			msgs := make([]string, len(sub.queue))
			for i, m := range sub.queue {
				msgs[i] = "data: " + string(m) + "\n\n"
			}
			sub.queue = nil
			return msgs, time.Time{}, false
		})
	}
	return answer{status: 200, kind: "text/event-stream", header: streamHeader("no-store"), stream: serve}
}

// logStream answers GET /api/stream/logs. Errors are told inside the stream.
func (c *call) logStream(r *Repo, number, id string) answer {
	s := c.s
	fail := func(why string) answer {
		return answer{
			status: 200, kind: "text/event-stream", header: streamHeader("no-cache"),
			stream: func(w http.ResponseWriter, _ *http.Request) {
				(&sse{w: w}).write(": ping\n\nevent: error\ndata: " + why + "\n\n")
			},
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fail("pipeline number invalid")
	}
	x := r.find(n)
	if x == nil || c.trouble.Row {
		return fail("pipeline not found")
	}
	if _, err := strconv.ParseInt(id, 10, 64); err != nil {
		return fail("step id invalid")
	}
	st, wf, _ := c.step(x, id)
	switch {
	case st == nil:
		return fail("process not found")
	case st.state != pending && st.state != running:
		return fail("step not running (anymore)")
	}
	last, _ := strconv.Atoi(c.r.Header.Get("Last-Event-ID"))
	stopped := s.stopped
	serve := func(w http.ResponseWriter, r *http.Request) {
		out := &sse{w: w}
		out.write(": ping\n\n")
		line, eventID := 0, 1
		s.pump(r.Context(), stopped, out, func() ([]string, time.Time, bool) {
			var msgs []string
			var next time.Time
			for ; line < st.log.n; line++ {
				e := st.log.at(line)
				if e.sent.After(s.clock) {
					next = e.sent
					break
				}
				if !st.log.stopped.IsZero() && e.written.After(st.log.stopped) {
					break
				}
				if len(msgs) == 1000 {
					next = s.clock // more at once
					break
				}
				if st.log.lossy > 0 && (line+1)%st.log.lossy == 0 {
					continue
				}
				if eventID > last {
					msgs = append(msgs, fmt.Sprintf("id: %d\ndata: %s\n\n", eventID, e.wire(0, st.id)))
				}
				eventID++
			}
			over := wf.state != pending && wf.state != running && (next.IsZero() || next.After(s.clock))
			if over {
				msgs = append(msgs, "event: eof\ndata: eof\n\n")
			}
			return msgs, next, over
		})
	}
	return answer{status: 200, kind: "text/event-stream", header: streamHeader("no-cache"), stream: serve}
}

// sse writes events and remembers whether the reader is still there.
type sse struct {
	w   http.ResponseWriter
	err error
}

func (o *sse) write(text string) {
	if o.err != nil {
		return
	}
	if _, o.err = io.WriteString(o.w, text); o.err == nil {
		o.err = http.NewResponseController(o.w).Flush()
	}
}

// pump writes what take gives until it says that this was all, the client has
// gone or the streams are dropped. take runs under the lock and may name the
// next moment at which it will have something of its own accord.
func (s *Server) pump(ctx context.Context, stopped int, out *sse, take func() (msgs []string, next time.Time, last bool)) {
	s.lock()
	quiet := s.clock
	s.unlock()
	for out.err == nil && ctx.Err() == nil {
		s.lock()
		now, wake, gone := s.clock, s.wake, s.stopped != stopped
		var msgs []string
		var last bool
		next := quiet.Add(pingAfter)
		if stall := s.faults.stall; stall.After(now) {
			next = stall
		} else {
			var own time.Time
			if msgs, own, last = take(); !own.IsZero() && own.Before(next) {
				next = own
			}
			if len(msgs) == 0 && !now.Before(quiet.Add(pingAfter)) {
				msgs = []string{": ping\n\n"}
			}
		}
		if len(s.queue) > 0 && s.queue[0].at.Before(next) {
			next = s.queue[0].at
		}
		s.unlock()
		for _, m := range msgs {
			out.write(m)
			quiet = now
		}
		if last || gone {
			return
		}
		if len(msgs) == 0 && !sleep(ctx, wake, next.Sub(now)) {
			return
		}
	}
}

// sleep waits d, or less if wake is closed, and says whether ctx still stands.
func sleep(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return true
}
