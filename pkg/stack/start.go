package stack

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/kube"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/kind"
	"homelab/pkg/stack/render"
)

// Start brings a stack up as its directory says. A second start of a stack
// that is up changes nothing.
func (w *World) Start(ctx context.Context, o Options) (*Outcome, error) {
	r, err := w.open(o)
	defer r.close()
	if err != nil {
		return r.out, err
	}
	if len(o.Services) > 0 && !r.composed() {
		return r.out, fault.Usagef("homelab deployment start --help", "services can be named with deploy-to: compose only").
			Because("a cluster runs the stack as a whole")
	}
	notices, err := directory.JudgeHooks(w.Hooks, r.d.Path, o.NoHooks)
	if err != nil {
		return r.out, err
	}
	r.notices(notices)
	if err := r.judgeScripts(true); err != nil {
		return r.out, err
	}
	if err := r.lock(ctx); err != nil {
		return r.out, err
	}
	if err := r.around(ctx, file.PreStart); err != nil {
		return r.out, err
	}
	r.w.Tell.Stage("cluster")
	there, err := r.ensure(ctx)
	if err != nil {
		return r.out, err
	}
	if !there { // a dry run, and no cluster to ask
		return r.out, nil
	}
	return r.out, r.up(ctx, true)
}

// Update makes the cluster hold what the directory says now: no pull, no new
// cluster.
func (w *World) Update(ctx context.Context, o Options) (*Outcome, error) {
	r, err := w.open(o)
	defer r.close()
	if err != nil {
		return r.out, err
	}
	if err := r.lock(ctx); err != nil {
		return r.out, err
	}
	if err := r.admit(); err != nil {
		return r.out, err
	}
	if err := r.contact(ctx); err != nil {
		return r.out, err
	}
	return r.out, r.up(ctx, false)
}

// Diff says what Update would change. Nothing is locked or written.
func (w *World) Diff(ctx context.Context, o Options) (*Outcome, error) {
	r, err := w.open(o)
	defer r.close()
	if err != nil {
		return r.out, err
	}
	if r.composed() {
		r.plan = r.freshPlan()
		return r.out, r.composeDiff(ctx)
	}
	if err := r.connect(ctx); err != nil {
		return r.out, err
	}
	if err := r.read(ctx); err != nil {
		return r.out, err
	}
	if err := r.aim(ctx); err != nil {
		return r.out, err
	}
	r.out.Kind, r.out.Verdict, r.out.Reason = fault.OK, "same", "the cluster holds what the directory says"
	if n := len(r.plan.Create) + len(r.plan.Update) + len(r.plan.Replace) + len(r.plan.Delete); n > 0 {
		r.out.Verdict, r.out.Reason = "changes", "would change "+Summary(r.plan)
		r.out.Next = "homelab deployment update --dir " + r.o.Dir
	}
	return r.out, nil
}

// up is what start and update share once the cluster is reached.
func (r *run) up(ctx context.Context, install bool) error {
	c, err := r.prepare(ctx, install)
	if err != nil {
		return err
	}
	return r.perform(ctx, c)
}

// prepare reads the cluster, asks every guard and makes the plan. Nothing is
// written.
func (r *run) prepare(ctx context.Context, install bool) (controller, error) {
	if r.composed() {
		r.plan = r.freshPlan()
		return controller{}, r.composePrepare(ctx)
	}
	if err := r.read(ctx); err != nil {
		return controller{}, err
	}
	c, err := r.controller(ctx, install)
	if err != nil {
		return c, err
	}
	if err := r.mounts(ctx); err != nil {
		return c, err
	}
	return c, r.aim(ctx)
}

// perform does what prepare has planned, and sees it up.
func (r *run) perform(ctx context.Context, c controller) error {
	if r.composed() {
		return r.composeWrite(ctx)
	}
	if !r.o.DryRun {
		if r.attach != "" {
			if err := directory.SetClusterID(r.d.Path, r.attach); err != nil {
				return err
			}
		}
		if err := c.install(ctx); err != nil {
			return err
		}
		if err := r.loadImages(ctx); err != nil {
			return err
		}
	}
	if err := r.write(ctx); err != nil {
		return err
	}
	return r.back(ctx)
}

// ensure makes sure that there is a cluster, as the mode allows, and connects.
// false: there is none, and a dry run makes none.
func (r *run) ensure(ctx context.Context) (bool, error) {
	if r.d.Spec.Target != file.Kind {
		return true, r.contact(ctx)
	}
	all, err := r.w.clusters(ctx, r.d)
	if err != nil && r.o.Mode == kind.Skip && r.w.HasContext("kind-"+r.d.Cluster()) && r.unchecked(err) == nil {
		return true, r.connect(ctx)
	}
	if err != nil {
		return false, err
	}
	wish := kind.Wish{Name: r.d.Cluster(), FromSpec: r.d.Spec.KindClusterName != "", Dir: r.o.Dir}
	action, name, err := kind.AtStart(r.o.Mode, wish, all)
	if err != nil {
		return false, err
	}
	switch action {
	case kind.Create:
		if r.o.DryRun {
			r.out.Kind, r.out.Verdict = fault.OK, "changes"
			r.out.Reason = "would make the kind cluster " + name + " and everything in it"
			return false, nil
		}
		if err := r.create(ctx, name); err != nil {
			return false, err
		}
	case kind.TakeOver:
		r.w.Tell.Line("attaching to the kind cluster " + name + " instead of " + wish.Name)
		r.d.Deployment.ClusterID = name // deployment.yml says so once every guard has passed
		r.out.Deployment.Cluster = name
		r.attach = name
	case kind.Use:
		r.w.Tell.Line("Using existing cluster: " + name)
	}
	return true, r.connect(ctx)
}

// create makes the kind cluster from the file in the directory as it is.
func (r *run) create(ctx context.Context, name string) error {
	config, err := os.ReadFile(filepath.Join(r.d.Path, "kind-config.yml"))
	if err != nil {
		return fault.New(fault.Usage, "the kind cluster "+name+" cannot be made", "homelab deploy create --help").
			Because("kind-config.yml cannot be read: " + err.Error()).From(err)
	}
	conflicts, notices, err := r.movedPlaces() // the cluster that knew them is gone
	if err != nil {
		return err
	}
	r.notices(notices)
	if err := apply.Refusal(conflicts); err != nil {
		return err
	}
	if r.d.Spec.KindMountRoot == "" {
		r.notices([]file.Notice{{
			Code: "kind-without-umbrella", Level: file.Warning, File: r.d.Spec.File, Key: "kind-mount-root",
			Message: "the cluster is made without kind-mount-root: a later stack with host paths of its own may need a new cluster",
		}})
	}
	for _, v := range r.rules.Volumes {
		if v.HostPath == "" {
			continue
		}
		if err := os.MkdirAll(v.HostPath, 0o755); err != nil { //nolint:gosec // data that containers of any user write
			return fault.New(fault.Denied, "the directory of volume "+v.Name+" cannot be made", "").Because(err.Error()).From(err)
		}
	}
	r.w.Tell.Line("Creating new cluster: " + name)
	entry := r.entry()
	entry.Cluster = name
	if err := r.journal.Write(entry); err != nil {
		return err
	}
	if err := r.w.Engine.Create(ctx, name, config); err != nil {
		if ctx.Err() == nil {
			// It left nothing; a cluster of that name that is there later is
			// somebody's, and must not be taken for a leftover.
			_ = r.journal.Write(r.entry())
		}
		return err
	}
	if err := r.mark(ctx, name); err != nil {
		return err
	}
	return r.journal.Write(r.entry())
}

// mark writes into a cluster that homelab made it.
func (r *run) mark(ctx context.Context, name string) error {
	c, done, err := r.w.connectKind(ctx, r.d)
	if err != nil {
		return err
	}
	defer done()
	return told("the new cluster could not be marked as made by homelab", patch(ctx, c, kube.Core("namespaces"), "", kubeSystem,
		map[string]any{"metadata": map[string]any{"annotations": map[string]any{OurCluster: name}}}))
}

// entry is what the journal says while this verb writes.
func (r *run) entry() directory.Entry {
	e := directory.Entry{Verb: r.o.Verb, PID: os.Getpid(), Began: r.w.Now().UTC(), Commits: map[string]string{}}
	if r.out.Spec.Commit != "" {
		e.Commits["spec"] = string(r.out.Spec.Commit)
	}
	if r.out.Stack.Commit != "" {
		e.Commits["stack"] = string(r.out.Stack.Commit)
	}
	if r.swap != nil {
		e.Swap, _ = json.Marshal(r.swap) // plain values
	}
	if r.plan != nil {
		for _, list := range [][]apply.Change{r.plan.Create, r.plan.Update, r.plan.Replace, r.plan.Delete} {
			for _, c := range list {
				e.Plan = append(e.Plan, c.String())
			}
		}
	}
	return e
}

// mounts checks that what the volumes need is really mounted in the node: kind
// mounts only at creation, and data would fall into the node silently.
func (r *run) mounts(ctx context.Context) error {
	if r.d.Spec.Target != file.Kind {
		return nil
	}
	want := r.rules.Mounts
	if raw, err := os.ReadFile(filepath.Join(r.d.Path, "kind-config.yml")); err == nil {
		// People put other nodes and mounts into it; they count as well.
		asked, err := render.ParseKindConfig(raw)
		if err != nil {
			return fault.New(fault.Usage, "kind-config.yml cannot be read", "").Because(err.Error()).From(err)
		}
		for _, m := range asked {
			if !slices.ContainsFunc(want, func(x render.Mount) bool {
				return x.ContainerPath == m.ContainerPath && x.Role == m.Role && x.Node == m.Node
			}) {
				want = append(slices.Clip(want), m)
			}
		}
	}
	if want = render.Required(want); len(want) == 0 {
		return nil
	}
	nodes, err := r.w.Engine.Nodes(ctx, r.d.Cluster())
	if err != nil {
		return r.unchecked(err)
	}
	live := liveMounts(nodes)
	wrong := render.CompareMounts(want, live)
	if r.d.Deployment.Rules == file.V2 {
		wrong = append(wrong, render.Shadowed(r.rules.Volumes, want, live)...)
	}
	if len(wrong) == 0 {
		return nil
	}
	var lines []string
	for _, m := range wrong {
		lines = append(lines, m.String())
	}
	return fault.New(fault.Conflict, "the kind cluster "+r.d.Cluster()+" does not have this deployment's directories mounted", "homelab deployment volumes --cluster --dir "+r.o.Dir).
		Because(strings.Join(append(lines, render.MountFix(live)...), "; "))
}

// unchecked goes on although the container engine does not answer, where that
// is allowed.
func (r *run) unchecked(err error) error {
	if !r.w.Lenient || fault.KindOf(err) != fault.Unreachable {
		return err
	}
	r.notices([]file.Notice{{
		Code: "mounts-unchecked", Level: file.Warning, File: "kind-config.yml",
		Message: "it is not known whether the kind cluster " + r.d.Cluster() + " has this deployment's directories mounted: " + err.Error(),
	}})
	return nil
}

func liveMounts(nodes []kind.Node) []render.NodeMount {
	var live []render.NodeMount
	for _, n := range nodes {
		live = append(live, render.NodeMount{Node: n.Name, Role: n.Role})
		for _, m := range n.Mounts {
			live = append(live, render.NodeMount{Node: n.Name, Role: n.Role, HostPath: m.Source, ContainerPath: m.Destination, Bind: true})
		}
	}
	return live
}

// loadImages brings local images into the nodes: those the stack builds, those
// that are overridden, and whatever is tagged :local.
func (r *run) loadImages(ctx context.Context) error {
	if r.d.Spec.Target != file.Kind || r.o.NoLoadImages {
		return nil
	}
	refs := r.localRefs()
	if len(refs) == 0 {
		return nil
	}
	loaded, err := r.w.Engine.Load(ctx, r.d.Cluster(), refs)
	for _, ref := range loaded {
		r.w.Tell.Line("loaded image " + ref + " into the cluster")
	}
	return err
}

func (r *run) localRefs() []string {
	var out []string
	add := func(container, ref string) {
		repo, tag := splitTag(ref)
		_, overridden := r.d.Spec.ImageOverrides[container]
		_, byFlag := r.o.Images[container]
		if tag == "local" || overridden || byFlag || slices.Contains(r.d.Stack.Containers, repo) {
			if !slices.Contains(out, ref) {
				out = append(out, ref)
			}
		}
	}
	for _, wl := range r.rules.Workloads {
		for c, ref := range wl.Images {
			add(c, ref)
		}
	}
	for _, j := range r.rules.Jobs {
		for c, ref := range j.Images {
			add(c, ref)
		}
	}
	slices.Sort(out)
	return out
}

// splitTag divides a reference at its tag; a digest has none.
func splitTag(ref string) (repo, tag string) {
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") && !strings.Contains(ref, "@") {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}
