package kube

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A watch is asked to end after a random time between these; a server that
// lets it live on is left behind soon after. A stream without a byte for
// silence is asked anew from its version: real servers send a bookmark a
// minute.
const (
	leastWatch = 240 * time.Second
	mostWatch  = 300 * time.Second
	overdue    = 30 * time.Second
	silence    = 2 * time.Minute
)

// event is one line of a watch.
type event struct {
	kind   string
	object Object
	err    error // an ERROR event's
}

// stream is one watch being read. events is closed at its end; err says why,
// nil at its regular end.
type stream struct {
	events chan event
	err    error

	cancel context.CancelCauseFunc
	body   io.Closer
	done   sync.WaitGroup
	c      *Cluster
}

// open starts a watch after rv.
func (c *Cluster) open(ctx context.Context, r Resource, ns string, q Query, rv string) (*stream, error) {
	lasts := leastWatch + time.Duration(c.random()*float64(mostWatch-leastWatch)).Round(time.Second)
	v := q.values()
	v.Set("watch", "true")
	v.Set("allowWatchBookmarks", "true")
	v.Set("resourceVersion", rv)
	v.Set("timeoutSeconds", itoa(int64(lasts/time.Second)))
	req := request{
		verb: "watch", resource: r, namespace: ns, query: v,
		total: lasts + overdue, idle: silence,
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var res *http.Response
	err := confirmed(ctx, func() (err error) {
		res, err = c.ask(ctx, req) //nolint:bodyclose // closed with the stream
		return err
	})
	if err != nil {
		cancel(nil)
		return nil, err
	}
	c.good()
	s := &stream{events: make(chan event), cancel: cancel, body: res.Body, c: c}
	c.mu.Lock()
	c.streams[s] = struct{}{}
	c.mu.Unlock()
	s.done.Go(func() {
		defer close(s.events)
		s.err = s.read(ctx, req, res.Body)
	})
	return s, nil
}

// close ends the stream and waits for its reader.
func (s *stream) close() {
	s.c.mu.Lock()
	delete(s.c.streams, s)
	s.c.mu.Unlock()
	s.cancel(nil)
	_ = s.body.Close()
	s.done.Wait()
}

// read hands on event after event.
func (s *stream) read(ctx context.Context, q request, in io.Reader) error {
	d := json.NewDecoder(in)
	for {
		var line struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		err := d.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		e := event{kind: line.Type}
		switch {
		case err != nil:
		case line.Type == "ERROR":
			e.err = eventError(q, line.Object)
		default:
			e.object, err = decode(line.Object)
		}
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx) // ended on purpose
			}
			return s.c.broken(ctx, q, err)
		}
		select {
		case s.events <- e:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// eventError reads the Status of an ERROR event.
func eventError(q request, raw json.RawMessage) error {
	var s status
	if json.Unmarshal(raw, &s) != nil || s.Kind != "Status" {
		return &UnreachableError{What: q.String(), Err: errNotObject}
	}
	e := &StatusError{Code: s.Code, Verb: q.verb, Resource: q.resource, Namespace: q.namespace}
	if e.Code == 0 {
		e.Code = http.StatusInternalServerError
	}
	e.fill(s)
	return e
}

// redial closes all connections and ends all streams, whose followers start
// them again from where they were.
func (c *Cluster) redial() {
	c.mu.Lock()
	open := make([]*stream, 0, len(c.streams))
	for s := range c.streams {
		open = append(open, s)
	}
	c.mu.Unlock()
	for _, s := range open {
		s.cancel(&UnreachableError{What: "watch", Err: errDeaf})
	}
	c.conns.closeAll()
}
