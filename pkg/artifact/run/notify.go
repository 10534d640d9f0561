package run

import (
	"context"
	"net"
	"sync"
	"time"
)

// notifier tells the service manager how it goes, as sd_notify(3) does. The
// zero value tells nobody. A manager that does not listen is no trouble of the
// watch's.
type notifier struct {
	conn    net.Conn
	every   time.Duration // between signs of life; 0 none
	last    time.Time
	now     func() time.Time
	isReady bool
	ending  sync.Once
	chorus  *chorus // it speaks for all watches of the process; nil: this one is the only one
}

func newNotifier(ctx context.Context, n Notify, now func() time.Time) (*notifier, error) {
	if n.Socket == "" {
		return &notifier{}, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixgram", n.Socket) // "@" stands for an abstract name there too
	if err != nil {
		return nil, err
	}
	return &notifier{conn: conn, every: n.Watchdog / 3, now: now}, nil
}

func (n *notifier) send(state string) {
	if n.conn == nil {
		return
	}
	_ = n.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = n.conn.Write([]byte(state))
}

// ready says once that the watch is up.
func (n *notifier) ready() {
	if n.chorus != nil {
		n.chorus.ready(n)
		return
	}
	if !n.isReady {
		n.isReady = true
		n.send("READY=1")
	}
}

// alive is called by each turn of the loop, and reports whether it was told.
func (n *notifier) alive() (told bool) {
	if n.chorus != nil {
		n.chorus.alive(n)
		return false
	}
	if n.conn == nil || n.every <= 0 {
		return false
	}
	if now := n.now(); n.last.IsZero() || now.Sub(n.last) >= n.every || now.Before(n.last) {
		n.last = now
		n.send("WATCHDOG=1")
		return true
	}
	return false
}

func (n *notifier) stopping() { n.send("STOPPING=1") }

// stoppingOnce is stopping for the first of several watches that ends.
func (n *notifier) stoppingOnce() { n.ending.Do(n.stopping) }

func (n *notifier) close() {
	if n.conn != nil {
		_ = n.conn.Close()
	}
}
