package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/fault"
	"homelab/pkg/poll"
)

// The protocol of the control socket: one line of JSON asks, lines of JSON
// answer. The first answer comes at once, or the asker takes the watch for
// dead; a last one ends it. Whoever goes away undoes nothing.
const (
	protocol     = 1
	mostRequest  = 64 << 10 // bytes of a line that asks
	mostAnswer   = 8 << 20  // and of one that answers
	mostControls = 32       // at once
	writeIn      = 5 * time.Second
	aliveEvery   = 15 * time.Second
	aliveMissed  = time.Minute // without a line the daemon is dead
)

// wireRequest is what is asked.
type wireRequest struct {
	V         int           `json:"v"`
	Verb      string        `json:"verb"` // of artifact.Verb, or "status"
	Expect    string        `json:"expect,omitempty"`
	Wait      time.Duration `json:"wait,omitempty"` // ns
	UntilSoak bool          `json:"until_soak,omitempty"`
	Until     time.Time     `json:"until,omitzero"`
	Reason    string        `json:"reason,omitempty"`
	Target    artifact.ID   `json:"target,omitempty"`
	Same      *wireSame     `json:"same,omitempty"` // refuse unless it is this watch
}

// wireSame says what a watch is.
type wireSame struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Policy string `json:"policy"`
	// Only are the flags of this one invocation that a daemon must have too.
	Only []string `json:"only,omitempty"`
}

// only are the flags that hold for one process and change what it does.
func only(c artifact.Config) []string {
	var names []string
	for _, f := range []struct {
		on   bool
		name string
	}{
		{c.AllowDowngrade, "--allow-downgrade"},
		{c.NoRollback, "--no-rollback"},
		{c.TakeOwnership, "--take-ownership"},
		{c.AllowRepositoryChange, "--allow-repository-change"},
	} {
		if f.on {
			names = append(names, f.name)
		}
	}
	return names
}

// apart returns what of a and b differs, with whole words.
func apart(a, b string) (string, string) {
	x, y := strings.Split(a, " "), strings.Split(b, " ")
	for len(x) > 1 && len(y) > 1 && x[0] == y[0] {
		x, y = x[1:], y[1:]
	}
	for len(x) > 1 && len(y) > 1 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return strings.Join(x, " "), strings.Join(y, " ")
}

// wireAnswer is one line of the answer.
type wireAnswer struct {
	V int `json:"v"`
	// Type is accepted, event, alive; or, as the last one, status, answer, refused.
	Type    string            `json:"type"`
	View    *View             `json:"view,omitempty"`
	Event   *Event            `json:"event,omitempty"`
	Kind    fault.Kind        `json:"kind,omitempty"` // of answer and refused
	Outcome *artifact.Outcome `json:"outcome,omitempty"`
	Report  *artifact.Report  `json:"report,omitempty"`
	What    string            `json:"what,omitempty"`
	Why     string            `json:"why,omitempty"`
}

// control is the listening side.
type control struct {
	l        *loop
	socket   string
	listener net.Listener
	conns    sync.WaitGroup
	slots    chan struct{}
	ctx      context.Context //nolint:containedctx // of the conversations; it ends with close
	cancel   context.CancelFunc
}

// control makes the socket and answers on it. It is bound in a directory that
// nobody else can enter and then put in place, so that it is never open to
// others and replaces what a killed process left.
func (l *loop) control(ctx context.Context) (*control, error) {
	private := filepath.Join(l.o.Place.Dir(), ".control")
	if err := os.RemoveAll(private); err != nil {
		return nil, err
	}
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }()
	var listener net.Listener
	err := short(filepath.Join(private, "s"), func(path string) error {
		bound, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
		if err != nil {
			return err
		}
		if u, ok := bound.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		listener = bound
		return nil
	})
	if err != nil {
		return nil, err
	}
	socket := l.o.Place.socket()
	err = os.Chmod(filepath.Join(private, "s"), 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(private, "s"), socket)
	}
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	c := &control{l: l, socket: socket, listener: listener, slots: make(chan struct{}, mostControls)}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.conns.Go(c.accept)
	return c, nil
}

// short calls f with path, or with a shorter name for it if it is longer than
// the name of a socket can be everywhere.
func short(path string, f func(string) error) error {
	const most = 100
	if len(path) <= most {
		return f(path)
	}
	dir, err := os.MkdirTemp("", "hl")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	link := filepath.Join(dir, "d")
	if err := os.Symlink(filepath.Dir(path), link); err != nil {
		return err
	}
	return f(filepath.Join(link, filepath.Base(path)))
}

// close lets conversations read their last line and ends them.
func (c *control) close() {
	_ = c.listener.Close()
	_ = os.Remove(c.socket)
	done := make(chan struct{})
	go func() { c.conns.Wait(); close(done) }()
	late, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), hurry)
	defer cancel()
	select {
	case <-done:
	case <-late.Done():
	}
	c.cancel()
	<-done
}

func (c *control) accept() {
	for {
		conn, err := c.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if poll.Sleep(c.ctx, dialPace) != nil {
				return
			}
			continue
		}
		select {
		case c.slots <- struct{}{}:
			c.conns.Go(func() {
				defer func() { <-c.slots }()
				c.talk(conn)
			})
		default:
			t := talker{conn}
			_ = t.send(wireAnswer{Type: "refused", Kind: fault.Conflict, What: "too many talk to this watch already"})
			_ = conn.Close()
		}
	}
}

// talker is one conversation.
type talker struct{ conn net.Conn }

func (t talker) send(a wireAnswer) error {
	a.V = protocol
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_ = t.conn.SetWriteDeadline(time.Now().Add(writeIn))
	_, err = t.conn.Write(append(data, '\n'))
	return err
}

func (t talker) refuse(err error) {
	a := wireAnswer{Type: "refused", Kind: fault.KindOf(err), What: err.Error()}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		a.What, a.Why = f.What, f.Why
	}
	_ = t.send(a)
}

// talk holds one conversation.
func (c *control) talk(conn net.Conn) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	t := talker{conn}
	_ = conn.SetReadDeadline(time.Now().Add(answerIn))
	r := bufio.NewReader(io.LimitReader(conn, mostRequest))
	line, err := r.ReadBytes('\n')
	if err != nil {
		if len(line) >= mostRequest {
			t.refuse(fault.Usagef("", "a request of more than %d bytes", mostRequest))
		}
		return
	}
	var q wireRequest
	if err := json.Unmarshal(line, &q); err != nil || q.V != protocol {
		t.refuse(fault.Usagef("", "the request cannot be read: another version of this program?"))
		return
	}
	if q.Verb == "status" {
		c.status(t)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	go func() { // the end of the connection is noticed by reading
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	c.ask(ctx, t, q)
}

// status answers once the loop has turned: a file would do otherwise.
func (c *control) status(t talker) {
	turned := make(chan struct{})
	late, cancel := context.WithTimeout(c.ctx, answerIn)
	defer cancel()
	if !c.l.box.post(func() { close(turned) }) {
		return
	}
	select {
	case <-turned:
		v := *c.l.latest.Load()
		v.Daemon = true
		_ = t.send(wireAnswer{Type: "status", View: &v})
	case <-late.Done():
	}
}

// ask has the watch do what was asked, and tells how it goes.
func (c *control) ask(ctx context.Context, t talker, q wireRequest) {
	s := newSub(streamQueue, true)
	type begun struct {
		id  int64
		err error
	}
	started := make(chan begun, 1)
	posted := c.l.box.post(func() {
		r, err := c.l.request(q)
		if err != nil {
			started <- begun{0, err}
			return
		}
		c.l.hub.join(s, -1)
		started <- begun{c.l.ask(r, s), nil}
	})
	if !posted {
		return
	}
	var b begun
	select {
	case b = <-started:
	case <-ctx.Done():
		c.l.box.post(func() { // it may have been taken
			select {
			case b := <-started:
				c.l.left(b.id)
				c.l.hub.leave(s)
			default:
			}
		})
		return
	}
	if b.err != nil {
		t.refuse(b.err)
		return
	}
	defer c.l.hub.leave(s)
	defer c.l.box.post(func() { c.l.left(b.id) })
	v := *c.l.latest.Load()
	v.Daemon = true
	if t.send(wireAnswer{Type: "accepted", View: &v}) != nil {
		return
	}
	for {
		got := s.take()
		for _, e := range got.events {
			if t.send(wireAnswer{Type: "event", Event: &e}) != nil {
				return
			}
		}
		switch a := got.answer; {
		case a != nil:
			_ = t.send(wireAnswer{Type: "answer", Kind: a.outcome.Kind, Outcome: &a.outcome, Report: &a.ended.Report})
			return
		case got.gone:
			return
		}
		woken, err := poll.Wait(ctx, aliveEvery, s.bell)
		if err != nil || !woken && t.send(wireAnswer{Type: "alive"}) != nil {
			return
		}
	}
}

// request reads what was asked, or says why it cannot be done.
func (l *loop) request(q wireRequest) (artifact.Request, error) {
	r := artifact.Request{
		Verb: artifact.Verb(q.Verb), Wait: q.Wait, UntilSoak: q.UntilSoak, Until: q.Until, Reason: q.Reason, Target: q.Target,
	}
	switch r.Verb {
	case artifact.Hint, artifact.PauseVerb, artifact.ResumeVerb, artifact.RetryVerb, artifact.RollbackVerb:
	case artifact.VerbNoRequest:
		return r, fault.Usagef("", "nothing was asked")
	default:
		return r, fault.Usagef("", "the watch does not know %.20q: another version of this program?", q.Verb)
	}
	if q.Expect != "" {
		e, err := artifact.ParseExpectation(q.Expect)
		if err != nil {
			return r, fault.Usagef("", "%s", err.Error())
		}
		if err := answerable(l.o.Source, e); err != nil {
			return r, err
		}
		r.Expect = e
	}
	if q.Target != "" {
		id, err := artifact.ParseID(string(q.Target))
		if err != nil {
			return r, fault.Usagef("", "%s", err.Error())
		}
		r.Target = id
	}
	if s := q.Same; s != nil {
		differs := func(what, has, wants string) error {
			return fault.New(fault.Conflict, fmt.Sprintf("the daemon of watch %q is configured differently", l.o.Config.Name), "").
				Because(fmt.Sprintf("its %s is %s, not %s", what, has, wants))
		}
		switch {
		case s.From != l.o.From:
			return r, differs("source", l.o.From, s.From)
		case s.To != l.o.To:
			return r, differs("target", l.o.To, s.To)
		case s.Policy != l.o.Policy:
			has, wants := apart(l.o.Policy, s.Policy)
			return r, differs("policy", has, wants)
		}
		has := only(l.o.Config)
		for _, flag := range s.Only {
			if !slices.Contains(has, flag) {
				return r, fault.New(fault.Conflict, fmt.Sprintf("the daemon of watch %q goes without %s", l.o.Config.Name, flag), "").
					Because("it holds for one process: stop the daemon for this, or say which artifact is meant with retry")
			}
		}
	}
	return r, nil
}

// noSocket reports whether err says that nobody listens.
func noSocket(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || isRefused(err)
}
