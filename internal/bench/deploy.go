package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"homelab/internal/kubesim"
	"homelab/internal/woodsim"
)

// cluster is a simulated cluster within reach of processes.
type cluster struct {
	sim     *kubesim.Sim
	home    string
	env     []string
	kubectl string // "" where there is none

	kubeconfig string
	ca         []byte
}

func openCluster(b *bench) *cluster {
	k := &cluster{sim: kubesim.New(kubesim.Options{}), home: b.t.TempDir()}
	server := k.sim.Serve(b.t)
	k.kubeconfig = server.Kubeconfig(b.t, "bench", kubesim.Admin, "default")
	k.ca = server.CA()
	k.env = []string{"HOME=" + k.home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + k.kubeconfig}
	k.kubectl, _ = exec.LookPath("kubectl")
	return k
}

// wait runs "homelab deploy wait" outside of any checkout.
func (k *cluster) wait(ctx context.Context, b *bench, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, b.program("homelab"), append([]string{"deploy", "wait"}, args...)...)
	cmd.Dir, cmd.Env = k.home, k.env
	return finish(ctx, cmd, nil)
}

// status waits for a rollout with the alternative: "kubectl rollout status"
// where there is a kubectl, else a loop that asks every 2 s, as a script would,
// and costs nothing itself.
func (k *cluster) status(ctx context.Context, ns string) (*process, error) {
	if k.kubectl == "" {
		const period = 2 * time.Second
		for pause := rand.N(period); ; pause = period { // it began some time before
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(pause):
			}
			if k.complete(ns) {
				return &process{exited: time.Now()}, nil
			}
		}
	}
	cmd := exec.CommandContext(ctx, k.kubectl, "rollout", "status", "deployment/web", "-n", ns, "--timeout", "60s")
	cmd.Dir, cmd.Env = k.home, k.env
	p, err := finish(ctx, cmd, nil)
	if err == nil && p.code != 0 {
		err = fmt.Errorf("kubectl rollout status: exit code %d: %s", p.code, p.err.String())
	}
	return p, err
}

func (k *cluster) beside() string {
	if k.kubectl == "" {
		return "a loop that asks every 2 s"
	}
	return "kubectl rollout status"
}

// change waits until done holds and returns the last moment at which it did
// not, so that no lag is told too short.
func (k *cluster) change(ctx context.Context, done func() bool) (time.Time, error) {
	for seen := -1; ; {
		before := time.Now()
		if v := k.sim.Version(); v != seen {
			seen = v
			if done() {
				return before, nil
			}
		}
		select {
		case <-ctx.Done():
			return before, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// complete says whether the deployment's status is that of a finished rollout.
func (k *cluster) complete(ns string) bool {
	o := k.sim.Object("deployments", ns, "web")
	n := func(path ...string) float64 { return number(o, path...) }
	want := n("spec", "replicas")
	return n("status", "observedGeneration") == n("metadata", "generation") && n("status", "updatedReplicas") == want &&
		n("status", "replicas") == want && n("status", "availableReplicas") == want
}

// overdue says whether the deployment's progress deadline has passed.
func (k *cluster) overdue(ns string) bool {
	status, _ := k.sim.Object("deployments", ns, "web")["status"].(kubesim.Object)
	conditions, _ := status["conditions"].([]any)
	return slices.ContainsFunc(conditions, func(c any) bool {
		o, _ := c.(kubesim.Object)
		return o["reason"] == "ProgressDeadlineExceeded"
	})
}

func number(o kubesim.Object, path ...string) float64 {
	for _, p := range path[:len(path)-1] {
		o, _ = o[p].(kubesim.Object)
	}
	f, _ := o[path[len(path)-1]].(float64)
	return f
}

func image(sha string) string { return "registry.example/web:" + sha[:12] }

// deployStart measures a wait for what has been there for long.
func deployStart(ctx context.Context, b *bench) ([]row, error) {
	k := openCluster(b)
	sha := woodsim.SHA("there")
	k.sim.Deploy(kubesim.Workload{Namespace: "shop", Name: "web", Image: image(sha), Replicas: 3, Probe: true})
	var own, other sample
	for i := range pick(b, 15, 60) + 1 {
		began := time.Now()
		p, err := k.wait(ctx, b, "shop/web", "--sha", sha, "--settle", "0s")
		if err != nil {
			return nil, err
		}
		if p.code != 0 {
			return nil, fmt.Errorf("exit code %d: %s%s", p.code, p.err.String(), p.out.String())
		}
		if i > 0 { // the first finds the files on the disk
			own.add(p.exited.Sub(began))
		}
		if k.kubectl == "" {
			continue
		}
		began = time.Now()
		if p, err = k.status(ctx, "shop"); err != nil {
			return nil, err
		}
		if i > 0 {
			other.add(p.exited.Sub(began))
		}
	}
	r := row{
		Name: "deploy-start", What: "deploy wait of what runs the commit already, from start to verdict and exit",
		Target: "p95 <= 300 ms", Measured: own.String(), Verdict: judged(own.p95() <= 0.3), Values: map[string]float64{},
	}
	own.values("", r.Values)
	if len(other) > 0 {
		other.values("beside_", r.Values)
		r.Beside = fmt.Sprintf("%s: %s", k.beside(), other)
	}
	return []row{r}, nil
}

// lagged is a wait whose last change is known.
type lagged struct{ own, other time.Duration }

// deployLag measures from the API server's change to the exit, for three ends.
func deployLag(ctx context.Context, b *bench) ([]row, error) {
	var rows []row
	for _, c := range []struct {
		name, what string
		run        func(context.Context, *bench, *cluster, string, time.Duration) (lagged, error)
	}{
		{"deploy-ready", "the last change of a rollout -> deploy wait has exited with 0, no settle window", readyLag},
		{"deploy-replaced", "another image is set -> deploy wait has exited with 6", replacedLag},
		{"deploy-failed", "the progress deadline is written -> deploy wait has exited with 1, events and logs read", failedLag},
	} {
		k := openCluster(b)
		dice := rand.New(rand.NewPCG(b.seed, 9))
		n := pick(b, 10, 30)
		results, errs := make([]lagged, n), make([]error, n)
		room := make(chan struct{}, 2)
		var wait sync.WaitGroup
		for i := range n {
			pause := between(dice, 300*time.Millisecond, 900*time.Millisecond)
			wait.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				if ctx.Err() == nil {
					results[i], errs[i] = c.run(ctx, b, k, fmt.Sprintf("shop-%d", i), pause)
				}
			})
		}
		wait.Wait()
		var own, other sample
		for i, err := range errs {
			if err != nil {
				return rows, fmt.Errorf("%s: wait %d: %w", c.name, i+1, err)
			}
			own.add(results[i].own)
			if results[i].other != 0 {
				other.add(results[i].other)
			}
		}
		r := row{
			Name: c.name, What: c.what, Target: "p50 <= 0.15 s, p95 <= 0.25 s", Measured: own.String(),
			Verdict: judged(own.p50() <= 0.15 && own.p95() <= 0.25), Values: map[string]float64{},
		}
		own.values("", r.Values)
		if len(other) > 0 {
			other.values("beside_", r.Values)
			r.Beside = fmt.Sprintf("%s, started after the change of the image: %s", k.beside(), other)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// waiting is a wait under way.
type waiting struct {
	p    *process
	err  error
	done chan struct{}
}

func (k *cluster) start(ctx context.Context, b *bench, args ...string) *waiting {
	w := &waiting{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.p, w.err = k.wait(ctx, b, args...)
	}()
	return w
}

// since waits for the process and returns how long after the change it was gone.
func (w *waiting) since(change time.Time, code int) (time.Duration, error) {
	<-w.done
	switch {
	case w.err != nil:
		return 0, w.err
	case w.p.code != code:
		return 0, fmt.Errorf("exit code %d, not %d: %s%s", w.p.code, code, w.p.err.String(), w.p.out.String())
	case w.p.exited.Before(change):
		return 0, fmt.Errorf("it ended %s before the change: %s", change.Sub(w.p.exited), w.p.out.String())
	}
	return w.p.exited.Sub(change), nil
}

func readyLag(ctx context.Context, b *bench, k *cluster, ns string, pause time.Duration) (lagged, error) {
	sha := woodsim.SHA(ns)
	k.sim.Deploy(kubesim.Workload{Namespace: ns, Name: "web", Image: image(woodsim.SHA("old")), Replicas: 2, Probe: true})
	w := k.start(ctx, b, ns+"/web", "--sha", sha, "--settle", "0s", "--timeout", "60s")
	time.Sleep(pause)
	k.sim.Rollout(ns+"/web", image(sha), kubesim.Plan{})
	var other *process
	var otherErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		other, otherErr = k.status(ctx, ns)
	}()
	at, err := k.change(ctx, func() bool { return k.complete(ns) })
	own, ownErr := w.since(at, 0)
	<-ended
	for _, err := range []error{err, ownErr, otherErr} {
		if err != nil {
			return lagged{}, err
		}
	}
	return lagged{own, other.exited.Sub(at)}, nil
}

func replacedLag(ctx context.Context, b *bench, k *cluster, ns string, pause time.Duration) (lagged, error) {
	sha, old := woodsim.SHA(ns), image(woodsim.SHA("old"))
	k.sim.Deploy(kubesim.Workload{Namespace: ns, Name: "web", Image: old, Replicas: 2, Probe: true})
	w := k.start(ctx, b, ns+"/web", "--sha", sha, "--timeout", "60s")
	time.Sleep(pause)
	k.sim.Rollout(ns+"/web", image(sha), kubesim.Plan{Pod: kubesim.Life{Ready: time.Minute}})
	time.Sleep(time.Second + pause)
	at := time.Now()
	k.sim.Rollout(ns+"/web", old, kubesim.Plan{})
	own, err := w.since(at, 6)
	return lagged{own: own}, err
}

func failedLag(ctx context.Context, b *bench, k *cluster, ns string, pause time.Duration) (lagged, error) {
	sha := woodsim.SHA(ns)
	k.sim.Deploy(kubesim.Workload{
		Namespace: ns, Name: "web", Image: image(woodsim.SHA("old")), Replicas: 2, Probe: true, Deadline: 2 * time.Second,
	})
	w := k.start(ctx, b, ns+"/web", "--sha", sha, "--timeout", "60s")
	time.Sleep(pause)
	k.sim.Rollout(ns+"/web", image(sha), kubesim.Plan{Pod: kubesim.Life{ProbeError: "HTTP probe failed with statuscode: 503", Log: "no database\n"}})
	at, err := k.change(ctx, func() bool { return k.overdue(ns) })
	own, ownErr := w.since(at, 1)
	if err == nil {
		err = ownErr
	}
	return lagged{own: own}, err
}

const (
	deployMemoryLimit = 60 << 20
	manyWorkloads     = 50
	manySpaces        = 5
)

// deployMany waits for many workloads of several namespaces in one call, whose
// objects are as large as real ones.
func deployMany(ctx context.Context, b *bench) ([]row, error) {
	k := openCluster(b)
	sha := woodsim.SHA("many")
	padding := map[string]string{"example.lan/padding": strings.Repeat("0123456789abcdef", 256)}
	names := make([]string, 0, manyWorkloads)
	for i := range manyWorkloads {
		ns, name := fmt.Sprintf("shop-%d", i%manySpaces), fmt.Sprintf("web-%d", i)
		k.sim.Deploy(kubesim.Workload{
			Namespace: ns, Name: name, Image: image(woodsim.SHA("old")), Replicas: 2, Probe: true, Annotations: padding,
		})
		names = append(names, ns+"/"+name)
	}
	k.sim.Forget()
	w := k.start(ctx, b, append(slices.Clone(names), "--sha", sha, "--timeout", "2m")...)
	time.Sleep(2 * time.Second)
	for _, name := range names {
		k.sim.Rollout(name, image(sha), kubesim.Plan{Pod: kubesim.Life{Start: time.Second, Ready: time.Second}})
	}
	<-w.done
	if w.err != nil {
		return nil, w.err
	}
	if w.p.code != 0 {
		return nil, fmt.Errorf("exit code %d: %s%s", w.p.code, w.p.err.String(), w.p.out.String())
	}
	type place struct{ verb, resource, ns string }
	counts, most, gets, events := map[place]int{}, map[string]int{}, 0, 0
	for _, r := range k.sim.Requests() {
		switch {
		case r.Resource == "events":
			events++
		case r.Verb == "get":
			gets++
		default:
			p := place{r.Verb, r.Resource, r.Namespace}
			counts[p]++
			most[r.Verb] = max(most[r.Verb], counts[p])
		}
	}
	mib := float64(w.p.peak) / (1 << 20)
	what := fmt.Sprintf("one deploy wait for %d rollouts of two pods in %d namespaces", manyWorkloads, manySpaces)
	memory := row{
		Name: "deploy-memory", What: "VmHWM of " + what + ", 4 KiB of annotations in each object", Target: "<= 60 MiB",
		Measured: fmt.Sprintf("%.1f MiB", mib), Verdict: judged(w.p.peak > 0 && w.p.peak <= deployMemoryLimit),
		Values: map[string]float64{"mib": mib},
	}
	if w.p.peak == 0 {
		memory.Measured, memory.Verdict = "not told by this system", free
	}
	if k.kubectl != "" {
		k.sim.Deploy(kubesim.Workload{Namespace: "one", Name: "web", Image: image(sha), Replicas: 3, Probe: true, Annotations: padding})
		p, err := k.status(ctx, "one")
		if err != nil {
			return nil, err
		}
		one := float64(p.peak) / (1 << 20)
		memory.Values["kubectl_mib"] = one
		memory.Beside = fmt.Sprintf("one kubectl rollout status, which is for one of them: %.1f MiB", one)
	}
	return []row{memory, {
		Name: "deploy-requests", What: "lists and watches per kind and namespace of " + what, Target: "at most 1 each",
		Measured: fmt.Sprintf("%d lists, %d watches", most["list"], most["watch"]),
		Verdict:  judged(most["list"] <= 1 && most["watch"] <= 1),
		Values: map[string]float64{
			"lists": float64(most["list"]), "watches": float64(most["watch"]), "gets": float64(gets), "events": float64(events),
		},
		Beside: fmt.Sprintf("%d single objects read to confirm, %d lists of events", gets, events),
	}}, nil
}
