package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The kinds of patch an API server takes.
const (
	MergePatch     = "application/merge-patch+json"
	StrategicPatch = "application/strategic-merge-patch+json"
)

// A Client speaks plain REST to the API server: no typed objects, so nothing
// the server says is lost or filled in on the way.
type Client struct {
	base  string
	http  *http.Client
	token string // "" when the connection's certificate says who speaks
}

// A StatusError is an answer other than 2xx.
type StatusError struct {
	Code    int
	Reason  string // of the Kubernetes Status; "" when the body is none
	Message string // of the Status, else the body's beginning
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("HTTP %d %s: %s", e.Code, e.Reason, e.Message)
}

// Code returns the HTTP status of err, or 0 when err is no such answer.
func Code(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Code
	}
	return 0
}

// Do sends one request and returns the body of a 2xx answer. kind is the
// body's media type; without a body it is not used.
func (c *Client) Do(ctx context.Context, method, path, kind string, body []byte) ([]byte, error) {
	res, err := c.send(ctx, method, path, kind, body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return b, nil
}

func (c *Client) send(ctx context.Context, method, path, kind string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if len(body) > 0 {
		req.Header.Set("Content-Type", kind)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s %s: HTTP %d: %w", method, path, res.StatusCode, err)
	}
	e := &StatusError{Code: res.StatusCode, Message: string(b)}
	var s struct{ Kind, Reason, Message string }
	if json.Unmarshal(b, &s) == nil && s.Kind == "Status" {
		e.Reason, e.Message = s.Reason, s.Message
	}
	return nil, fmt.Errorf("%s %s: %w", method, path, e)
}

// An Event is one line of a watch.
type Event struct {
	Type   string // ADDED, MODIFIED, DELETED
	Object Object
	Raw    json.RawMessage
	At     time.Time // when it arrived
}

// Watch lists path and then calls f with every object there is, as ADDED, and
// every change, from one goroutine, until ctx ends. It comes back after each
// break of the stream; a change may then be seen twice, but none is missed,
// except that what was deleted during the break is not told.
func (c *Client) Watch(ctx context.Context, path string, f func(Event)) {
	for ctx.Err() == nil {
		if err := c.watch(ctx, path, f, func() {}); err != nil && ctx.Err() == nil {
			time.Sleep(200 * time.Millisecond) // the API server is being restarted
		}
	}
}

func (c *Client) watch(ctx context.Context, path string, f func(Event), listed func()) error {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	b, err := c.Do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []json.RawMessage
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, raw := range list.Items {
		e, err := event("ADDED", raw)
		if err != nil {
			return err
		}
		f(e)
	}
	listed()
	res, err := c.send(ctx, http.MethodGet, path+sep+"watch=true&resourceVersion="+list.Metadata.ResourceVersion, "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	in := json.NewDecoder(bufio.NewReader(res.Body))
	for {
		var line struct {
			Type   string
			Object json.RawMessage
		}
		if err := in.Decode(&line); err != nil {
			return err
		}
		if line.Type == "ERROR" {
			return fmt.Errorf("watch %s: %s", path, line.Object)
		}
		e, err := event(line.Type, line.Object)
		if err != nil {
			return err
		}
		f(e)
	}
}

func event(kind string, raw json.RawMessage) (Event, error) {
	e := Event{Type: kind, Raw: raw, At: time.Now()}
	return e, json.Unmarshal(raw, &e.Object)
}

// An Object is a decoded API object.
type Object map[string]any

// At returns what stands at the end of path, or nil: a name steps into an
// object, a number into a list.
func (o Object) At(path ...any) any {
	var v any = map[string]any(o)
	for _, step := range path {
		switch key := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[key]
		case int:
			l, ok := v.([]any)
			if !ok || key >= len(l) {
				return nil
			}
			v = l[key]
		default:
			panic(fmt.Sprintf("a step of a path is a string or an int, not %T", step))
		}
	}
	return v
}

// Str is At for a string, "" when there is none.
func (o Object) Str(path ...any) string {
	s, _ := o.At(path...).(string)
	return s
}

// Int is At for a number, 0 when there is none.
func (o Object) Int(path ...any) int {
	n, _ := o.At(path...).(float64)
	return int(n)
}

// List is At for a list of objects.
func (o Object) List(path ...any) []Object {
	l, _ := o.At(path...).([]any)
	var out []Object
	for _, v := range l {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Name, UID and Gen(eration) are the metadata most looked at.
func (o Object) Name() string { return o.Str("metadata", "name") }
func (o Object) UID() string  { return o.Str("metadata", "uid") }
func (o Object) Gen() int     { return o.Int("metadata", "generation") }

// Observed is status.observedGeneration.
func (o Object) Observed() int { return o.Int("status", "observedGeneration") }

// Condition returns the status condition of that type, or an empty object.
func (o Object) Condition(kind string) Object {
	for _, c := range o.List("status", "conditions") {
		if c.Str("type") == kind {
			return c
		}
	}
	return Object{}
}
