package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/poll"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
)

// JobOptions choose a single run of a job.
type JobOptions struct {
	Options
	Name string
	Env  map[string]string // over what the files say
}

// RunJob runs a job of the stack once, beside whatever ran before, tells what it
// prints, and ends as it ends. When the time is up the Job stays.
func (w *World) RunJob(ctx context.Context, o JobOptions) (*Outcome, error) {
	r, err := w.open(o.Options)
	defer r.close()
	if err != nil {
		return r.out, err
	}
	if r.composed() {
		return r.out, fault.Usagef("homelab deployment run-job --help", "run-job is not there for deploy-to: compose yet")
	}
	job, err := r.single(o)
	if err != nil {
		return r.out, err
	}
	if err := r.lock(ctx); err != nil {
		return r.out, err
	}
	if err := r.connect(ctx); err != nil {
		return r.out, err
	}
	if r.live, err = apply.Read(ctx, r.c, r.scope); err != nil {
		return r.out, told("the cluster cannot be read", err)
	}
	if r.live.Namespace == nil {
		return r.out, fault.New(fault.Absent, "nothing of "+r.d.Stack.Name+" is there", "homelab deployment start --dir "+r.o.Dir)
	}
	conflicts, notices := apply.Guard(r.live, apply.Desired{}, r.scope)
	r.notices(notices)
	if err := apply.Refusal(conflicts); err != nil {
		return r.out, err
	}
	if err := r.put(ctx, []*unstructured.Unstructured{job}); err != nil {
		return r.out, told("the Job could not be made", err)
	}
	r.w.Tell.Line("Running job: " + job.GetName())
	// It runs by itself from here on: others need not wait for its end.
	r.close()
	if o.NoWait {
		r.out.Kind, r.out.Verdict = fault.OK, "started"
		r.out.Reason = "Job " + job.GetName() + " is made; its end is not waited for"
		r.out.Next = "homelab deployment logs --dir " + r.o.Dir + " --job " + o.Name
		return r.out, nil
	}
	if err := r.connect(ctx); err != nil {
		return r.out, err
	}
	return r.out, r.jobEnd(ctx, job.GetName(), o.Name)
}

// single is the object of one run.
func (r *run) single(o JobOptions) (*unstructured.Unstructured, error) {
	var names []string
	for _, j := range r.rules.Jobs {
		names = append(names, j.Job)
		if j.Job != o.Name {
			continue
		}
		if !j.Suspend {
			r.notices([]file.Notice{{
				Code: "job-runs-at-start", Level: file.Warning, File: "docker-compose-" + j.Job + ".yml",
				Message: "job " + j.Job + " runs at start as well: the label laconic.suspend keeps it for run-job alone",
			}})
		}
		for _, x := range r.rules.Objects {
			if x.GetKind() == "Job" && x.GetName() == j.Name {
				return r.once(x.DeepCopy(), o.Env), nil
			}
		}
	}
	has := "it has none"
	if len(names) > 0 {
		has = "it has " + strings.Join(names, ", ")
	}
	return nil, fault.Usagef("", "the stack %s has no job %s", r.d.Stack.Name, o.Name).Because(has)
}

// once makes a rendered Job one that runs now. It is not marked as rendered: a
// start would take it for something left over.
func (r *run) once(job *unstructured.Unstructured, env map[string]string) *unstructured.Unstructured {
	job.SetName(fmt.Sprintf("%s-%d", job.GetName(), r.w.Now().Unix()))
	labels := job.GetLabels()
	delete(labels, apply.LabelManagedBy)
	job.SetLabels(labels)
	unstructured.RemoveNestedField(job.Object, "spec", "suspend")
	for _, list := range []string{"initContainers", "containers"} {
		at := []string{"spec", "template", "spec", list}
		containers, _, _ := unstructured.NestedSlice(job.Object, at...)
		for _, c := range containers {
			if m, ok := c.(map[string]any); ok && len(env) > 0 {
				m["env"] = overridden(m["env"], env)
			}
		}
		if len(containers) > 0 {
			_ = unstructured.SetNestedSlice(job.Object, containers, at...)
		}
	}
	return job
}

// overridden are a container's variables with others over them.
func overridden(was any, env map[string]string) []any {
	var out []any
	list, _ := was.([]any)
	for _, e := range list {
		m, ok := e.(map[string]any)
		name, _ := m["name"].(string)
		if _, over := env[name]; ok && over {
			continue
		}
		out = append(out, e)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, map[string]any{"name": name, "value": env[name]})
	}
	return out
}

// jobEnd tells what a Job prints and waits until it has ended.
func (r *run) jobEnd(ctx context.Context, name, job string) error {
	following, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.followJob(following, strings.TrimPrefix(name, r.scope.ID+"-job-"))
	}()
	end, err := r.untilEnded(ctx, name)
	if err == nil {
		// What it printed last may still be on its way.
		last, cancel := context.WithTimeout(ctx, jobPoll)
		select {
		case <-done:
		case <-last.Done():
		}
		cancel()
	}
	stop()
	<-done
	r.out.Jobs = []JobEnd{end}
	logs := "homelab deployment logs --dir " + r.o.Dir + " --job " + job
	switch {
	case err != nil && errors.Is(context.Cause(ctx), fault.ErrTimeUp):
		return fault.New(fault.Timeout, "Job "+name+" still runs, and stays", logs).From(fault.ErrTimeUp)
	case err != nil:
		return err
	case end.State == "absent":
		return fault.New(fault.Absent, "Job "+name+" was deleted meanwhile", "")
	case end.State == jobFailed:
		r.out.Kind, r.out.Verdict, r.out.Reason, r.out.Next = fault.Failed, string(rollout.Failed), "Job "+name+" failed: "+end.Reason, logs
	default:
		r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "done", "Job "+name+" is complete"
	}
	return nil
}

// untilEnded waits for the end of a Job; "absent" is one that was deleted.
func (r *run) untilEnded(ctx context.Context, name string) (JobEnd, error) {
	end := JobEnd{Name: name, State: jobRunning}
	for {
		o, err := r.c.Get(ctx, kube.Batch("jobs"), r.scope.Namespace, name)
		switch {
		case kube.IsAbsent(err):
			end.State = "absent"
			return end, nil
		case err != nil && !kube.IsTransient(err):
			return end, told("Job "+name+" cannot be read", err)
		case err == nil:
			if end.State, end.Reason = jobState(o.Raw); end.State != jobRunning {
				return end, nil
			}
		}
		if err := poll.Sleep(ctx, jobPoll/2); err != nil {
			return end, err
		}
	}
}

// followJob tells the lines of a Job's pods from their start to their end. Lines
// that cannot be read are no reason to fail: the Job's end decides.
func (r *run) followJob(ctx context.Context, job string) {
	l := &logs{
		r: r, o: LogOptions{Options: r.o, Job: job, Tail: -1, Follow: true}, tell: r.w.Tell,
		readers: map[string]*reader{}, changed: make(chan struct{}),
		emit: func(x LogLine) error {
			r.w.Tell.Line(x.Container + ": " + string(x.Text))
			return nil
		},
	}
	for {
		pods, err := r.pods(ctx, true)
		if err == nil {
			pods = slices.DeleteFunc(pods, func(p Pod) bool { return !l.wanted(p) })
			if len(pods) > 0 {
				if err = l.follow(ctx, pods); err == nil || ctx.Err() != nil {
					return
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			r.w.Tell.Line("its lines cannot be read: " + err.Error())
		}
		if poll.Sleep(ctx, jobPoll/2) != nil {
			return
		}
	}
}
