package kube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport"
	clientexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// ExecOptions are a command and what it is connected to.
type ExecOptions struct {
	Container string
	Command   []string
	Stdin     io.Reader // nil: none
	Stdout    io.Writer
	Stderr    io.Writer // with TTY everything comes on Stdout
	TTY       bool
	// Size waits for the next size of the terminal; false when there is none
	// any more. It is called with TTY only; nil: the size is not told.
	Size func() (width, height uint16, ok bool)
}

// LostError is a command whose end nobody has told: the connection broke while
// it ran, and it may run on.
type LostError struct{ Err error }

func (e *LostError) Error() string { return "the connection to the command was lost: " + e.Err.Error() }

// Unwrap returns the failure below.
func (e *LostError) Unwrap() error { return e.Err }

// Exec runs a command in a container and returns its exit code. A command is
// started once at most: only a refusal of the credentials, which starts
// nothing, is asked again before it is believed. It speaks WebSocket, and SPDY
// where that is not understood or not permitted. Errors are *StatusError,
// *UnreachableError, *PluginError, *LostError or ctx's cause.
// Source: GET and POST /api/v1/namespaces/{ns}/pods/{pod}/exec.
func (c *Cluster) Exec(ctx context.Context, ns, pod string, o ExecOptions) (code int, err error) {
	q := request{verb: "create", resource: Core("pods"), namespace: ns, name: pod, sub: "exec"}
	err = confirmed(ctx, func() (err error) {
		code, err = c.exec(ctx, q, o)
		return err
	})
	c.log("%s: exit code %d, %v", q, code, err)
	return code, err
}

func (c *Cluster) exec(ctx context.Context, q request, o ExecOptions) (int, error) {
	cfg := c.Config()
	if cfg == nil {
		return 0, &UnreachableError{What: q.String(), Err: constError("this connection runs no commands")}
	}
	v := url.Values{"command": o.Command, "stdout": {"true"}}
	s := remotecommand.StreamOptions{Stdin: o.Stdin, Stdout: o.Stdout, Tty: o.TTY}
	if o.Container != "" {
		v.Set("container", o.Container)
	}
	if o.Stdin != nil {
		v.Set("stdin", "true")
	}
	switch {
	case !o.TTY:
		v.Set("stderr", "true")
		s.Stderr = o.Stderr
	default:
		v.Set("tty", "true")
		if o.Size != nil {
			s.TerminalSizeQueue = sizes(o.Size)
		}
	}
	u := c.base.JoinPath(q.resource.path(q.namespace, q.name, q.sub))
	u.RawQuery = v.Encode()
	h := &handshake{c: c}
	cfg.WrapTransport = transport.Wrappers(cfg.WrapTransport, h.wrap)
	session, err := c.executor(cfg, u)
	if err != nil {
		return 0, &UnreachableError{What: q.String(), Err: err}
	}
	return c.ended(ctx, q, session.StreamWithContext(ctx, s), h)
}

// executor prepares a session in either language. Nothing is dialled.
func (c *Cluster) executor(cfg *rest.Config, u *url.URL) (session remotecommand.Executor, err error) {
	prepare := func() (http.RoundTripper, error) {
		ws, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, u.String())
		if err != nil {
			return nil, err
		}
		spdy, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
		if err != nil {
			return nil, err
		}
		session, err = remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
			return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		})
		return nil, err
	}
	if c.plugin != nil {
		_, err = c.plugin.capture(prepare)
		return session, err
	}
	_, err = prepare()
	return session, err
}

// ended sorts how a session ended.
func (c *Cluster) ended(ctx context.Context, q request, err error, h *handshake) (int, error) {
	var exit clientexec.CodeExitError
	var said *apierrors.StatusError
	switch {
	case err == nil:
		c.good()
		return 0, nil
	case errors.As(err, &exit):
		c.good()
		return exit.Code, nil
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case h.done.Load():
		err := &LostError{Err: err}
		c.bad(err)
		return 0, err
	case h.code != 0:
		e := statusError(q, h.code, h.header, h.body)
		c.good()
		return 0, e
	case errors.As(err, &said):
		e := &StatusError{Code: int(said.ErrStatus.Code), Verb: q.verb, Resource: q.resource, Namespace: q.namespace, Name: q.name}
		e.fill(status{Message: said.ErrStatus.Message, Reason: string(said.ErrStatus.Reason)})
		c.good()
		return 0, e
	case c.plugin != nil && !h.sent.Load():
		return 0, &PluginError{Command: c.plugin.command, Stderr: c.plugin.said(), Err: err}
	}
	e := &UnreachableError{What: q.String(), Err: err}
	c.bad(e)
	return 0, e
}

// handshake sees how a session is opened: once it stands the command runs, and
// before nothing does.
type handshake struct {
	c    *Cluster
	sent atomic.Bool // credentials were there
	done atomic.Bool // the session stood

	code   int // of an answer that was no session; 0: none
	header http.Header
	body   []byte
}

func (h *handshake) wrap(next http.RoundTripper) http.RoundTripper { return &shaking{h: h, next: next} }

type shaking struct {
	h    *handshake
	next http.RoundTripper
}

var _ http.RoundTripper = (*shaking)(nil)

// WrappedRoundTripper is how the SPDY library finds its own transport.
func (s *shaking) WrappedRoundTripper() http.RoundTripper { return s.next }

func (s *shaking) RoundTrip(req *http.Request) (*http.Response, error) {
	s.h.sent.Store(true)
	res, err := s.next.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusSwitchingProtocols:
		s.h.done.Store(true)
		return res, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	s.h.code, s.h.header, s.h.body = res.StatusCode, res.Header, body
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

type sizes func() (uint16, uint16, bool)

// Next is asked by the session for the terminal's next size.
func (s sizes) Next() *remotecommand.TerminalSize {
	w, h, ok := s()
	if !ok {
		return nil
	}
	return &remotecommand.TerminalSize{Width: w, Height: h}
}
