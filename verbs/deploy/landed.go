package deploy

import (
	"context"
	"fmt"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/rollout"
	"homelab/pkg/ui"
	"homelab/verbs/verb"
	"homelab/verbs/verb/workload"
)

// Landed waits until workloads run a commit that was just landed, or a newer
// one that contains it: what "deploy wait --accept-newer" does, for a landing
// that goes on to its deploy. tell is told each change in a line.
func Landed(ctx context.Context, d Deps, names []string, commit git.Commit, tell func(string)) (*Result, fault.Kind) {
	fail := func(err error) (*Result, fault.Kind) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		e := verb.Fault(err)
		return &Result{Header: verb.NewFailure(waitKind, e).Header, Targets: []workload.Target{}}, e.Kind
	}
	targets, err := parseTargets(names, "", "")
	if err != nil {
		return fail(err)
	}
	conn, err := d.Cluster(ctx, "")
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	images, err := d.Images(ctx, conn, ImageOptions{})
	if err != nil {
		return fail(err)
	}
	sources := rollout.Sources{Images: images}
	if repo, err := d.Checkout(ctx); err == nil && repo != nil {
		sources.History = &workload.History{Repo: repo, Commit: commit}
	}
	bounded, cancel := context.WithTimeoutCause(ctx, waitTimeout, fault.ErrTimeUp)
	defer cancel()
	deadline, _ := bounded.Deadline()
	configs := make([]rollout.Config, len(targets))
	for i, t := range targets {
		configs[i] = rollout.Config{
			Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, Match: rollout.MatchAuto,
			Expected: rollout.Expected{Commit: string(commit)}, AcceptNewer: true, WithPipelines: conn.WithCI,
			Deadline: conn.Cluster.Now().Add(time.Until(deadline)),
		}
	}
	ended := make([]time.Duration, len(targets))
	began := time.Now()
	verdicts := rollout.Wait(bounded, conn.Cluster, configs, sources, func(i int, v rollout.Verdict) {
		if v.Final() {
			ended[i] = time.Since(began)
		}
		tell(ui.Clean(fmt.Sprintf("%s %s: %s", targets[i], workload.Word(v), v.Sentence)))
	})
	r := &Result{Targets: []workload.Target{}}
	kinds := make([]fault.Kind, len(verdicts))
	for i, v := range verdicts {
		kinds[i] = rollout.KindOf(v.Outcome, context.Cause(bounded))
		next := v.Next
		if next == "" && kinds[i] != fault.OK {
			next = ui.Command("homelab", "deploy", "wait", targets[i].String(), "--sha", string(commit), "--accept-newer")
		}
		r.Targets = append(r.Targets, workload.View(conn.Context, targets[i], v, kinds[i], next, ended[i]))
	}
	worst := fault.Worst(kinds...)
	r.Header = headline(targets, r.Targets, kinds, worst)
	r.ExitCode = worst.Code()
	return r, worst
}

// headline is the result's own sentence: the first workload that decides.
func headline(targets []workload.Ref, shown []workload.Target, kinds []fault.Kind, worst fault.Kind) ui.Header {
	h := ui.Header{Kind: waitKind}
	for i, k := range kinds {
		if k != worst {
			continue
		}
		t := shown[i]
		h.Verdict, h.Reason, h.Next = string(t.Verdict), targets[i].String()+": "+t.Reason, t.Next
		if k == fault.OK {
			h.Reason = targets[i].String() + " " + t.Reason
		}
		break
	}
	if len(targets) > 1 && worst == fault.OK {
		h.Reason = fmt.Sprintf("%d workloads are ready", len(targets))
	}
	return h
}
