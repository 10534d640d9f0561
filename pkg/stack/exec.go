package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/apply"
)

// ExecOptions are a command and what it is connected to.
type ExecOptions struct {
	Options
	Service string
	Command []string // one word is a shell's line
	Pod     string   // "" is a ready one of the current revision

	Stdin          io.Reader // nil: none
	Stdout, Stderr io.Writer
	// Terminal is called when the session is about to begin and says whether it
	// is on a terminal; nil: it is not. done is called at its end.
	Terminal func() (size func() (w, h uint16, ok bool), done func())
}

// Exec is a command that has ended.
type Exec struct {
	Pod, Container string
	Code           *int // nil: it did not run, or nobody knows how it ended
}

// Exec runs a command in a container of a deployment.
func (w *World) Exec(ctx context.Context, o ExecOptions) (*Outcome, Exec, error) {
	var out Exec
	r, rendered, err := w.look(ctx, o.Options)
	defer r.close()
	if err != nil {
		return r.out, out, err
	}
	if rendered {
		if err := r.known([]string{o.Service}, true); err != nil {
			return r.out, out, err
		}
	}
	if r.composed() {
		out, err := r.composeExec(ctx, o)
		return r.out, out, err
	}
	if err := r.reach(ctx); err != nil {
		return r.out, out, err
	}
	pods, err := r.pods(ctx, true)
	if err != nil {
		return r.out, out, err
	}
	current := map[string]string{}
	if o.Pod == "" {
		if current, err = r.revisions(ctx); err != nil {
			return r.out, out, err
		}
	}
	pod, err := podFor(pods, o.Service, o.Pod, current, r.o.Dir)
	if err != nil {
		return r.out, out, err
	}
	out.Pod, out.Container = pod.Name, o.Service
	x := kube.ExecOptions{
		Container: o.Service, Command: argv(o.Command), Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
	}
	if o.Terminal != nil {
		size, done := o.Terminal()
		x.TTY, x.Size = size != nil, size
		defer done()
	}
	code, err := r.c.Exec(ctx, pod.Namespace, pod.Name, x)
	if err != nil {
		return r.out, out, r.sessionError(ctx, pod, err)
	}
	out.Code = &code
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "ok", "the command in "+pod.Name+" returned 0"
	if code != 0 {
		r.out.Kind, r.out.Verdict = fault.Failed, fault.Failed.Name()
		r.out.Reason = fmt.Sprintf("container command returned error exit status %d", code)
	}
	return r.out, out, nil
}

// sessionError words why a command did not run to its end.
func (r *run) sessionError(ctx context.Context, pod Pod, err error) error {
	what := "the command in " + pod.Name
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if lost, ok := errors.AsType[*kube.LostError](err); ok {
		return fault.New(fault.Unreachable, "the connection to "+what+" was lost; it may still run", "").Because(lost.Err.Error()).From(err)
	}
	if kube.IsAbsent(err) {
		return fault.New(fault.Absent, "the pod "+pod.Name+" is gone", "homelab deployment ps --dir "+r.o.Dir).Because(err.Error()).From(err)
	}
	if s, ok := errors.AsType[*kube.StatusError](err); ok && s.Refused() && !kube.IsDenied(err) {
		return fault.New(fault.Failed, what+" could not be started", "").Because(s.Message).From(err)
	}
	return told(what+" could not be started", err)
}

// argv is what is run: a single word is a line for the shell.
func argv(words []string) []string {
	if len(words) == 1 {
		return []string{"sh", "-c", words[0]}
	}
	return words
}

// podFor picks the pod a command runs in.
func podFor(pods []Pod, service, name string, current map[string]string, dir string) (Pod, error) {
	ps := "homelab deployment ps --dir " + dir
	var have []Pod
	for _, p := range pods {
		if slices.ContainsFunc(p.Containers, func(c PodContainer) bool { return c.Name == service }) {
			have = append(have, p)
		}
	}
	if name != "" {
		for _, p := range pods {
			if p.Name != name {
				continue
			}
			if !slices.ContainsFunc(have, func(x Pod) bool { return x.Name == name }) {
				return Pod{}, fault.New(fault.Usage, "the pod "+name+" has no container "+service, ps)
			}
			return p, nil
		}
		return Pod{}, fault.New(fault.Absent, "the deployment has no pod "+name, ps)
	}
	if len(have) == 0 {
		return Pod{}, fault.New(fault.Absent, "no pod has a container "+service, ps)
	}
	fits := func(p Pod) int {
		runs := slices.ContainsFunc(p.Containers, func(c PodContainer) bool { return c.Name == service && c.State == "running" })
		set, ruled := current[p.hash]
		switch {
		case !runs || p.Terminating:
			return 0
		case p.job != "":
			return 1 // it is never ready in the sense of a service
		case !p.Ready:
			return 0
		case ruled && set == "old":
			return 0
		}
		return 2
	}
	slices.SortStableFunc(have, func(a, b Pod) int {
		if d := fits(b) - fits(a); d != 0 {
			return d
		}
		return b.created.Compare(a.created)
	})
	if fits(have[0]) > 0 {
		return have[0], nil
	}
	var why []string
	for _, p := range have {
		state := p.Phase
		if p.Reason != "" {
			state += ", " + p.Reason
		}
		switch {
		case p.Terminating:
			state += ", being deleted"
		case p.Ready && current[p.hash] == "old":
			state += ", of an older revision"
		case !p.Ready:
			state += ", not ready"
		}
		why = append(why, p.Name+" ("+state+")")
	}
	return Pod{}, fault.New(fault.Absent, "no ready pod of the current revision has a container "+service, ps).
		Because(strings.Join(why, ", ") + "; --pod names one all the same")
}

// revisions says of each template hash whether it is of the current revision
// ("current") or of an older one ("old"): the controller gives the newest the
// highest number. What may not be read says nothing.
func (r *run) revisions(ctx context.Context) (map[string]string, error) {
	items, err := r.list(ctx, kube.Apps("replicasets"), r.scope.Namespace, kube.Query{Labels: apply.LabelApp + "=" + r.scope.ID})
	if kube.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return templateRevisions(items)
}

func templateRevisions(sets []kube.Object) (map[string]string, error) {
	out := map[string]string{}
	type newest struct {
		number int
		hash   string
	}
	of := map[string]newest{} // by the Deployment
	for _, o := range sets {
		var s metav1.PartialObjectMetadata
		if err := json.Unmarshal(o.Raw, &s); err != nil {
			return nil, fmt.Errorf("replicaset %s: %w", o.Name, err)
		}
		n, err := strconv.Atoi(s.Annotations["deployment.kubernetes.io/revision"])
		hash := s.Labels["pod-template-hash"]
		if err != nil || hash == "" || len(s.OwnerReferences) != 1 {
			continue
		}
		owner := string(s.OwnerReferences[0].UID)
		out[hash] = "old"
		if n > of[owner].number {
			of[owner] = newest{n, hash}
		}
	}
	for _, x := range of {
		out[x.hash] = "current"
	}
	return out, nil
}
