package rollout_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"homelab/internal/kubesim"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
)

const (
	commit = "3f9c2ab000000000000000000000000000000000"
	oldWeb = "reg.lan/web:77ab01c"
	newWeb = "reg.lan/web:main-3f9c2ab"
)

// told is one thing that was emitted.
type told struct {
	at time.Duration
	i  int
	v  rollout.Verdict
}

// watcher is a wait over a simulated server, in a bubble.
type watcher struct {
	*testing.T
	sim     *kubesim.Sim
	c       *kube.Cluster
	cfgs    []rollout.Config
	src     rollout.Sources
	start   time.Time
	mu      sync.Mutex
	story   []told // under mu until the wait has ended
	end     context.CancelCauseFunc
	done    chan struct{}
	ended   time.Duration
	verdict []rollout.Verdict
}

func config(target string) rollout.Config {
	p := strings.Split(target, "/")
	c := rollout.Config{
		Kind: rollout.Deployment, Namespace: p[0], Name: p[len(p)-1],
		Expected: rollout.Expected{Commit: commit, Typed: 7}, Match: rollout.MatchAuto,
	}
	if len(p) == 3 {
		c.Kind, _ = rollout.ParseKind(p[1])
	}
	return c
}

func deployed(name string) kubesim.Workload {
	return kubesim.Workload{Namespace: "shop", Name: name, Image: "reg.lan/" + name + ":77ab01c", Replicas: 2, Probe: true}
}

// bubble runs f with a server on which shop/web runs an older image.
func bubble(t *testing.T, f func(*watcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{T: t, sim: kubesim.New(kubesim.Options{}), cfgs: []rollout.Config{config("shop/web")}, done: make(chan struct{})}
		w.sim.Deploy(deployed("web"))
		w.as(kubesim.Admin)
		f(w)
		if w.end != nil {
			w.end(nil)
			<-w.done
		}
		w.c.Close()
		w.sim.Close()
		synctest.Wait() // whatever a wait left behind would keep the bubble from ending
	})
}

// as makes the wait that user's.
func (w *watcher) as(token string) {
	w.c = kube.New(kubesim.Base(), w.sim.Transport(token), kube.Options{Random: func() float64 { return 0.5 }})
}

// without makes the wait a user's who may not do some things.
func (w *watcher) without(deny ...kubesim.Rule) {
	w.as(w.sim.AddUser(kubesim.User{Name: "bob", Deny: deny}).Token)
}

// begin starts the wait, with a deadline if it is not 0.
func (w *watcher) begin(deadline time.Duration) {
	w.start = time.Now()
	ctx, end := context.WithCancelCause(w.Context())
	w.end = end
	if deadline > 0 {
		at := time.AfterFunc(deadline, func() { end(fault.ErrTimeUp) })
		context.AfterFunc(ctx, func() { at.Stop() })
	}
	go func() {
		defer close(w.done)
		v := rollout.Wait(ctx, w.c, w.cfgs, w.src, func(i int, v rollout.Verdict) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.story = append(w.story, told{time.Since(w.start), i, v})
		})
		w.verdict, w.ended = v, time.Since(w.start)
	}()
	synctest.Wait()
}

// latest is what was told last of the first workload's wait; false when nothing was.
func (w *watcher) latest() (rollout.Verdict, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.story) == 0 {
		return rollout.Verdict{}, false
	}
	return w.story[len(w.story)-1].v, true
}

// first is what was told first.
func (w *watcher) first() rollout.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.story[0].v
}

// pass lets time go by.
func (w *watcher) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *watcher) roll(image string, p kubesim.Plan) {
	w.sim.Rollout("shop/web", image, p)
	synctest.Wait()
}

// over waits for the end and returns the first verdict.
func (w *watcher) over(within time.Duration) rollout.Verdict {
	w.Helper()
	select {
	case <-w.done:
	case <-time.After(within):
		last := "nothing"
		if v, some := w.latest(); some {
			last = fmt.Sprintf("%s/%s %s", v.Outcome, v.Phase, v.Sentence)
		}
		w.Fatalf("no end within %s; last: %s", within, last)
	}
	w.gentle()
	return w.verdict[0]
}

// ends wants an outcome and a text in the sentence.
func (w *watcher) ends(within time.Duration, want rollout.Outcome, text string) rollout.Verdict {
	w.Helper()
	v := w.over(within)
	if v.Outcome != want || !strings.Contains(v.Sentence, text) {
		w.Errorf("after %s: %s %q, not %s %q\n%s", w.ended, v.Outcome, v.Sentence, want, text, w.tale())
	}
	return v
}

// pending wants that it is still going on.
func (w *watcher) pending() {
	w.Helper()
	select {
	case <-w.done:
		w.Fatalf("ended after %s: %s %q\n%s", w.ended, w.verdict[0].Outcome, w.verdict[0].Sentence, w.tale())
	default:
	}
}

func (w *watcher) tale() string {
	var b strings.Builder
	for _, s := range w.story {
		fmt.Fprintf(&b, "  %6.2f %d %s/%s %s\n", s.at.Seconds(), s.i, s.v.Outcome, s.v.Phase, s.v.Sentence)
	}
	return b.String()
}

// gentle wants at most one list per second of each selection, and no sentence
// twice in a row.
func (w *watcher) gentle() {
	w.Helper()
	last := map[string]time.Time{}
	for _, r := range w.sim.Requests() {
		if r.Verb != "list" || r.Resource == "events" || r.Query.Get("limit") != "" || r.Code == 403 || r.Code == 401 {
			continue
		}
		key := r.Resource + "?" + r.Namespace + r.Query.Encode()
		if at, ok := last[key]; ok && r.Time.Sub(at) < time.Second {
			w.Errorf("%s was listed %s after the last time", key, r.Time.Sub(at))
		}
		last[key] = r.Time
	}
	said := map[int]string{}
	for _, s := range w.story {
		text := string(s.v.Outcome) + string(s.v.Phase) + s.v.Sentence
		if said[s.i] == text {
			w.Errorf("told twice in a row: %s", s.v.Sentence)
		}
		said[s.i] = text
	}
}

// once wants one request of the kind.
func (w *watcher) once(verb, resource string) {
	w.Helper()
	if n := w.sim.Count(verb, resource); n != 1 {
		w.Errorf("%s %s came %d times", verb, resource, n)
	}
}

func TestWaitSuccess(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(time.Minute)
		w.pass(3 * time.Second)
		w.pending() // asked too early: the old image's rollout is complete
		if v := w.first(); v.Phase != rollout.PhaseImage || !strings.Contains(v.Sentence, oldWeb) && !strings.Contains(v.Sentence, "asking") {
			w.Errorf("it first said %s %q", v.Phase, v.Sentence)
		}
		w.roll(newWeb, kubesim.Plan{})
		v := w.ends(30*time.Second, rollout.Ready, "")
		if !v.Verified || v.MatchedBy != "tag" || v.Image != newWeb || v.Counts.Updated != 2 {
			w.Errorf("%+v", v)
		}
		var phases []rollout.Phase
		for _, s := range w.story {
			if n := len(phases); n == 0 || phases[n-1] != s.v.Phase {
				phases = append(phases, s.v.Phase)
			}
		}
		if got := fmt.Sprint(phases); got != "[image rollout settle done]" {
			w.Errorf("the phases were %s\n%s", got, w.tale())
		}
		for _, resource := range []string{"deployments", "replicasets", "pods"} {
			w.once("list", resource)
			w.once("watch", resource)
		}
	})
}

// A rollout that was complete long ago passes at once.
func TestWaitDoneBefore(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.cfgs[0].Expected = rollout.Expected{Commit: "77ab01c000000000000000000000000000000000"}
		w.begin(time.Minute)
		w.ends(time.Second, rollout.Ready, "")
		w.once("get", "deployments")
		if w.ended > 300*time.Millisecond {
			w.Errorf("it took %s", w.ended)
		}
	})
}

func TestWaitReverted(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(time.Minute)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{Ready: time.Minute}})
		w.pass(5 * time.Second)
		w.pending()
		w.roll(oldWeb, kubesim.Plan{Writer: "keel"})
		v := w.ends(time.Second, rollout.Superseded, "rolled back")
		if !strings.Contains(v.Sentence, "keel") {
			w.Errorf("nobody is named: %s", v.Sentence)
		}
	})
}

func TestWaitPullFailure(t *testing.T) {
	t.Parallel()
	plan := kubesim.Plan{Pod: kubesim.Life{PullError: "failed to resolve reference: " + newWeb + ": not found"}}
	bubble(t, func(w *watcher) {
		w.begin(5 * time.Minute)
		w.roll(newWeb, plan)
		v := w.ends(2*time.Minute, rollout.Failed, "ImagePullBackOff for 1m")
		if !strings.Contains(v.Cause.Message, "not found") || v.Cause.Class != rollout.ClassImage || v.Cause.Pod == "" || v.Cause.Container != "web" {
			w.Errorf("%+v", v.Cause)
		}
		if w.ended < 60*time.Second || w.ended > 64*time.Second {
			w.Errorf("it ended after %s, not after a minute of grace", w.ended)
		}
		if v.Serving == nil || v.Serving.Ready != 2 || v.Serving.Image != oldWeb {
			w.Errorf("serving %+v", v.Serving)
		}
	})
	bubble(t, func(w *watcher) { // the image comes late, within the grace
		w.begin(5 * time.Minute)
		late := plan
		late.Pod.PullFails = 2
		w.roll(newWeb, late)
		w.ends(3*time.Minute, rollout.Ready, "")
	})
}

func TestWaitCrashLoop(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(10 * time.Minute)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{CrashAfter: time.Second, Ready: 10 * time.Second, ExitCode: 3, Log: "boom: no database\n"}})
		v := w.ends(3*time.Minute, rollout.Failed, "")
		if v.Cause.Class != rollout.ClassCrash || v.Cause.ExitCode == nil || *v.Cause.ExitCode != 3 || !slices.Contains(v.Cause.LogTail, "boom: no database") {
			w.Errorf("%s: %+v", v.Sentence, v.Cause)
		}
		previous := 0
		for _, r := range w.sim.Requests() {
			if r.Sub == "log" {
				if r.Query.Get("previous") == "true" {
					previous++
				}
				if r.Query.Get("limitBytes") != "65536" {
					w.Errorf("limitBytes %q", r.Query.Get("limitBytes"))
				}
			}
		}
		if previous != 1 {
			w.Errorf("%d logs of the container's run before", previous)
		}
	})
	bubble(t, func(w *watcher) { // two crashes are survived
		w.begin(10 * time.Minute)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{CrashAfter: time.Second, Ready: 2 * time.Second, Crashes: 2}})
		w.ends(3*time.Minute, rollout.Ready, "")
	})
}

func TestWaitAbsent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ target, want string }{
		{"shop/wbe", "shop/web"},
		{"shop/statefulset/web", "shop/web"},
		{"store/web", "shop/web"},
	} {
		bubble(t, func(w *watcher) {
			w.sim.Namespace("store")
			w.cfgs = []rollout.Config{config(c.target)}
			w.begin(time.Minute)
			v := w.ends(2*time.Second, rollout.Absent, "")
			if !strings.Contains(strings.Join(v.Why, "\n"), c.want) {
				w.Errorf("%s: the suggestions are %q", c.target, v.Why)
			}
		})
	}
	bubble(t, func(w *watcher) { // a user who may see nothing else
		w.cfgs = []rollout.Config{config("shop/nothing")}
		w.as(w.sim.AddUser(kubesim.User{Name: "bob", Allow: []kubesim.Rule{{Resources: []string{"deployments"}, Names: []string{"nothing"}}}}).Token)
		w.begin(time.Minute)
		w.ends(2*time.Second, rollout.Absent, "no deployment of that name")
	})
	bubble(t, func(w *watcher) {
		w.cfgs = []rollout.Config{config("shop/late")}
		w.cfgs[0].WaitCreate = true
		w.begin(time.Minute)
		w.pass(5 * time.Second)
		w.pending()
		late := deployed("late")
		late.Image = "reg.lan/late:3f9c2ab"
		w.sim.Deploy(late)
		w.ends(15*time.Second, rollout.Ready, "")
	})
}

func TestWaitDeleted(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(time.Minute)
		w.pass(time.Second)
		w.sim.Delete("deployments", "shop", "web")
		w.ends(time.Second, rollout.Absent, "deleted")
	})
	again := func(w *watcher) string {
		o := w.sim.Object("deployments", "shop", "web")
		w.sim.Delete("deployments", "shop", "web")
		delete(o["metadata"].(kubesim.Object), "uid")
		o = w.sim.Put("deployments", o)
		return o["metadata"].(kubesim.Object)["uid"].(string)
	}
	bubble(t, func(w *watcher) {
		w.begin(time.Minute)
		w.pass(time.Second)
		uid := again(w)
		w.ends(time.Second, rollout.Absent, uid)
	})
	bubble(t, func(w *watcher) {
		w.cfgs[0].FollowRecreate = true
		w.begin(2 * time.Minute)
		w.pass(time.Second)
		w.sim.Delete("deployments", "shop", "web")
		w.pass(3 * time.Second)
		w.pending()
		anew := deployed("web")
		anew.Image = newWeb
		w.sim.Deploy(anew)
		w.ends(30*time.Second, rollout.Ready, "")
	})
}

func TestWaitDenied(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.without(kubesim.Rule{Resources: []string{"deployments"}})
		w.begin(time.Minute)
		v := w.ends(2*time.Second, rollout.Denied, "")
		text := v.Sentence + strings.Join(v.Why, "\n")
		for _, part := range []string{"deployments", "apps", "shop"} {
			if !strings.Contains(text, part) {
				w.Errorf("%q lacks %s", text, part)
			}
		}
	})
	bubble(t, func(w *watcher) {
		w.as("nobody")
		w.begin(time.Minute)
		w.ends(4*time.Second, rollout.Denied, "")
	})
	bubble(t, func(w *watcher) { // once 401 is nothing
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Status, Code: 401, Times: 1, Resource: "deployments"})
		w.begin(time.Minute)
		w.roll(newWeb, kubesim.Plan{})
		w.ends(30*time.Second, rollout.Ready, "")
	})
	bubble(t, func(w *watcher) { // the credentials are withdrawn while it waits
		w.begin(time.Minute)
		w.pass(time.Second)
		w.sim.RemoveUser(kubesim.Admin)
		w.sim.EndWatches()
		w.ends(10*time.Second, rollout.Denied, "")
	})
	bubble(t, func(w *watcher) { // a role that names its workloads, and several of them
		w.sim.Deploy(deployed("api"))
		w.cfgs = []rollout.Config{config("shop/web"), config("shop/api")}
		w.as(w.sim.AddUser(kubesim.User{Name: "bob", Allow: []kubesim.Rule{
			{Resources: []string{"deployments"}, Names: []string{"web", "api"}}, {Resources: []string{"pods", "replicasets", "events"}},
		}}).Token)
		w.begin(time.Minute)
		w.roll(newWeb, kubesim.Plan{})
		w.sim.Rollout("shop/api", "reg.lan/api:3f9c2ab", kubesim.Plan{})
		w.ends(30*time.Second, rollout.Ready, "")
		if w.verdict[1].Outcome != rollout.Ready {
			w.Errorf("api: %+v", w.verdict[1])
		}
	})
	bubble(t, func(w *watcher) { // one of two may not be read
		w.sim.Deploy(deployed("api"))
		w.cfgs = []rollout.Config{config("shop/web"), config("shop/api")}
		w.as(w.sim.AddUser(kubesim.User{Name: "bob", Allow: []kubesim.Rule{
			{Resources: []string{"deployments"}, Names: []string{"web"}}, {Resources: []string{"pods", "replicasets", "events"}},
		}}).Token)
		w.begin(time.Minute)
		w.roll(newWeb, kubesim.Plan{})
		w.ends(30*time.Second, rollout.Ready, "")
		if w.verdict[1].Outcome != rollout.Denied {
			w.Errorf("api: %+v", w.verdict[1])
		}
	})
}

// What may not be read costs an explanation, never the end.
func TestWaitMissingPermissions(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"pods", "replicasets", "events", "nodes", "pods/log", "persistentvolumeclaims", "namespaces"} {
		t.Run(strings.ReplaceAll(resource, "/", "-"), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(w *watcher) {
				w.without(kubesim.Rule{Resources: []string{resource}})
				w.begin(time.Minute)
				w.roll(newWeb, kubesim.Plan{})
				v := w.ends(40*time.Second, rollout.Ready, "")
				if v.Verified != (resource != "pods") {
					w.Errorf("verified is %t", v.Verified)
				}
			})
			bubble(t, func(w *watcher) {
				w.without(kubesim.Rule{Resources: []string{resource}})
				w.sim.Deploy(kubesim.Workload{Namespace: "shop", Name: "api", Image: "reg.lan/api:77ab01c", Replicas: 2, Deadline: 2 * time.Minute})
				w.cfgs = []rollout.Config{config("shop/api")}
				w.begin(10 * time.Minute)
				w.sim.Rollout("shop/api", "reg.lan/api:3f9c2ab", kubesim.Plan{Pod: kubesim.Life{CrashAfter: time.Second, Ready: 5 * time.Second}})
				w.ends(5*time.Minute, rollout.Failed, "")
			})
		})
	}
	t.Run("watch", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(w *watcher) {
			w.without(kubesim.Rule{Verbs: []string{"watch"}})
			w.begin(time.Minute)
			w.roll(newWeb, kubesim.Plan{})
			w.ends(40*time.Second, rollout.Ready, "")
		})
	})
	t.Run("list of the target", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(w *watcher) {
			w.without(kubesim.Rule{Verbs: []string{"list", "watch"}, Resources: []string{"deployments"}})
			w.begin(time.Minute)
			w.roll(newWeb, kubesim.Plan{})
			w.ends(40*time.Second, rollout.Ready, "")
		})
	})
	t.Run("controllerrevisions", func(t *testing.T) {
		t.Parallel()
		bubble(t, func(w *watcher) {
			w.without(kubesim.Rule{Resources: []string{"controllerrevisions"}})
			w.sim.Deploy(kubesim.Workload{Kind: "DaemonSet", Namespace: "shop", Name: "agent", Image: "reg.lan/agent:77ab01c", MaxUnavailable: 1, Probe: true})
			w.cfgs = []rollout.Config{config("shop/daemonset/agent")}
			w.begin(time.Minute)
			w.sim.Rollout("shop/daemonset/agent", "reg.lan/agent:3f9c2ab", kubesim.Plan{})
			w.ends(40*time.Second, rollout.Ready, "")
		})
	})
}

func TestWaitKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"StatefulSet", "DaemonSet"} {
		bubble(t, func(w *watcher) {
			k := strings.ToLower(kind)
			w.sim.Deploy(kubesim.Workload{Kind: kind, Namespace: "shop", Name: "db", Image: "reg.lan/db:77ab01c", Replicas: 2, MaxUnavailable: 1, Probe: true})
			w.cfgs = []rollout.Config{config("shop/" + k + "/db")}
			w.begin(time.Minute)
			w.sim.Rollout("shop/"+k+"/db", "reg.lan/db:3f9c2ab", kubesim.Plan{})
			if v := w.ends(40*time.Second, rollout.Ready, ""); !v.Verified {
				w.Errorf("%s: %+v", kind, v)
			}
		})
	}
}

// Whatever a connection suffers, the run ends as it should.
func TestWaitPathologies(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*kubesim.Sim){
		"dropped watches": func(s *kubesim.Sim) { s.DropWatches() },
		"ended watches":   func(s *kubesim.Sim) { s.EndWatches() },
		"half open":       func(s *kubesim.Sim) { s.Deafen() },
		"410 event":       func(s *kubesim.Sim) { s.FailWatches(410, 0) },
		"504 event":       func(s *kubesim.Sim) { s.FailWatches(504, 0) },
		"429 event":       func(s *kubesim.Sim) { s.FailWatches(429, 2) },
		"compacted":       func(s *kubesim.Sim) { s.Compact(); s.DropWatches() },
		"down":            func(s *kubesim.Sim) { s.Down(5 * time.Second) },
		"ignored selectors": func(s *kubesim.Sim) {
			s.IgnoreSelectors(true)
			s.DropWatches()
			s.Compact()
		},
		"410": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Status, Code: 410, Verb: "watch", Times: 6})
			s.DropWatches()
		},
		"429": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Status, Code: 429, RetryAfter: 1, Times: 8})
			s.DropWatches()
		},
		"500": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Status, Code: 500, Times: 8})
			s.DropWatches()
		},
		"html 403": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 403, Times: 8})
			s.DropWatches()
		},
		"html 404": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 404, Times: 8})
			s.DropWatches()
		},
		"html 200": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.HTML, Code: 200, Times: 8})
			s.DropWatches()
		},
		"cut":   func(s *kubesim.Sim) { s.Inject(kubesim.Fault{Kind: kubesim.Cut, Times: 8}); s.DropWatches() },
		"empty": func(s *kubesim.Sim) { s.Inject(kubesim.Fault{Kind: kubesim.Empty, Times: 8}); s.DropWatches() },
		"silent": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Silent, Times: 2})
			s.DropWatches()
		},
		"bookmarks": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Bookmarks, Verb: "watch", Times: 3})
			s.DropWatches()
		},
		"stale": func(s *kubesim.Sim) {
			s.Inject(kubesim.Fault{Kind: kubesim.Stale, Behind: 4, Verb: "list", Times: 3})
			s.FailWatches(410, 0)
		},
	} {
		for _, when := range []time.Duration{-1, 500 * time.Millisecond, 4 * time.Second} {
			t.Run(fmt.Sprintf("%s at %s", name, when), func(t *testing.T) {
				t.Parallel()
				bubble(t, func(w *watcher) {
					if when < 0 {
						disturb(w.sim)
					}
					w.begin(4 * time.Minute)
					w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{Ready: 4 * time.Second}})
					if when > 0 {
						w.pass(when)
						disturb(w.sim)
					}
					w.ends(3*time.Minute, rollout.Ready, "")
				})
			})
		}
	}
}

// Several workloads share a list and a watch per resource and namespace.
func TestWaitShared(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		names := []string{"web", "api", "db", "cron"}
		w.cfgs = nil
		for _, n := range names {
			if n != "web" {
				w.sim.Deploy(deployed(n))
			}
			w.cfgs = append(w.cfgs, config("shop/"+n))
		}
		w.begin(time.Minute)
		for _, n := range names[:3] {
			w.sim.Rollout("shop/"+n, "reg.lan/"+n+":3f9c2ab", kubesim.Plan{})
		}
		w.pass(20 * time.Second)
		w.pending()
		w.sim.Rollout("shop/cron", "reg.lan/cron:3f9c2ab", kubesim.Plan{Pod: kubesim.Life{ConfigError: `secret "x" not found`}})
		w.over(time.Minute)
		for i, v := range w.verdict {
			want := rollout.Ready
			if names[i] == "cron" {
				want = rollout.Failed
			}
			if v.Outcome != want {
				w.Errorf("%s: %s %s", names[i], v.Outcome, v.Sentence)
			}
		}
		for _, resource := range []string{"deployments", "replicasets", "pods"} {
			w.once("list", resource)
			w.once("watch", resource)
		}
		for _, r := range w.sim.Requests() {
			if got := r.Query.Get("labelSelector"); r.Resource == "pods" && r.Verb == "list" && got != "app in (api,cron,db,web)" {
				w.Errorf("pods were selected by %q", got)
			}
		}
	})
	bubble(t, func(w *watcher) { // one absent one does not hold up the others
		w.cfgs = append(w.cfgs, config("shop/nothing"))
		w.begin(time.Minute)
		w.roll(newWeb, kubesim.Plan{})
		w.ends(20*time.Second, rollout.Ready, "")
		if w.verdict[1].Outcome != rollout.Absent {
			w.Errorf("%+v", w.verdict[1])
		}
	})
}

// With one workload every request carries a selector.
func TestWaitSelects(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(time.Minute)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{ConfigError: `configmap "x" not found`}})
		w.ends(time.Minute, rollout.Failed, "")
		for _, r := range w.sim.Requests() {
			if (r.Verb == "list" || r.Verb == "watch") && r.Query.Get("labelSelector") == "" && r.Query.Get("fieldSelector") == "" {
				w.Errorf("%s %s came without a selector", r.Verb, r.Resource)
			}
		}
	})
}

func TestWaitTimeUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(5 * time.Second)
		v := w.ends(7*time.Second, rollout.Timeout, oldWeb)
		if v.Phase != rollout.PhaseImage || w.ended > 6*time.Second {
			w.Errorf("%s after %s", v.Phase, w.ended)
		}
	})
	bubble(t, func(w *watcher) {
		w.begin(20 * time.Second)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{ProbeError: "HTTP probe failed with statuscode: 503", Log: "starting\n"}})
		v := w.ends(22*time.Second, rollout.Timeout, "503")
		if v.Phase != rollout.PhaseRollout || w.ended > 21*time.Second || v.Cause == nil || v.Cause.Class != rollout.ClassReadiness {
			w.Errorf("%s after %s: %+v", v.Phase, w.ended, v.Cause)
		}
	})
	bubble(t, func(w *watcher) { // never answered
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Refuse})
		w.begin(10 * time.Second)
		w.ends(11*time.Second, rollout.Unreachable, "")
		if w.ended > 10*time.Second+time.Second {
			w.Errorf("after %s", w.ended)
		}
	})
	bubble(t, func(w *watcher) { // not for the last fifteen seconds
		w.begin(30 * time.Second)
		w.pass(10 * time.Second)
		w.sim.Down(time.Hour)
		w.ends(21*time.Second, rollout.Unreachable, "")
	})
	bubble(t, func(w *watcher) { // for ten only
		w.begin(30 * time.Second)
		w.pass(20 * time.Second)
		w.sim.Down(time.Hour)
		w.pass(5 * time.Second)
		if v, _ := w.latest(); !strings.Contains(v.Sentence, "has not answered") {
			w.Errorf("nobody says so: %s", v.Sentence)
		}
		w.ends(6*time.Second, rollout.Timeout, "")
	})
	bubble(t, func(w *watcher) { // inside a request that hangs
		w.begin(10 * time.Second)
		w.pass(time.Second)
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Silent})
		w.sim.Update("deployments", "shop", "web", func(o kubesim.Object) {
			spec := o["spec"].(kubesim.Object)
			c := spec["template"].(kubesim.Object)["spec"].(kubesim.Object)["containers"].([]any)[0].(kubesim.Object)
			c["image"] = newWeb
		})
		v := w.over(12 * time.Second)
		if w.ended > 12*time.Second || v.Outcome != rollout.Timeout && v.Outcome != rollout.Unreachable {
			w.Errorf("%s after %s", v.Outcome, w.ended)
		}
	})
	bubble(t, func(w *watcher) { // nothing ever answers
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Silent})
		w.begin(5 * time.Second)
		w.ends(6*time.Second, rollout.Unreachable, "")
	})
}

// However many are open, and though nothing answers, time up is soon over.
func TestWaitTimeUpTogether(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.cfgs = nil
		for i := range 12 {
			name := fmt.Sprintf("w%02d", i)
			w.sim.Deploy(deployed(name))
			w.cfgs = append(w.cfgs, config("shop/"+name))
		}
		w.begin(10 * time.Second)
		for _, c := range w.cfgs {
			w.sim.Rollout("shop/"+c.Name, "reg.lan/"+c.Name+":3f9c2ab", kubesim.Plan{Pod: kubesim.Life{ProbeError: "HTTP probe failed with statuscode: 503"}})
		}
		w.pass(5 * time.Second)
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Silent, Resource: "events"})
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Silent, Resource: "pods", Verb: "get"})
		w.ends(10*time.Second, rollout.Timeout, "")
		if w.ended > 12*time.Second {
			w.Errorf("it took %s", w.ended)
		}
	})
}

func TestWaitSignal(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*kubesim.Sim){
		"answering": func(*kubesim.Sim) {},
		"silent":    func(s *kubesim.Sim) { s.Inject(kubesim.Fault{Kind: kubesim.Silent}) },
		"down":      func(s *kubesim.Sim) { s.Down(time.Hour) },
	} {
		bubble(t, func(w *watcher) {
			prepare(w.sim)
			w.begin(time.Hour)
			w.pass(5 * time.Second)
			at := time.Now()
			w.end(&fault.Signal{Signal: syscall.SIGTERM})
			w.ends(time.Second, rollout.Interrupted, "")
			if took := time.Since(at); took > 100*time.Millisecond {
				w.Errorf("%s: it took %s", name, took)
			}
		})
	}
}

// An end is explained for one more event list and one more log.
func TestWaitExplains(t *testing.T) {
	t.Parallel()
	bubble(t, func(w *watcher) {
		w.begin(10 * time.Minute)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{CrashAfter: time.Second, Ready: 10 * time.Second, Log: "boom\n"}})
		<-w.done
		end := w.start.Add(w.ended - 1600*time.Millisecond)
		logs, events := 0, 0
		for _, r := range w.sim.Requests() {
			switch {
			case r.Sub == "log":
				logs++
			case r.Resource == "events" && r.Time.After(end):
				events++
			}
		}
		if logs > 2 || events > 3 {
			w.Errorf("%d logs, %d event lists at the end", logs, events)
		}
	})
	bubble(t, func(w *watcher) { // explaining that hangs does not hold up the end
		w.begin(10 * time.Minute)
		w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{ConfigError: `secret "x" not found`}})
		w.pass(20 * time.Second)
		w.sim.Inject(kubesim.Fault{Kind: kubesim.Silent, Resource: "events"})
		w.ends(15*time.Second, rollout.Failed, "CreateContainerConfigError for 30s")
		if w.ended > 34*time.Second {
			w.Errorf("it took %s", w.ended)
		}
	})
}

// A minute with an event per second costs little.
func TestWaitFootprint(t *testing.T) {
	t.Parallel()
	for _, crowd := range []int{0, 60} {
		bubble(t, func(w *watcher) {
			w.sim.Deploy(kubesim.Workload{Namespace: "shop", Name: "crowd", Image: "reg.lan/crowd:1", Replicas: crowd})
			w.sim.Forget()
			w.begin(5 * time.Minute)
			w.roll(newWeb, kubesim.Plan{Pod: kubesim.Life{ProbeError: "HTTP probe failed with statuscode: 503"}})
			for i := range 60 {
				for _, p := range w.sim.Objects("pods", "shop") {
					if labels := p["metadata"].(kubesim.Object)["labels"].(kubesim.Object); labels["app"] == "web" {
						w.sim.Event(p, "Warning", "Unhealthy", fmt.Sprintf("Readiness probe failed: %d", i))
						p["metadata"].(kubesim.Object)["annotations"] = kubesim.Object{"n": fmt.Sprint(i)}
						w.sim.Put("pods", p)
						break
					}
				}
				w.pass(time.Second)
			}
			lists, watches, events := 0, 0, 0
			for _, r := range w.sim.Requests() {
				switch {
				case r.Verb == "list" && r.Resource == "events":
					events++
				case r.Verb == "list":
					lists++
				case r.Verb == "watch":
					watches++
				}
			}
			if lists > 4 || watches > 4 || events > 12 {
				w.Errorf("%d lists, %d watches, %d event lists", lists, watches, events)
			}
		})
	}
}
