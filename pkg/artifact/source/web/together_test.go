package web

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/buildersim"
	"homelab/internal/woodsim"
	"homelab/pkg/artifact"
	"homelab/pkg/artifact/share"
	"homelab/pkg/artifact/source"
)

// Watches of one file share "not modified"; those with another validator, and
// those who read a body, ask for themselves.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := buildersim.NewFiles()
		f.Set(buildersim.Settings{ETags: buildersim.Quoted, LastModified: true})
		f.Put("/www/app.bin", []byte("one"), noon())
		h := share.New().Host("h")
		const n = 5
		var all []*Source
		for range n {
			sp, err := Parse(from, "")
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(sp, Deps{HTTP: source.NewClient(source.Options{Next: woodsim.InProcess(f), Host: h, Shared: from}), MaxSize: 1000})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		queries := make([]artifact.Query, n)
		round := func(what, body string, changed bool, most int) {
			t.Helper()
			f.Forget()
			since := time.Now()
			var looks sync.WaitGroup
			for i, s := range all {
				looks.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					ctx, _ := share.Sit(t.Context(), since)
					q := &queries[i]
					l, err := s.Look(ctx, *q)
					if err != nil || l.Unchanged == changed || changed && l.Candidate.ID != idOfBytes(body) {
						t.Errorf("%s, watch %d: %+v %v", what, i, l, err)
						return
					}
					q.Seen = l.Seen
					if changed {
						q.Offered = l.Candidate
					}
				})
			}
			looks.Wait()
			if got := len(f.Requests()); got > most {
				t.Errorf("%s: %d requests, %d at most", what, got, most)
			}
			time.Sleep(time.Minute)
		}
		round("first", "one", true, n)
		round("idle", "one", false, 1)
		f.Put("/www/app.bin", []byte("two"), noon().Add(time.Hour))
		late := queries[0]
		round("new", "two", true, n+1)
		// One that has missed that is not told "not modified".
		ctx, _ := share.Sit(t.Context(), time.Now().Add(-time.Minute))
		if l, err := all[0].Look(ctx, late); err != nil || l.Candidate == nil || l.Candidate.ID != idOfBytes("two") {
			t.Errorf("%+v %v", l, err)
		}
	})
}

// Slow downloads keep no look from being answered, by a server that says "not
// modified" as by one that does not.
func TestLooksBesideDownloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := buildersim.NewFiles()
		f.Set(buildersim.Settings{ETags: buildersim.Quoted, LastModified: true})
		f.Put("/www/app.bin", []byte("one"), noon())
		deaf := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-None-Match")
			f.ServeHTTP(w, r)
		})
		for name, server := range map[string]http.Handler{"not modified": f, "deaf": deaf} {
			h := share.New().Host("h")
			sp, err := Parse(from, "")
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(sp, Deps{HTTP: source.NewClient(source.Options{Next: woodsim.InProcess(server), Host: h}), MaxSize: 1000})
			if err != nil {
				t.Fatal(err)
			}
			first, err := s.Look(t.Context(), artifact.Query{})
			if err != nil {
				t.Fatal(err)
			}
			f.Forget()
			for range share.MostConns - 1 {
				leave, err := h.Enter(t.Context(), true)
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if l, err := s.Look(ctx, artifact.Query{Seen: first.Seen, Offered: first.Candidate}); err != nil || !l.Unchanged {
				t.Errorf("%s: %+v %v", name, l, err)
			}
			if n := len(f.Requests()); n != 1 {
				t.Errorf("%s: %d requests", name, n)
			}
		}
	})
}
