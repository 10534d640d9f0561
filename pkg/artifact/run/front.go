package run

import (
	"context"
	"net/http"
	"sync/atomic"
)

// front is one listener for several watches.
type front struct {
	*site
	webs map[string]*web
	any  *web // whose rules of who may come in are those of all
	mux  *http.ServeMux
}

// openFront opens it.
func openFront(ctx context.Context, o Listen, loops []*loop) (*front, error) {
	ln, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	f := &front{webs: map[string]*web{}, mux: http.NewServeMux()}
	streams := &atomic.Int64{}
	for _, l := range loops {
		h := newWeb(l, o, ln.Addr())
		h.streams = streams
		f.webs[h.name], f.any = h, h
	}
	f.mux.HandleFunc("/watches/{name}/", f.one)
	f.mux.HandleFunc("GET /healthz", f.health)
	f.site = serveSite(ctx, ln, f)
	return f, nil
}

// ServeHTTP lets in whom a single watch would.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.any.admits(w, r) {
		f.mux.ServeHTTP(w, r)
	}
}

func (f *front) one(w http.ResponseWriter, r *http.Request) {
	h := f.webs[r.PathValue("name")]
	if h == nil {
		refuse(w, http.StatusNotFound, "there is no such watch here")
		return
	}
	h.mux.ServeHTTP(w, r)
}

// health is 204 while every loop turns.
func (f *front) health(w http.ResponseWriter, r *http.Request) {
	late, cancel := context.WithTimeout(r.Context(), answerIn)
	defer cancel()
	stuck := make(chan string, len(f.webs))
	for name, h := range f.webs {
		go func() {
			if h.l.turns(late) {
				name = ""
			}
			stuck <- name
		}()
	}
	for range f.webs {
		if name := <-stuck; name != "" {
			refuse(w, http.StatusServiceUnavailable, "the watch "+name+" does not turn")
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
