package kube_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
)

// until waits for a condition in real time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 400 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// Over a real listener: several watches share one connection, and a role that
// names the one object is enough to follow it.
func TestFollowOverTLS(t *testing.T) {
	sim, srv := serve(t)
	u := sim.AddUser(kubesim.User{Name: "dev", Allow: []kubesim.Rule{
		{Resources: []string{"deployments"}, Names: []string{"web"}}, {Resources: []string{"pods"}},
	}})
	c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", u.Token, "")}})
	ctx, cancel := context.WithCancel(t.Context())
	web, pods := newSink(), newSink()
	done := make(chan error, 2)
	start := time.Now()
	go func() { done <- c.Follow(ctx, kube.Apps("deployments"), "shop", kube.Query{Name: "web"}, web) }()
	go func() { done <- c.Follow(ctx, kube.Core("pods"), "shop", kube.Query{}, pods) }()
	until(t, "both watch", func() bool { return sim.Count("watch", "") == 2 })
	t.Logf("two watches after %v", time.Since(start))
	tells := func(line string) func() bool {
		return func() bool {
			return slices.ContainsFunc(web.story(), func(s string) bool { return strings.HasSuffix(s, line) })
		}
	}
	sim.Put("deployments", deployment("web", 2))
	until(t, "a change", tells("changed web"))
	sim.DropWatches()
	until(t, "both watch again", func() bool { return sim.Count("watch", "") == 4 })
	sim.Delete("deployments", "shop", "web")
	until(t, "the end", tells("deleted web"))
	if n := srv.Conns(); n > 2 {
		t.Errorf("%d connections", n)
	}
	if n := sim.Count("list", ""); n != 2 {
		t.Errorf("%d lists", n)
	}
	cancel()
	stop := time.Now()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
	if d := time.Since(stop); d > time.Second {
		t.Errorf("ended after %v", d)
	}
}

// A long list is never in memory as JSON when Keep replaces it.
func TestListMemory(t *testing.T) {
	sim, srv := serve(t)
	c := connect(t, kube.Options{Kubeconfig: []string{srv.Kubeconfig(t, "lab", kubesim.Admin, "")}})
	const pods, size = 500, 20_000
	for i := range pods {
		sim.Put("pods", kubesim.Object{
			"metadata": kubesim.Object{"namespace": "shop", "name": fmt.Sprintf("web-%03d", i)},
			"spec":     kubesim.Object{"pad": strings.Repeat("x", size)},
		})
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	_, _, _ = c.List(t.Context(), kube.Core("pods"), "shop", kube.Query{Limit: 1})
	before, most := heap(), int64(0)
	n := 0
	items, _, err := c.List(t.Context(), kube.Core("pods"), "shop", kube.Query{Keep: func(o *kube.Object) bool {
		if n++; n == pods-1 {
			most = heap() - before
		}
		o.Value, o.Raw = len(o.Raw), nil
		return true
	}})
	if err != nil || len(items) != pods {
		t.Fatalf("%d items: %v", len(items), err)
	}
	t.Logf("%d kB of list, %d kB of heap at its end, most of it the server's copy", pods*size>>10, most>>10)
	// The server, in this process, holds its marshalled answer while it is sent.
	if kept := heap() - before; kept > 1<<20 {
		t.Errorf("%d kB are kept", kept>>10)
	}
	runtime.KeepAlive(items)
}
