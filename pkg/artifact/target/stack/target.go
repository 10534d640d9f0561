package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/target/workload"
	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/rollout"
	"homelab/pkg/stack"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/file"
	"homelab/pkg/ui"
)

// verb is what the watch is called where deployments say who wrote.
const verb = "watch"

// Stack is all that is needed of the deployments of this machine.
// *stack.World is one.
type Stack interface { //nolint:interfacebloat // all of it is one thing, the deployments of a machine
	Locate(dir, container string, images map[string]string) (stack.Located, error)
	Applied(ctx context.Context, dir string) (stack.Applied, error)
	Writer(dir string) (string, error)
	Reach(ctx context.Context, dir string) (stack.Cluster, func(), error)
	Services(ctx context.Context, o stack.Options) ([]stack.Service, error)
	Preview(ctx context.Context, o stack.Options) (*stack.Outcome, error)
	Update(ctx context.Context, o stack.Options) (*stack.Outcome, error)
	Rollback(ctx context.Context, o stack.Options, number int) (*stack.Outcome, error)
	KeepAside(dir, name string) error
	BringBack(ctx context.Context, o stack.Options, name string) (*stack.Outcome, error)
}

// Deps are what a Target works with.
type Deps struct {
	// Stack makes what is worked with, anew for every call, so that calls may run
	// beside each other. tell is told the story of it.
	Stack func(tell stack.Story) (Stack, error)
	// Registry: nil compares digests as they are, and proves no way back.
	Registry workload.Registry
	Dir      string       // where the watch keeps what there is to go back to; absolute
	Tell     func(string) // a line of the story; nil: nobody listens
	Now      func() time.Time
}

// Target is one container of a deployment, as artifacts are deployed to it.
type Target struct {
	s Spec
	d Deps

	mu       sync.Mutex
	in       *workload.Target // the container's Deployment; nil: not reached yet
	cluster  stack.Cluster
	key      string // of in
	closed   func()
	missing  string                    // the way back that the registry last said it had not
	look     artifact.ID               // what memory is about
	memories map[string]rollout.Memory // of the other Deployments that the switch to look has changed
}

var (
	_ artifact.Target = (*Target)(nil)
	_ Stack           = (*stack.World)(nil)
)

// New returns the target. Nothing is contacted; the files of the directory are
// judged. The error is a *fault.Error of kind Usage.
func New(s Spec, d Deps) (*Target, error) {
	if d.Tell == nil {
		d.Tell = func(string) {}
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	t := &Target{s: s, d: d}
	w, err := t.d.Stack(&story{})
	if err != nil {
		return nil, err
	}
	if _, err := w.Locate(s.Dir, s.Container, nil); err != nil {
		var said []string
		if f, ok := errors.AsType[*fault.Error](err); ok {
			said = append(said, f.What)
			if f.Why != "" {
				said = append(said, f.Why)
			}
		} else {
			said = []string{err.Error()}
		}
		return nil, fault.Usagef(help, "--to %s", s).Because(ui.Clean(strings.Join(said, ": "))).From(err)
	}
	return t, nil
}

// options are what every call is about.
func (t *Target) options(images map[string]string) stack.Options {
	return stack.Options{Dir: t.s.Dir, Verb: verb, Images: images, NoLoadImages: true}
}

// located is where the container is now, with the images that no file says.
func (t *Target) located(ctx context.Context, w Stack) (stack.Located, stack.Applied, error) {
	a, err := w.Applied(ctx, t.s.Dir)
	if err != nil {
		return stack.Located{}, a, t.failure(ctx, err)
	}
	loc, err := w.Locate(t.s.Dir, t.s.Container, nil)
	if err != nil {
		return loc, a, t.failure(ctx, err)
	}
	return loc, a, nil
}

func composed(l stack.Located) bool { return l.Deployment.Target == file.Compose }

// reach returns what looks at the container's Deployment.
func (t *Target) reach(ctx context.Context, w Stack, l stack.Located) (*workload.Target, stack.Cluster, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := fmt.Sprint(l.Deployment.Target, l.Deployment.Cluster, l.Deployment.Namespace, l.Workload)
	if st, err := os.Stat(filepath.Join(t.s.Dir, "kubeconfig.yml")); err == nil {
		key += fmt.Sprint(st.ModTime().UnixNano(), st.Size())
	}
	if t.in != nil && t.key == key {
		return t.in, t.cluster, nil
	}
	c, done, err := w.Reach(ctx, t.s.Dir)
	if err != nil {
		return nil, nil, t.failure(ctx, err)
	}
	if t.closed != nil {
		t.closed()
	}
	t.in = workload.New(workload.Spec{
		Kind: rollout.Deployment, Namespace: l.Deployment.Namespace, Name: l.Workload, Container: t.s.Container, By: apply.Manager,
	}, workload.Deps{Cluster: looks{c}, Registry: t.d.Registry})
	t.cluster, t.key, t.closed = c, key, done
	return t.in, c, nil
}

// looks is a cluster that is only looked at: what is written to it is written by
// the code of deployments.
type looks struct{ stack.Cluster }

// Apply implements workload.Cluster.
func (looks) Apply(context.Context, kube.Resource, string, string, []byte, kube.ApplyOptions) (kube.Object, error) {
	return kube.Object{}, errors.New("a stack is not written field by field")
}

// forget lets the next call reach the cluster anew: one that was made again has
// another address and other certificates.
func (t *Target) forget(err error) error {
	if f, ok := errors.AsType[*artifact.Failure](err); ok && f.Class == artifact.Transient {
		t.mu.Lock()
		t.key = ""
		t.mu.Unlock()
	}
	return err
}

// failure says what an error of a deployment means for a watch, where nothing
// was changed.
func (t *Target) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil && fault.KindOf(err) != fault.Timeout {
		return context.Cause(ctx)
	}
	if f, ok := errors.AsType[*artifact.Failure](err); ok {
		return f
	}
	f := &artifact.Failure{Class: artifact.Hold, Why: artifact.Preflight, What: sentence(err), Err: err}
	switch fault.KindOf(err) { //nolint:exhaustive // the others wait for a person
	case fault.Absent:
		f.Class, f.Why = artifact.Absent, ""
	case fault.Denied:
		f.Class, f.Why = artifact.Denied, ""
	case fault.Unreachable, fault.Bug:
		f.Class, f.Why = artifact.Transient, ""
	case fault.Timeout:
		f.Class, f.Why = artifact.Later, ""
	}
	return f
}

// sentence is an error in one line, with the command that helps.
func sentence(err error) string {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return ui.Clean(err.Error())
	}
	out := f.What
	if f.Why != "" {
		out += ": " + f.Why
	}
	if f.Next != "" {
		out += "; try: " + f.Next
	}
	return ui.Clean(out)
}

func hold(why artifact.Why, format string, args ...any) error {
	return &artifact.Failure{Class: artifact.Hold, Why: why, What: ui.Clean(fmt.Sprintf(format, args...))}
}

// story hands on what a deployment tells, and knows whether its writing has
// begun.
type story struct {
	tell func(string)

	mu    sync.Mutex
	begun bool
}

// Stage implements stack.Story.
func (s *story) Stage(name string) {
	if name == "apply" {
		s.mu.Lock()
		s.begun = true
		s.mu.Unlock()
	}
}

func (s *story) wrote() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// Line implements stack.Story.
func (s *story) Line(text string) {
	if s.tell != nil {
		s.tell(ui.Clean(text))
	}
}

// Notice implements stack.Story: what is wrong with files was told when they
// were made into a deployment.
func (s *story) Notice(file.Notice) {}

// Rollout implements stack.Story.
func (s *story) Rollout(string, []string) {}

// Progress implements stack.Story.
func (s *story) Progress(int, rollout.Verdict) {}
