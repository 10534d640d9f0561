package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/flock"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
	"homelab/pkg/stack/source"
)

// What follows is for whoever deploys one container of a stack by itself, over
// and over: where that container is, what was applied last, what an update
// would do, and what runs on compose.

// Located is where one container of a deployment is, by the files alone.
type Located struct {
	Deployment Identity
	Workload   string            // the Deployment that has it; compose: ""
	Image      string            // what it is to run
	Workloads  []render.Workload // all that is to run
}

// Locate finds a container among the files of a directory. Nothing is
// contacted. The error is of kind Usage.
func (w *World) Locate(dir, container string, images map[string]string) (Located, error) {
	quiet := *w
	quiet.Tell = silent{}
	r, err := quiet.open(Options{Dir: dir, Images: images})
	defer r.close()
	if err != nil {
		return Located{}, worded(err)
	}
	out := Located{Deployment: r.out.Deployment, Workloads: r.rules.Workloads}
	var names []string
	found := 0
	for _, wl := range r.rules.Workloads {
		starts := r.initContainers(wl.Name)
		for _, name := range slices.Sorted(maps.Keys(wl.Images)) {
			if slices.Contains(starts, name) {
				continue
			}
			if names = append(names, name); name != container {
				continue
			}
			found++
			out.Image = wl.Images[name]
			if !r.composed() {
				out.Workload = wl.Name
			}
		}
	}
	switch found {
	case 1:
		return out, nil
	case 0:
		return out, fault.New(fault.Usage, fmt.Sprintf("the stack in %s has no container %s", dir, container), "").
			Because("it has " + orNone(names))
	}
	return out, fault.New(fault.Usage, fmt.Sprintf("the stack in %s has %d containers called %s", dir, found, container), "").
		Because("which of them is meant cannot be said")
}

// initContainers are those of a Deployment, or of a project, that end before the
// others begin.
func (r *run) initContainers(workload string) []string {
	var out []string
	if p := r.compose.project; p != nil {
		for _, s := range p.Services {
			if s.Once {
				out = append(out, s.Name)
			}
		}
		return out
	}
	for _, o := range r.rules.Objects {
		if o.GetKind() != "Deployment" || o.GetName() != workload {
			continue
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "initContainers")
		for _, c := range list {
			if m, ok := c.(map[string]any); ok {
				name, _ := m["name"].(string)
				out = append(out, name)
			}
		}
	}
	return out
}

// worded makes one error of what is wrong with files.
func worded(err error) error {
	if p, ok := err.(*file.Problems); ok { //nolint:errorlint // Load documents its type
		return p.Fault("")
	}
	return err
}

// Reach connects to the cluster of a directory. The connection is ended by the
// function that comes with it.
func (w *World) Reach(ctx context.Context, dir string) (Cluster, func(), error) {
	d, _, err := file.Load(dir, w.Files)
	if err != nil {
		return nil, nil, worded(err)
	}
	w.hide(d.Spec)
	return w.connect(ctx, d)
}

// Applied is what a directory records of the last write to its deployment.
type Applied struct {
	Revision  *Revision         // the newest; nil none, and with compose
	Before    []Revision        // the recorded ones before it, newest first
	Overrides map[string]string // images that no file says; nil none
	Spec      Origin            // where its files come from, as far as that is known
	Stack     Origin
}

// Applied reads it. Nothing is contacted.
func (w *World) Applied(ctx context.Context, dir string) (Applied, error) {
	var out Applied
	quiet := *w
	r := quiet.run(Options{Dir: dir})
	d, _, err := file.Load(dir, w.Files)
	if err != nil {
		return out, worded(err)
	}
	r.d = d
	r.identify()
	if r.composed() {
		if out.Overrides, err = r.overrides(); err != nil {
			return out, err
		}
	} else {
		all, err := recordedIn(d.Path)
		if err != nil {
			return out, err
		}
		if len(all) > 0 {
			out.Revision, out.Before, out.Overrides = &all[0], all[1:], all[0].Overrides
			out.Spec, out.Stack = all[0].Spec, all[0].Stack
		}
	}
	if out.Spec.Path == "" {
		out.Spec, out.Stack = r.out.Spec, r.out.Stack
	}
	if out.Stack.Commit == "" && out.Stack.Path != "" {
		// Nobody has taken it from git since; the checkout is the best that is known.
		if at, err := source.At(ctx, out.Stack.Path, source.Options{Env: w.Git}); err == nil {
			out.Stack.Commit = at.Commit
		}
	}
	return out, nil
}

// Writer tells who holds the lock of a directory; "" nobody does.
func (w *World) Writer(dir string) (string, error) {
	home, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fault.Usagef("", "%s cannot be read", dir).Because(err.Error()).From(err)
	}
	busy, err := flock.Held(directory.LockPath(home))
	if err != nil || !busy {
		return "", err
	}
	return directory.HolderOf(home).String(), nil
}

// Preview asks every guard that Update asks and says what that would change.
// Nothing is locked or written. Where a maintenance page is shown the error is
// of kind Held.
func (w *World) Preview(ctx context.Context, o Options) (*Outcome, error) {
	quiet := *w
	quiet.Tell = silent{}
	r, err := quiet.open(o)
	defer r.close()
	if err != nil {
		return r.out, worded(err)
	}
	if err := r.contact(ctx); err != nil {
		return r.out, err
	}
	if _, err := r.prepare(ctx, false); err != nil {
		return r.out, err
	}
	if r.composed() {
		return r.out, nil
	}
	r.out.Kind = fault.OK
	if r.displaced(); r.out.Kind != fault.OK {
		return r.out, fault.New(fault.Held, "a maintenance page stands", r.out.Next).Because(r.out.Reason)
	}
	return r.out, nil
}

// Service is one service of compose in one look.
type Service struct {
	Name    string
	Image   string // what it is to run
	Runs    []Instance
	Verdict rollout.Verdict // with the last lines of what failed
}

// Instance is one container of a service.
type Instance struct {
	Name, State string
	Image       string   // the reference it was made of
	Digests     []string // by which registries know what it runs: REPOSITORY@sha256:HEX
}

// Services looks once at a deployment to compose.
func (w *World) Services(ctx context.Context, o Options) ([]Service, error) {
	quiet := *w
	quiet.Tell = silent{}
	r, err := quiet.open(o)
	defer r.close()
	if err != nil {
		return nil, worded(err)
	}
	verdicts, err := r.composeObserve(ctx)
	if err != nil {
		return nil, err
	}
	r.composeTargets(ctx, verdicts, 0)
	known := map[string][]string{}
	var out []Service
	for i, s := range r.wanted() {
		one := Service{Name: s.Name, Image: s.Image, Verdict: verdicts[i]}
		one.Verdict.Cause = r.out.Targets[i].Verdict.Cause
		for _, c := range r.compose.live {
			if c.Service != s.Name {
				continue
			}
			digests, asked := known[c.ImageID]
			if !asked && c.ImageID != "" {
				if digests, err = w.Docker.Digests(ctx, c.ImageID); err != nil {
					return nil, err
				}
				known[c.ImageID] = digests
			}
			one.Runs = append(one.Runs, Instance{Name: c.Name, State: c.State, Image: c.Image, Digests: digests})
		}
		out = append(out, one)
	}
	return out, nil
}

// admit asks whoever wants to be asked before anything is done.
func (r *run) admit() error {
	if r.o.Admit == nil {
		return nil
	}
	return r.o.Admit()
}

// tellPlan tells whoever wants to know what will be written.
func (r *run) tellPlan() error {
	if r.o.Planned == nil {
		return nil
	}
	return r.o.Planned(r.plan)
}

// override makes containers of a recorded state run other images. Those that it
// does not have are nobody's.
func override(state *render.Result, images map[string]string) error {
	for name, ref := range images {
		for _, wl := range state.Workloads {
			if _, has := wl.Images[name]; has {
				wl.Images[name] = ref
			}
		}
	}
	for _, o := range state.Objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		for _, field := range []string{"containers", "initContainers"} {
			at := []string{"spec", "template", "spec", field}
			list, there, err := unstructured.NestedSlice(o.Object, at...)
			if err != nil || !there {
				continue
			}
			for _, c := range list {
				if m, ok := c.(map[string]any); ok {
					name, _ := m["name"].(string)
					if ref, is := images[name]; is {
						m["image"] = ref
					}
				}
			}
			if err := unstructured.SetNestedSlice(o.Object, list, at...); err != nil {
				return err
			}
		}
	}
	return nil
}

const overridesKey = "compose-overrides" // in state.json: service -> image that no file says

// overrides are the images that the last orders of a deployment to compose had
// from nowhere in its files.
func (r *run) overrides() (map[string]string, error) {
	s, err := file.ReadState(r.d.Path)
	if err != nil {
		return nil, worded(err)
	}
	var out map[string]string
	if raw, ok := s.Rest[overridesKey]; ok && json.Unmarshal(raw, &out) != nil {
		return nil, nil //nolint:nilerr // as if there were none
	}
	return out, nil
}

// keepOverrides keeps those of these orders.
func (r *run) keepOverrides() error {
	was, err := r.overrides()
	if err != nil || maps.Equal(was, r.o.Images) {
		return err
	}
	return directory.Keep(r.d.Path, overridesKey, r.o.Images)
}

// keptDir is where a directory's files are kept aside under a name.
func keptDir(dir, name string) string { return filepath.Join(dir, file.StateDir, "kept", name) }

// KeepAside keeps the generated files of a directory as they are now, for
// BringBack: of what is deployed to compose no revisions are recorded. The lock
// should be held.
func (w *World) KeepAside(dir, name string) error {
	d, _, err := file.Load(dir, w.Files)
	if err != nil {
		return worded(err)
	}
	kept, err := directory.Snapshot(d)
	if err != nil {
		return err
	}
	at := keptDir(d.Path, name)
	stage := at + ".new"
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	var list []keptFile
	for _, k := range kept {
		list = append(list, keptFile{Path: k.Path, Mode: k.Mode, Secret: k.Secret, Hash: file.Hash(k.Data)})
	}
	if err := putFiles(stage, kept); err != nil {
		return err
	}
	if err := putJSON(filepath.Join(stage, "kept.json"), list); err != nil {
		return err
	}
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if err := os.Rename(stage, at); err != nil {
		return err
	}
	return syncDir(filepath.Dir(at))
}

// acted names a file of a directory that somebody has changed since its files
// were kept; "" none. What hooks may write is not looked at: they run with the
// switch.
func acted(d *file.Directory, kept []directory.Kept) (string, error) {
	now, err := directory.Snapshot(d)
	if err != nil {
		return "", err
	}
	hashes := func(list []directory.Kept) map[string]string {
		out := map[string]string{}
		for _, k := range list {
			if top, _, deep := strings.Cut(k.Path, "/"); !deep || top == "compose" {
				out[k.Path] = file.Hash(k.Data)
			}
		}
		return out
	}
	was, is := hashes(kept), hashes(now)
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] != was[name] {
			return name, nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] == "" {
			return name, nil
		}
	}
	return "", nil
}

// BringBack makes a directory that is deployed to compose what KeepAside kept
// of it, and its containers what it says then, with the images of o. What
// somebody has changed since is not undone: that is of kind Unsafe. Once
// something was written, a failure is of kind Unsafe.
func (w *World) BringBack(ctx context.Context, o Options, name string) (*Outcome, error) {
	r := w.run(o)
	defer r.close()
	d, _, err := file.Load(o.Dir, w.Files)
	if err != nil {
		return r.out, worded(err)
	}
	r.d = d
	r.identify()
	if !r.composed() {
		return r.out, fault.Usagef("", "%s is not deployed to compose", o.Dir).Because("its revisions are in its history")
	}
	if err := r.settled(ctx); err != nil {
		return r.out, err
	}
	if err := r.admit(); err != nil {
		return r.out, err
	}
	kept, err := readKept(keptDir(d.Path, name))
	if err != nil {
		return r.out, err
	}
	if r.d, _, err = file.Load(o.Dir, w.Files); err != nil { // it was waited for the lock
		return r.out, worded(err)
	}
	if changed, err := acted(r.d, kept); err != nil {
		return r.out, err
	} else if changed != "" {
		return r.out, fault.New(fault.Unsafe, "somebody has changed "+filepath.Join(o.Dir, filepath.FromSlash(changed))+" since the switch", "homelab deployment status --dir "+o.Dir).
			Because("what was kept cannot be put back without undoing that")
	}
	put, err := directory.PutBack(ctx, directory.Options{
		Dir: d.Path, NoHooks: true, Verb: "deployment " + o.Verb, Env: w.Files, Now: w.Now(),
		Guard: func(next *file.Directory, machine render.Machine) error {
			if changed := elsewhere(d, next); len(changed) > 0 {
				return fault.New(fault.Conflict, "what was kept is of another deployment: "+changed[0], "").Because("what runs would be left behind")
			}
			r.d, r.machine = next, machine
			r.identify()
			if r.rules, err = r.render(render.Facts{}); err != nil {
				return err
			}
			r.plan = r.freshPlan()
			return r.composePrepare(ctx)
		},
	}, kept)
	if put != nil {
		r.notices(put.Notices)
	}
	if err != nil {
		return r.out, err
	}
	if err := r.composeWrite(ctx); err != nil {
		if k := fault.KindOf(err); k == fault.Interrupted || k == fault.Terminated {
			return r.out, err
		}
		return r.out, fault.New(fault.Unsafe, "going back failed half way", "homelab deployment status --dir "+o.Dir).Because(err.Error()).From(err)
	}
	return r.out, nil
}

func readKept(at string) ([]directory.Kept, error) {
	bad := func(err error) ([]directory.Kept, error) {
		return nil, fault.New(fault.Unsafe, "what was kept in "+at+" cannot be read", "").Because(err.Error()).From(err)
	}
	raw, err := os.ReadFile(filepath.Join(at, "kept.json")) //nolint:gosec // our own record
	if err != nil {
		return bad(err)
	}
	var list []keptFile
	if err := json.Unmarshal(raw, &list); err != nil {
		return bad(err)
	}
	kept, err := readFiles(at, list)
	if err != nil {
		return bad(err)
	}
	return kept, nil
}
