package rollout_test

import (
	"testing"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
)

// One look tells what is there, waits for nothing and watches nothing.
func TestLook(t *testing.T) {
	for _, r := range []struct {
		name   string
		image  string // that should run; "" is what does
		happen func(*watcher)
		want   rollout.Outcome
		within time.Duration
	}{
		{"ready", "", func(*watcher) {}, rollout.Ready, 0},
		{"another image", newWeb, func(*watcher) {}, rollout.Timeout, 0},
		{"rolling out", newWeb, func(w *watcher) {
			w.sim.Rollout("shop/web", newWeb, kubesim.Plan{Pod: kubesim.Life{Ready: time.Minute}})
			time.Sleep(10 * time.Second)
		}, rollout.Timeout, 0},
		{"just done", newWeb, func(w *watcher) {
			w.sim.Rollout("shop/web", newWeb, kubesim.Plan{})
			time.Sleep(20 * time.Second)
		}, rollout.Ready, 0},
		{"crashing", newWeb, func(w *watcher) {
			w.sim.Rollout("shop/web", newWeb, kubesim.Plan{Pod: kubesim.Life{CrashAfter: time.Second, Log: "no database\n"}})
			time.Sleep(3 * time.Minute)
		}, rollout.Failed, 0},
		{"paused", newWeb, func(w *watcher) {
			w.sim.Rollout("shop/web", newWeb, kubesim.Plan{})
			w.sim.Update("deployments", "shop", "web", func(o kubesim.Object) { o["spec"].(kubesim.Object)["paused"] = true })
			time.Sleep(time.Second)
		}, rollout.Paused, 0},
		{"absent", "", func(w *watcher) { w.sim.Delete("deployments", "shop", "web") }, rollout.Absent, 0},
		{"denied", "", func(w *watcher) { w.without(kubesim.Rule{Resources: []string{"deployments"}}) }, rollout.Denied, time.Second},
		{"a bad moment", "", func(w *watcher) { w.sim.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 502, Times: 3}) }, rollout.Ready, 6 * time.Second},
		{"down", "", func(w *watcher) { w.sim.Down(time.Hour) }, rollout.Unreachable, 25 * time.Second},
	} {
		t.Run(r.name, func(t *testing.T) {
			bubble(t, func(w *watcher) {
				time.Sleep(time.Minute)
				r.happen(w)
				w.sim.Forget()
				settle := time.Duration(0)
				cfg := rollout.Config{Kind: rollout.Deployment, Namespace: "shop", Name: "web", Images: map[string]string{"web": oldWeb}, Settle: &settle}
				if r.image != "" {
					cfg.Images["web"] = r.image
				}
				start := time.Now()
				got := rollout.Look(w.Context(), w.c, []rollout.Config{cfg}, rollout.Sources{})
				if took := time.Since(start); got[0].Outcome != r.want || took > r.within {
					t.Errorf("%s after %v: %s %q", got[0].Outcome, took, got[0].Sentence, got[0].Why)
				}
				if n := w.sim.Count("watch", ""); n > 0 {
					t.Errorf("%d watches", n)
				}
				if r.want == rollout.Failed && (got[0].Cause == nil || len(got[0].Cause.LogTail) != 1) {
					t.Errorf("the cause is %+v", got[0].Cause)
				}
			})
		})
	}
}

func TestLookAtSeveral(t *testing.T) {
	bubble(t, func(w *watcher) {
		w.sim.Deploy(deployed("api"))
		time.Sleep(time.Minute)
		w.sim.Forget()
		settle := time.Duration(0)
		var all []rollout.Config
		for _, name := range []string{"api", "none", "web"} {
			all = append(all, rollout.Config{
				Kind: rollout.Deployment, Namespace: "shop", Name: name, Settle: &settle,
				Images: map[string]string{name: "reg.lan/" + name + ":77ab01c"},
			})
		}
		got := rollout.Look(w.Context(), w.c, all, rollout.Sources{})
		if got[0].Outcome != rollout.Ready || got[1].Outcome != rollout.Absent || got[2].Outcome != rollout.Ready {
			t.Errorf("%s %s %s", got[0].Outcome, got[1].Outcome, got[2].Outcome)
		}
		if n := w.sim.Count("list", "pods") + w.sim.Count("list", "replicasets"); n != 2 {
			t.Errorf("%d lists of what they share", n)
		}
	})
}

var _ rollout.Cluster = (*kube.Cluster)(nil)
