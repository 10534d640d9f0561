package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	openTimeout = 15 * time.Second // until a tunnel stands
	soon        = 100 * time.Millisecond
	maxSaid     = 4 << 10 // of what a node says of a port
)

// ErrTunnelDown is a tunnel that a connection could not be begun through.
// Nothing of the connection was read: it can be carried through another one.
const ErrTunnelDown = constError("the tunnel is down")

// PortError is what a pod's node says of a port: most often that nothing
// listens there.
type PortError struct {
	Pod  string
	Port int
	Said string
}

func (e *PortError) Error() string { return fmt.Sprintf("port %d of %s: %s", e.Port, e.Pod, e.Said) }

// Tunnel carries connections to the ports of one pod, many at a time. It stays
// with this pod: once the pod is replaced, what it carries ends, and a new one
// has to be opened. client-go's own forwarder also owns the local port, and
// gives it up with the pod; so only its way of opening is used here.
type Tunnel struct {
	pod  string
	conn httpstream.Connection

	mu      sync.Mutex
	begun   int // connections, for their numbers
	users   int
	retired bool
}

// Tunnel opens a tunnel to a pod; ctx ends the opening, not the tunnel. It is
// one attempt, a 401 and a 403 confirmed. It speaks WebSocket, and SPDY where
// that is not understood or not permitted. The error is as Get's.
// Source: GET and POST /api/v1/namespaces/{ns}/pods/{pod}/portforward.
func (c *Cluster) Tunnel(ctx context.Context, ns, pod string) (t *Tunnel, err error) {
	q := request{verb: "create", resource: Core("pods"), namespace: ns, name: pod, sub: "portforward"}
	err = confirmed(ctx, func() (err error) {
		t, err = c.tunnel(ctx, q)
		return err
	})
	c.log("%s: %v", q, err)
	return t, err
}

func (c *Cluster) tunnel(ctx context.Context, q request) (*Tunnel, error) {
	cfg := c.Config()
	if cfg == nil {
		return nil, &UnreachableError{What: q.String(), Err: constError("this connection carries nothing")}
	}
	u := c.base.JoinPath(q.resource.path(q.namespace, q.name, q.sub))
	opening, cancel := context.WithTimeoutCause(ctx, openTimeout, errNoHeader)
	defer cancel()
	h := &handshake{c: c}
	// The libraries take no context; what they send gets it here.
	cfg.WrapTransport = transport.Wrappers(cfg.WrapTransport, h.wrap, func(next http.RoundTripper) http.RoundTripper {
		return &bound{ctx: opening, next: next}
	})
	dialer, err := c.dialer(cfg, u)
	if err != nil {
		return nil, &UnreachableError{What: q.String(), Err: err}
	}
	type opened struct {
		conn httpstream.Connection
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		conn, said, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		if err == nil && said != portforward.PortForwardProtocolV1Name {
			_ = conn.Close()
			conn, err = nil, fmt.Errorf("the server speaks %q", said)
		}
		done <- opened{conn, err}
	}()
	select {
	case o := <-done:
		if o.err == nil {
			c.good()
			return &Tunnel{pod: q.name, conn: o.conn}, nil
		}
		if end, ok := opening.Deadline(); ok && time.Until(end) < soon {
			<-opening.Done() // the socket has the same deadline, and may be first
		}
		if ctx.Err() == nil && opening.Err() != nil {
			o.err = context.Cause(opening)
		}
		_, err := c.ended(ctx, q, o.err, h)
		if lost, ok := errors.AsType[*LostError](err); ok {
			err = &UnreachableError{What: q.String(), Err: lost.Err}
		}
		return nil, err
	case <-opening.Done():
		go func() {
			if o := <-done; o.err == nil {
				_ = o.conn.Close()
			}
		}()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := &UnreachableError{What: q.String(), Err: errNoHeader}
		c.bad(e)
		return nil, e
	}
}

// dialer prepares an opening in either language. Nothing is dialled.
func (c *Cluster) dialer(cfg *rest.Config, u *url.URL) (d httpstream.Dialer, err error) {
	prepare := func() (http.RoundTripper, error) {
		socket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, cfg)
		if err != nil {
			return nil, err
		}
		rt, upgrader, err := spdy.RoundTripperFor(cfg)
		if err != nil {
			return nil, err
		}
		plain := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: rt}, http.MethodPost, u)
		d = portforward.NewFallbackDialerForStreaming(socket, plain, func(err error) bool {
			return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		})
		return nil, nil
	}
	if c.plugin != nil {
		_, err = c.plugin.capture(prepare)
		return d, err
	}
	_, err = prepare()
	return d, err
}

// bound gives requests a context.
type bound struct {
	ctx  context.Context //nolint:containedctx // it is that of one call
	next http.RoundTripper
}

var _ http.RoundTripper = (*bound)(nil)

// WrappedRoundTripper is how the SPDY library finds its own transport.
func (b *bound) WrappedRoundTripper() http.RoundTripper { return b.next }

func (b *bound) RoundTrip(req *http.Request) (*http.Response, error) {
	return b.next.RoundTrip(req.WithContext(b.ctx))
}

// Down is closed when the tunnel is.
func (t *Tunnel) Down() <-chan bool { return t.conn.CloseChan() }

// Close ends the tunnel and what it carries.
func (t *Tunnel) Close() { _ = t.conn.Close() }

// Retire closes the tunnel as soon as it carries nothing.
func (t *Tunnel) Retire() {
	t.mu.Lock()
	t.retired = true
	idle := t.users == 0
	t.mu.Unlock()
	if idle {
		t.Close()
	}
}

// enter counts a connection, and returns its number.
func (t *Tunnel) enter() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users++
	t.begun++
	return strconv.Itoa(t.begun)
}

func (t *Tunnel) leave() {
	t.mu.Lock()
	t.users--
	idle := t.retired && t.users == 0
	t.mu.Unlock()
	if idle {
		t.Close()
	}
}

// Carry joins a connection with a TCP port of the pod until the pod's side has
// ended, and closes it. ErrTunnelDown: it was not begun, and local is open as it
// was. *PortError: what the node says. Else nil, also when the tunnel broke on
// the way, as of a connection's end nobody knows more than its two sides.
func (t *Tunnel) Carry(local net.Conn, port int) error {
	number := t.enter()
	defer t.leave()
	errs, err := t.stream(number, corev1.StreamTypeError, port)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTunnelDown, err)
	}
	defer t.conn.RemoveStreams(errs)
	_ = errs.Close() // nothing is written to it
	data, err := t.stream(number, corev1.StreamTypeData, port)
	if err != nil {
		_ = errs.Reset()
		return fmt.Errorf("%w: %w", ErrTunnelDown, err)
	}
	defer t.conn.RemoveStreams(data)
	said := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(errs, maxSaid))
		said <- b
	}()
	far, near := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(far)
		_, _ = io.Copy(local, data)
	}()
	go func() {
		_, err := io.Copy(data, local)
		_ = data.Close() // the pod's side may still have something to say
		if err != nil {
			close(near)
		}
	}()
	select {
	case <-far:
	case <-near:
	case <-t.Down():
	}
	_ = local.Close()
	// What is left in it would hold up the other streams.
	_ = data.Reset()
	select {
	case b := <-said:
		if text := strings.TrimSpace(string(bytes.ToValidUTF8(b, nil))); text != "" {
			return &PortError{Pod: t.pod, Port: port, Said: text}
		}
	case <-t.Down():
	}
	return nil
}

func (t *Tunnel) stream(number, kind string, port int) (httpstream.Stream, error) {
	h := http.Header{}
	h.Set(corev1.StreamType, kind)
	h.Set(corev1.PortHeader, strconv.Itoa(port))
	h.Set(corev1.PortForwardRequestIDHeader, number)
	return t.conn.CreateStream(h)
}
