package woodpecker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"homelab/pkg/transport"
)

// Message of a server-sent-event stream.
type frame struct {
	event   string
	data    []byte
	lines   int  // that data was made of
	ping    bool // a comment line: a sign of life
	tooLong bool // an event over the limit: its data is dropped
}

const maxFrame = 4 << 20 // bytes of one event

// frames reads a server-sent-event stream and hands each event and each
// comment to f until the body ends or f returns an error. Comments matter
// here: the server's ": ping" says that a connection lives, which libraries
// for this format drop (ADR 0016). The error is f's or the body's; io.EOF when
// the server closed the stream.
func frames(body io.Reader, f func(frame) error) error {
	r := bufio.NewReaderSize(body, 64<<10)
	var cur frame
	var some bool
	for {
		line, long, err := readLine(r, maxFrame)
		if err != nil {
			return err
		}
		switch {
		case long:
			cur.tooLong, some = true, true
			cur.data = nil
		case len(line) == 0:
			if some {
				if err := f(cur); err != nil {
					return err
				}
			}
			cur, some = frame{}, false
		case line[0] == ':':
			if err := f(frame{ping: true}); err != nil {
				return err
			}
		default:
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(name) {
			case "event":
				cur.event, some = string(value), true
			case "data":
				if cur.tooLong {
					break
				}
				if cur.lines++; cur.lines > 1 {
					cur.data = append(cur.data, '\n')
				}
				cur.data, some = append(cur.data, value...), true
				if len(cur.data) > maxFrame {
					cur.data, cur.tooLong = nil, true
				}
			}
		}
	}
}

// readLine reads one line without its ending, LF or CRLF. A line over limit is
// read to its end and reported as long.
func readLine(r *bufio.Reader, limit int) (line []byte, long bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		switch {
		case long:
		case len(line)+len(part) > limit:
			long, line = true, nil
		default:
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, false, err // an unfinished line is no line
		}
		return bytes.TrimRight(line, "\r\n"), long, nil
	}
}

// StreamEvent is what the event stream tells. It is a hint that a read is
// worth while, never a verdict (ADR 0025): events are unordered, can be lost and
// are not replayed.
type StreamEvent struct {
	Ping     bool      // the connection lives; the first one comes before the subscription
	TooLong  bool      // an event over the size limit was skipped: something happened
	RepoID   RepoID    // 0 with Ping or TooLong
	Pipeline *Pipeline // with workflows; nil otherwise, and for an event that could not be read
}

// StreamIdle is how long a stream may be silent; the server pings every 30 s.
const StreamIdle = 45 * time.Second

// Events opens the server's event stream and hands every event to f until it
// ends. The error is never nil: io.EOF when the server closed it, *APIError
// when it did not open, else what broke it, f's error, or ctx's cause. It is
// neither retried nor counted as trouble.
// Source: GET /api/stream/events.
func (c *Client) Events(ctx context.Context, f func(StreamEvent) error) error {
	body, err := c.openStream(ctx, "the event stream", api("stream", "events"))
	if err != nil {
		return err
	}
	defer body.Close()
	err = frames(body, func(m frame) error {
		if m.ping {
			return f(StreamEvent{Ping: true})
		}
		var e struct {
			Repo     struct{ ID RepoID } `json:"repo"`
			Pipeline Pipeline            `json:"pipeline"`
		}
		if m.tooLong {
			return f(StreamEvent{TooLong: true})
		}
		if json.Unmarshal(m.data, &e) != nil || e.Pipeline.ID <= 0 {
			return f(StreamEvent{})
		}
		return f(StreamEvent{RepoID: e.Repo.ID, Pipeline: &e.Pipeline})
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) openStream(ctx context.Context, op string, path []string) (io.ReadCloser, error) {
	ctx = transport.WithCall(ctx, transport.Call{Name: op, Stream: true, Idle: StreamIdle})
	req, err := c.newRequest(ctx, request{op: op, method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := c.once.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &APIError{Op: op, Class: Exhausted, Err: bare(err)}
	}
	c.note(resp)
	if resp.StatusCode != http.StatusOK || mediaType(resp) != "text/event-stream" {
		_ = resp.Body.Close()
		return nil, &APIError{Op: op, Class: Exhausted, Status: resp.StatusCode, Err: fmt.Errorf("%s instead of an event stream", orNone(mediaType(resp)))}
	}
	return resp.Body, nil
}

// LogStream follows a running step's log and hands every entry to f. It ends
// when the workflow ends, not the step, and loses lines for a slow reader: it
// is for speed, the REST log is the truth. The error is never nil, as for
// Events.
// Source: GET /api/stream/logs/{repo}/{number}/{step id}.
func (c *Client) LogStream(ctx context.Context, id RepoID, number, step int64, f func(LogEntry) error) error {
	op := fmt.Sprintf("the log stream of step %d", step)
	body, err := c.openStream(ctx, op, api("stream", "logs", itoa(int64(id)), itoa(number), itoa(step)))
	if err != nil {
		return err
	}
	defer body.Close()
	err = frames(body, func(m frame) error {
		switch {
		case m.ping, m.tooLong, len(m.data) == 0:
			return nil
		case m.event == "error":
			return &APIError{Op: op, Class: Rejected, Status: http.StatusOK, Text: string(m.data)}
		case m.event == "eof":
			return io.EOF
		}
		var e LogEntry
		if json.Unmarshal(m.data, &e) != nil {
			return nil //nolint:nilerr // a damaged line; the REST log fills the gap
		}
		return f(e)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Log reads a step's stored log and hands its entries to f in the server's
// order, which is not always the lines' order. The answer is decoded as it
// arrives, so a log of any size needs little memory. An answer that breaks off
// is an *APIError of class Exhausted after some entries have been delivered:
// read again. A log without lines delivers none.
// Source: GET /api/repos/{id}/logs/{number}/{step id}.
func (c *Client) Log(ctx context.Context, id RepoID, number, step int64, f func(LogEntry) error) error {
	op := fmt.Sprintf("the log of step %d of pipeline %d", step, number)
	call := transport.Call{Name: op, Stream: true, Total: time.Minute, Budget: patience(ctx)}
	req, err := c.newRequest(transport.WithCall(ctx, call), request{
		op: op, method: http.MethodGet, path: api("repos", itoa(int64(id)), "logs", itoa(number), itoa(step)),
	})
	if err != nil {
		return err
	}
	resp, err := c.retry.RoundTrip(req)
	if err != nil {
		return c.fail(ctx, request{op: op, method: http.MethodGet}, err)
	}
	defer resp.Body.Close()
	err = decodeLog(resp.Body, f)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if broken, ok := errors.AsType[*brokenLogError](err); ok {
		return &APIError{Op: op, Class: Exhausted, Status: resp.StatusCode, Err: broken}
	}
	return err // f's
}

type brokenLogError struct{ err error }

func (e *brokenLogError) Error() string { return "a log that breaks off: " + e.err.Error() }
func (e *brokenLogError) Unwrap() error { return e.err }

// decodeLog reads a JSON array of entries, or null, and nothing after it.
func decodeLog(r io.Reader, f func(LogEntry) error) error {
	d := json.NewDecoder(r)
	open, err := d.Token()
	if err != nil {
		return &brokenLogError{err}
	}
	if open != nil {
		if open != json.Delim('[') {
			return &brokenLogError{errors.New("no array")}
		}
		for d.More() {
			var e LogEntry
			if err := d.Decode(&e); err != nil {
				return &brokenLogError{err}
			}
			if err := f(e); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return &brokenLogError{err}
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &brokenLogError{errors.New("something after the end: " + strconv.Quote(fmt.Sprint(err)))}
	}
	return nil
}
