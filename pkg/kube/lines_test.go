package kube_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

func podWith(sim *kubesim.Sim, containers ...string) {
	var list []any
	for _, c := range containers {
		list = append(list, kubesim.Object{"name": c})
	}
	sim.Put("pods", kubesim.Object{"metadata": kubesim.Object{"namespace": "shop", "name": "web-1"}, "spec": kubesim.Object{"containers": list}})
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		podWith(sim, "web", "side")
		start := time.Now()
		sim.SetLog("shop", "web-1", "web", true, "before\n")
		sim.SetLog("shop", "web-1", "web", false, "one\n two \n")
		time.Sleep(2500 * time.Millisecond)
		sim.AppendLog("shop", "web-1", "web", "three\n\nfo")
		for _, r := range []struct {
			name string
			o    kube.LineOptions
			want []string
		}{
			{"all", kube.LineOptions{Tail: -1}, []string{"one", " two ", "three", ""}},
			{"an incomplete line", kube.LineOptions{Tail: -1, Cut: true}, []string{"one", " two ", "three", "", "fo"}},
			{"the end", kube.LineOptions{Tail: 2}, []string{""}},
			{"nothing", kube.LineOptions{Tail: 0}, nil},
			// A server counts in whole seconds, and would send more.
			{"since", kube.LineOptions{Tail: -1, Since: start.Add(2200 * time.Millisecond)}, []string{"three", ""}},
			{"previous", kube.LineOptions{Tail: -1, Previous: true}, []string{"before"}},
		} {
			var got []string
			r.o.Container = "web"
			err := c.Lines(t.Context(), "shop", "web-1", r.o, &kube.Mark{}, func(l kube.Line) error {
				if l.Time.Before(start) || l.Time.After(time.Now().Add(time.Millisecond)) {
					t.Errorf("%s: %q at %v", r.name, l.Text, l.Time)
				}
				got = append(got, string(l.Text))
				return nil
			})
			if err != nil || !slices.Equal(got, r.want) {
				t.Errorf("%s: %q, not %q: %v", r.name, got, r.want, err)
			}
		}
		err := c.Lines(t.Context(), "shop", "web-1", kube.LineOptions{Container: "side", Tail: -1}, &kube.Mark{}, nil)
		if s, ok := errors.AsType[*kube.StatusError](err); !ok || s.Code != 400 {
			t.Errorf("not started: %v", err)
		}
		stop := errors.New("enough")
		n := 0
		err = c.Lines(t.Context(), "shop", "web-1", kube.LineOptions{Container: "web", Tail: -1}, &kube.Mark{}, func(kube.Line) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			t.Errorf("went on after %d lines: %v", n, err)
		}
	})
}

// However often a connection is cut, and wherever in a line, each line comes
// once and in order.
func TestLinesGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		podWith(sim, "web")
		sim.SetLog("shop", "web-1", "web", false, "")
		var want []string
		go func() {
			for i := range 200 {
				line := fmt.Sprintf("line %d", i/3) // equal lines are lines as well
				want = append(want, line)
				sim.AppendLog("shop", "web-1", "web", line[:4])
				time.Sleep(37 * time.Millisecond)
				if i%7 == 3 {
					sim.DropLogs()
				}
				sim.AppendLog("shop", "web-1", "web", line[4:]+"\n")
				if i%11 == 5 {
					sim.DropLogs()
				}
			}
			time.Sleep(100 * time.Millisecond)
			sim.SetLog("shop", "web-1", "web", false, "") // another run
		}()
		remove := sim.Inject(kubesim.Fault{Kind: kubesim.Cut, Resource: "pods", Times: 3})
		defer remove()
		var got []string
		var m kube.Mark
		cuts := 0
		for {
			err := c.Lines(t.Context(), "shop", "web-1", kube.LineOptions{Container: "web", Tail: -1, Follow: true}, &m, func(l kube.Line) error {
				got = append(got, string(l.Text))
				return nil
			})
			if err == nil {
				break
			}
			if !kube.IsTransient(err) {
				t.Fatal(err)
			}
			cuts++
			time.Sleep(13 * time.Millisecond)
		}
		if cuts < 40 || !slices.Equal(got, want) {
			t.Errorf("%d cuts, %d lines of %d:\n%s", cuts, len(got), len(want), strings.Join(got, "\n"))
		}
		if m.Last().IsZero() {
			t.Error("no time is remembered")
		}
	})
}

// What was left out at first does not come when the log is gone on with.
func TestLinesGoOnBehindTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		podWith(sim, "web")
		sim.SetLog("shop", "web-1", "web", false, "one\ntwo\nthree\n")
		var got []string
		var m kube.Mark
		for range 3 {
			err := c.Lines(t.Context(), "shop", "web-1", kube.LineOptions{Container: "web", Tail: 1}, &m, func(l kube.Line) error {
				got = append(got, string(l.Text))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			sim.AppendLog("shop", "web-1", "web", "more\n")
		}
		if want := []string{"three", "more", "more"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

func TestLinesEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		podWith(sim, "web")
		sim.SetLog("shop", "web-1", "web", false, "one\n")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, context.DeadlineExceeded)
		defer cancel()
		start := time.Now()
		err := c.Lines(ctx, "shop", "web-1", kube.LineOptions{Container: "web", Tail: -1, Follow: true}, &kube.Mark{}, func(kube.Line) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		// A log nobody writes to may be a connection nobody answers on.
		start = time.Now()
		err = c.Lines(t.Context(), "shop", "web-1", kube.LineOptions{Container: "web", Tail: -1, Follow: true}, &kube.Mark{}, func(kube.Line) error { return nil })
		if !kube.IsTransient(err) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
