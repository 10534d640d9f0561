package kubesim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Request is one request as it arrived and was answered.
type Request struct {
	Time                           time.Time // local clock
	Method, Verb                   string    // Verb as in permission rules: get, list, watch
	Resource, Namespace, Name, Sub string
	Query                          url.Values
	Header                         http.Header
	User                           string
	Code                           int // 0: cut without an answer
}

// Requests returns what has been asked so far, oldest first.
func (s *Sim) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.requests))
	for i, r := range s.requests {
		out[i] = *r
	}
	return out
}

// Count counts the requests with this verb and resource; "" is any.
func (s *Sim) Count(verb, resource string) int {
	n := 0
	for _, r := range s.Requests() {
		if (verb == "" || r.Verb == verb) && (resource == "" || r.Resource == resource) {
			n++
		}
	}
	return n
}

// Forget empties the record of requests.
func (s *Sim) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// ServeHTTP answers as an API server does.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.discovery(w, r) {
		return
	}
	q := &Request{Time: time.Now(), Method: r.Method, Query: r.URL.Query(), Header: r.Header}
	found := s.route(q, r.URL.Path)

	s.mu.Lock()
	s.requests = append(s.requests, q)
	if s.down.After(time.Now()) {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Date", s.o.Now().UTC().Format(http.TimeFormat))
	if s.warning != "" {
		w.Header().Add("Warning", `299 - `+strconv.Quote(s.warning))
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	fault := s.strike(q)
	code, message := s.permit(q, token)
	s.mu.Unlock()

	answered := func(code int) {
		s.mu.Lock()
		q.Code = code
		s.mu.Unlock()
	}
	refuse := func(code int, message string, retryAfter int) {
		answered(code)
		status(w, code, message, retryAfter)
	}
	if fault != nil && s.faulty(w, r, q, fault, answered) {
		return
	}
	switch {
	case !found:
		answered(404)
		http.Error(w, "404 page not found", http.StatusNotFound) // as a server does for an unknown group
	case code != 0:
		refuse(code, message, 0)
	case q.Sub == "exec":
		s.exec(w, r, q, answered, refuse)
	case q.Sub == "portforward":
		s.forward(w, r, q, answered, refuse)
	case r.Method != http.MethodGet && q.Sub == "":
		s.modify(w, r, q, answered, refuse)
	case r.Method != http.MethodGet:
		refuse(405, "the server does not allow this method on the requested resource", 0)
	case q.Sub == "log":
		s.podLog(w, r, q, fault, answered, refuse)
	case q.Sub != "":
		refuse(404, "the server could not find the requested resource", 0)
	case q.Verb == "watch":
		s.watch(w, r, q, fault, answered, refuse)
	case q.Verb == "list":
		s.list(w, q, fault, answered, refuse)
	default:
		s.get(w, q, fault, answered, refuse)
	}
}

// faulty plays the faults that need no look at the store.
func (s *Sim) faulty(w http.ResponseWriter, r *http.Request, q *Request, f *Fault, answered func(int)) bool {
	switch f.Kind {
	case Status:
		answered(f.Code)
		status(w, f.Code, faultMessage(f.Code), f.RetryAfter)
	case HTML:
		answered(f.Code)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(f.Code)
		fmt.Fprintf(w, "<html><body><h1>%d %s</h1></body></html>", f.Code, http.StatusText(f.Code))
	case Refuse:
		panic(http.ErrAbortHandler)
	case Empty:
		answered(200)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
	case Silent:
		<-r.Context().Done()
	case Mute:
		if q.Verb != "watch" {
			return false
		}
		answered(200)
		w.WriteHeader(http.StatusOK)
		flush(w)
		<-r.Context().Done()
	case StatusEvent, Bookmarks, Cut, Stale:
		return false
	}
	return true
}

// route reads the path. It is false for what the server does not have.
func (s *Sim) route(q *Request, path string) bool {
	p := strings.Split(strings.Trim(path, "/"), "/")
	var group string
	switch {
	case len(p) >= 2 && p[0] == "api":
		p = p[2:]
	case len(p) >= 3 && p[0] == "apis":
		group, p = p[1], p[3:]
	default:
		return false
	}
	if len(p) >= 3 && p[0] == "namespaces" {
		q.Namespace, p = p[1], p[2:]
	}
	if len(p) == 0 {
		return false
	}
	q.Resource = p[0]
	if len(p) > 1 {
		q.Name = p[1]
	}
	if len(p) > 2 {
		q.Sub = p[2]
	}
	q.Verb = "get"
	if q.Name == "" {
		q.Verb = "list"
		if b, _ := strconv.ParseBool(q.Query.Get("watch")); b {
			q.Verb = "watch"
		}
	}
	if verb, ok := map[string]string{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[q.Method]; ok {
		q.Verb = verb
	}
	k, known := s.kinds[q.Resource]
	return known && k.group == group
}

func (s *Sim) get(w http.ResponseWriter, q *Request, f *Fault, answered func(int), refuse func(int, string, int)) {
	s.mu.Lock()
	r := s.state(q.Resource, f)[q.Namespace+"/"+q.Name]
	s.mu.Unlock()
	if r == nil {
		k := s.kinds[q.Resource]
		refuse(404, fmt.Sprintf("%s %q not found", strings.TrimSuffix(q.Resource+"."+k.group, "."), q.Name), 0)
		return
	}
	answered(200)
	s.body(w, r.raw, f)
}

// state is the live objects, or with a fault those of some versions ago; s.mu
// is held.
func (s *Sim) state(resource string, f *Fault) map[string]*record {
	if f == nil || f.Kind != Stale {
		return s.live[resource]
	}
	then := map[string]*record{}
	for _, c := range s.log {
		if c.rv > s.rv-f.Behind {
			break
		}
		switch {
		case c.resource != resource:
		case c.now != nil:
			then[key(c.now.object)] = c.now
		default:
			delete(then, key(c.was.object))
		}
	}
	return then
}

func key(o Object) string { return str(meta(o)["namespace"]) + "/" + str(meta(o)["name"]) }

func (s *Sim) list(w http.ResponseWriter, q *Request, f *Fault, answered func(int), refuse func(int, string, int)) {
	match, message := s.selector(q)
	if message != "" {
		refuse(400, message, 0)
		return
	}
	s.mu.Lock()
	rv := s.rv
	if want, _ := strconv.Atoi(q.Query.Get("resourceVersion")); want > rv {
		s.mu.Unlock()
		refuse(504, fmt.Sprintf("Timeout: Too large resource version: %d, current: %d", want, rv), 1)
		return
	}
	if f != nil && f.Kind == Stale {
		rv -= f.Behind
	}
	state := s.state(q.Resource, f)
	var items []json.RawMessage
	left := 0
	limit, _ := strconv.Atoi(q.Query.Get("limit"))
	for _, k := range slices.Sorted(maps.Keys(state)) {
		if !match(state[k].object) {
			continue
		}
		if limit > 0 && len(items) == limit {
			left++
			continue
		}
		// A list's items carry no kind.
		o := maps.Clone(state[k].object)
		delete(o, "kind")
		delete(o, "apiVersion")
		items = append(items, s.record(q.Resource, o).raw)
	}
	s.mu.Unlock()
	k := s.kinds[q.Resource]
	m := Object{"resourceVersion": strconv.Itoa(rv)}
	if left > 0 {
		m["continue"], m["remainingItemCount"] = "more", left
	}
	if items == nil {
		items = []json.RawMessage{}
	}
	b, err := json.Marshal(struct {
		Kind       string            `json:"kind"`
		APIVersion string            `json:"apiVersion"`
		Metadata   Object            `json:"metadata"`
		Items      []json.RawMessage `json:"items"`
	}{k.kind + "List", strings.TrimPrefix(k.group+"/"+k.version, "/"), m, items})
	if err != nil {
		panic(err)
	}
	answered(200)
	s.body(w, b, f)
}

// body writes an answer, or half of it.
func (s *Sim) body(w http.ResponseWriter, b []byte, f *Fault) {
	w.Header().Set("Content-Type", "application/json")
	if f != nil && f.Kind == Cut {
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(b[:len(b)/2])
		flush(w)
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(b)
}

// selector returns what the request's selectors and namespace choose, or what
// is wrong with them.
func (s *Sim) selector(q *Request) (match func(Object) bool, wrong string) {
	s.mu.Lock()
	careless := s.careless
	s.mu.Unlock()
	inside := func(o Object) bool { return q.Namespace == "" || str(meta(o)["namespace"]) == q.Namespace }
	if careless {
		return inside, ""
	}
	chosen, err := labels.Parse(q.Query.Get("labelSelector"))
	if err != nil {
		return nil, "unable to parse requirement: " + err.Error()
	}
	type term struct {
		path, value string
		not         bool
	}
	var terms []term
	for t := range strings.SplitSeq(q.Query.Get("fieldSelector"), ",") {
		if t == "" {
			continue
		}
		path, value, _ := strings.Cut(t, "=")
		not := strings.HasSuffix(path, "!")
		path, value = strings.TrimSuffix(path, "!"), strings.TrimPrefix(value, "=")
		if path != "metadata.name" && path != "metadata.namespace" && !slices.Contains(s.kinds[q.Resource].fields, path) {
			return nil, "field label not supported: " + path
		}
		terms = append(terms, term{path, value, not})
	}
	return func(o Object) bool {
		if !inside(o) {
			return false
		}
		for _, t := range terms {
			if (at(o, t.path) == t.value) == t.not {
				return false
			}
		}
		set := labels.Set{}
		have, _ := meta(o)["labels"].(Object)
		for k, v := range have {
			set[k] = str(v)
		}
		return chosen.Matches(set)
	}, ""
}

// reasons are those of Kubernetes' API machinery.
func reason(code int) string {
	return map[int]string{
		400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
		409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
		503: "ServiceUnavailable", 504: "Timeout",
	}[code]
}

func faultMessage(code int) string {
	return map[int]string{
		401: "Unauthorized",
		410: "too old resource version: 1 (1000)",
		429: "too many requests, please try again later",
		500: "etcdserver: request timed out",
		503: "apiserver is shutting down",
		504: "Timeout: Too large resource version: 9999, current: 1000",
	}[code]
}

func statusObject(code int, message string, retryAfter int) Object {
	o := Object{
		"kind": "Status", "apiVersion": "v1", "metadata": Object{}, "status": "Failure",
		"message": message, "reason": reason(code), "code": code,
	}
	if retryAfter > 0 {
		o["details"] = Object{"retryAfterSeconds": retryAfter}
	}
	return o
}

func status(w http.ResponseWriter, code int, message string, retryAfter int) {
	w.Header().Set("Content-Type", "application/json")
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(statusObject(code, message, retryAfter))
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
