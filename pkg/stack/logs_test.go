package stack

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
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
)

// A container is followed through its restarts and through cuts, also those that
// fall together; each line comes once. A job's logs end with its pods.
func TestFollowRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := kubesim.New(kubesim.Options{})
		defer sim.Close()
		pod := func(phase string, restarts int, state string) {
			sim.Put("pods", kubesim.Object{
				"metadata": kubesim.Object{
					"namespace": "shop", "name": "p", "uid": "u", "labels": kubesim.Object{"app": "s-1-job"},
					"ownerReferences": []any{kubesim.Object{"kind": "Job", "name": "s-1-job-init"}},
				},
				"spec": kubesim.Object{"containers": []any{kubesim.Object{"name": "init"}}},
				"status": kubesim.Object{"phase": phase, "containerStatuses": []any{kubesim.Object{
					"name": "init", "restartCount": restarts, "state": kubesim.Object{state: kubesim.Object{}},
				}}},
			})
		}
		var want []string
		say := func(text string) {
			want = append(want, text)
			sim.AppendLog("shop", "p", "init", text+"\n")
		}
		sim.SetLog("shop", "p", "init", false, "")
		pod("Running", 0, "running")
		say("first")
		go func() {
			for run := range 4 {
				for i := range 5 {
					time.Sleep(700 * time.Millisecond)
					say(fmt.Sprintf("run %d line %d", run, i))
					if i == 2 {
						sim.DropLogs()
					}
				}
				if run%2 == 1 {
					sim.DropLogs() // while it ends
					say("last words")
				}
				sim.EndLog("shop", "p", "init")
				if run == 3 {
					pod("Succeeded", run, "terminated")
					return
				}
				pod("Running", run, "terminated")
				time.Sleep(50 * time.Millisecond)
				sim.SetLog("shop", "p", "init", false, "")
				pod("Running", run+1, "running")
			}
		}()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, errors.New("it did not end"))
		defer cancel()
		c := kube.New(kubesim.Base(), sim.Transport(kubesim.Admin), kube.Options{})
		r := &run{
			w: &World{Tell: silent{}}, c: c, out: &Outcome{}, d: &file.Directory{Spec: &file.Spec{}, Stack: &file.Stack{Name: "web"}},
			scope: apply.Scope{ID: "s-1", Namespace: "shop"},
		}
		var got []string
		l := &logs{r: r, o: LogOptions{Job: "init", Tail: -1, Follow: true}, tell: silent{}, readers: map[string]*reader{}, changed: make(chan struct{})}
		l.emit = func(x LogLine) error { got = append(got, string(x.Text)); return nil }
		pods, err := r.pods(ctx, true)
		if err != nil || len(pods) != 1 || !l.wanted(pods[0]) {
			t.Fatalf("%v, %v", pods, err)
		}
		if err := l.past(ctx, pods); err != nil {
			t.Fatal(err)
		}
		if err := l.follow(ctx, pods); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d lines of %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		}
		c.Close()
	})
}
