package kube

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// The limits of an exchange of Transport, where the server may have to ask
// webhooks before it answers.
const (
	writeTimeout = 45 * time.Second
	maxAnswer    = 64 << 20
)

// Dynamic returns client-go's dynamic client over this connection. Whatever it
// sends is sent once, and its errors hold the same *StatusError,
// *UnreachableError and *PluginError as the reads (errors.As, IsTransient).
// Source: PATCH with application/apply-patch+yaml, POST, PUT, DELETE.
func (c *Cluster) Dynamic() (dynamic.Interface, error) {
	cfg := &rest.Config{
		Host: c.base.String(), QPS: -1,
		// The guard collects warnings; client-go would print them.
		WarningHandler: rest.NoWarnings{},
	}
	return dynamic.NewForConfigAndClient(cfg, &http.Client{Transport: c.Transport()})
}

// Config is how this connection is made, for libraries that open their own:
// terminals and tunnels. The limits of requests are not part of it. nil for a
// Cluster that was not made by Connect.
func (c *Cluster) Config() *rest.Config {
	if c.config == nil {
		return nil
	}
	return rest.CopyConfig(c.config)
}

// Transport is the connection as a RoundTripper that returns only successes,
// read whole: any other answer is an error of this package. So a library on
// top of it has nothing left to repeat or to guess.
func (c *Cluster) Transport() http.RoundTripper { return whole{c} }

type whole struct{ c *Cluster }

func (w whole) RoundTrip(req *http.Request) (*http.Response, error) {
	q := named(w.c.base, req)
	q.total = writeTimeout
	start := time.Now()
	res, err := w.c.send(req, q)
	if err != nil {
		w.c.log("%s %s: %v (%s)", q, req.URL.RequestURI(), err, time.Since(start).Round(time.Millisecond))
		return nil, err
	}
	w.c.log("%s %s: %d (%s)", q, req.URL.RequestURI(), res.StatusCode, time.Since(start).Round(time.Millisecond))
	defer res.Body.Close()
	good := res.StatusCode/100 == 2
	most := int64(maxErrorBody)
	if good {
		most = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case good && err == nil && int64(len(body)) > most:
		err = constError("the answer is too large")
	case good && err == nil && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")):
		err = errNotObject
	}
	if good && err != nil {
		return nil, w.c.broken(req.Context(), q, err)
	}
	if !good {
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context())
		}
		e := statusError(q, res.StatusCode, res.Header, body)
		if e.Proxy || e.Code >= http.StatusInternalServerError || e.Code == http.StatusTooManyRequests {
			w.c.bad(e)
		} else {
			w.c.good() // 409 among them: the server was asked
		}
		return nil, e
	}
	w.c.good()
	res.Body = io.NopCloser(bytes.NewReader(body))
	res.ContentLength = int64(len(body))
	return res, nil
}

// named reads from a request's path what it is about.
func named(base *url.URL, req *http.Request) request {
	q := request{verb: strings.ToLower(req.Method)}
	switch req.Method {
	case http.MethodPost:
		q.verb = "create"
	case http.MethodPut:
		q.verb = "update"
	case http.MethodPatch:
		if strings.HasPrefix(req.Header.Get("Content-Type"), "application/apply-patch") {
			q.verb = "apply"
		}
	}
	parts := strings.Split(strings.Trim(strings.TrimPrefix(req.URL.Path, strings.TrimSuffix(base.Path, "/")), "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		q.resource.Version, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		q.resource.Group, q.resource.Version, parts = parts[1], parts[2], parts[3:]
	default:
		q.resource.Plural = strings.Join(parts, "/")
		return q
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		q.namespace, parts = parts[1], parts[2:]
	}
	q.resource.Plural = parts[0]
	if len(parts) > 1 {
		q.name = parts[1]
	}
	if len(parts) > 2 {
		q.sub = parts[2]
	}
	return q
}

// Confirm repeats f while its answer is a refusal of the credentials that has
// not been heard often enough to be believed: 401 and a failing plugin three
// times, 403 twice, all within two seconds. For what may be sent again.
func Confirm(ctx context.Context, f func() error) error { return confirmed(ctx, f) }
