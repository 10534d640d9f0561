package stack

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/rollout"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
	"homelab/pkg/stack/source"
)

// RestartOptions are what restart takes from git.
type RestartOptions struct {
	Options
	StackPath string // "" is the deployment's stack-source
	SpecFile  string // "" is its spec-source, its stack's deployment/spec.yml, or its own
	NoPull    bool
}

// Restart brings the directory to what git says now, and the cluster to what
// the directory says then. Without a difference it writes and restarts nothing.
func (w *World) Restart(ctx context.Context, o RestartOptions) (*Outcome, error) {
	r := w.run(o.Options)
	defer r.close()
	d, _, err := file.Load(o.Dir, w.Files)
	if err != nil {
		return r.out, err
	}
	r.d = d
	r.identify()
	if err := unswapped(d, o.Dir); err != nil {
		return r.out, err
	}
	origin, err := w.origin(ctx, d, o)
	if err != nil {
		return r.out, err
	}
	w.Tell.Line("=== Deployment Restart ===")
	if err := r.settled(ctx); err != nil {
		return r.out, err
	}
	w.Tell.Line("[1/4] " + pullWord(o.NoPull))
	if err := r.pull(ctx, &origin, o); err != nil {
		return r.out, err
	}
	w.Tell.Line("[2/4] judging the files")
	w.Tell.Line("Using spec: " + origin.spec)
	var controller controller
	sync := r.sync(origin)
	if o.Strict {
		sync.Judge = strict
	}
	sync.Guard = func(next *file.Directory, machine render.Machine) error {
		if err := unswapped(next, o.Dir); err != nil {
			return err
		}
		if err := moved(d, next); err != nil {
			return err
		}
		r.d, r.machine = next, machine
		r.identify()
		r.out.Spec, r.out.Stack = origin.specOrigin(), origin.stackOrigin()
		if r.rules, err = r.render(render.Facts{}); err != nil {
			return err
		}
		if !o.Force {
			if err := r.refused(ctx); err != nil {
				return err
			}
		}
		if o.Strict {
			if err := strict(r.rules.Notices); err != nil {
				return err
			}
		}
		w.Tell.Line("[3/4] comparing with the cluster")
		if err := r.contact(ctx); err != nil {
			return err
		}
		controller, err = r.prepare(ctx, false)
		return err
	}
	synced, err := directory.Create(ctx, sync)
	if synced != nil {
		r.notices(synced.Notices)
	}
	if err != nil {
		return r.out, err
	}
	w.Tell.Line("[4/4] applying")
	if err := r.perform(ctx, controller); err != nil {
		return r.out, err
	}
	if r.out.Kind == fault.OK && !o.NoWait && !o.DryRun {
		if !r.composed() {
			r.movedTags(ctx)
		}
		w.Tell.Line("=== Restart Complete ===")
	}
	return r.out, nil
}

func pullWord(no bool) string {
	if no {
		return "taking the checkouts as they are"
	}
	return "pulling"
}

// origins are the files that a restart takes, and the checkouts they are in.
type origins struct {
	stack, spec         string // the stack's directory; the spec file
	stackRepo, specRepo source.Checkout
}

func (o origins) specOrigin() Origin  { return Origin{Path: o.spec, Commit: o.specRepo.Commit} }
func (o origins) stackOrigin() Origin { return Origin{Path: o.stack, Commit: o.stackRepo.Commit} }

// origin finds the stack and the spec that a restart takes. A missing one is a
// usage error: nothing was pulled yet.
func (w *World) origin(ctx context.Context, d *file.Directory, o RestartOptions) (origins, error) {
	var out origins
	var err error
	ref := d.Deployment.StackSource
	if o.StackPath != "" {
		ref = o.StackPath
	}
	if ref == "" {
		ref = d.Spec.Stack
	}
	if out.stack, _, err = w.Files.Find(ref); err != nil && !filepath.IsAbs(ref) && o.StackPath == "" {
		out.stack, _, err = w.Files.Find(filepath.Join(d.Path, ref)) // as old files have it
	}
	if err != nil {
		return out, fault.New(fault.Usage, "the stack of this deployment is not where it was", "homelab deployment restart --help").
			Because(err.Error() + "; --stack-path names where it is now").From(err)
	}
	g := source.Options{Env: w.Git}
	if out.stackRepo, err = source.At(ctx, out.stack, g); err != nil {
		return out, err
	}
	if out.spec, err = w.specFile(d, o, out.stackRepo.Root); err != nil {
		return out, err
	}
	if out.specRepo, err = source.At(ctx, filepath.Dir(out.spec), g); err != nil {
		return out, err
	}
	if within(out.spec, d.Path) {
		out.specRepo = source.Checkout{} // the directory's own file is pulled with nothing
	}
	return out, nil
}

// specFile finds the spec: the flag's, the one the deployment was made from,
// the one in the stack's repository, the directory's own.
func (w *World) specFile(d *file.Directory, o RestartOptions, root string) (string, error) {
	if o.SpecFile != "" {
		places := []string{w.Files.Path(o.SpecFile)}
		if !filepath.IsAbs(o.SpecFile) && root != "" {
			places = []string{filepath.Join(root, o.SpecFile), places[0]}
		}
		for _, p := range places {
			if isFile(p) {
				return p, nil
			}
		}
		return "", fault.Usagef("homelab deployment restart --help", "--spec-file %s is no file", o.SpecFile).
			Because("looked for " + strings.Join(places, ", "))
	}
	if p := d.Deployment.SpecSource; p != "" {
		if !isFile(p) {
			return "", fault.Usagef("homelab deployment restart --help", "the spec %s that this deployment was made from is gone", p).
				Because("--spec-file names where it is now; " + filepath.Join(d.Path, "spec.yml") + " is the directory's copy")
		}
		return p, nil
	}
	if root != "" {
		if p := filepath.Join(root, "deployment", "spec.yml"); isFile(p) {
			return p, nil
		}
	}
	return filepath.Join(d.Path, "spec.yml"), nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// pull brings the stack's and the operator's checkouts up to date; each once.
func (r *run) pull(ctx context.Context, o *origins, opts RestartOptions) error {
	if opts.NoPull {
		return nil
	}
	g := source.Options{Env: r.w.Git}
	one := func(c *source.Checkout, dir string) error {
		before := c.Commit
		got, err := source.Pull(ctx, dir, g)
		if err != nil {
			return err
		}
		*c = got
		if got.Notice != nil {
			r.notices([]file.Notice{*got.Notice})
		}
		text := got.Root + " is at " + got.Commit.Short()
		if got.Moved {
			text = fmt.Sprintf("%s: %s -> %s", got.Root, before.Short(), got.Commit.Short())
		}
		r.w.Tell.Line(text)
		return nil
	}
	if err := one(&o.stackRepo, o.stack); err != nil {
		return err
	}
	switch o.specRepo.Root {
	case "":
	case o.stackRepo.Root:
		o.specRepo = o.stackRepo
	default:
		return one(&o.specRepo, filepath.Dir(o.spec))
	}
	return nil
}

// sync is how the directory's files follow their sources.
func (r *run) sync(o origins) directory.Options {
	env := r.w.Files
	if root := o.specRepo.Root; root != "" {
		env.WorkDir = root // what the spec calls its stack is seen from its repository
	}
	return directory.Options{
		SpecFile: o.spec, Dir: r.d.Path, Update: true, DryRun: r.o.DryRun, NoHooks: r.o.NoHooks, Hooks: r.w.Hooks, StackDir: o.stack,
		Verb: "deployment " + r.o.Verb, Env: env, Locked: true, Now: r.w.Now(), Random: rand.Reader,
		Render: func(d *file.Directory, o render.Options, f render.Facts) (*render.Result, error) {
			o.Memory = r.memory
			return render.Render(d, o, f)
		},
	}
}

// unswapped refuses a spec that asks for a maintenance page: a restart without
// it would not be the one that was asked for.
func unswapped(d *file.Directory, dir string) error {
	if d.Spec.Maintenance == nil {
		return nil
	}
	return fault.Usagef("homelab deployment update --dir "+dir, "%s: maintenance-service: a restart behind a maintenance page is not supported", d.Spec.File).
		Because("take the key out of the spec, or bring the directory up to date with deploy create --update and apply it with update, which swaps nothing")
}

// moved refuses a spec that describes another deployment than the one that
// runs: what runs would be left behind.
func moved(was, is *file.Directory) error {
	changed := elsewhere(was, is)
	if len(changed) > 0 {
		return fault.New(fault.Conflict, "the spec describes another deployment: "+strings.Join(changed, "; "), "").
			Because("what runs would be left behind: put the spec back, or stop this deployment and create a new one")
	}
	var lost []string
	for _, v := range was.Spec.Volumes {
		if v.Path != "" && !slices.ContainsFunc(is.Spec.Volumes, func(x file.Volume) bool { return x.Name == v.Name && x.Path != "" }) && !dropped(is, v.Name) {
			lost = append(lost, v.Name+" ("+v.Path+")")
		}
	}
	if len(lost) > 0 {
		return fault.New(fault.Conflict, "the spec has lost the paths of volumes: "+strings.Join(lost, ", "), "git log -p -- "+is.Spec.File).
			Because("a regenerated spec? their data would be left behind; write the paths back")
	}
	return nil
}

// dropped tells whether no compose file uses a volume any more: then its line
// may go.
func dropped(d *file.Directory, volume string) bool {
	for _, s := range slices.Concat(d.Pods, d.Jobs) {
		if strings.Contains(string(s.Raw), volume) {
			return false
		}
	}
	return true
}

// settled takes the lock and settles the journal, as every verb that writes does
// first.
func (r *run) settled(ctx context.Context) error {
	held, err := directory.Lock(ctx, r.d.Path, r.o.Verb, func(h directory.Holder) { r.w.Tell.Line("waiting for " + h.String()) })
	if err != nil {
		return err
	}
	r.closers = append(r.closers, held.Release)
	r.journal = directory.OpenJournal(r.d.Path)
	left, err := directory.Settle(r.d.Path)
	if err != nil || left == nil {
		return err
	}
	r.cut = true
	return r.settle(ctx, *left)
}

// movedTags tells of tags that mean another image in their registry than the
// one that runs: a rollout does not follow them by itself.
func (r *run) movedTags(ctx context.Context) {
	if len(r.plan.Create)+len(r.plan.Update)+len(r.plan.Replace) > 0 || r.w.Images == nil {
		return
	}
	images, err := r.w.Images(ctx, r.c, r.scope.Namespace)
	if err != nil {
		return
	}
	images = r.localImages(images)
	for _, p := range r.live.Pods {
		for name, id := range running(p) {
			for _, wl := range r.rules.Workloads {
				ref, ok := wl.Images[name]
				if !ok || !rollout.ParseReference(ref).Mutable() {
					continue
				}
				answer := images.Image(ctx, ref, rollout.Target{})
				now := rollout.ParseImageID(id).Digest
				if answer.Err == "" && now != "" && len(answer.Closure) > 0 && !slices.Contains(answer.Closure, now) {
					r.notices([]file.Notice{{
						Code: "tag-moved", Level: file.Info, File: r.d.Spec.File, Service: name, Key: "image",
						Message: ref + " is another image by now than the one that runs: homelab deployment restart --recreate --dir " + r.o.Dir + " takes it",
					}})
				}
			}
		}
	}
}
