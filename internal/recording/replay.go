package recording

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"homelab/internal/woodsim"
)

// RoundTrip answers without a socket.
func (p *Replayer) RoundTrip(r *http.Request) (*http.Response, error) {
	return woodsim.InProcess(p).RoundTrip(r)
}

// ServeHTTP answers as recorded.
func (p *Replayer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	for _, s := range p.rec.Streams {
		if s.Path == r.URL.Path && r.Method == http.MethodGet {
			p.stream(w, r, s)
			return
		}
	}
	e, ok := p.answer(r)
	if !ok {
		e = p.usual(r)
	}
	for k, v := range e.Headers {
		if k != "Content-Length" && k != "Transfer-Encoding" {
			w.Header().Set(k, v)
		}
	}
	if e.Headers["Content-Type"] == "" {
		w.Header()["Content-Type"] = nil
	}
	if e.Status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(e.Body)))
	}
	w.WriteHeader(e.Status)
	_, _ = io.WriteString(w, e.Body)
}

func auth(r *http.Request) string {
	switch h := r.Header.Get("Authorization"); {
	case h == "":
		return "none"
	case strings.Contains(h, "invalid"):
		return "invalid"
	default:
		return "valid"
	}
}

// answer picks the exchange that is current for the request.
func (p *Replayer) answer(r *http.Request) (Exchange, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	same := func(e Exchange) bool {
		bare, _, _ := strings.Cut(e.Path, "?")
		return e.Method == r.Method && bare == r.URL.Path && e.Auth == auth(r)
	}
	var all []Exchange
	for _, e := range p.rec.Exchanges {
		if same(e) {
			all = append(all, e)
		}
	}
	// The same query, where the recording has it, is the better match.
	exact := slices.DeleteFunc(slices.Clone(all), func(e Exchange) bool { return e.Path != r.URL.RequestURI() })
	if len(exact) > 0 {
		all = exact
	}
	if len(all) == 0 {
		return Exchange{}, false
	}
	key := r.Method + " " + all[0].Path + " " + auth(r)
	write := r.Method != http.MethodGet
	if p.now == nil || write {
		i := min(p.next[key], len(all)-1)
		p.next[key] = i + 1
		if p.now != nil {
			p.begin = p.now().Add(-all[i].At())
		}
		return all[i], true
	}
	at, found := p.now().Sub(p.begin), all[0]
	for _, e := range all {
		if e.At() <= at {
			found = e
		}
	}
	return found, true
}

// usual answers what a client may ask although nobody recorded it.
func (p *Replayer) usual(r *http.Request) Exchange {
	const version = "X-Woodpecker-Version"
	headers := map[string]string{version: "dev", "Content-Type": "application/json; charset=utf-8"}
	switch r.Method + " " + r.URL.Path {
	case "GET /version":
		return Exchange{Status: 200, Headers: headers, Body: `{"source":"https://github.com/woodpecker-ci/woodpecker","version":"dev"}`}
	case "GET /healthz":
		return Exchange{Status: 204, Headers: map[string]string{version: "dev"}}
	case "GET /api/user":
		if auth(r) == "valid" {
			return Exchange{Status: 200, Headers: headers, Body: `{"id":1,"forge_id":1,"forge_remote_id":"1","login":"ada","email":"v@example.com","avatar_url":"","admin":true,"org_id":1}`}
		}
		return Exchange{Status: 401, Headers: map[string]string{version: "dev", "Content-Type": "text/plain; charset=utf-8"}, Body: "User not authorized"}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing = append(p.missing, r.Method+" "+r.URL.Path)
	return Exchange{
		Status: 200, Headers: map[string]string{version: "dev", "Content-Type": "text/html; charset=UTF-8"},
		Body: "<!doctype html><title>wp</title><div id=app></div>\n",
	}
}

// stream sends the recorded lines: all at once, or with Clock each at its
// time, without those from before the connection. It stays open unless the
// recording saw it closed.
func (p *Replayer) stream(w http.ResponseWriter, r *http.Request, s Stream) {
	p.mu.Lock()
	now, begin := p.now, p.begin
	p.mu.Unlock()
	for k, v := range s.Headers {
		if k != "Transfer-Encoding" {
			w.Header().Set(k, v)
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if s.Status == 0 {
		s.Status = http.StatusOK
	}
	w.WriteHeader(s.Status)
	out := http.NewResponseController(w)
	opened := time.Duration(0)
	if now != nil && strings.HasSuffix(s.Path, "/events") {
		opened = now().Sub(begin) // other streams begin with their own opening
	} else if now != nil {
		begin = now()
	}
	for i, l := range s.Lines {
		if l.Line == "<connection closed>" {
			return
		}
		if now != nil && i > 1 { // the ping comes first, whenever that is
			if l.At() < opened {
				continue
			}
			if !wait(r, begin.Add(l.At()).Sub(now())) {
				return
			}
		}
		if _, err := io.WriteString(w, l.Line+"\n"); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
	}
	<-r.Context().Done()
}

func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.Context().Done():
		return false
	case <-t.C:
		return true
	}
}
