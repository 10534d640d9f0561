package stack

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/render"
	"homelab/pkg/stack/secret"
)

// run is one verb under way.
type run struct {
	w   *World
	o   Options
	out *Outcome

	d       *file.Directory
	told    []file.Notice // by the files alone
	rules   *render.Result
	machine render.Machine
	memory  *render.Memory
	c       Cluster
	scope   apply.Scope
	live    *apply.Live
	secrets secret.Result
	plan    *apply.Plan
	want    []*unstructured.Unstructured // as desired, before it was compared

	// Of a rollback: what it goes back to, and what it turns away from.
	revision  *Revision
	state0    *render.Result // what the revision was rendered to
	fresh     *render.Result // what its files come to now; nil when they do not render any more
	noSecrets error          // why Secrets cannot be made now
	left      *Left

	compose composed

	journal *directory.Journal
	cut     bool   // an earlier run was cut off
	attach  string // the kind cluster that deployment.yml is to name from now on; "" as it does
	closers []func()
}

func (w *World) run(o Options) *run {
	return &run{
		w: w, o: o, out: &Outcome{}, memory: &render.Memory{},
		machine: render.Machine{Home: w.Files.Home, WorkDir: w.Files.WorkDir},
	}
}

// open judges every file of a deployment directory. Nothing is contacted.
func (w *World) open(o Options) (*run, error) {
	r := w.run(o)
	d, notices, err := file.Load(o.Dir, w.Files)
	if err != nil {
		return r, err
	}
	r.d, r.told = d, notices
	r.identify()
	if r.o.Mode != kind.Auto && d.Spec.Target != file.Kind {
		r.notices([]file.Notice{{
			Code: "no-cluster-to-manage", Level: file.Info, File: d.Spec.File, Key: "deploy-to",
			Message: "clusters are managed for deploy-to: k8s-kind only; the flag changes nothing here",
		}})
	}
	if r.rules, err = r.render(render.Facts{}); err != nil {
		return r, err
	}
	if err := known(d, o.AcceptVolumes); err != nil {
		return r, err
	}
	all := slices.Concat(notices, r.rules.Notices)
	if o.Strict {
		if err := strict(all); err != nil {
			r.notices(all)
			return r, err
		}
	}
	r.notices(all)
	return r, nil
}

// known refuses --accept-volume for what is no volume of the spec: a slip there
// would look like consent that was not used.
func known(d *file.Directory, accepted []string) error {
	var names []string
	for _, v := range d.Spec.Volumes {
		names = append(names, v.Name)
	}
	for _, a := range accepted {
		if !slices.Contains(names, a) {
			return fault.Usagef("", "--accept-volume %s: the spec has no such volume", a).Because("it has " + orNone(names))
		}
	}
	return nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// identify says which deployment the outcome is about.
func (r *run) identify() {
	d := r.d
	r.w.hide(d.Spec)
	target := d.Spec.Target
	if target == "" {
		target = file.Compose
	}
	r.out.Deployment = Identity{
		Dir: d.Path, ID: d.Deployment.ID, Namespace: d.Namespace(), Target: target, Stack: d.Stack.Name, Rules: d.Deployment.Rules,
	}
	switch target {
	case file.Kind:
		r.out.Deployment.Cluster = d.Cluster()
	case file.Compose:
		r.out.Deployment.Namespace = d.Deployment.ClusterID // the project
	case file.K8s:
	}
	r.out.Spec.Path = filepath.Join(d.Path, "spec.yml")
	r.out.Stack.Path = d.Deployment.StackSource
	r.scope = apply.Scope{
		Dir: d.Path, ID: d.Deployment.ID, Namespace: d.Namespace(), Stack: d.Stack.Name, Rules: d.Deployment.Rules,
		AdoptNamespace: r.o.AdoptNamespace, AcceptVolumes: r.o.AcceptVolumes,
	}
}

// hide keeps the variables that a spec takes Secrets from out of the
// environment of every child: none needs them.
func (w *World) hide(s *file.Spec) {
	var names []string
	for _, r := range []*file.Registry{s.RegistryCredentials, s.ImagePullSecret} {
		if r != nil && r.TokenEnv != "" {
			names = append(names, r.TokenEnv)
		}
	}
	for _, x := range s.Secrets {
		for _, k := range x.Keys {
			if k.Env != "" {
				names = append(names, k.Env)
			}
		}
	}
	if len(names) == 0 {
		return
	}
	w.Git = slices.DeleteFunc(slices.Clone(w.Git), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(names, name)
	})
	if w.Hide != nil {
		w.Hide(names)
	}
}

// render turns the files into objects, given what is known of the cluster.
func (r *run) render(f render.Facts) (*render.Result, error) {
	if r.composed() {
		return r.composeRender()
	}
	f.PullSecret = secret.PullSecret(r.d)
	out, err := render.Render(r.d, render.Options{Images: r.o.Images, Machine: r.machine, Memory: r.memory}, f)
	if r.revision != nil {
		r.fresh = out
		state := *r.state0
		state.Jobs = nil // they ran
		return &state, nil
	}
	if p, ok := err.(*render.Problems); ok { //nolint:errorlint // Render documents its type
		return nil, p.Fault("the deployment in "+r.o.Dir+" cannot be rendered", "")
	}
	return out, err
}

// notices tells what was not told yet.
func (r *run) notices(list []file.Notice) {
	for _, n := range list {
		if slices.Contains(r.out.Notices, n) {
			continue
		}
		r.out.Notices = append(r.out.Notices, n)
		r.w.Tell.Notice(n)
	}
}

// strict refuses notices of what has no, or another, effect.
func strict(all []file.Notice) error {
	var found []string
	for _, n := range all {
		if n.Level == file.Ignored || n.Level == file.Changed {
			found = append(found, Place(n)+": "+n.Message)
		}
	}
	if len(found) == 0 {
		return nil
	}
	what := "one key has no, or another, effect here"
	if len(found) > 1 {
		what = fmt.Sprintf("%d keys have no, or another, effect here", len(found))
	}
	return fault.New(fault.Usage, what+", and --strict allows none", "").Because(strings.Join(found, "; "))
}

// Place says where a notice is about: file, line, service and key.
func Place(n file.Notice) string {
	out := n.File
	if n.Line > 0 {
		out += fmt.Sprintf(":%d", n.Line)
	}
	if n.Service != "" {
		out += ": " + n.Service
	}
	if n.Key != "" {
		out += ": " + n.Key
	}
	return out
}

// lock takes the directory's lock and settles what an earlier run left. Files
// that were being replaced when it was cut off are read again.
func (r *run) lock(ctx context.Context) error {
	if err := r.settled(ctx); err != nil {
		return err
	}
	return r.reopen()
}

// reopen reads the files again: while the lock was waited for, or an
// interrupted update of them was finished, they may have changed.
func (r *run) reopen() error {
	return r.take(r.w.open(r.o))
}

// take goes on with what was read again.
func (r *run) take(again *run, err error) error {
	if err != nil {
		return err
	}
	r.d, r.told, r.rules, r.scope, r.compose = again.d, again.told, again.rules, again.scope, again.compose
	r.memory = again.memory
	r.out.Deployment = again.out.Deployment
	return nil
}

// settle finishes what an earlier run began on the cluster. Objects need
// nothing: they are planned from what is live. A cluster whose creation was cut
// off is deleted, as it can only be made whole.
func (r *run) settle(ctx context.Context, left directory.Entry) error {
	if name := left.Cluster; name != "" && r.d.Spec.Target == file.Kind {
		r.w.Tell.Line("the creation of the kind cluster " + name + " was cut off: deleting what is there of it")
		if err := r.w.Engine.Delete(ctx, name); err != nil {
			return fault.New(fault.Unsafe, "the half-made kind cluster "+name+" is still there", "kind delete cluster --name "+name).Because(err.Error()).From(err)
		}
	}
	return r.journal.Clear()
}

// close undoes what open, lock and connect have taken, last first.
func (r *run) close() {
	for _, f := range slices.Backward(r.closers) {
		f()
	}
	r.closers = nil
}

// contact is connect for what brings something up: compose is reached by every
// command of its own.
func (r *run) contact(ctx context.Context) error {
	if r.composed() {
		return nil
	}
	return r.connect(ctx)
}

// connect reaches the cluster.
func (r *run) connect(ctx context.Context) error {
	c, done, err := r.w.connect(ctx, r.d)
	if err != nil {
		return err
	}
	r.c = c
	r.out.Context = c.Context()
	r.closers = append(r.closers, done)
	return nil
}

// read asks the cluster for everything that concerns this deployment, and
// renders again with what only a cluster knows.
func (r *run) read(ctx context.Context) error {
	live, err := apply.Read(ctx, r.c, r.scope)
	if err != nil {
		if r.w.gone(ctx, r.d, told("", err)) {
			return notRunning(r.d)
		}
		return told("the cluster cannot be read", err)
	}
	r.live = live
	f, err := r.facts(ctx)
	if err != nil {
		return err
	}
	if r.rules, err = r.render(f); err != nil {
		return err
	}
	if r.o.Strict {
		if err := strict(r.rules.Notices); err != nil {
			return err
		}
	}
	r.notices(r.rules.Notices)
	return nil
}

// aim makes the plan: secrets, guards, difference. Nothing is written.
func (r *run) aim(ctx context.Context) error {
	live, err := r.liveSecrets(ctx)
	if err != nil {
		return err
	}
	if r.secrets, err = secret.Make(r.d, r.w.Secrets, live); err != nil {
		if r.revision == nil {
			return err
		}
		r.noSecrets = err // those that are there will do
	}
	r.w.Redact(r.secrets)
	r.notices(r.secrets.Notices)
	want := r.desired()
	if r.revision != nil {
		if want, err = r.bring(); err != nil {
			return err
		}
	}
	if err := r.live.Complete(ctx, r.c, r.scope, want); err != nil {
		return told("the cluster cannot be read", err)
	}
	conflicts, notices := apply.Guard(r.live, want, r.scope)
	r.notices(notices)
	if err := apply.Refusal(conflicts); err != nil {
		return err
	}
	r.adopt(want)
	r.want = copies(want.Objects)
	plan, err := apply.Diff(ctx, r.c, r.live, want, r.scope)
	if err != nil {
		return told("the difference to the cluster could not be determined", err)
	}
	r.plan = plan
	r.out.Plan = plan
	r.notices(plan.Notices)
	return nil
}
