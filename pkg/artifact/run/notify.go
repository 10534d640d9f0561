package run

import (
	"context"
	"net"
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
	if !n.isReady {
		n.isReady = true
		n.send("READY=1")
	}
}

// alive is called by each turn of the loop.
func (n *notifier) alive() {
	if n.conn == nil || n.every <= 0 {
		return
	}
	if now := n.now(); n.last.IsZero() || now.Sub(n.last) >= n.every || now.Before(n.last) {
		n.last = now
		n.send("WATCHDOG=1")
	}
}

func (n *notifier) stopping() { n.send("STOPPING=1") }

func (n *notifier) close() {
	if n.conn != nil {
		_ = n.conn.Close()
	}
}
