package kube

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"net/url"
	"time"
)

// The bounds of reading a log line by line.
const (
	maxLine    = 1 << 20     // bytes; what is longer comes in pieces
	lineIdle   = time.Minute // of a log that is followed without a byte: the connection may be dead
	readIdle   = 10 * time.Second
	resumeBack = time.Second // how far before the last line a continuation begins
)

// LineOptions choose what of a container's log is read line by line.
type LineOptions struct {
	Container string
	Previous  bool // of the container's previous run
	Follow    bool // go on with what is written from now on, until the run ends
	// Tail is how many lines from the end are read; negative is all. It counts
	// for the first attempt that gives a line.
	Tail int
	// Since leaves out older lines; zero is none.
	Since time.Time
	// Cut hands on a last line that does not end in a line break. While a
	// container runs such a line is not complete yet.
	Cut bool
}

// Line is a line of a log, without its line break.
type Line struct {
	Time time.Time // when the runtime took it; zero when it was not told
	Text []byte
}

// Mark remembers how far a log was read, so that reading it again goes on
// behind the last line: none is lost, none comes twice. The zero value is the
// beginning. It belongs to one goroutine at a time.
type Mark struct {
	first time.Time // of the first line: what is older was left out on purpose
	last  time.Time // of the newest line
	seen  map[uint64]*times
	hash  maphash.Seed
}

// times counts the lines of one content.
type times struct {
	at time.Time
	n  int // in all attempts
}

// Last is when the newest line was written; zero before the first.
func (m *Mark) Last() time.Time { return m.last }

// from is where a continuation begins. The server counts in whole seconds, and
// what a program writes to two streams may be a little out of order.
func (m *Mark) from() time.Time { return m.last.Truncate(time.Second).Add(-resumeBack) }

func (m *Mark) key(l Line) uint64 {
	if m.hash == (maphash.Seed{}) {
		m.hash = maphash.MakeSeed()
	}
	var h maphash.Hash
	h.SetSeed(m.hash)
	b, err := l.Time.MarshalBinary()
	if err == nil {
		_, _ = h.Write(b) // it never fails
	}
	_, _ = h.Write(l.Text)
	return h.Sum64()
}

// fresh says whether a line is new; again counts the lines of this attempt.
func (m *Mark) fresh(l Line, again map[uint64]int) bool {
	if m.last.IsZero() && l.Time.IsZero() {
		return true
	}
	k := m.key(l)
	again[k]++
	if m.seen == nil {
		m.seen = map[uint64]*times{}
	}
	s := m.seen[k]
	if s == nil {
		s = &times{at: l.Time}
		m.seen[k] = s
	}
	if again[k] <= s.n {
		return false
	}
	s.n++
	if m.first.IsZero() {
		m.first = l.Time
	}
	if l.Time.After(m.last) {
		turned := l.Time.Truncate(time.Second).After(m.last.Truncate(time.Second))
		m.last = l.Time
		if turned {
			m.forget()
		}
	}
	return true
}

// forget drops what no continuation can bring again.
func (m *Mark) forget() {
	from := m.from()
	for k, s := range m.seen {
		if s.at.Before(from) {
			delete(m.seen, k)
		}
	}
}

// Lines reads a container's log and hands on each line that m has not seen. It
// is one attempt, a 401 and a 403 confirmed; nil is the log's end, which under
// Follow comes when the run ends, or when somebody between here and the node
// says so: the caller knows whether the container still runs. An error of emit
// ends the reading and is returned. Other errors are as Get's; a container that
// has not started is a *StatusError 400.
// Source: GET /api/v1/namespaces/{ns}/pods/{pod}/log?timestamps=true.
func (c *Cluster) Lines(ctx context.Context, ns, pod string, o LineOptions, m *Mark, emit func(Line) error) error {
	v := url.Values{"timestamps": {"true"}}
	if o.Container != "" {
		v.Set("container", o.Container)
	}
	if o.Previous {
		v.Set("previous", "true")
	}
	if o.Follow {
		v.Set("follow", "true")
	}
	switch {
	case !m.last.IsZero():
		v.Set("sinceTime", m.from().UTC().Format(time.RFC3339))
	default:
		if !o.Since.IsZero() {
			v.Set("sinceTime", o.Since.UTC().Truncate(time.Second).Format(time.RFC3339))
		}
		if o.Tail >= 0 {
			v.Set("tailLines", itoa(int64(o.Tail)))
		}
	}
	q := request{
		verb: "get", resource: Core("pods"), namespace: ns, name: pod, sub: "log", query: v,
		accept: "application/json, */*", idle: readIdle,
	}
	if o.Follow {
		q.idle = lineIdle
	}
	return confirmed(ctx, func() error { return c.lines(ctx, q, o, m, emit) })
}

func (c *Cluster) lines(ctx context.Context, q request, o LineOptions, m *Mark, emit func(Line) error) error {
	res, err := c.ask(ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	c.good()
	again, from := map[uint64]int{}, o.Since
	if !m.last.IsZero() {
		from = m.from() // what is older was read before
		if m.first.After(from) {
			from = m.first
		}
	}
	in := bufio.NewReaderSize(res.Body, 64<<10)
	var text []byte
	hand := func() error {
		l := parseLine(text)
		text = text[:0]
		if !l.Time.IsZero() && (l.Time.Before(from) || l.Time.Before(o.Since)) || !m.fresh(l, again) {
			return nil
		}
		l.Text = bytes.Clone(l.Text)
		return emit(l)
	}
	for {
		part, err := in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull) && len(text) >= maxLine:
			if err := hand(); err != nil {
				return err
			}
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if o.Cut && len(text) > 0 {
				return hand()
			}
			return nil
		default:
			return c.broken(ctx, q, err)
		}
	}
}

// parseLine divides a line from its timestamp. A node that cannot read a log
// says so in a line without one.
func parseLine(b []byte) Line {
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	stamp, rest, _ := bytes.Cut(b, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{Text: b}
	}
	return Line{Time: at, Text: rest}
}
