package kubesim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"
)

// watch is one running watch, to be disturbed.
type watch struct {
	once sync.Once
	end  chan struct{} // closed by the disturbance
	how  func(http.ResponseWriter, *http.Request)
}

func (w *watch) disturb(how func(http.ResponseWriter, *http.Request)) {
	w.once.Do(func() { w.how = how; close(w.end) })
}

func (w *watch) finish(cut bool) {
	w.disturb(func(http.ResponseWriter, *http.Request) {
		if cut {
			panic(http.ErrAbortHandler)
		}
	})
}

func (w *watch) deafen() {
	w.disturb(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

func (w *watch) fail(code, retryAfter int) {
	w.disturb(func(out http.ResponseWriter, _ *http.Request) {
		send(out, "ERROR", statusObject(code, faultMessage(code), retryAfter))
	})
}

func send(w http.ResponseWriter, kind string, object any) {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Object any    `json:"object"`
	}{kind, object})
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(append(b, '\n'))
	flush(w)
}

// watch serves a watch until its time limit, a disturbance or the client ends it.
func (s *Sim) watch(w http.ResponseWriter, r *http.Request, q *Request, f *Fault, answered func(int), refuse func(int, string, int)) {
	match, message := s.selector(q)
	if message != "" {
		refuse(400, message, 0)
		return
	}
	answered(200)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush(w)
	if f != nil && f.Kind == StatusEvent {
		send(w, "ERROR", statusObject(f.Code, faultMessage(f.Code), f.RetryAfter))
		return
	}
	if f != nil && f.Kind == Cut {
		_, _ = w.Write([]byte(`{"type":"ADDED","object":{"metadata":{"na`))
		flush(w)
		panic(http.ErrAbortHandler)
	}

	me := &watch{end: make(chan struct{})}
	s.mu.Lock()
	s.watches[me] = struct{}{}
	from, _ := strconv.Atoi(q.Query.Get("resourceVersion"))
	old := from != 0 && from < s.oldest
	var first []*record
	if from == 0 { // "" or "0": what there is comes first
		state := s.live[q.Resource]
		for _, k := range slices.Sorted(maps.Keys(state)) {
			if match(state[k].object) {
				first = append(first, state[k])
			}
		}
		from = s.rv
	}
	newest := s.rv
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watches, me)
		s.mu.Unlock()
	}()
	if old {
		send(w, "ERROR", statusObject(410, fmt.Sprintf("too old resource version: %d (%d)", from, newest), 0))
		return
	}
	for _, o := range first {
		send(w, "ADDED", json.RawMessage(o.raw))
	}

	var limit, bookmark <-chan time.Time
	if n, err := strconv.Atoi(q.Query.Get("timeoutSeconds")); err == nil {
		t := time.NewTimer(time.Duration(n) * time.Second)
		defer t.Stop()
		limit = t.C
	}
	if q.Query.Get("allowWatchBookmarks") == "true" {
		t := time.NewTicker(s.o.BookmarkGap)
		defer t.Stop()
		bookmark = t.C
	}
	only := f != nil && f.Kind == Bookmarks
	for {
		s.mu.Lock()
		// Events wait here while the handler sends.
		start := sort.Search(len(s.log), func(i int) bool { return s.log[i].rv > from })
		changes := slices.Clone(s.log[start:])
		changed := s.changed
		s.mu.Unlock()
		for _, c := range changes {
			from = c.rv
			if c.resource != q.Resource || only {
				continue
			}
			is, was := c.now != nil && match(c.now.object), c.was != nil && match(c.was.object)
			switch {
			case is && was:
				send(w, "MODIFIED", json.RawMessage(c.now.raw))
			case is:
				send(w, "ADDED", json.RawMessage(c.now.raw))
			case was && c.now == nil:
				send(w, "DELETED", json.RawMessage(c.was.raw))
			case was: // it has left the selection: its last state, at the new version
				o := clone(c.was.object)
				meta(o)["resourceVersion"] = strconv.Itoa(c.rv)
				send(w, "DELETED", o)
			}
		}
		select {
		case <-changed:
		case <-bookmark:
			k := s.kinds[q.Resource]
			send(w, "BOOKMARK", Object{
				"kind": k.kind, "apiVersion": "v1",
				"metadata": Object{"resourceVersion": strconv.Itoa(from)},
			})
		case <-limit:
			return
		case <-me.end:
			me.how(w, r)
			return
		case <-r.Context().Done():
			return
		}
	}
}
