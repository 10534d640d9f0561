package builderweb

import (
	"reflect"
	"strings"
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

// group are n sources of the same job that several watches ask.
func group(t *testing.T, b *buildersim.Builder, h *share.Host, n int) []*Source {
	t.Helper()
	var all []*Source
	for range n {
		all = append(all, New(spec(t, www), Deps{HTTP: source.NewClient(source.Options{
			Next: woodsim.InProcess(b), Host: h, Shared: www,
		})}))
	}
	return all
}

// Watches of one job ask together what they would all ask, and each gets what
// it would get alone: what runs is not the same everywhere.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		b.AddJob("www")
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		const n = 6
		all, alone := group(t, b, share.New().Host("h"), n), local(t, b, www)
		queries := make([]artifact.Query, n)
		running := func(i int) *artifact.Version {
			if i == 0 {
				return nil
			}
			id, order := idOfBytes("old"), noon().Add(-time.Hour).UnixMilli()
			if i > 3 {
				id = idOfBytes("two") // it has the next one already
			}
			return &artifact.Version{Candidate: artifact.Candidate{ID: id, Order: order}}
		}
		round := func(what string, most int) {
			t.Helper()
			var want []artifact.Look
			for i := range n {
				l, err := alone.Look(t.Context(), queries[i])
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, l)
			}
			b.Forget()
			since := time.Now()
			var looks sync.WaitGroup
			for i, s := range all {
				looks.Go(func() {
					time.Sleep(time.Duration(i) * 300 * time.Millisecond)
					ctx, _ := share.Sit(t.Context(), since)
					l, err := s.Look(ctx, queries[i])
					if err != nil || !reflect.DeepEqual(l, want[i]) {
						t.Errorf("%s, watch %d: %+v %v, want %+v", what, i, l, err, want[i])
					}
				})
			}
			looks.Wait()
			if got := b.Requests(); len(got) > most {
				for _, r := range got {
					t.Log(r.Method, r.URI, r.Status, r.Header.Get("If-None-Match"))
				}
				t.Errorf("%s: %d requests, %d at most", what, len(got), most)
			}
			for i, l := range want {
				queries[i].Seen = l.Seen
				if l.Candidate != nil {
					queries[i].Offered = l.Candidate
				}
				queries[i].Running = running(i)
			}
			time.Sleep(time.Minute)
		}
		round("first", 4+1)
		round("idle", 1)
		round("idle", 1)
		b.Add(buildersim.Build{Job: "www", Start: noon().Add(time.Hour), Bytes: []byte("two")})
		// latest, build, rows, main-binary; the file on two conditions and on none.
		round("a new build", 4+3)
		round("idle", 1)
	})
}

// A 404 that others were told is no old news for whoever asks again.
func TestTogetherDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		b.AddJob("www")
		one := b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		two := b.Add(buildersim.Build{Job: "www", Start: noon().Add(time.Hour), Bytes: []byte("two")})
		all := group(t, b, share.New().Host("h"), 2)
		since := time.Now()
		ctx, _ := share.Sit(t.Context(), since)
		l, err := all[0].Look(ctx, artifact.Query{})
		if err != nil || l.Candidate.Meta.UUID != two {
			t.Fatal(l, err)
		}
		b.Delete(two)
		time.Sleep(time.Second)
		// What the first one was told is a build that is gone: what is left of it
		// here is not known, so that it is asked about anew.
		ctx, _ = share.Sit(t.Context(), since)
		l, err = all[1].Look(ctx, artifact.Query{Running: &artifact.Version{Candidate: artifact.Candidate{ID: idOfBytes("one"), Order: 1}}})
		if err != nil || l.Candidate == nil || l.Candidate.Meta.UUID != one || !l.Rebuilt {
			t.Errorf("%+v %v", l, err)
		}
	})
}

// 429 is for the host, whatever is asked there, and bodies too.
func TestTogetherHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buildersim.NewBuilder()
		b.AddJob("www")
		b.Add(buildersim.Build{Job: "www", Start: noon(), Bytes: []byte("one")})
		all := group(t, b, share.New().Host("h"), 2)
		l := look(t, all[0], artifact.Query{})
		b.Next(1, "latest", buildersim.TooMany(2*time.Minute))
		if _, err := all[0].Look(t.Context(), artifact.Query{}); artifact.FailureOf(err, "").Shared || !artifact.FailureOf(err, "").Limited {
			t.Errorf("%#v", err)
		}
		b.Forget()
		time.Sleep(110 * time.Second)
		ctx, _ := share.Sit(t.Context(), time.Now())
		_, err := all[1].Look(ctx, artifact.Query{})
		if f := artifact.FailureOf(err, ""); f == nil || !f.Shared || f.RetryAfter != 10*time.Second {
			t.Errorf("%#v", err)
		}
		if err := all[1].Fetch(t.Context(), *l.Candidate, &strings.Builder{}); artifact.FailureOf(err, "") == nil || !artifact.FailureOf(err, "").Shared {
			t.Errorf("%#v", err)
		}
		requests(t, b, 0)
		time.Sleep(10 * time.Second)
		var got strings.Builder
		if err := all[1].Fetch(t.Context(), *l.Candidate, &got); err != nil || got.String() != "one" {
			t.Error(got.String(), err)
		}
	})
}
