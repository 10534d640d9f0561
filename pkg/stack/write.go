package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
)

// write applies the plan, waits until the stack is seen up, and takes away what
// is left over.
func (r *run) write(ctx context.Context) error {
	if r.o.DryRun {
		return r.planned()
	}
	held, release, waited, err := r.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if !waited {
		if waited, err = r.overtaken(held); err != nil {
			return err
		}
	}
	if waited {
		// Somebody else has written meanwhile: what is live is another thing now.
		if err := r.read(held); err != nil {
			return err
		}
		if err := r.aim(held); err != nil {
			return err
		}
	}
	if err := r.tellPlan(); err != nil {
		return err
	}
	if err := r.journal.Write(r.entry()); err != nil {
		return err
	}
	r.w.Tell.Stage("apply")
	if err := apply.Apply(held, r.c, r.plan, r.steps()); err != nil {
		return told("the stack is applied in part; a repetition goes on from there", err)
	}
	if err := r.keepPlaces(); err != nil {
		return err
	}
	if err := r.behindPage(held, func() error {
		if err := r.startHooks(held); err != nil || r.o.NoWait {
			return err
		}
		return r.wait(held)
	}); err != nil {
		return err
	}
	if r.o.NoWait || r.out.Kind == fault.OK {
		if err := r.handOver(held); err != nil {
			r.remember()
			return err
		}
	}
	if r.o.NoWait {
		release()
		err := r.unseen()
		r.remember()
		return err
	}
	if r.out.Kind != fault.OK {
		r.remember()
		return nil // what ran before must not be taken away
	}
	if err := apply.Prune(held, r.c, r.plan, r.steps()); err != nil {
		r.remember()
		return told("the stack is up; what is left over was not taken away", err)
	}
	r.remember()
	release()
	return r.journal.Clear()
}

// hold takes the deployment's lease if the plan has writes. waited says that
// somebody else had it until now. Whoever was killed on this machine with the
// lease in hand gets it back at once: it goes by host and directory.
func (r *run) hold(ctx context.Context) (held context.Context, release func(), waited bool, err error) {
	if ns := r.live.Namespace; ns != nil && ns.GetDeletionTimestamp() != nil {
		return ctx, func() {}, false, nil // nothing can be made in it any more, a lease neither
	}
	if r.plan.Writes() == 0 && !r.leftLease(ctx) {
		return ctx, func() {}, false, nil
	}
	held, lease, err := apply.Hold(ctx, r.c, r.plan, r.w.Host+":"+r.d.Path, r.steps(),
		func(holder string) { r.w.Tell.Line("waiting for " + holder) })
	if err != nil {
		return nil, nil, false, told("the deployment's lease in "+r.scope.Namespace+" could not be taken", err)
	}
	return held, func() {
		// The run may have ended by a signal; the lease is given back all the same.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := lease.Release(after); err != nil {
			r.w.Tell.Line("the lease of the deployment stays until it expires: " + err.Error())
		}
	}, lease.Waited(), nil
}

// leftLease tells whether a run that was cut off has left the lease behind:
// then it is taken, to be given back.
func (r *run) leftLease(ctx context.Context) bool {
	if !r.cut {
		return false
	}
	leases := kube.Resource{Group: "coordination.k8s.io", Version: "v1", Plural: "leases"}
	_, err := r.c.Get(ctx, leases, r.scope.Namespace, r.scope.ID+"-lock")
	return err == nil
}

// steps connects the story to what is written.
func (r *run) steps() apply.Options {
	return apply.Options{Done: func(s apply.Step) {
		if s.Line != "" {
			r.w.Tell.Line(s.Line)
		}
	}}
}

// planned ends a dry run.
func (r *run) planned() error {
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "same", "nothing would change"
	if r.plan.Writes() > 0 {
		r.out.Verdict, r.out.Reason = "changes", "would change "+Summary(r.plan)
	}
	return nil
}

// unseen ends a run that was told not to wait.
func (r *run) unseen() error {
	r.out.Kind, r.out.Verdict = fault.OK, "changes"
	r.out.Reason = "applied, not verified: " + Summary(r.plan)
	if r.plan.Writes() == 0 {
		r.out.Verdict, r.out.Reason = "same", "nothing to apply; not verified"
	}
	r.out.Next = "homelab deployment status --dir " + r.o.Dir
	if len(r.plan.Delete) > 0 {
		r.out.Reason += "; what is left over stays until a run that waits"
	}
	return r.journal.Clear()
}

// Summary counts a plan's changes: "2 created, 1 updated".
func Summary(p *apply.Plan) string {
	var parts []string
	for _, part := range []struct {
		n    int
		word string
	}{{len(p.Create), "created"}, {len(p.Update), "updated"}, {len(p.Replace), "replaced"}, {len(p.Delete), "deleted"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.word))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// wait watches every Deployment to its own end, and every Job that may fail.
func (r *run) wait(ctx context.Context) error {
	r.w.Tell.Stage("wait")
	targets, jobs, err := r.watch(ctx, r.o.Deadline)
	if err != nil {
		return err
	}
	r.out.Targets, r.out.Jobs = targets, jobs
	r.judge(ctx)
	return nil
}

// watch observes the Deployments that were rendered until each has come to its
// end, and the Jobs beside them.
func (r *run) watch(ctx context.Context, deadline time.Time) ([]Target, []JobEnd, error) {
	var configs []rollout.Config
	var names []string
	for _, wl := range r.rules.Workloads {
		configs = append(configs, rollout.Config{
			Kind: rollout.Deployment, Namespace: r.scope.Namespace, Name: wl.Name,
			Expected: r.o.Expected, Containers: r.gated(wl.Images), Images: wl.Images,
			Deadline: deadline, WithPipelines: r.o.CI,
		})
		names = append(names, wl.Name)
	}
	sources := rollout.Sources{}
	if r.w.Images != nil {
		images, err := r.w.Images(ctx, r.c, r.scope.Namespace)
		if err != nil {
			return nil, nil, err
		}
		sources.Images = r.localImages(images)
	}
	if r.o.Expected.Commit != "" && r.w.History != nil {
		sources.History = r.w.History(ctx, r.o.Expected.Commit)
	}
	r.w.Tell.Rollout(r.scope.Namespace, names)
	began := r.w.Now()
	took := make([]time.Duration, len(configs))
	jobs := r.followJobs(ctx)
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		// A failed Job decides at once; the rollouts need not be waited for.
		if jobs.failed(watching) {
			stop(fault.New(fault.Failed, "a Job failed", ""))
		}
	}()
	verdicts := rollout.Wait(watching, r.c, configs, sources, func(i int, v rollout.Verdict) {
		if v.Final() && took[i] == 0 {
			took[i] = r.w.Now().Sub(began)
		}
		r.w.Tell.Progress(i, v)
	})
	if ctx.Err() == nil && r.o.WaitJobs && allReady(verdicts) {
		jobs.settled(ctx)
	}
	var out []Target
	for i, v := range verdicts {
		kind := rollout.KindOf(v.Outcome, context.Cause(ctx))
		if took[i] == 0 {
			took[i] = r.w.Now().Sub(began)
		}
		out = append(out, Target{Name: names[i], Verdict: v, Kind: kind, Took: took[i]})
	}
	return out, jobs.ends(), nil
}

// gated are the containers a commit is looked for in: the named ones that this
// Deployment has.
func (r *run) gated(images map[string]string) []string {
	var out []string
	for _, c := range r.o.Containers {
		if _, ok := images[c]; ok {
			out = append(out, c)
		}
	}
	return out
}

func allReady(verdicts []rollout.Verdict) bool {
	return !slices.ContainsFunc(verdicts, func(v rollout.Verdict) bool { return v.Outcome != rollout.Ready })
}

// judge says what the wait came to.
func (r *run) judge(ctx context.Context) {
	out := r.out
	kinds := make([]fault.Kind, 0, len(out.Targets))
	for _, t := range out.Targets {
		kinds = append(kinds, t.Kind)
	}
	for _, j := range out.Jobs {
		switch {
		case j.State == jobFailed:
			out.Kind, out.Verdict, out.Reason = fault.Failed, string(rollout.Failed), "Job "+j.Name+" failed: "+j.Reason
			out.Next = "homelab deployment logs --dir " + r.o.Dir + " --job " + strings.TrimPrefix(j.Name, r.scope.ID+"-job-")
			return
		case j.State == jobRunning && r.o.WaitJobs:
			kinds = append(kinds, fault.Timeout)
		}
	}
	out.Kind = fault.Worst(kinds...)
	if len(kinds) == 0 {
		out.Kind = fault.OK
	}
	if out.Kind == fault.OK {
		out.Verdict, out.Reason = "up", upReason(out)
		return
	}
	for _, t := range out.Targets {
		if t.Kind == out.Kind {
			out.Verdict, out.Reason, out.Next = string(t.Verdict.Outcome), t.Name+" "+t.Verdict.Sentence, t.Verdict.Next
			break
		}
	}
	if out.Verdict == "" {
		out.Verdict, out.Reason = string(rollout.Timeout), "a Job still runs"
	}
	if out.Next == "" {
		out.Next = "homelab deployment status --dir " + r.o.Dir
	}
	_ = ctx
}

func upReason(out *Outcome) string {
	n := len(out.Targets)
	what := fmt.Sprintf("%d Deployments run", n)
	switch n {
	case 0:
		what = "no Deployments to run"
	case 1:
		what = out.Targets[0].Name + " runs"
	}
	if n > 0 {
		what += " what the directory says"
	}
	if out.Plan == nil {
		return what
	}
	if s := Summary(out.Plan); s != "nothing" {
		return what + "; " + s
	}
	return what + "; nothing had changed"
}

// The states of a Job.
const (
	jobComplete  = "complete"
	jobFailed    = "failed"
	jobRunning   = "running"
	jobSuspended = "suspended"

	jobPoll = 2 * time.Second
)

// jobs reads how the rendered Jobs stand.
func (r *run) jobs(ctx context.Context) ([]JobEnd, error) {
	if len(r.rules.Jobs) == 0 {
		return nil, nil
	}
	items, _, err := r.c.List(ctx, kube.Batch("jobs"), r.scope.Namespace, kube.Query{Labels: apply.LabelApp + "=" + r.scope.ID})
	if err != nil {
		return nil, told("the Jobs of "+r.scope.Namespace+" cannot be listed", err)
	}
	var out []JobEnd
	for _, j := range r.rules.Jobs {
		end := JobEnd{Name: j.Name, State: jobRunning}
		found := false
		for _, o := range items {
			if o.Name != j.Name {
				continue
			}
			found = true
			end.State, end.Reason = jobState(o.Raw)
		}
		if !found {
			if !j.Suspend {
				end.State = "absent"
			} else {
				end.State = jobSuspended
			}
		}
		out = append(out, end)
	}
	return out, nil
}

func jobState(raw []byte) (state, reason string) {
	var j struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string } `json:"conditions"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &j); err != nil {
		return jobRunning, err.Error()
	}
	for _, c := range j.Status.Conditions {
		switch {
		case c.Status != "True":
		case c.Type == "Failed":
			return jobFailed, strings.TrimSpace(c.Reason + " " + c.Message)
		case c.Type == "Complete":
			return jobComplete, ""
		}
	}
	return jobRunning, ""
}

// jobWatch looks at the Jobs while the Deployments roll out.
type jobWatch struct {
	r    *run
	last chan []JobEnd // holds the newest reading
}

func (r *run) followJobs(context.Context) *jobWatch {
	return &jobWatch{r: r, last: make(chan []JobEnd, 1)}
}

func (j *jobWatch) put(ends []JobEnd) {
	select {
	case <-j.last:
	default:
	}
	j.last <- ends
}

// failed looks until a Job has failed (true) or ctx ends.
func (j *jobWatch) failed(ctx context.Context) bool {
	if len(j.r.rules.Jobs) == 0 {
		return false
	}
	for {
		ends, err := j.r.jobs(ctx)
		if err == nil && ctx.Err() == nil {
			j.put(ends)
			if slices.ContainsFunc(ends, func(e JobEnd) bool { return e.State == jobFailed }) {
				return true
			}
		}
		if poll.Sleep(ctx, jobPoll) != nil {
			return false
		}
	}
}

// settled waits until no Job runs any more, or ctx ends.
func (j *jobWatch) settled(ctx context.Context) {
	for {
		ends, err := j.r.jobs(ctx)
		if err == nil {
			j.put(ends)
			if !slices.ContainsFunc(ends, func(e JobEnd) bool { return e.State == jobRunning }) {
				return
			}
		}
		if poll.Sleep(ctx, jobPoll) != nil {
			return
		}
	}
}

// ends returns the newest reading.
func (j *jobWatch) ends() []JobEnd {
	select {
	case e := <-j.last:
		return e
	default:
		return nil
	}
}

// localImages answers for images that this machine brought into a kind node:
// no registry knows them.
func (r *run) localImages(images rollout.Images) rollout.Images {
	if r.d.Spec.Target != file.Kind {
		return images
	}
	return &local{next: images, engine: r.w.Engine}
}

type local struct {
	next   rollout.Images
	engine Loader
}

// Image asks the engine of this machine first.
func (l *local) Image(ctx context.Context, reference string, target rollout.Target) rollout.ImageAnswer {
	if id, err := l.engine.LocalID(ctx, reference); err == nil && id != "" {
		return rollout.ImageAnswer{Digest: id, Closure: []string{id}}
	}
	return l.next.Image(ctx, reference, target)
}
