package kube

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"homelab/pkg/poll"
)

// trip is what one request tells the guard, and learns from it.
type trip struct {
	total time.Duration // headers to end of body; 0: no limit
	idle  time.Duration // between two reads; 0: idleTimeout
	sent  atomic.Bool   // credentials were there, the request went out
}

type tripKey struct{}

// body is an answer being read under limits.
type body struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // whose cause explains a failed read
	cancel context.CancelCauseFunc
	feed   func()
	stop   func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.feed()
	}
	if err != nil && err != io.EOF { //nolint:errorlint // io.EOF is never wrapped by a reader
		err = why(err, context.Cause(b.ctx))
	}
	return n, err
}

func (b *body) Close() error {
	b.stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// The client's share of the server.
const (
	qps   = 20
	burst = 40
)

// limiter is a token bucket. The zero value is full.
type limiter struct {
	mu   sync.Mutex
	free time.Time // when the bucket will have been refilled
}

func (l *limiter) wait(ctx context.Context) error {
	const each = time.Second / qps
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(each)
	d := l.free.Sub(now) - burst*each
	l.mu.Unlock()
	return poll.Sleep(ctx, d)
}

// clock knows by how much the server's clock is ahead of ours: an interval
// that every Date header narrows, as its one second of truncation allows.
type clock struct {
	mu     sync.Mutex
	known  bool
	lo, hi time.Duration
}

// heard takes a Date header of an answer to a request sent and received then.
func (c *clock) heard(date string, sent, received time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	lo, hi := at.Sub(received), at.Add(time.Second).Sub(sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known && max(lo, c.lo) <= min(hi, c.hi) {
		lo, hi = max(lo, c.lo), min(hi, c.hi)
	} // else a clock was set, or another server answered: the newest is believed
	c.known, c.lo, c.hi = true, lo, hi
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lo <= 0 && c.hi >= 0 {
		return time.Now()
	}
	return time.Now().Add((c.lo + c.hi) / 2)
}

// conns are the open connections, so that those gone deaf can be closed: a
// transport closes idle ones only.
type conns struct {
	mu   sync.Mutex
	open map[*conn]struct{}
}

type conn struct {
	net.Conn
	of *conns
}

func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// dialer returns a dial function whose connections are known here.
func (c *conns) dialer() func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		plain, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		k := &conn{Conn: plain, of: c}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open == nil {
			c.open = map[*conn]struct{}{}
		}
		c.open[k] = struct{}{}
		return k, nil
	}
}

func (c *conns) closeAll() {
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for k := range open {
		_ = k.Conn.Close()
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
