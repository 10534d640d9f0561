package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"homelab/pkg/poll"
	"homelab/pkg/transport"
)

// contact is how far one request got on its way.
type contact struct {
	addr  string               // connected to; "" nothing was
	state *tls.ConnectionState // of an accepted server; nil without TLS or when it failed
	shook bool                 // the handshake was begun
	err   error                // why there is no answer; nil when there is one
}

// Limits of a contact: one attempt, and the time after which another is not
// worth waiting for.
const (
	attemptTime = 6 * time.Second
	repeatUntil = 2 * time.Second
)

// reach sends a request for url through rt and watches it, so that what is
// seen is what the other verbs would see: their pin, their proxy, their trust.
// A connection that fails is tried three times in all, a certificate that is
// not accepted twice. Any answer will do.
func reach(ctx context.Context, rt http.RoundTripper, url string) contact {
	began := time.Now()
	waits := poll.Exponential(250*time.Millisecond, time.Second, 0)
	for n := 1; ; n++ {
		c := once(ctx, rt, url)
		var cert *transport.CertificateError
		enough := errors.As(c.err, &cert) && n == 2 || n == 3 || time.Since(began) > repeatUntil
		if c.err == nil || c.state != nil || !c.shook && c.addr != "" || enough {
			return c
		}
		if err := poll.Sleep(ctx, waits.Next()); err != nil {
			return c
		}
	}
}

func once(ctx context.Context, rt http.RoundTripper, url string) contact {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTime, &limitError{attemptTime})
	defer cancel()
	var mu sync.Mutex // a dial that lost the race may still report
	var c contact
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectDone: func(_, addr string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil && c.addr == "" {
				c.addr = addr
			}
		},
		TLSHandshakeStart: func() {
			mu.Lock()
			defer mu.Unlock()
			c.shook = true
		},
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				c.state = &s
			}
		},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return contact{err: err}
	}
	resp, err := rt.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	} else if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	mu.Lock()
	defer mu.Unlock()
	c.err = err
	return c
}
