package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"homelab/pkg/artifact/program"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
	"homelab/pkg/ui"
)

const (
	sendLimit = 30 * time.Second // one attempt
	mostPause = time.Hour        // that a server can ask for
	mostRead  = 64 << 10         // of an answer that nobody wants
)

// Receiver is somebody who is told.
type Receiver struct {
	Key string // tells it apart, also in the next process
	To  string // for people
	On  []Name // empty: all
	// Send delivers one notification. It ends soon after ctx. What it returns is
	// a *SendError, or counts as one that may pass.
	Send func(ctx context.Context, n Notification) error
}

// SendError is a notification that was not taken.
type SendError struct {
	What       string
	Refused    bool          // it will hardly be taken later
	RetryAfter time.Duration // what the server asked for; 0 nothing
}

func (e *SendError) Error() string { return e.What }

// Deps is what receivers need.
type Deps struct {
	// Transport is what all have in common: proxy, user agent, what is redacted.
	// Base, Pin, CAFile, Token and Log are a receiver's own.
	Transport transport.Options
	Log       func(format string, args ...any)            // -v; nil: silent
	Secret    func(path string) (transport.Secret, error) // reads a token's file
	// Env is the environment to take from; a program gets PATH, HOME and LANG.
	Env    []string
	Dir    string              // where programs run; absolute; made if it is not there
	Redact func(string) string // for what programs say; nil: nothing
}

// New makes receivers; nothing is contacted. The error is a *fault.Error of kind
// Usage.
func New(specs []Spec, d Deps) ([]Receiver, error) {
	var all []Receiver
	for _, s := range specs {
		r := Receiver{Key: s.key(), To: s.String(), On: s.On}
		for _, other := range all {
			if other.Key == r.Key {
				return nil, fault.Usagef("", "notify: %s is there twice", r.To)
			}
		}
		if s.Means == Exec {
			if err := program.Check("notify: exec: ", s.At); err != nil {
				return nil, err
			}
			r.Send = d.exec(s)
			all = append(all, r)
			continue
		}
		send, err := d.http(s)
		if err != nil {
			return nil, err
		}
		r.Send = send
		all = append(all, r)
	}
	return all, nil
}

// http makes the way to a webhook or topic.
func (d Deps) http(s Spec) (func(context.Context, Notification) error, error) {
	u, err := url.Parse(s.At)
	if err != nil {
		return nil, fault.Usagef("", "notify: %s: the URL cannot be read", s.Means)
	}
	o := d.Transport
	// The stack's log would show the path.
	o.Base, o.CAFile, o.Pin, o.Token, o.Log = &url.URL{Scheme: u.Scheme, Host: u.Host}, s.CAFile, nil, nil, nil
	if o.Redact != nil {
		for _, part := range []string{s.At, u.EscapedPath()} {
			// A short path is a word like any other, and no secret.
			if secret, err := transport.NewSecret(part); err == nil && len(part) >= 12 {
				o.Redact.Add(secret)
			}
		}
	}
	if s.Dial.Addr.IsValid() {
		o.Pin = &s.Dial
	}
	if s.TokenFile != "" {
		token, err := d.Secret(s.TokenFile)
		if err != nil {
			return nil, err
		}
		o.Token = func(context.Context) (transport.Secret, error) { return token, nil }
	}
	stack, err := transport.New(o)
	if err != nil {
		if told, ok := errors.AsType[*fault.Error](err); ok {
			return nil, fault.Usagef("", "notify: %s: %s", s, told.What).Because(told.Why).From(err)
		}
		return nil, err
	}
	to, log := s.String(), d.Log
	if log == nil {
		log = func(string, ...any) {}
	}
	return func(ctx context.Context, n Notification) error {
		began := time.Now()
		status, err := post(ctx, stack, u, s.Means, n)
		took := time.Since(began).Round(time.Millisecond)
		if err != nil {
			log("POST notification %s to %s: %v, %s", n.Event, to, err, took)
			return err
		}
		log("POST notification %s to %s: %d, %s", n.Event, to, status, took)
		return nil
	}, nil
}

// post sends once. Its errors say nothing of the URL but the host.
func post(ctx context.Context, rt *transport.Stack, u *url.URL, m Means, n Notification) (int, error) {
	// A redirect is an answer: what is behind it was not configured.
	ctx = transport.WithCall(ctx, transport.Call{Name: "notification", ByHand: true})
	body, header, err := message(m, n)
	if err != nil {
		return 0, &SendError{What: "it cannot be written down: " + err.Error(), Refused: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, &SendError{What: "the URL cannot be asked", Refused: true}
	}
	req.Header = header
	resp, err := rt.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, &SendError{What: ui.Clean(err.Error())}
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, mostRead) // a short body read to its end leaves the connection usable
	e := &SendError{What: "the server answered " + strconv.Itoa(resp.StatusCode)}
	switch {
	case resp.StatusCode/100 == 2:
		return resp.StatusCode, nil
	case resp.StatusCode/100 == 3:
		e.What, e.Refused = e.What+", and a redirect is not followed", true
	case resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode == http.StatusTooEarly,
		resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode/100 != 4:
		e.RetryAfter = min(transport.RetryAfter(resp), mostPause)
	default:
		e.Refused = true
	}
	return 0, e
}

// message is what is sent: to a webhook the notification as JSON, to an ntfy
// topic its text, with headers.
func message(m Means, n Notification) ([]byte, http.Header, error) {
	if m == Webhook {
		body, err := json.Marshal(n)
		return append(body, '\n'), http.Header{"Content-Type": {"application/json"}}, err
	}
	text := n.Text
	if n.Next != nil {
		text += "\n" + *n.Next
	}
	_, tag := n.Event.look()
	h := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	h.Set("Title", mime.BEncoding.Encode("utf-8", n.Title))
	h.Set("Priority", strconv.Itoa(n.Priority))
	h.Set("Tags", tag)
	return []byte(text), h, nil
}

// exec makes a program that is told. It has half a minute.
func (d Deps) exec(s Spec) func(context.Context, Notification) error {
	return func(ctx context.Context, n Notification) error {
		end := program.Run(ctx, program.Program{Path: s.At, Env: environ(d.Env, n), Dir: d.Dir, Grace: time.Second, Redact: d.Redact})
		if end.OK() {
			return nil
		}
		if d.Log != nil {
			d.Log("notification %s to %s: %s", n.Event, s, end)
		}
		return &SendError{What: end.String(), Refused: end.How != program.Stopped && end.Code != 75}
	}
}

// environ is what a program is told. Texts are of one line.
func environ(env []string, n Notification) []string {
	out := program.Variables{Action: "notify", Watch: n.Watch, Run: n.Run}.Environ(env)
	set := func(name, value string) {
		if value = strings.ReplaceAll(ui.Clean(value), "\x00", ""); value != "" {
			out = append(out, "HOMELAB_"+name+"="+value)
		}
	}
	set("NOTIFICATION_ID", n.ID)
	set("EVENT", string(n.Event))
	of := make([]string, len(n.Of))
	for i, name := range n.Of {
		of[i] = string(name)
	}
	set("OF", strings.Join(of, " "))
	set("TIME", n.Time.UTC().Format(time.RFC3339))
	set("STATE", n.State)
	set("PRIORITY", strconv.Itoa(n.Priority))
	set("TITLE", n.Title)
	set("TEXT", n.Text)
	if n.Next != nil {
		set("NEXT", *n.Next)
	}
	if n.Candidate != nil {
		set("CANDIDATE", string(n.Candidate.ID))
	}
	if n.Running != nil {
		set("RUNNING", string(n.Running.ID))
	}
	if n.Previous != nil {
		set("PREVIOUS", string(n.Previous.ID))
	}
	return out
}

// problem is err as a SendError.
func problem(ctx context.Context, err error) *SendError {
	if e, ok := errors.AsType[*SendError](err); ok {
		return e
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &SendError{What: ui.Clean(fmt.Sprint(err))}
}
